"""cnitool add: add a network namespace to a network, and print the result."""

from __future__ import annotations

from cni.cli import environment

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from console.output import Output

EXAMPLES = """\
  ip netns add blue && cnitool add mynet /run/netns/blue
  cnitool add mynet /run/netns/blue -i eth1
  CAP_ARGS='{"ips": ["10.1.0.9/16"]}' cnitool add mynet /run/netns/blue
"""
DESCRIPTION = (
    """\
Runs ADD of each plugin of the network and prints what they made, in the network's version. When a plugin
fails nothing is undone: run `cnitool del` with the same arguments.

"""
    + environment.ENVIRONMENT
)


def arguments(parser: argparse.ArgumentParser) -> None:
    environment.operands(parser)


def run(options: argparse.Namespace, out: Output) -> int:
    from cni import jsontext
    from cni.errors import INVALID_NETNS, UNKNOWN_CONTAINER, CniError
    from cni.exclusion import Exclusive

    network, attachment = environment.target(options, out)
    try:
        with Exclusive(attachment.container_id):
            result = environment.runtime(options).add(network, attachment)
    except CniError as failed:
        if failed.code in (UNKNOWN_CONTAINER, INVALID_NETNS) and failed.hint is None:
            failed.hint = "`ip netns add NAME` makes a namespace, which is /run/netns/NAME"
        raise
    out.line(jsontext.dumps(result.to_json(result.version or network.version), indent=4))
    return 0
