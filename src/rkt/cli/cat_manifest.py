"""rkt cat-manifest: print the pod manifest of a pod."""

from __future__ import annotations

from rkt.errors import RktError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from console.output import Output

EXAMPLES = """\
  rkt cat-manifest 5bc080ca
  rkt cat-manifest --pretty-print=false web | jq .apps
"""
DESCRIPTION = """\
Prints the pod manifest as the pod runs by it: every image with its ID, every mount point with its volume.
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    from rkt.cli.podargument import add_uuid_file

    parser.add_argument("uuid", metavar="UUID", nargs="?", help="the pod: UUID, its beginning, or name")
    parser.add_argument(
        "--pretty-print",
        metavar="BOOL",
        nargs="?",
        const="true",
        default="true",
        help="indent the manifest (default: true)",
    )
    add_uuid_file(parser)


def run(options: argparse.Namespace, out: Output) -> int:
    import json

    from rkt.cli import podargument

    (word,) = podargument.wanted(options)
    with podargument.open_pod(options, word) as pod:
        data = pod.read("pod")
    if not data:
        raise RktError(f"pod {pod.uuid} has no manifest yet")
    if options.pretty_print.lower() in ("true", "t", "1"):
        out.json(json.loads(data), pretty=True)
    else:
        out.raw(data.rstrip(b"\n") + b"\n")
    return 0
