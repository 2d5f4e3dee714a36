"""rkt image rm: remove images from the store."""

from __future__ import annotations

from rkt.errors import RktError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from console.output import Output

EXAMPLES = """\
  rkt image rm example.com/app:1.2
  rkt image rm sha512-0d5cc6 sha512-2ab1f3
"""
DESCRIPTION = """\
Removes images by ID (or its beginning) or name. Pods that use one go on: they have its tree. The trees are
removed by `rkt image gc` when no pod uses them any more. Works on a full disk. Exits 254 if an image could
not be removed or is not there; the others are removed all the same.
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "image", metavar="IMAGE", nargs="+", help="an image: its ID, beginning of it, or name"
    )


def run(options: argparse.Namespace, out: Output) -> int:
    from rkt.cli.image.argument import FULL, image
    from rkt.store import Store

    out.where = "rm"
    removed = failed = 0
    with Store(options.settings.data_dir) as store:
        wanted: dict[str, str] = {}
        for text in options.image:
            try:
                found = image(store, text)
                wanted[found] = store.manifest(found).name
            except (RktError, ValueError) as error:
                out.error(error)
                failed += 1
        for image_id, name in wanted.items():
            try:
                store.remove(image_id)
            except (RktError, OSError) as error:
                out.error(error)
                failed += 1
                continue
            out.line(f'successfully removed aci for image: "{image_id[:FULL]}" ("{name}")')
            removed += 1
    if removed:
        out.note(f"{removed} image(s) successfully removed")
    if failed:
        out.note(f"{failed} image(s) cannot be removed")
    return 254 if failed else 0
