"""cnitool check: check that a network namespace is on a network as it was when it was added."""

from __future__ import annotations

from cni.cli import environment

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from console.output import Output

EXAMPLES = """\
  cnitool check mynet /run/netns/blue && echo fine
"""
DESCRIPTION = (
    """\
Runs CHECK of each plugin of the network, with the result of the ADD. Prints nothing when all is well.

"""
    + environment.ENVIRONMENT
)


def arguments(parser: argparse.ArgumentParser) -> None:
    environment.operands(parser)


def run(options: argparse.Namespace, out: Output) -> int:
    from cni.exclusion import Exclusive

    network, attachment = environment.target(options, out)
    with Exclusive(attachment.container_id):
        environment.runtime(options).check(network, attachment)
    return 0
