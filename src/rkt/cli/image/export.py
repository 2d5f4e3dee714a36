"""rkt image export: write an image of the store to a file."""

from __future__ import annotations

from rkt.errors import RktError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from console.output import Output

EXAMPLES = """\
  rkt image export example.com/app app.aci
  rkt image export --overwrite sha512-0d5cc6 app.aci
"""
DESCRIPTION = """\
Writes the archive as it is in the store: uncompressed, byte for byte what the image ID is the hash of. Of an
image of layers (docker://, oci:) an archive is made, always the same; its ID is another than that of the
layers. `rkt image convert` writes other formats.
"""
_PIECE = 1 << 20


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("image", metavar="IMAGE", help="an image of the store: its ID or name")
    parser.add_argument("output", metavar="FILE.aci", help="the file to write")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing file")


def run(options: argparse.Namespace, out: Output) -> int:
    from appc.aci.output import replacing
    from rkt.cli.image.argument import image
    from rkt.store import Store

    del out
    if not options.output.endswith(".aci"):
        raise RktError(f"extension must be .aci (given {options.output})")
    with Store(options.settings.data_dir) as store, store.open_blob(image(store, options.image)) as blob:
        try:
            with replacing(options.output, overwrite=options.overwrite) as file:
                while data := blob.read(_PIECE):
                    file.write(data)
        except FileExistsError:
            raise RktError(f"{options.output}: output file exists", hint="try --overwrite") from None
    return 0
