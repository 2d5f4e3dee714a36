"""A stage 1 that came as an image: run by the entry points that its manifest names.

Such an image is code of the operator's choice that runs as root on the host, which is why stage 0
verifies its signature before it gets here. Its manifest and file tree lie in the pod's `stage1`.
"""

from __future__ import annotations

import json
import os
import signal

from rkt.errors import RktError
from rkt.stage1 import abi

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from rkt.stage1.abi import Invocation

_GC_SECONDS = 60.0


def run(invocation: Invocation, lock_fd: int) -> int:
    """Become the stage 1's `run` entry point; returns only by raising RktError or OSError."""
    annotations = _annotations(invocation.pod_dir)
    flags, dropped = abi.arguments(invocation, _version(annotations))
    if dropped:
        import sys

        sys.stderr.write(f"run: warning: this stage1 is too old for {', '.join(dropped)}: ignored\n")
    program = _program(invocation.pod_dir, annotations, abi.RUN)
    if program is None:
        raise RktError(f"the stage1 image names no program for {abi.RUN}")
    os.chdir(invocation.pod_dir)
    os.set_inheritable(lock_fd, True)  # noqa: FBT003
    os.execve(program, [program, *flags], os.environ | {abi.LOCK_FD: str(lock_fd)})


def enter(pod_dir: str, app: str, argv: list[str]) -> NoReturn:
    """Become the `enter` entry point for `app`. RktError for a stage 1 that has none."""
    program = _program(pod_dir, _annotations(pod_dir), abi.ENTER)
    if program is None:
        raise RktError("the stage1 image has no way to enter its pods", hint="its manifest names none")
    os.chdir(pod_dir)
    words = [program, f"--pid={_first_process(pod_dir)}", f"--appname={app}", "--", *argv]
    os.execve(program, words, os.environ)


def _first_process(pod_dir: str) -> int:
    """The pod's first process: the file `pid`, or the only child of the process in `ppid` (rkt's ABI)."""
    try:
        with open(f"{pod_dir}/pid", encoding="ascii") as stream:
            return int(stream.read())
    except (FileNotFoundError, ValueError):
        pass
    try:
        with open(f"{pod_dir}/ppid", encoding="ascii") as stream:
            parent = int(stream.read())
        with open(f"/proc/{parent}/task/{parent}/children", encoding="ascii") as stream:
            (child,) = stream.read().split()
            return int(child)
    except (OSError, ValueError) as error:
        raise RktError("the pod has written no process ID yet", hint="try again in a moment") from error


def stop(pod_dir: str, *, force: bool) -> None:
    """Call the `stop` entry point; a stage 1 without one has its first process signalled."""
    annotations = _annotations(pod_dir)
    program = _program(pod_dir, annotations, abi.STOP)
    if program is not None:
        _call([program, *(["--force"] if force else []), os.path.basename(pod_dir)], pod_dir)
        return
    for name in ("ppid", "pid"):
        try:
            with open(f"{pod_dir}/{name}", encoding="ascii") as stream:
                pid = int(stream.read())
        except (FileNotFoundError, ValueError):
            continue
        os.kill(pid, signal.SIGKILL if force else signal.SIGTERM)
        return
    raise RktError("the pod has written no process ID yet", hint="try again in a moment")


def gc(pod_dir: str, local_config: str) -> None:
    """Call the `gc` entry point, if the pod came as far as having a stage 1."""
    try:
        annotations = _annotations(pod_dir)
    except RktError:
        return
    program = _program(pod_dir, annotations, abi.GC)
    if program is not None:
        config = [f"--local-config={local_config}"] if _version(annotations) >= 5 else []
        _call([program, *config, os.path.basename(pod_dir)], pod_dir)


def _annotations(pod_dir: str) -> dict[str, str]:
    try:
        with open(f"{pod_dir}/stage1/manifest", "rb") as stream:
            manifest = json.load(stream)
        return {entry["name"]: entry["value"] for entry in manifest.get("annotations") or ()}
    except (FileNotFoundError, ValueError, KeyError, TypeError) as error:
        raise RktError("the manifest of the stage1 cannot be read") from error


def _version(annotations: dict[str, str]) -> int:
    text = annotations.get(abi.INTERFACE_VERSION, "1")
    if not text.isdecimal():
        raise RktError(f"the stage1's interface version {text!r} is not a number")
    return int(text)


def _program(pod_dir: str, annotations: dict[str, str], entry: str) -> str | None:
    path = annotations.get(entry)
    if path is None:
        return None
    if ".." in path.split("/"):
        raise RktError(f"the stage1's {entry} {path!r} leaves its root file system")
    return f"{pod_dir}/stage1/rootfs/{path.lstrip('/')}"


def _call(argv: list[str], pod_dir: str) -> None:
    import subprocess

    try:
        done = subprocess.run(
            argv, cwd=pod_dir, stdin=subprocess.DEVNULL, capture_output=True, timeout=_GC_SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise RktError(f"{argv[0]} has not ended in {_GC_SECONDS:.0f} s") from error
    if done.returncode != 0:
        text = done.stderr.decode("utf-8", "replace").strip()[-500:]
        raise RktError(f"{argv[0]} failed with status {done.returncode}: {text}")
