"""rkt image extract: unpack one image, without its dependencies, into a directory."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from console.output import Output

EXAMPLES = """\
  rkt image extract example.com/app ./app
  rkt image extract --rootfs-only --overwrite sha512-0d5cc6 ./rootfs
"""
DESCRIPTION = """\
Unpacks the image alone: `manifest` and `rootfs` in DIR, or with --rootfs-only the files themselves. Device
nodes are left out. Without root everything belongs to you. `rkt image render` also applies dependencies. An
image of layers is unpacked with all its layers.
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    from rkt.cli.image import output_directory

    output_directory.arguments(parser)


def run(options: argparse.Namespace, out: Output) -> int:
    from appc.aci.extract import extract
    from rkt.cli.image import output_directory
    from rkt.cli.image.argument import image
    from rkt.store import Store

    with Store(options.settings.data_dir, options.settings.config_dirs()) as store:
        found = image(store, options.image)
        with output_directory.new_directory(options, store.manifest_bytes(found)) as directory:
            os.mkdir(f"{directory}/rootfs", 0o700)
            with store.open_blob(found) as blob:
                told = extract(blob, f"{directory}/rootfs", limits=store.limits())
    if told.devices:
        out.warn(f"{told.devices} device node(s) left out")
    if told.attributes:
        out.warn(f"{told.attributes} extended attribute(s) left out")
    return 0
