"""rkt image history: show how an image came to be."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from console.output import Output
    from rkt.store import Store

EXAMPLES = """\
  rkt image history docker://busybox
  rkt image history --no-trunc --format='{created_by}' example.com/app
"""
DESCRIPTION = """\
Shows the steps by which the image was made, the last one first, as far as whoever made it wrote them down:
the history of an OCI or Docker image with the size of each layer, or the commands of acbuild in an ACI.
"""
COLUMNS = ("created", "created_by", "size", "comment")
_COMMAND = "coreos.com/acbuild/command-"
_WIDTH = 60


def arguments(parser: argparse.ArgumentParser) -> None:
    from console.output import add_format

    parser.add_argument("image", metavar="IMAGE", help="an image of the store: its ID or name")
    parser.add_argument("--no-trunc", action="store_true", help="do not shorten commands")
    parser.add_argument("--no-legend", action="store_true", help="leave out the header line")
    add_format(parser, COLUMNS)


def run(options: argparse.Namespace, out: Output) -> int:
    from console.formats import humane
    from rkt.cli.image.argument import image
    from rkt.store import Store

    with Store(options.settings.data_dir) as store:
        steps = list(history(store, image(store, options.image)))
    if options.format == "table":
        for step in steps:
            text = " ".join(str(step["created_by"]).split())
            if len(text) > _WIDTH and not options.no_trunc:
                text = text[: _WIDTH - 1] + "…"
            step["created_by"] = text
            step["size"] = humane.size(size) if isinstance(size := step["size"], int) else ""
    out.listing(options.format, steps, COLUMNS, legend=not options.no_legend)
    return 0


def history(store: Store, image_id: str) -> Iterator[dict[str, object]]:
    """The steps, the last one first. `size` is that of the layer as it is stored, None for a step without."""
    record = store.record(image_id)
    if record is None:
        manifest = store.manifest(image_id)
        annotations = manifest.annotations.as_dict()
        numbers = [int(text) for name in annotations if (text := name.removeprefix(_COMMAND)).isdecimal()]
        for number in sorted(numbers, reverse=True):
            yield _step("", annotations[f"{_COMMAND}{number}"], None, "")
        return
    from rkt.store.oci import content

    steps = content.image(store.paths, record).config.history
    sizes = [layer.descriptor.size for layer in record.layers]
    missing = len(sizes) - sum(not step.empty_layer for step in steps)
    for step in reversed(steps):
        size = sizes.pop() if sizes and not step.empty_layer else None
        yield _step(step.created, step.created_by, size, step.comment)
    for size in reversed(sizes[: max(missing, 0)]):  # layers of which nobody says how they were made
        yield _step("", "", size, "")


def _step(created: str, by: str, size: int | None, comment: str) -> dict[str, object]:
    return {"created": created, "created_by": by, "size": size, "comment": comment}
