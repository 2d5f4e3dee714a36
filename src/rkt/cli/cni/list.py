"""rkt cni list: show what is attached to which network on this node."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from console.output import Output

EXAMPLES = """\
  rkt cni list
  rkt cni list default --format=json | jq -r '.[].addresses[]'
  rkt cni list --format='{container} {interface} {alive}'
"""
DESCRIPTION = """\
Shows the attachments of pods, those that built-in plugins recorded for any runtime, and those whose results
lie in /var/lib/cni. ALIVE says whether the network namespace is there: yes, no, or ? where that cannot be
told.
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    from cni.cli.attachments import NAMES
    from console.output import add_format

    parser.add_argument("network", metavar="NETWORK", nargs="?", default="", help="only this network's")
    add_format(parser, NAMES)


def run(options: argparse.Namespace, out: Output) -> int:
    from cni.cli import attachments as shown
    from rkt.network import attachments

    shown.show([each.known for each in attachments.every(options.network)], options.format, out)
    return 0
