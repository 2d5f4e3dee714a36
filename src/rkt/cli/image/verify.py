"""rkt image verify: compare rendered trees with the hashes they had when they were made."""

from __future__ import annotations

from rkt.errors import RktError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from console.output import Output

EXAMPLES = """\
  rkt image verify example.com/app
  rkt image verify sha512-0d5cc6 sha512-2ab1f3
"""
DESCRIPTION = """\
Reads every file of the rendered tree of each image and compares names, kinds, modes, owners, sizes, links,
attributes and contents with what was rendered. Exits 254 if one differs. `rkt image fsck` checks everything.
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("image", metavar="IMAGE", nargs="+", help="an image of the store: its ID or name")


def run(options: argparse.Namespace, out: Output) -> int:
    from rkt.cli.image.argument import FULL, image
    from rkt.store import Store

    failed = False
    with Store(options.settings.data_dir, options.settings.config_dirs()) as store:
        for text in options.image:
            try:
                found = image(store, text)
                store.verify(found)
            except (RktError, ValueError, OSError) as error:
                out.error(error)
                failed = True
            else:
                out.line(f'successfully verified checksum for image: "{text}" ("{found[:FULL]}")')
    return 254 if failed else 0
