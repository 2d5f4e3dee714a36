"""rkt image list: show the images in the store."""

from __future__ import annotations

from rkt.errors import RktError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from console.output import Output
    from rkt.store import ImageInfo

EXAMPLES = """\
  rkt image list
  rkt image list --fields=id,name --sort=name
  rkt image list --format=json | jq -r '.[].id'
  rkt image list --format='{name} {size}' --full
"""
DESCRIPTION = """\
Shows every image in the store. SIZE is that of the archive and of the tree that was rendered from it, both of
which take room on the disk. LAST USED is when a pod was last prepared from the image, or the image imported.
"""
#: Name of a field, its column, its key in JSON and in templates.
FIELDS = {
    "id": "id",
    "name": "name",
    "size": "size",
    "importtime": "import_time",
    "lastused": "last_used",
}
NAMES = ("id", "name", "size", "import_time", "last_used", "version")
_JSON_KEYS = {"last_used": "last_used_time"}
_NANOSECONDS = 1_000_000_000


def arguments(parser: argparse.ArgumentParser) -> None:
    from console.output import add_format

    parser.add_argument(
        "--fields", metavar="LIST", default=",".join(FIELDS), help="columns: " + ",".join(FIELDS)
    )
    parser.add_argument("--sort", metavar="LIST", default="importtime", help="fields to sort by")
    parser.add_argument("--order", choices=("asc", "desc"), default="asc", help="default: asc")
    parser.add_argument("--full", action="store_true", help="do not shorten IDs, sizes and times")
    parser.add_argument("--no-legend", action="store_true", help="leave out the header line")
    add_format(parser, NAMES)


def run(options: argparse.Namespace, out: Output) -> int:
    from rkt.store import Store

    columns = [FIELDS[field] for field in _fields(options.fields, "--fields")]
    keys = [FIELDS[field] for field in _fields(options.sort, "--sort")]
    with Store(options.settings.data_dir) as store:
        images = store.images()
    images.sort(key=lambda image: [_plain(image)[key] for key in keys], reverse=options.order == "desc")
    if options.format in ("json", "json-pretty"):
        rows = [_json(image, columns) for image in images]
        out.json(rows, pretty=options.format == "json-pretty")
        return 0
    shown = [_shown(image, full=options.full) for image in images]
    out.listing(options.format, shown, columns, legend=not options.no_legend, names=NAMES)
    return 0


def _fields(text: str, flag: str) -> list[str]:
    fields = text.split(",")
    for field in fields:
        if field not in FIELDS:
            raise RktError(f"{flag}: unknown field {field!r}", hint="choose from " + ", ".join(FIELDS))
    return fields


def display_name(image: ImageInfo) -> str:
    """`NAME:VERSION`, or the name alone for an image without that label."""
    return f"{image.name}:{image.version}" if image.version else image.name


def _plain(image: ImageInfo) -> dict[str, str | float]:
    return {
        "id": image.id,
        "name": display_name(image),
        "size": image.size,
        "import_time": image.import_time,
        "last_used": image.last_used,
    }


def _json(image: ImageInfo, columns: list[str]) -> dict[str, object]:
    """rkt's keys; times are nanoseconds since 1970."""
    from rkt.cli.image.argument import FULL

    values: dict[str, object] = {
        "id": image.id[:FULL],
        "name": display_name(image),
        "import_time": int(image.import_time * _NANOSECONDS),
        "last_used": int(image.last_used * _NANOSECONDS),
        "size": image.size,
    }
    return {_JSON_KEYS.get(key, key): value for key, value in values.items() if key in columns}


def _shown(image: ImageInfo, *, full: bool) -> dict[str, object]:
    from console.formats import humane
    from rkt.cli.image.argument import FULL, SHORT

    return {
        "id": image.id[: FULL if full else SHORT],
        "name": display_name(image),
        "version": image.version,
        "size": image.size if full else humane.size(image.size),
        "import_time": humane.timestamp(image.import_time) if full else humane.ago(image.import_time),
        "last_used": humane.timestamp(image.last_used) if full else humane.ago(image.last_used),
    }
