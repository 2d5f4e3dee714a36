"""The parent's part of a run: start a child in new namespaces, hear of failures, pass signals on, wait.

The child dies with acbuild (PDEATHSIG). What it has to say comes through a pipe that the command's execve
closes, so that the parent can tell a failure of its own from an exit code of the command.
"""

from __future__ import annotations

import os

from acbuild import waiting
from acbuild.engines import NotRun
from acbuild.errors import AcbuildError
from linux import clone, libc, process
from linux.bare import signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn


class NoNamespaces(AcbuildError):
    """The kernel refuses the namespaces of a run: acbuild is in a container that may not have any."""

    def __init__(self, error: OSError) -> None:
        super().__init__(
            f"namespaces cannot be made here: {error.strerror}",
            hint="in a container without CAP_SYS_ADMIN, use --engine=chroot",
        )


class NoOverlay(Exception):
    """There are lower layers, and no overlay can be made of them here."""


class Channel:
    """The child's end: what it says reaches the parent; it is closed by execve."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def note(self, text: str) -> None:
        """Have the user told."""
        self._send("note", text)

    def fail(self, error: BaseException) -> None:
        """Have `error` raised in the parent, as the nearest exception of acbuild's own."""
        if isinstance(error, NotRun):
            kind = str(error.exit_code)
        else:
            kind = "no-overlay" if isinstance(error, NoOverlay) else "error"
        self._send(kind, str(error) or type(error).__name__, getattr(error, "hint", None) or "")

    def close(self) -> None:
        """Nothing more is to be said."""
        os.close(self._fd)

    def _send(self, kind: str, text: str, hint: str = "") -> None:
        os.write(self._fd, f"{kind}\0{text}\0{hint}\1".encode("utf-8", "surrogateescape"))


def run(kinds: int, life: Callable[[Channel], NoReturn], *, say: Callable[[str], None]) -> int:
    """Run `life` in a child in new namespaces (NEW… flags); its exit code.

    Whatever `life` raises before it closes the channel is raised here: AcbuildError, NotRun or NoOverlay.
    """
    told, telling = os.pipe()
    alive, living = os.pipe()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, waiting.WAITED)
    try:
        try:
            pid = clone.clone(kinds)
        except OSError as error:
            raise NoNamespaces(error) from None
        if pid == 0:
            _live(life, Channel(telling), alive, telling)
        os.close(telling)
        telling = -1
        with open(told, "rb", closefd=False) as stream:
            messages = stream.read()
        code = waiting.wait(pid)
        _judge(messages, say)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        for fd in (told, telling, alive, living):
            if fd >= 0:
                os.close(fd)
    if code < 0:
        raise AcbuildError(f"the run was ended by signal {-code}")
    return code


def _live(life: Callable[[Channel], NoReturn], channel: Channel, alive: int, telling: int) -> NoReturn:
    """The child. `alive` is a pipe that nobody but the parent can write to: it ends when the parent does."""
    try:
        process.close_fds_from(3, keep=(alive, telling))
        libc.prctl(libc.PR_SET_PDEATHSIG, signal.SIGKILL)
        os.set_blocking(alive, False)
        try:
            os.read(alive, 1)
            os._exit(1)  # the parent died before it could be told to the kernel
        except BlockingIOError:
            os.close(alive)
        life(channel)
    except BaseException as error:  # noqa: BLE001 - whatever it is, the parent tells it
        channel.fail(error)
    finally:
        os._exit(1)


def be_init(become: Callable[[], NoReturn], channel: Channel) -> NoReturn:
    """As PID 1: have a child become the command, pass signals on to it, reap, and end with its exit code."""
    child = os.fork()
    if child == 0:
        try:
            become()
        except BaseException as error:  # noqa: BLE001 - whatever it is, the parent tells it
            channel.fail(error)
        finally:
            os._exit(127)
    channel.close()
    while True:
        number = signal.sigwaitinfo(waiting.WAITED).si_signo
        if number != signal.SIGCHLD:
            os.kill(child, number)
            continue
        while True:
            try:
                done, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if done == child:
                code = os.waitstatus_to_exitcode(status)
                os._exit(code if code >= 0 else 128 - code)
            if not done:
                break


def _judge(messages: bytes, say: Callable[[str], None]) -> None:
    """Raise the exception that the child told of."""
    for message in messages.decode("utf-8", "surrogateescape").split("\1")[:-1]:
        kind, text, hint = message.split("\0")
        if kind == "note":
            say(text)
        elif kind == "no-overlay":
            raise NoOverlay
        elif kind == "error":
            raise AcbuildError(text, hint=hint or None)
        else:
            raise NotRun(text, missing=kind == "127", hint=hint or None)
