"""debug: writes down every call it gets, and fails when it is told to. For those who write or test networks.

Put it anywhere in a list. Its configuration:

``cniOutput``
    Where calls go: a directory, one file for each call, or else a file, a line for each. Both are JSON:
    ``{"time", "command", "environment", "config"}``.
``fail``
    ``{"ADD": {"code": 100, "msg": "no", "details": "…"}}``: the command fails so, after it was written down.

A DEL or GC goes on when it cannot be written down: nothing may keep a container from going.
"""

from __future__ import annotations

import os

from cni import jsontext
from cni.errors import IO_FAILURE, UNSUPPORTED_FIELD, CniError
from cni.types.result import Result

TYPE_CHECKING = False  # not from typing: a plugin lives too short to import it
if TYPE_CHECKING:
    from cni.request import Request

# Of the reference's plugin of this name. A configuration is no place for programs to run as root.
_HOOKS = ("addHooks", "delHooks", "checkHooks")
_UNSPECIFIED = 100  # the first code that is free for plugins


def add(request: Request) -> Result:
    """The result is that of the plugin before, or an empty one."""
    for key in _HOOKS:
        if request.fields.get(key) is not None:
            raise CniError(UNSUPPORTED_FIELD, f"{key} is not supported", "this plugin runs no commands")
    _note(request)
    _fail(request)
    return request.prev_result or Result(version=request.version)


def check(request: Request) -> None:
    _note(request)
    _fail(request)


def delete(request: Request) -> None:
    _note_if_possible(request)
    _fail(request)


def status(request: Request) -> None:
    _note(request)
    _fail(request)


def collect(request: Request) -> None:
    _note_if_possible(request)
    _fail(request)


def _note(request: Request) -> None:
    path = request.fields.string("cniOutput")
    if not path:
        return
    from time import time, time_ns

    call = {
        "time": time(),
        "command": request.command,
        "environment": request.environment,
        "config": request.config,
    }
    # Nobody may read from what is there: without O_NONBLOCK a pipe would hold the container up.
    flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        if os.path.isdir(path):
            # The clock first, so that names are in order; the process, so that none is there already.
            name = f"{path}/{time_ns()}-{os.getpid()}-{request.command}.json"
            fd = os.open(name, flags | os.O_EXCL, 0o600)
        else:
            fd = os.open(path, flags | os.O_APPEND, 0o600)
        with open(fd, "wb", buffering=0) as file:
            # One write: lines of calls at the same time do not mix.
            file.write((jsontext.dumps(call) + "\n").encode())
    except OSError as failed:
        raise CniError(IO_FAILURE, f"{path}: cannot be written", failed.strerror or str(failed)) from None


def _note_if_possible(request: Request) -> None:
    try:
        _note(request)
    except CniError as failed:
        os.write(2, f"debug: {failed}\n".encode("utf-8", "replace"))


def _fail(request: Request) -> None:
    orders = request.fields.mapping("fail")
    if orders.get(request.command) is None:
        return
    order = orders.mapping(request.command)
    raise CniError(
        order.integer("code", _UNSPECIFIED, low=1),
        order.string("msg", f"{request.command} fails, as the configuration says"),
        order.string("details"),
    )
