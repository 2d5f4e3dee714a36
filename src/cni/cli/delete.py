"""cnitool del: take a network namespace off a network."""

from __future__ import annotations

from cni.cli import environment

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from console.output import Output

EXAMPLES = """\
  cnitool del mynet /run/netns/blue && ip netns delete blue
"""
DESCRIPTION = (
    """\
Runs DEL of each plugin of the network, last one first. The namespace may be gone already, and the command may
be repeated.

"""
    + environment.ENVIRONMENT
)


def arguments(parser: argparse.ArgumentParser) -> None:
    environment.operands(parser)


def run(options: argparse.Namespace, out: Output) -> int:
    from cni.exclusion import Exclusive

    network, attachment = environment.target(options, out)
    with Exclusive(attachment.container_id):
        environment.runtime(options).delete(network, attachment)
    return 0
