"""cnitool gc: clean up everything of a network, also what is in use."""

from __future__ import annotations

from cni.cli import environment

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from console.output import Output

EXAMPLES = """\
  cnitool gc mynet /run/netns/blue
"""
DESCRIPTION = (
    """\
Runs DEL for every attachment of the network whose result is kept, then GC of each plugin (in networks of
version 1.1.0), with no attachment valid: whatever is on the network is cut off it. The namespace has to be
named, as for the other commands, but does not matter. Everything is tried; all errors are shown in the end.
`rkt cni gc` cleans up only what belongs to namespaces that are gone.

"""
    + environment.ENVIRONMENT
)


def arguments(parser: argparse.ArgumentParser) -> None:
    environment.operands(parser)


def run(options: argparse.Namespace, out: Output) -> int:
    from cni.exclusion import Exclusive

    network, _ = environment.target(options, out)
    with Exclusive():
        environment.runtime(options).collect(network, None)
    return 0
