"""rkt image render: unpack an image over its dependencies into a directory."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from console.output import Output

EXAMPLES = """\
  rkt image render example.com/app ./app
  rkt image render --rootfs-only example.com/app ./rootfs
"""
DESCRIPTION = """\
Makes what an app of the image would see: its dependencies in their order, the image over them, path
whitelists applied. DIR gets `manifest` and `rootfs`, or with --rootfs-only the files themselves. Device nodes
are left out.
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    from rkt.cli.image import output_directory

    output_directory.arguments(parser)


def run(options: argparse.Namespace, out: Output) -> int:
    from rkt.cli.image import output_directory
    from rkt.cli.image.argument import image
    from rkt.store import Store, copytree

    del out
    with Store(options.settings.data_dir, options.settings.config_dirs()) as store:
        found = image(store, options.image)
        with output_directory.new_directory(options, store.manifest_bytes(found)) as directory:
            if store.record(found) is None:
                copytree.copy(store.tree(found).rootfs_path, f"{directory}/rootfs")
                return 0
            from appc.aci.extract import extract

            os.mkdir(f"{directory}/rootfs", 0o700)
            with store.open_blob(found) as blob:  # all layers, one over the other
                extract(blob, f"{directory}/rootfs", limits=store.limits())
    return 0
