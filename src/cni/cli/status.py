"""cnitool status: ask whether a network could be added to now."""

from __future__ import annotations

from cni.cli import environment

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from console.output import Output

EXAMPLES = """\
  cnitool status mynet /run/netns/blue && echo ready
"""
DESCRIPTION = (
    """\
Runs STATUS of each plugin of the network; before version 1.1.0 there is nothing to ask, and the network
counts as ready. The namespace has to be named, as for the other commands, but does not matter.

"""
    + environment.ENVIRONMENT
)


def arguments(parser: argparse.ArgumentParser) -> None:
    environment.operands(parser)


def run(options: argparse.Namespace, out: Output) -> int:
    network, _ = environment.target(options, out)
    environment.runtime(options).status(network)
    return 0
