"""rkt cni inspect: show all that is known of a container's attachments."""

from __future__ import annotations

from rkt.cli.cni import choice

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from console.output import Output
    from rkt.network.attachments import Attached

EXAMPLES = """\
  rkt cni inspect 6a1b0c1e
  rkt cni inspect --network=default 6a1b0c1e | jq '.[0].result.ips'
"""
DESCRIPTION = """\
Prints a JSON list with an object for each attachment: what `list` shows, the arguments and the result of
its ADD, the configuration it was added with, and for each built-in plugin the record of what it made.
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    choice.arguments(parser, required=True)


def run(options: argparse.Namespace, out: Output) -> int:
    out.json([_everything(each) for each in choice.chosen(options)], pretty=True)
    return 0


def _everything(attached: Attached) -> dict[str, object]:
    from cni import jsontext, state

    known = attached.known
    result: object = None
    configuration: object = None
    if known.cached is not None and known.cached.result is not None:
        result = known.cached.result.to_json(known.cached.result.version)
    if known.cached is not None and known.cached.config:
        try:
            configuration = jsontext.loads(known.cached.config)
        except ValueError:
            configuration = None
    return {
        **known.to_json(),
        "pod": attached.pod,
        "args": [list(pair) for pair in known.attachment.args],
        "capabilityArgs": known.attachment.capability_args,
        "result": result,
        "configuration": configuration,
        "records": {plugin: state.load(request, plugin) for plugin, request in known.records},
    }
