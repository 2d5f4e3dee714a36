"""actool cat-manifest: print the manifest of an image."""

from __future__ import annotations

from appc.errors import AppcError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from console.output import Output

EXAMPLES = """\
  actool cat-manifest app.aci
  actool cat-manifest --pretty-print app.aci
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("images", metavar="FILE.aci", nargs="*", help="the image")
    parser.add_argument("--pretty-print", action="store_true", help="indent the manifest, in a fixed order")


def run(options: argparse.Namespace, out: Output) -> int:
    from appc.aci import reader

    if len(options.images) != 1:
        raise AppcError("Must provide one image", hint="actool cat-manifest FILE.aci")
    with open(options.images[0], "rb") as file:
        data = reader.read_manifest(file)
    if options.pretty_print:
        import json

        from appc.schema.image import ImageManifest

        out.line(json.dumps(ImageManifest.parse(data).to_json(), indent=4, ensure_ascii=False))
    else:
        out.raw(data + b"\n")
    return 0
