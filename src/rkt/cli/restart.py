"""rkt restart: run pods again that have ended."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from console.output import Output

EXAMPLES = """\
  rkt restart web
  rkt restart 5bc080ca 9d3b4c1f
"""
DESCRIPTION = """\
Runs each pod again as it was run, under its own UUID and name, with all that its apps wrote into their files.
A pod that runs is stopped first. Returns when the pods are ready; they run on as with `rkt run --detach`.
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    from rkt.cli.podargument import add_uuids

    add_uuids(parser)


def run(options: argparse.Namespace, out: Output) -> int:
    from rkt.cli import podargument
    from rkt.cli.root import require_root

    require_root()
    return podargument.for_each(options, out, _restart, "{}")


def _restart(options: argparse.Namespace, word: str) -> str:
    from rkt.cli import podargument, stop
    from rkt.stage0 import again, run

    with podargument.open_pod(options, word) as pod:
        if pod.state() == "running":
            stop.end(pod, force=False)
            pod.refresh()
        invocation = again.make_ready(pod, options.settings.local_config)
        run.run_detached(pod, invocation._replace(interactive=False))
        return pod.uuid
