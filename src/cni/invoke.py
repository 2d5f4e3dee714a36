"""Finding and running plugin executables that are not ours, within limits."""

from __future__ import annotations

import os

from cni import jsontext, plugins
from cni.errors import DECODING_FAILURE, INTERNAL, INVALID_CONFIG, TRY_AGAIN_LATER, CniError
from cni.types import names

TYPE_CHECKING = False  # not from typing: a plugin lives too short to import it
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cni.process import Finished
    from cni.request import Request

DEADLINE = 300.0  # seconds; a DHCP client may well need 200
_LAUNCHER_MARK = b"rkt-platform CNI plugin launcher"
_ANSWERED = ("ADD", "VERSION")  # commands that a plugin has to print something for
_BUSY_RETRIES = 5
_BUSY_PAUSE = 0.2  # seconds


def find(name: str, path: Sequence[str]) -> str | None:
    """The executable for plugin `name`: the first in `path`, or None to call the built-in function.

    Our own launcher found under that name counts as the function. Raises CniError 7 when there is
    neither, and when `name` is a path (CVE-2021-20206).
    """
    names.check_plugin_type(name)
    for directory in path:
        candidate = f"{directory}/{name}"
        if directory and os.path.isfile(candidate):
            return None if plugins.is_builtin(name) and is_launcher(candidate) else candidate
    if plugins.is_builtin(name):
        return None
    from difflib import get_close_matches

    searched = ":".join(path) or "an empty path"
    like = get_close_matches(name, plugins.PLUGINS, n=1)
    hint = f"did you mean {like[0]}?" if like else None
    raise CniError(INVALID_CONFIG, f"failed to find plugin {name!r}", f"in {searched}", hint=hint)


def variables(request: Request, command: str) -> dict[str, str]:
    """The variables of the specification for `request`, over its own environment."""
    return {
        **request.environment,
        "CNI_COMMAND": command,
        "CNI_CONTAINERID": request.container_id,
        "CNI_NETNS": request.netns or "",
        "CNI_IFNAME": request.ifname,
        "CNI_ARGS": request.args,
        "CNI_PATH": ":".join(request.path),
    }


def execute(
    program: str,
    environment: Mapping[str, str],
    config: Mapping[str, object],
    *,
    text: bytes | None = None,
    deadline: float = DEADLINE,
) -> object:
    """Run `program`, give it `config` (or `text`), and return the JSON it prints, None for nothing.

    Raises the CniError that the plugin printed, or one that says how it failed otherwise: it ran
    longer than `deadline` seconds, printed too much, printed what is not JSON, or nothing where an ADD or
    VERSION has to be answered. Its stderr is passed on to ours, or is part of the error when it is all
    that a failed plugin printed.
    """
    from cni.process import run

    stdin = jsontext.dumps(config).encode() if text is None else text
    for _ in range(_BUSY_RETRIES):
        try:
            finished = run(program, environment, stdin, deadline=deadline)
            break
        except TimeoutError as late:
            raise CniError(TRY_AGAIN_LATER, f"{program} was stopped", str(late)) from None
        except OSError as failed:
            import errno

            if failed.errno != errno.ETXTBSY:
                raise CniError(INTERNAL, f"cannot run {program}", failed.strerror or str(failed)) from None
            import time

            time.sleep(_BUSY_PAUSE)
    else:
        raise CniError(TRY_AGAIN_LATER, f"cannot run {program}", "somebody is writing to it")
    return _answer(program, environment, finished)


def call_builtin(
    name: str, variables: Mapping[str, str], config: Mapping[str, object], *, deadline: float = DEADLINE
) -> object:
    """Run the built-in plugin `name` in a child, through the very protocol that `execute` speaks."""
    from cni import plugin
    from cni.process import converse

    def body() -> int:
        os.environ.clear()
        os.environ.update(variables)
        return plugin.main(name)

    try:
        finished = converse(body, jsontext.dumps(config).encode(), deadline=deadline)
    except TimeoutError as late:
        raise CniError(TRY_AGAIN_LATER, f"{name} was stopped", str(late)) from None
    return _answer(name, variables, finished)


def _answer(program: str, environment: Mapping[str, str], finished: Finished) -> object:
    stdout, status = finished.stdout, finished.status
    said = finished.stderr.decode("utf-8", "replace").strip()
    if said and (status == 0 or stdout.strip()):
        os.write(2, finished.stderr)
    if status == 0:
        if not stdout.strip():
            if environment.get("CNI_COMMAND") in _ANSWERED:
                raise CniError(DECODING_FAILURE, f"{program} printed nothing")
            return None
        try:
            return jsontext.loads(stdout)
        except ValueError as bad:
            raise CniError(DECODING_FAILURE, f"{program} printed no JSON", str(bad)) from None
    how = f"exit status {status}" if status > 0 else f"signal {-status}"
    if not stdout.strip():
        raise CniError(
            INTERNAL, f"netplugin failed{f': {said!r}' if said else ' with no error message'}", how
        )
    try:
        error = CniError.from_json(jsontext.loads(stdout))
    except ValueError:
        error = None
    if error is None:
        printed = stdout[:200].decode("utf-8", "replace")
        raise CniError(
            INTERNAL, "netplugin failed but error parsing its diagnostic message", f"{printed!r}, {how}"
        )
    raise error


def is_launcher(candidate: str) -> bool:
    """Whether `candidate` is this project's own plugin launcher, in whatever place it is installed."""
    try:
        fd = os.open(candidate, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return _LAUNCHER_MARK in os.read(fd, 256)
    except OSError:
        return False
    finally:
        os.close(fd)
