"""rkt logs: show what the apps of a pod printed."""

from __future__ import annotations

import time

from console.terminal import is_terminal
from rkt.errors import RktError
from rkt.stage1.native.logs import tamed

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable

    from console.output import Output
    from rkt.pods.logs import Line

EXAMPLES = """\
  rkt logs web
  rkt logs -f 5bc080ca
  rkt logs --timestamps --tail=20 web nginx
"""
DESCRIPTION = """\
Shows the output of the pod's apps, or of the one that is named, oldest first. The logs of a pod that has
ended can be read until it is collected. Of every app the last 50 MiB are kept. With several apps each line
begins with the name of the app. Then, and on a terminal, control characters other than tabs are shown as
\\x1b and the like; one app's log that is piped has every byte as the app printed it.
"""
_POLL = 0.1


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("uuid", metavar="UUID", help="the pod: UUID, its beginning, or name")
    parser.add_argument("app", metavar="APP", nargs="?", help="show only this app")
    parser.add_argument("-f", "--follow", action="store_true", help="go on until the pod has ended")
    parser.add_argument("--tail", metavar="N", type=int, help="begin with the last N lines")
    parser.add_argument("--timestamps", action="store_true", help="begin each line with its time")


def run(options: argparse.Namespace, out: Output) -> int:
    from rkt.cli import podargument
    from rkt.pods.inspection import app_names
    from rkt.pods.logs import Follower, merged

    if options.tail is not None and options.tail < 0:
        raise RktError(f"--tail: {options.tail} is less than 0")
    with podargument.open_pod(options, options.uuid) as pod:
        names = app_names(pod)
        if options.app is not None and options.app not in names:
            raise RktError(
                f"pod {pod.uuid} has no app {options.app!r}", hint="its apps are " + ", ".join(sorted(names))
            )
        shown = [options.app] if options.app else names
        followers = [Follower(pod, name) for name in shown]
        printer = _Printer(out, with_app=len(shown) > 1, with_time=options.timestamps)
        try:
            printer.print(_last(merged(followers), options.tail))
            while options.follow:
                ended = not pod.is_locked()
                printer.print(merged(followers))
                if ended:
                    break
                time.sleep(_POLL)
        finally:
            for follower in followers:
                follower.close()
    return 0


def _last(lines: Iterable[Line], count: int | None) -> Iterable[Line]:
    if count is None:
        return lines
    from collections import deque

    return deque(lines, maxlen=count)


class _Printer:
    """Writes lines as they were printed; pieces of a long line are put together again."""

    def __init__(self, out: Output, *, with_app: bool, with_time: bool) -> None:
        self._out = out
        self._with_app = with_app
        self._with_time = with_time
        # An app could pretend to be another one by going back to a line's beginning.
        self._tame = with_app or is_terminal(out.stdout)
        self._begun: set[tuple[str, str]] = set()

    def print(self, lines: Iterable[Line]) -> None:
        for line in lines:
            key = (line.app, line.stream)
            prefix = "" if key in self._begun else self._prefix(line)
            text = tamed(line.text) if self._tame else line.text
            self._out.raw(prefix.encode() + text + (b"\n" if line.ended else b""))
            if line.ended:
                self._begun.discard(key)
            else:
                self._begun.add(key)

    def _prefix(self, line: Line) -> str:
        stamp = f"{line.time} " if self._with_time else ""
        return stamp + (f"{line.app}: " if self._with_app else "")
