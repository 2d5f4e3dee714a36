"""rkt cni check: check that attachments are as they were made."""

from __future__ import annotations

from rkt.cli.cni import choice

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from console.output import Output
    from rkt.network.attachments import Attached

EXAMPLES = """\
  rkt cni check
  rkt cni check 6a1b0c1e
  rkt cni check --network=default --format=json
"""
DESCRIPTION = """\
Runs CHECK of each plugin for every attachment, or for those of one container. STATUS is ok, damaged, gone
(its network namespace is), or unknown: a network of before 0.4.0 has no CHECK, and without a result there
is nothing to compare with. Exits with 254 if anything is damaged or gone.
"""
NAMES = ("network", "container", "interface", "status", "problem")


def arguments(parser: argparse.ArgumentParser) -> None:
    from console.output import add_format

    choice.arguments(parser, required=False)
    add_format(parser, NAMES)


def run(options: argparse.Namespace, out: Output) -> int:
    from rkt.cli.root import require_root

    require_root()
    rows = []
    for each in choice.chosen(options):
        status, problem = _state(each)
        known = each.known
        rows.append({
            "network": known.network,
            "container": known.container_id,
            "interface": known.ifname,
            "status": status,
            "problem": problem,
        })
    out.listing(options.format, rows, NAMES)
    return 254 if any(row["status"] in ("damaged", "gone") for row in rows) else 0


def _state(attached: Attached) -> tuple[str, str]:
    from cni.errors import CniError
    from cni.exclusion import Exclusive

    known = attached.known
    if known.lives is False:
        return "gone", f"{known.netns} is gone: see `rkt cni gc`"
    if attached.network is None or known.cached is None:
        return "unknown", "nobody kept the result of its ADD, so there is nothing to compare with"
    try:
        with Exclusive(known.container_id):
            problem = attached.check()
    except CniError as failed:
        return "unknown", str(failed)
    return ("damaged", problem) if problem else ("ok", "")
