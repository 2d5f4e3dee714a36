"""rkt image cat-manifest: print the manifest of an image."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from console.output import Output

EXAMPLES = """\
  rkt image cat-manifest example.com/app
  rkt image cat-manifest --pretty-print=false sha512-0d5cc6 | jq .app.exec
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("image", metavar="IMAGE", help="an image of the store: its ID or name")
    parser.add_argument(
        "--pretty-print",
        metavar="BOOL",
        nargs="?",
        const="true",
        default="true",
        help="indent the manifest (default: true); otherwise it is printed as it is in the image",
    )


def run(options: argparse.Namespace, out: Output) -> int:
    from rkt.cli.image.argument import image
    from rkt.store import Store

    with Store(options.settings.data_dir) as store:
        data = store.manifest_bytes(image(store, options.image))
    if options.pretty_print.lower() in ("true", "t", "1"):
        from appc.schema.image import ImageManifest

        out.json(ImageManifest.parse(data).to_json(), pretty=True)
    else:
        out.raw(data.rstrip(b"\n") + b"\n")
    return 0
