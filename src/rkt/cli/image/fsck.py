"""rkt image fsck: check the whole store, and make its index anew."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from console.output import Output

EXAMPLES = """\
  rkt image fsck
  rkt image fsck --repair
  rkt image fsck --format=json
"""
DESCRIPTION = """\
Hashes every image and every rendered tree and compares, mends the copies of manifests, makes the index anew
from the files if it differs from them, and removes what killed commands left. With --repair damaged images
are removed (fetch them again) and damaged trees that no pod uses (they are rendered again). Waits until
nobody else writes to the store. Exits 254 if there is a problem.
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--repair", action="store_true", help="remove what is damaged")
    parser.add_argument(
        "--format", choices=("text", "json", "json-pretty"), default="text", help="default: text"
    )


def run(options: argparse.Namespace, out: Output) -> int:
    from rkt.store import Store
    from rkt.store.fsck import check

    with Store(options.settings.data_dir) as store:
        found = check(store, repair=options.repair, note=out.debug)
    if options.format != "text":
        out.json(found._asdict(), pretty=options.format == "json-pretty")
    else:
        for problem in found.problems:
            out.line(f"problem: {problem}")
        for done in found.repairs:
            out.line(f"done: {done}")
        out.line(
            f"{found.images} image(s) and {found.trees} tree(s) checked, {len(found.problems)} problem(s)"
        )
    return 254 if found.problems else 0
