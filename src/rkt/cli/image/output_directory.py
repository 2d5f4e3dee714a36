"""What `image extract` and `image render` share: their arguments, and the directory that they make."""

from __future__ import annotations

from contextlib import contextmanager

from rkt.errors import RktError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator


def arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments that both verbs have."""
    parser.add_argument("image", metavar="IMAGE", help="an image of the store: its ID or name")
    parser.add_argument("directory", metavar="DIR", help="the directory to make")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing directory")
    parser.add_argument(
        "--rootfs-only", action="store_true", help="make DIR the root filesystem itself, without the manifest"
    )


@contextmanager
def new_directory(options: argparse.Namespace, manifest: bytes) -> Iterator[str]:
    """Where `rootfs` is to be made; see `appc.aci.output`. RktError when DIR is there already."""
    from appc.aci import output

    try:
        with output.new_directory(
            options.directory, overwrite=options.overwrite, rootfs_only=options.rootfs_only
        ) as directory:
            with open(f"{directory}/manifest", "xb") as file:
                file.write(manifest)
            yield directory
    except FileExistsError as error:
        if error.filename != options.directory:
            raise
        raise RktError(f"{options.directory}: output directory exists", hint="try --overwrite") from None
