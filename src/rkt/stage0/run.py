"""Run a prepared pod: move it to `run` and hand it, with its lock, to its stage 1."""

from __future__ import annotations

import os
import time

from appc import jsonfield
from rkt.errors import RktError, hint_for, one_line
from rkt.pods import phases
from rkt.stage1 import flavours
from rkt.stage1.abi import SUPERVISOR_STATUS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from rkt.pods.pod import Pod
    from rkt.stage1.abi import Invocation

_POLL = 0.004


def run(pod: Pod, invocation: Invocation) -> int:
    """Run the pod, whose lock the caller holds, to its end; the exit code of the pod.

    `invocation.pod_dir` is filled in here, as the pod moves. Raises RktError or OSError when it cannot be
    started.
    """
    pod.move(phases.RUN, durable=False)
    invocation = invocation._replace(pod_dir=pod.path)
    _record(pod, invocation)
    if invocation.mds_token:
        from rkt.metadata import pods

        local = "host" in invocation.net or pod.read_text(flavours.FLAVOUR_FILE) == "fly"
        pods.register(pod.path, pod.uuid, invocation.mds_token, local=local)
    try:
        return flavours.of_pod(pod).run(invocation, pod.fd)
    except OSError as error:
        if hint := hint_for(error):
            raise RktError(one_line(error), hint=hint) from error
        raise


def run_detached(pod: Pod, invocation: Invocation) -> None:
    """Run the pod under a supervisor that outlives this command; returns when the pod is ready.

    The supervisor is a process of its own session, so that neither a terminal that closes nor the shell's
    job control ends the pod. Raises RktError with the supervisor's own message if the pod cannot be started.
    """
    reading, writing = os.pipe2(os.O_CLOEXEC)
    child = os.fork()
    if child == 0:
        os.close(reading)
        _supervise(pod, invocation, writing)
    os.close(writing)
    try:
        pod.phase = phases.RUN
        _await_ready(pod, child)
        for remark in (pod.read_text("not-enforced") or "").splitlines():  # its own standard error is nowhere
            os.write(2, f"run: warning: not enforced: {remark}\n".encode())
    except RktError as error:
        with os.fdopen(reading, "rb", closefd=False) as stream:
            told = jsonfield.obj(jsonfield.parse(stream.read(1 << 16) or b"{}"))
            hint = told.get("hint")
        if "message" in told:
            raise RktError(str(told["message"]), hint=hint if isinstance(hint, str) else None) from None
        raise error from None
    finally:
        os.close(reading)


def _supervise(pod: Pod, invocation: Invocation, report: int) -> NoReturn:
    """The life of the detached process: never returns into its caller's stack."""
    code = 254
    try:
        os.setsid()
        null = os.open("/dev/null", os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(null, fd)
        code = run(pod, invocation)
    except Exception as error:  # noqa: BLE001  the edge of a process: whoever waits shows it
        told = {"message": one_line(error), "hint": hint_for(error) or None}
        os.write(report, jsonfield.encode(told)[: 1 << 15])
    finally:
        os._exit(code)


def _await_ready(pod: Pod, child: int) -> None:
    while True:
        told = _told(pod)
        if told == "ready":
            return
        done, status = os.waitpid(child, 0 if told else os.WNOHANG)
        if done:
            code = os.waitstatus_to_exitcode(status)
            if _told(pod) == "failed":
                raise RktError(_last_words(pod), hint=f"the pod has ended: see `rkt logs {pod.uuid[:8]}`")
            if code == 0 or _has_statuses(pod):
                return  # it was up and has ended already
            raise RktError(f"pod {pod.uuid} could not be started: its supervisor ended with status {code}")
        time.sleep(_POLL)


def _told(pod: Pod) -> str:
    """What the supervisor has said: ready, failed, or "" for nothing yet."""
    try:
        return os.readlink(f"{pod.path}/{SUPERVISOR_STATUS}")
    except OSError:
        return ""


def _last_words(pod: Pod) -> str:
    """What was said of the program that could not be executed: the last line of its app's log."""
    for name in sorted(os.listdir(f"{pod.path}/logs")):
        lines = (pod.read(f"logs/{name}") or b"").decode("utf-8", "replace").splitlines()
        if lines:
            return lines[-1].split(" ", 3)[-1]
    return f"pod {pod.uuid} could not be started: a program could not be executed"


def _has_statuses(pod: Pod) -> bool:
    try:
        return bool(os.listdir(f"{pod.path}/stage1/rootfs/rkt/status"))
    except FileNotFoundError:
        return False


def _record(pod: Pod, invocation: Invocation) -> None:
    """Write down how the pod is run: `restart` reads it, and people do."""
    with open(f"{pod.path}/runtime-config", "wb") as stream:
        stream.write(jsonfield.encode(invocation._asdict()))
