"""rkt image gc: remove what nothing uses any more from the store."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from console.output import Output
    from rkt.store import ImageInfo

EXAMPLES = """\
  rkt image gc
  rkt image gc --grace-period=0s
"""
DESCRIPTION = """\
Removes rendered trees that no pod refers to, what killed commands left half done, and images that no pod was
prepared from for the grace period. Images of prepared and running pods stay.
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--grace-period",
        metavar="DURATION",
        default="24h",
        help="keep images used within this time (default: 24h)",
    )


def run(options: argparse.Namespace, out: Output) -> int:
    from rkt.cli.duration import parse_duration
    from rkt.cli.image.argument import FULL
    from rkt.store import Store
    from rkt.store.gc import collect

    out.where = "gc"
    grace = parse_duration(options.grace_period, "--grace-period")
    counts = {"removed": 0, "failed": 0}

    def removed(image: ImageInfo) -> None:
        out.line(f'successfully removed aci for image: "{image.id[:FULL]}" ("{image.name}")')
        counts["removed"] += 1

    def failed(name: str, error: Exception) -> None:
        out.note(f"{name} cannot be removed")
        out.error(error)
        counts["failed"] += 1

    with Store(options.settings.data_dir) as store:
        collect(
            store,
            grace=grace,
            removed_tree=lambda name: out.note(f'removed treestore "{name}"'),
            removed_image=removed,
            failed=failed,
        )
    if counts["removed"]:
        out.note(f"{counts['removed']} image(s) successfully removed")
    return 254 if counts["failed"] else 0
