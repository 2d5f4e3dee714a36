"""Running one program with text in, text out, limits and a deadline, at the cost of a fork and an exec."""

from __future__ import annotations

import fcntl
import os
import select
import signal
import time

TYPE_CHECKING = False  # not from typing: a plugin lives too short to import it
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Final

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
    limit: int,
    error_limit: int,
) -> Finished:
    """Run `program` without arguments and wait for it.

    It inherits no file descriptor but its three pipes. Raises TimeoutError when it (or a child that kept
    the pipes) is not done after `deadline` seconds or prints more than `limit` bytes: it is killed with
    its process group then. stderr beyond `error_limit` is dropped. Raises the OSError of a failed exec.
    """
    pipes: list[int] = []
    try:
        for _ in range(4):
            pipes += os.pipe()
        child_in, to_child, from_child, child_out, errors, child_error, failure, child_failure = pipes
        pid = os.fork()
        if pid == 0:
            _become(program, environment, child_in, child_out, child_error, child_failure)
        for fd in (child_in, child_out, child_error, child_failure):
            os.close(fd)
            pipes.remove(fd)
        try:
            _raise_failure(failure, program)
            pipes.remove(to_child)
            stdout, stderr = _talk(to_child, stdin, from_child, errors, deadline, limit, error_limit)
        except BaseException:
            _kill_group(pid)
            os.waitpid(pid, 0)
            raise
        return Finished(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), stdout, stderr)
    finally:
        for fd in pipes:
            os.close(fd)


def _become(
    program: str, environment: Mapping[str, str], stdin: int, stdout: int, stderr: int, failure: int
) -> None:
    """In the child: never returns. What stops it before the exec goes into the `failure` pipe."""
    try:
        os.setpgid(0, 0)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        for number in (signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)  # Python ignores them, its children should not
        # Up first: a pipe may itself be number 0, 1 or 2 when the caller has closed those.
        ends = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 10) for fd in (stdin, stdout, stderr, failure)]
        failure = ends[3]
        for target, fd in enumerate(ends[:3]):
            os.dup2(fd, target)
        os.closerange(3, failure)
        os.closerange(failure + 1, os.sysconf("SC_OPEN_MAX"))
        os.execve(program, [program], dict(environment))
    except OSError as failed:
        os.write(failure, (failed.errno or 0).to_bytes(4, "little"))
    finally:
        os._exit(127)


def _raise_failure(failure: int, program: str) -> None:
    """Wait for the exec, which closes the pipe; raise the OSError that came through it instead."""
    number = int.from_bytes(os.read(failure, 4), "little")
    if number:
        raise OSError(number, os.strerror(number), program)


def _talk(
    to_child: int,
    stdin: bytes,
    from_child: int,
    errors: int,
    deadline: float,
    limit: int,
    error_limit: int,
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
                    read[fd] += chunk[: max(0, error_limit - len(read[fd]))]
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
