"""Processes: functions in a fork that report back, descriptors, pidfds, the one gate for host programs."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from subprocess import CompletedProcess
    from types import TracebackType

MINIMAL: Mapping[str, str] = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LC_ALL": "C.UTF-8",
}

_SIGKILL = 9
_RESULT_LIMIT = 16 << 20


def fork_and_wait(function: Callable[[], int | None], *, pass_fds: Sequence[int] = ()) -> int:
    """Run `function` in a forked child; the int it returns (None is 0). See `fork_and_read`."""
    return int(fork_and_read(lambda: b"%d" % (function() or 0), pass_fds=pass_fds))


def fork_and_read(function: Callable[[], bytes], *, pass_fds: Sequence[int] = ()) -> bytes:
    """Run `function` in a forked child and return its bytes (at most 16 MiB).

    For work in other namespaces, with other rights or a chroot: whatever the child does to itself ends with
    it. The child has only the fds 0, 1, 2 and `pass_fds`. An OSError raised in it is raised here with the
    same errno and paths, a ValueError with the same text, anything else as RuntimeError with its text; a
    child that is killed, or exits by itself, is a RuntimeError that names the signal or status. The caller
    must have no threads that hold locks.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        _report(function, writing, pass_fds)
    os.close(writing)
    try:
        try:
            answer = _read_all(reading)
        finally:
            os.close(reading)
    except BaseException:
        os.kill(child, _SIGKILL)
        os.waitpid(child, 0)
        raise
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code < 0:
        raise RuntimeError(f"child process {child} was killed by signal {-code}")
    if code > 0 or not answer:
        raise RuntimeError(f"child process {child} exited by itself with status {code}")
    if answer[:1] == b"=":
        return answer[1:]
    raise _decode_exception(answer)


def _report(function: Callable[[], bytes], writing: int, pass_fds: Sequence[int]) -> None:
    """The child's whole life: it never returns into the caller's frames, whose ``finally`` are not for it."""
    try:
        try:
            close_fds_from(3, keep=(writing, *pass_fds))
            answer = b"=" + function()
        except BaseException as failed:  # noqa: BLE001 - every failure is told to the parent
            answer = _encode_exception(failed)
        view = memoryview(answer)
        while view:
            view = view[os.write(writing, view) :]
        os._exit(0)
    finally:
        os._exit(125)


def _read_all(fd: int) -> bytes:
    parts: list[bytes] = []
    total = 0
    while part := os.read(fd, 1 << 16):
        parts.append(part)
        total += len(part)
        if total > _RESULT_LIMIT:
            raise RuntimeError(f"child process sent more than {_RESULT_LIMIT} bytes")
    return b"".join(parts)


def _encode_exception(failed: BaseException) -> bytes:
    if isinstance(failed, OSError) and failed.errno is not None:
        names = [
            os.fsdecode(name) if name is not None else "" for name in (failed.filename, failed.filename2)
        ]
        fields = ["o", str(failed.errno), failed.strerror or "", *names]
    else:
        fields = ["v" if isinstance(failed, ValueError) else "r", str(failed) or type(failed).__name__]
    return "\0".join(fields).encode(errors="surrogateescape")


def _decode_exception(answer: bytes) -> Exception:
    kind, *fields = answer.decode(errors="surrogateescape").split("\0")
    if kind == "o":
        number, text, name, name2 = fields
        if name2:
            return OSError(int(number), text, name, None, name2)
        return OSError(int(number), text, name) if name else OSError(int(number), text)
    return (ValueError if kind == "v" else RuntimeError)("\0".join(fields))


def close_fds_from(first: int, keep: Sequence[int] = ()) -> None:
    """Close every fd from `first` on but those in `keep`; kernels before 5.9 have them read from /proc."""
    from linux.libc import close_range

    start = first
    try:
        for fd in sorted({fd for fd in keep if fd >= first}):
            if fd > start:
                close_range(start, fd - 1)
            start = fd + 1
        close_range(start)
    except OSError:
        for name in os.listdir("/proc/self/fd"):
            if int(name) >= first and int(name) not in keep:
                try:
                    os.close(int(name))
                except OSError:
                    continue  # the fd of the listing itself


class Pidfd:
    """A process that cannot be mistaken for a later one with the same pid. ``with Pidfd.open(pid) as p:``."""

    __slots__ = ("fd",)

    def __init__(self, fd: int) -> None:
        self.fd = fd

    @classmethod
    def open(cls, pid: int) -> Pidfd:
        """The process `pid` as it is now; ProcessLookupError when there is none."""
        return cls(os.pidfd_open(pid))

    def send_signal(self, number: int) -> bool:
        """Send the signal `number`; False when the process has gone."""
        from linux.libc import syscall

        try:
            syscall("pidfd_send_signal", self.fd, number, None, 0)
        except ProcessLookupError:
            return False
        return True

    def wait(self, timeout: float | None = None) -> bool:
        """Wait at most `timeout` seconds (None: for ever) for its end; whether it came. Reaps nothing."""
        import select

        poll = select.poll()
        poll.register(self.fd, select.POLLIN)
        return bool(poll.poll(None if timeout is None else max(0, int(timeout * 1000))))

    def close(self) -> None:
        """Close the fd; the process does not mind."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def __enter__(self) -> Pidfd:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def start_time(pid: int | str) -> int:
    """When `pid` started, in clock ticks since boot: with the pid it names a process for good (D4).

    ProcessLookupError when there is no such process.
    """
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # The command in parentheses may itself hold spaces and parentheses.
            return int(file.read().rpartition(b")")[2].split()[19])
    except (FileNotFoundError, ProcessLookupError):
        raise ProcessLookupError(3, "No such process", f"/proc/{pid}") from None


class hidden_command_line:
    """``with hidden_command_line():`` nobody reads the command line of the process in /proc, where all may.

    For a fork inside it that never leaves: its command line is empty from its first moment on.
    """

    __slots__ = ("_start", "_words")

    def __enter__(self) -> None:
        import ctypes

        with open("/proc/self/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
        self._start, end = int(fields[45]), int(fields[46])  # proc_pid_stat(5), (48) and (49)
        self._words = ctypes.string_at(self._start, end - self._start)
        ctypes.memset(self._start, 0, len(self._words))

    def __exit__(self, *_: object) -> None:
        import ctypes

        ctypes.memmove(self._start, self._words, len(self._words))


def set_parent_death_signal(parent: int, number: int = _SIGKILL) -> None:
    """Have the kernel send the signal `number` when the parent dies; exit now if `parent` is not it any more.

    `parent` is the pid the parent had, seen from here, before the fork. execve of a program that is setuid
    or has file capabilities clears the setting.
    """
    from linux.libc import PR_SET_PDEATHSIG, prctl

    prctl(PR_SET_PDEATHSIG, number)
    if os.getppid() != parent:
        os._exit(128 + number)


def run(
    argv: Sequence[str],
    *,
    input: bytes | None = None,
    env: Mapping[str, str] = MINIMAL,
    timeout: float,
    cwd: str = "/",
    pass_fds: Sequence[int] = (),
    stdin: int | None = None,
    user: int | None = None,
) -> CompletedProcess[bytes]:
    """Run a program of the host: a list, never a shell, with a small environment and a time limit in seconds.

    stdout and stderr are collected. The exit status is the caller's to judge. FileNotFoundError when the
    program is missing; TimeoutError, after its whole process group was killed, when it takes too long.
    Nothing of an image may ever be run by this (R11). Secrets go through `input`, never `argv` or `env`.
    Without `input` the program reads the fd `stdin`, or nothing. As root, `user` is the uid and gid that it
    gets instead of ours, without supplementary groups.
    """
    import subprocess

    nothing = subprocess.DEVNULL if stdin is None else stdin
    dropped = user if os.geteuid() == 0 else None

    with subprocess.Popen(
        list(argv),
        stdin=nothing if input is None else subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=dict(env),
        cwd=cwd,
        pass_fds=tuple(pass_fds),
        start_new_session=True,
        user=dropped,
        group=dropped,
        extra_groups=None if dropped is None else [],
    ) as child:
        try:
            output, errors = child.communicate(input, timeout)
        except BaseException as failed:
            _kill_group(child.pid)
            child.communicate()
            if isinstance(failed, subprocess.TimeoutExpired):
                raise TimeoutError(110, f"no answer within {timeout:g} s", argv[0]) from None
            raise
    return subprocess.CompletedProcess(list(argv), child.returncode, output, errors)


def _kill_group(pid: int) -> None:
    try:
        os.killpg(pid, _SIGKILL)
    except ProcessLookupError:
        return
