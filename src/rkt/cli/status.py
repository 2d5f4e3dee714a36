"""rkt status: show the state of one pod."""

from __future__ import annotations

import os
import time

from rkt.errors import RktError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from console.output import Output
    from rkt.pods.inspection import PodFacts
    from rkt.pods.pod import Pod

EXAMPLES = """\
  rkt status 5bc080ca
  rkt status --wait web
  rkt status --wait-ready=30s web
  rkt status --format=json web
"""
DESCRIPTION = """\
Prints KEY=VALUE lines: the state, the times, the networks, the process ID of the pod's first process, and
the exit code of every app once the pod has ended. What the pod asks for but the host could not enforce is
listed as not-enforced lines, apps of which the kernel killed processes for lack of memory as out-of-memory.
--wait blocks until the pod has ended, --wait-ready until its apps are up.
"""
NAMES = ("uuid", "name", "state", "created", "started", "networks", "pid", "exited")
_POLL = 0.02


def arguments(parser: argparse.ArgumentParser) -> None:
    from console.output import add_format
    from rkt.cli.podargument import add_uuid_file

    parser.add_argument("uuid", metavar="UUID", nargs="?", help="the pod: UUID, its beginning, or name")
    parser.add_argument(
        "--wait",
        metavar="BOOL|DURATION",
        nargs="?",
        const="true",
        default="false",
        help="block until the pod has ended, at most for DURATION, such as 30s",
    )
    parser.add_argument(
        "--wait-ready",
        metavar="BOOL|DURATION",
        nargs="?",
        const="true",
        default="false",
        help="block until the pod is ready, at most for DURATION",
    )
    add_uuid_file(parser)
    add_format(parser, NAMES)


def run(options: argparse.Namespace, out: Output) -> int:
    from rkt.cli import podargument
    from rkt.pods.inspection import inspect

    limits = {name: _limit(getattr(options, name), name) for name in ("wait", "wait_ready")}
    (word,) = podargument.wanted(options)
    with podargument.open_pod(options, word) as pod:
        if limits["wait_ready"] is not None:
            _wait(pod, limits["wait_ready"], _is_ready, "ready")
        if limits["wait"] is not None:
            _wait(pod, limits["wait"], _has_ended, "ended")
        facts = inspect(pod)
    if options.format in ("json", "json-pretty"):
        from rkt.cli.podjson import pod_json

        out.json(pod_json(facts), pretty=options.format == "json-pretty")
    elif options.format == "table":
        for line in _lines(facts):
            out.line(line)
    else:
        out.template(options.format, [_row(facts)], NAMES)
    return 0


def _row(pod: PodFacts) -> dict[str, object]:
    from console.formats import humane
    from rkt.cli.list import networks_text

    return {
        "uuid": pod.uuid,
        "name": pod.name or "",
        "state": pod.state,
        "created": humane.timestamp(pod.created) if pod.created is not None else "",
        "started": humane.timestamp(pod.started) if pod.started is not None else "",
        "networks": networks_text(pod),
        "pid": "" if pod.pid is None else pod.pid,
        "exited": str(pod.state in ("exited", "exited garbage")).lower(),
    }


def _lines(pod: PodFacts) -> list[str]:
    """The lines of rkt's `status`, and after them our own."""
    row = _row(pod)
    running = pod.state == "running"
    lines = [f"state={pod.state}"]
    lines += [f"{key}={row[key]}" for key in ("created", "started") if row[key]]
    if running or pod.ended:
        lines.append(f"networks={row['networks']}")
        if pod.pid is not None:
            lines.append(f"pid={pod.pid}")
        lines.append(f"exited={row['exited']}")
    if pod.ended:
        lines += [f"app-{app.name}={app.exit_code}" for app in pod.apps if app.exit_code is not None]
    lines += [f"name={pod.name}"] if pod.name else []
    lines += [f"not-enforced={text}" for text in pod.not_enforced]
    lines += [f"out-of-memory={app}" for app in pod.out_of_memory]
    return lines


def _limit(text: str, name: str) -> float | None:
    """Seconds to wait: None for not at all, infinity for `true`."""
    if text.lower() in ("true", "t", "1"):
        return float("inf")
    if text.lower() in ("false", "f", "0", ""):
        return None
    from rkt.cli.duration import parse_duration

    return parse_duration(text, f"--{name.replace('_', '-')}")


def _is_ready(pod: Pod) -> bool:
    from rkt.stage1.abi import SUPERVISOR_STATUS

    pod.refresh()
    try:
        ready = os.readlink(SUPERVISOR_STATUS, dir_fd=pod.fd) == "ready"
    except OSError:
        ready = False
    if not ready and pod.state() not in ("embryo", "preparing", "prepared", "running"):
        raise RktError(f"pod {pod.uuid} has ended and will not become ready")
    return ready


def _has_ended(pod: Pod) -> bool:
    pod.refresh()
    return pod.state() not in ("embryo", "preparing", "prepared", "running")


def _wait(pod: Pod, limit: float, done: Callable[[Pod], bool], what: str) -> None:
    end = time.monotonic() + limit
    while not done(pod):
        if time.monotonic() >= end:
            raise RktError(f"pod {pod.uuid} has not {'become ' if what == 'ready' else ''}{what} in time")
        time.sleep(_POLL)
