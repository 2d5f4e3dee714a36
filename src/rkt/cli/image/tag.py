"""rkt image tag: give an image of layers another name."""

from __future__ import annotations

from rkt.errors import RktError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from console.output import Output

EXAMPLES = """\
  rkt image tag docker://busybox docker://registry.example.com/tools/busybox:1
  rkt image tag sha512-0d5cc6 docker://localhost:5000/app:latest
"""
DESCRIPTION = """\
Makes an image of layers known under another name as well: `rkt run NAME` finds it in the store, and
`rkt image push` sends it there. Layers are not copied. The name is in the image's manifest, so the new image
has an ID of its own, which is printed. An ACI cannot be renamed without breaking its signature:
`actool patch-manifest --name` makes another one.
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("image", metavar="IMAGE", help="an image of the store: its ID or name")
    parser.add_argument("name", metavar="docker://NAME[:TAG]", help="its further name")


def run(options: argparse.Namespace, out: Output) -> int:
    from oci.convert.to_manifest import Origin
    from rkt.cli.fetch import shown
    from rkt.cli.image.argument import image
    from rkt.fetch import argument, reference
    from rkt.store import Store
    from rkt.store.oci import content

    name = options.name if options.name.startswith("docker:") else f"docker://{options.name}"
    wanted = reference.parse(argument.parse(name))
    if wanted.digest is not None:
        raise RktError(f"{options.name}: a digest is no name to give")
    with Store(options.settings.data_dir, options.settings.config_dirs()) as store:
        found = image(store, options.image)
        record = store.record(found)
        if record is None:
            raise RktError(
                f"{options.image}: is an ACI, whose name is part of what is signed",
                hint="make another one with `actool patch-manifest --name=NAME`",
            )
        with content.InUse(store.paths):
            origin = Origin.of(wanted)._replace(original=str(wanted))
            one = content.image(store.paths, record)
            out.line(shown(store.import_layers(one, origin, str(wanted), note=out.warn), full=False))
    return 0
