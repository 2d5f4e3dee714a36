"""rkt stop: end running pods."""

from __future__ import annotations

import time

from rkt.errors import RktError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from console.output import Output
    from rkt.pods.pod import Pod

EXAMPLES = """\
  rkt stop 5bc080ca
  rkt stop --force web
  rkt stop --uuid-file=/run/web.uuid
"""
DESCRIPTION = """\
Sends SIGTERM (of a Docker image its STOPSIGNAL) to the apps of each pod, runs their post-stop handlers, and
kills what is left after a grace time. Returns when the pods have ended. With --force the pod is killed at
once.
"""
# Longer than the grace time of every flavour, so that this message is only seen when something is broken.
_PATIENCE = 30.0
_POLL = 0.01


def arguments(parser: argparse.ArgumentParser) -> None:
    from rkt.cli.podargument import add_uuids

    parser.add_argument("--force", action="store_true", help="kill the pod instead of asking it to end")
    add_uuids(parser)


def run(options: argparse.Namespace, out: Output) -> int:
    from rkt.cli import podargument

    return podargument.for_each(options, out, _stop, '"{}"')


def _stop(options: argparse.Namespace, word: str) -> str:
    from rkt.cli import podargument

    with podargument.open_pod(options, word) as pod:
        state = pod.state()
        if state != "running":
            raise RktError(f'pod "{pod.uuid}" is not running (it is {state})')
        end(pod, force=options.force)
        return pod.uuid


def end(pod: Pod, *, force: bool) -> None:
    """End a running pod and wait until it has ended. Raises RktError if it does not."""
    from rkt.stage1 import flavours

    flavours.of_pod(pod).stop(pod.path, force=force)
    limit = time.monotonic() + _PATIENCE
    while pod.is_locked():
        if time.monotonic() > limit:
            hint = "is an `rkt enter` of it suspended? let it go on, or kill it" if force else "use --force"
            raise RktError(f'pod "{pod.uuid}" has not ended in {_PATIENCE:.0f} s', hint=hint)
        time.sleep(_POLL)
