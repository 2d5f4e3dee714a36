"""rkt image tree: show what images are made of, and what they share."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from console.output import Output
    from rkt.store import Store

EXAMPLES = """\
  rkt image tree
  rkt image tree docker://busybox
  rkt image tree --format=json | jq
"""
DESCRIPTION = """\
Shows for each image (default: all of them) the layers it is made of, the topmost first, or the images that
an ACI depends on. A layer that other images of the store have too is stored, and unpacked, only once.
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("image", metavar="IMAGE", nargs="*", help="an image of the store: its ID or name")
    parser.add_argument(
        "--format", choices=("text", "json", "json-pretty"), default="text", help="default: text"
    )


def run(options: argparse.Namespace, out: Output) -> int:
    from rkt.cli.image.argument import image
    from rkt.store import Store

    with Store(options.settings.data_dir) as store:
        every = [str(one.id) for one in store.images()]
        wanted = [image(store, text) for text in options.image] or every
        shared: dict[str, int] = {}
        for image_id in every:
            record = store.record(image_id)
            for diff_id in set(record.diff_ids) if record is not None else ():
                shared[diff_id] = shared.get(diff_id, 0) + 1
        found = [_branch(store, image_id, shared, ()) for image_id in wanted]
    if options.format != "text":
        out.json(found, pretty=options.format == "json-pretty")
        return 0
    for one in found:
        _show(out, one, "", "")
    return 0


def _branch(store: Store, image_id: str, shared: dict[str, int], above: tuple[str, ...]) -> dict[str, object]:
    from rkt.store import NoSuchImage

    manifest = store.manifest(image_id)
    version = manifest.labels.get("version")
    name = f"{manifest.name}:{version}" if version else str(manifest.name)
    parts: list[dict[str, object]] = []
    record = store.record(image_id)
    if record is not None:
        parts = [
            {
                "layer": layer.diff_id,
                "size": layer.descriptor.size,
                "images": shared.get(layer.diff_id, 1),
            }
            for layer in reversed(record.layers)
        ]
    for dependency in manifest.dependencies:
        try:
            below = store.dependency(dependency)
        except NoSuchImage:
            parts.append({"image": "", "name": str(dependency.image_name), "parts": []})
            continue
        if below not in above:
            parts.append(_branch(store, below, shared, (*above, image_id)))
    return {"image": image_id, "name": name, "parts": parts}


def _show(out: Output, one: dict[str, object], first: str, indent: str) -> None:
    from console.formats import humane
    from rkt.cli.image.argument import SHORT

    if "layer" in one:
        count, size = one["images"], one["size"]
        also = f"  (in {count} images)" if isinstance(count, int) and count > 1 else ""
        out.line(
            f"{first}{str(one['layer'])[:SHORT]}  {humane.size(size if isinstance(size, int) else 0)}{also}"
        )
        return
    out.line(f"{first}{one['name']}  {str(one['image'])[:SHORT] or '(not in the store)'}")
    parts = one["parts"]
    if not isinstance(parts, list):
        return
    for number, part in enumerate(parts):
        last = number == len(parts) - 1
        _show(out, part, indent + ("└─ " if last else "├─ "), indent + ("   " if last else "│  "))
