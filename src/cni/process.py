"""A child with text in, text out, limits and a deadline: a program, or a function of ours after a fork."""

from __future__ import annotations

import fcntl
import os
import select
import signal
import time

TYPE_CHECKING = False  # not from typing: a plugin lives too short to import it
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Final

OUTPUT_LIMIT = 1 << 20  # bytes of stdout; a result is some hundred
_ERROR_LIMIT = 1 << 16  # bytes of stderr that are kept
_CHUNK = 1 << 16


class Finished:
    """What is left of a program: `status` as subprocess has it (negative: the signal that ended it)."""

    __slots__ = ("status", "stderr", "stdout")

    def __init__(self, status: int, stdout: bytes, stderr: bytes) -> None:
        self.status: Final = status
        self.stdout: Final = stdout
        self.stderr: Final = stderr


def run(
    program: str,
    environment: Mapping[str, str],
    stdin: bytes,
    *,
    deadline: float,
    limit: int = OUTPUT_LIMIT,
) -> Finished:
    """Run `program` without arguments in exactly this environment, as `converse` says.

    Raises the OSError of a failed exec.
    """

    def become() -> int:
        # Python ignores these two, and what is ignored stays so over an exec: a shell script would write on.
        for number in (signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
        os.execve(program, [program], dict(environment))

    return converse(become, stdin, deadline=deadline, limit=limit)


def converse(
    body: Callable[[], int], stdin: bytes, *, deadline: float, limit: int = OUTPUT_LIMIT
) -> Finished:
    """Call `body` in a child, give it `stdin`, and wait for it; what it returns is its exit status.

    The child has no file descriptor but its three pipes, and a process group of its own. Raises
    TimeoutError when it (or a child of it that kept the pipes) is not done after `deadline` seconds or
    prints more than `limit` bytes: the group is killed then. Of stderr the first 64 KiB are kept.
    Raises the OSError that `body` raises. No thread may have been started in this process.
    """
    pipes: list[int] = []
    try:
        for _ in range(4):
            pipes += os.pipe()
        child_in, to_child, from_child, child_out, errors, child_error, failure, child_failure = pipes
        pid = os.fork()
        if pid == 0:
            _become(body, child_in, child_out, child_error, child_failure)
        for fd in (child_in, child_out, child_error, child_failure):
            os.close(fd)
            pipes.remove(fd)
        try:
            pipes.remove(to_child)
            stdout, stderr = _talk(to_child, stdin, from_child, errors, deadline, limit)
            _raise_failure(failure)
        except BaseException:
            _kill_group(pid)
            os.waitpid(pid, 0)
            raise
        return Finished(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), stdout, stderr)
    finally:
        for fd in pipes:
            os.close(fd)


def _become(body: Callable[[], int], stdin: int, stdout: int, stderr: int, failure: int) -> None:
    """In the child: never returns. An OSError goes into the `failure` pipe, which an exec closes."""
    status = 127
    try:
        os.setpgid(0, 0)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        # The parent may handle the first three; that is not the child's. The others are as in any Python: a
        # peer that hangs up on a socket of `body` is an error to it, not its end.
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        for number in (signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_IGN)
        # Up first: a pipe may itself be number 0, 1 or 2 when the caller has closed those.
        ends = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 10) for fd in (stdin, stdout, stderr, failure)]
        failure = ends[3]
        for target, fd in enumerate(ends[:3]):
            os.dup2(fd, target)
        os.closerange(3, failure)
        os.closerange(failure + 1, os.sysconf("SC_OPEN_MAX"))
        status = body()
    except OSError as failed:
        os.write(failure, f"{failed.errno or 0}:{failed.filename or ''}".encode("utf-8", "surrogateescape"))
    except BaseException as bug:  # noqa: BLE001  nothing may get out of here into the parent's code
        os.write(2, f"{type(bug).__name__}: {bug}\n".encode("utf-8", "replace"))
    finally:
        os._exit(status)


def _raise_failure(failure: int) -> None:
    """Raise the OSError that came through the pipe; nothing comes when all went well."""
    os.set_blocking(failure, False)
    try:
        number, colon, filename = os.read(failure, _CHUNK).decode("utf-8", "surrogateescape").partition(":")
    except BlockingIOError:
        return
    if colon:
        raise OSError(int(number), os.strerror(int(number)), filename or None)


def _talk(
    to_child: int,
    stdin: bytes,
    from_child: int,
    errors: int,
    deadline: float,
    limit: int,
) -> tuple[bytes, bytes]:
    """Write stdin, read stdout and stderr until both end; closes `to_child` and nothing else."""
    end = time.monotonic() + deadline
    rest = memoryview(stdin)
    read: dict[int, bytearray] = {from_child: bytearray(), errors: bytearray()}
    reading = set(read)
    os.set_blocking(to_child, False)
    writing = True
    try:
        while reading:
            left = end - time.monotonic()
            ready = select.select(reading, [to_child] if writing else [], [], max(left, 0))
            if left <= 0 and not (ready[0] or ready[1]):
                raise TimeoutError(f"no answer after {deadline:g} s")
            if ready[1]:
                rest, writing = _write_some(to_child, rest)
            for fd in ready[0]:
                chunk = os.read(fd, _CHUNK)
                if not chunk:
                    reading.remove(fd)
                elif fd == errors:
                    read[fd] += chunk[: max(0, _ERROR_LIMIT - len(read[fd]))]
                else:
                    read[fd] += chunk
            if len(read[from_child]) > limit:
                raise TimeoutError(f"it printed more than {limit} bytes")
            if left <= 0:
                raise TimeoutError(f"still talking after {deadline:g} s")
    finally:
        if writing:
            os.close(to_child)
    return bytes(read[from_child]), bytes(read[errors])


def _write_some(to_child: int, rest: memoryview) -> tuple[memoryview, bool]:
    """Write what fits; close the pipe when all is out, or when nobody reads it: that is no error."""
    try:
        rest = rest[os.write(to_child, rest) :] if rest else rest
    except BlockingIOError:
        return rest, True
    except BrokenPipeError:
        rest = rest[len(rest) :]
    if not rest:
        os.close(to_child)
        return rest, False
    return rest, True


def _kill_group(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        os.kill(pid, signal.SIGKILL)  # it had no time to make its group yet
