"""rkt enter: run a command inside an app of a running pod."""

from __future__ import annotations

import os

from rkt.errors import RktError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from console.output import Output
    from rkt.pods.pod import Pod

EXAMPLES = """\
  rkt enter 5bc080ca
  rkt enter --app=nginx web /bin/sh -c 'cat /proc/self/status'
  rkt enter --privileged web /bin/sh
"""
DESCRIPTION = """\
Runs CMD, or a shell (/bin/bash, else /bin/sh), in the namespaces, root and control group of an app, with the
app's user, environment, working directory, capabilities and system call filter. --privileged gives the
command the user root, all capabilities that the pod's user namespace can have, and no filter. When
standard input and output are terminals the command gets one of its own. Otherwise it gets rkt's own streams,
but no terminal of yours: for that its input is at its end, and its output goes through a pipe.
The exit code is that of the command; 127 if there is no such program, 254 if rkt itself fails.
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    import argparse

    parser.add_argument("--app", metavar="APP", help="the app to enter; needed if the pod has several")
    parser.add_argument(
        "--user", metavar="USER", default="", help="run as USER of the app's image or a number"
    )
    parser.add_argument("--group", metavar="GROUP", default="", help="run with GROUP as the primary group")
    parser.add_argument(
        "--privileged", action="store_true", help="root with all capabilities and no filter, inside the pod"
    )
    parser.add_argument("uuid", metavar="UUID", help="the pod: UUID, its beginning, or name")
    command = parser.add_argument(
        "command", metavar="CMD", nargs=argparse.REMAINDER, help="the program and its arguments"
    )
    command.required = False  # for argparse of Python 3.11 it was


def run(options: argparse.Namespace, out: Output) -> int:
    from rkt.cli import podargument, root

    root.require_root()
    with podargument.open_pod(options, options.uuid) as pod:
        if pod.state() != "running":
            raise RktError(f'pod "{pod.uuid}" isn\'t currently running')
        return _enter(options, pod, out)


def _enter(options: argparse.Namespace, pod: Pod, out: Output) -> int:
    from rkt.stage1 import enter, flavours

    app = _app(pod, options.app)
    argv = tuple(options.command)
    if argv[:1] == ("--",):
        argv = argv[1:]
    if not argv and pod.read_text(flavours.FLAVOUR_FILE) != flavours.EXTERNAL:
        argv = (enter.shell(pod, app),)
        out.warn(f"no command specified, assuming {argv[0]!r}")
    command = enter.Command(
        app=app,
        argv=argv,
        user=options.user,
        group=options.group,
        privileged=options.privileged,
        terminal=os.isatty(0) and os.isatty(1),
    )
    return enter.enter(pod, command)


def _app(pod: Pod, wanted: str | None) -> str:
    """The app to enter: the one that is named, or the only one."""
    from rkt.pods.inspection import app_names

    names = app_names(pod)
    if wanted is not None:
        if wanted not in names:
            known = ", ".join(names)
            raise RktError(f'no app with name "{wanted}" in pod {pod.uuid}', hint=f"its apps: {known}")
        return wanted
    if len(names) != 1:
        raise RktError(
            f"pod contains multiple apps: {', '.join(names)}", hint='specify app using "rkt enter --app= ..."'
        )
    return names[0]
