"""What the apps print: to the console with rkt's prefix, and to log files that outlive the pod.

A console line reads `[ 1161.330635] caddy[4]: text`: seconds since boot, app, process ID in the pod. A log
line has the form that Kubernetes gives container logs, `TIME STREAM F text`, TIME being RFC 3339 in UTC with
nanoseconds; `P` instead of `F` marks a piece of a longer line. Files are rotated by rename at a line's end in
a directory that only root can write, and are never opened by a name that a pod could change.

On a terminal, and where apps share the console, control characters of a line are shown, not obeyed: an app
could go back and write another app's name there. Log files have every byte as it was printed.

Nothing here keeps more than one chunk and one unfinished line in memory, whatever an app prints.
"""

from __future__ import annotations

import os
import time

TYPE_CHECKING = False  # typing.TYPE_CHECKING, without the 2 MB that typing loads
if TYPE_CHECKING:
    from rkt.stage1.native.journal import AppJournal

MAX_FILE = 10 << 20
MAX_FILES = 5
CHUNK = 1 << 16
PIPE_BUF = 4096
# A line longer than this is written in pieces, as kubelets expect it.
MAX_LINE = 1 << 14
# What is in nearly every line, and needs no second look.
_HARMLESS = bytes(range(0x20, 0x7F)) + b"\t\n"


class LogFile:
    """The log of one app: DIRECTORY/NAME, and NAME.1 (newer) to NAME.4 (older)."""

    __slots__ = ("_directory", "_fd", "_name", "_size")

    def __init__(self, directory: str, name: str) -> None:
        self._directory = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._name = name
        self._fd, self._size = self._open()

    def _open(self) -> tuple[int, int]:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(self._name, flags, 0o640, dir_fd=self._directory)
        return fd, os.fstat(fd).st_size

    def write(self, lines: bytes) -> None:
        """Append whole lines. A full disk loses them: that must not stop the app."""
        if self._size + len(lines) > MAX_FILE and self._size:
            self._rotate()
        try:
            self._size += os.write(self._fd, lines)
        except OSError:
            return

    def _rotate(self) -> None:
        directory = self._directory
        for number in range(MAX_FILES - 2, 0, -1):
            _rename(f"{self._name}.{number}", f"{self._name}.{number + 1}", directory)
        _rename(self._name, f"{self._name}.1", directory)
        os.close(self._fd)
        self._fd, self._size = self._open()

    def close(self) -> None:
        os.close(self._fd)
        os.close(self._directory)


def _rename(old: str, new: str, directory: int) -> None:
    try:
        os.rename(old, new, src_dir_fd=directory, dst_dir_fd=directory)
    except FileNotFoundError:
        return


class Stream:
    """One output stream of one app: cuts what comes from the pipe into lines for log, journal and console.

    `pid` is the app's process as the pod numbers it, `host_pid` as the host does. `journal` is None on a host
    without one. `tame` is whether the console's lines go without control characters.
    """

    __slots__ = ("_log", "app", "host_pid", "journal", "name", "pid", "rest", "tame")

    def __init__(self, app: str, name: str, log: LogFile) -> None:
        self.app = app
        self.name = name
        self.pid = 0
        self.host_pid = 0
        self.journal: AppJournal | None = None
        self.tame = False
        self._log = log
        self.rest = b""

    def feed(self, data: bytes) -> bytes:
        """Take what the app wrote; returns the lines for the console (empty until a line is complete)."""
        data = self.rest + data
        end = data.rfind(b"\n") + 1
        self.rest = data[end:]
        console = b""
        if end:
            console = self._put(data[: end - 1], b"F")
        while len(self.rest) > MAX_LINE:
            console += self._put(self.rest[:MAX_LINE], b"P")
            self.rest = self.rest[MAX_LINE:]
        return console

    def finish(self) -> bytes:
        """The app will write no more: the last line, should it lack its newline."""
        rest, self.rest = self.rest, b""
        return self._put(rest, b"F") if rest else b""

    def _put(self, text: bytes, tag: bytes) -> bytes:
        """Log and return complete lines, given without the last newline."""
        stamp = time.time_ns()
        whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(stamp // 1_000_000_000))
        prefix = f"{whole}.{stamp % 1_000_000_000:09}Z {self.name} ".encode() + tag + b" "
        self._log.write(prefix + text.replace(b"\n", b"\n" + prefix) + b"\n")
        if self.journal is not None:
            self.journal.write(text, self.host_pid, self.pid)
            if self.journal.instead:
                return b""
        if self.tame:
            text = tamed(text)
        shown = f"[{time.monotonic():12.6f}] {self.app}[{self.pid}]: ".encode()
        return shown + text.replace(b"\n", b"\n" + shown) + b"\n"


def wants_tame(apps: int) -> bool:
    """Whether the console of a pod with so many apps is to be kept from obeying what they print."""
    return apps > 1 or os.isatty(1)


def tamed(text: bytes) -> bytes:
    """Lines with their control characters, and bytes that are no text, in words such as `\\x1b`.

    Tabs stay, and a carriage return at a line's end is left out.
    """
    if not text.translate(None, _HARMLESS):
        return text
    from console.terminal import plain

    text = text.replace(b"\r\n", b"\n").removesuffix(b"\r")
    return plain(text.decode("utf-8", "backslashreplace"), keep="\t\n").encode()


class Console:
    """Standard output of rkt, written without blocking an app for more than a second.

    What the reader has not taken yet waits in a buffer. While that is full the caller reads no more from the
    apps, for PATIENCE seconds at most: then lines are left out until half of the buffer is taken, and the gap
    is told. The log files have everything.
    """

    __slots__ = ("_buffer", "_dropped", "_fd", "_full_since", "_leaving_out", "open")

    LIMIT = 1 << 18
    PATIENCE = 0.8

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._buffer = bytearray()
        self._dropped = 0
        self._full_since = 0.0
        self._leaving_out = False
        self.open = True

    @property
    def waiting(self) -> int:
        """How many bytes there are to write once the reader takes more."""
        return len(self._buffer)

    def hold_until(self) -> float:
        """Until when (time.monotonic) the apps should wait for the reader; 0 when they need not."""
        if not self._full_since:
            return 0.0
        return self._full_since + self.PATIENCE

    def give_up(self) -> None:
        """The apps have waited long enough: leave lines out from now on."""
        self._leaving_out = True
        self._full_since = 0.0

    def put(self, lines: bytes) -> None:
        """Take whole lines for the reader, or count them if it is too slow."""
        if not self.open or not lines:
            return
        if self._leaving_out:
            self._dropped += lines.count(b"\n")
            return
        self._buffer += lines
        if not self._full_since and len(self._buffer) >= self.LIMIT:
            self._full_since = time.monotonic()

    def flush(self) -> None:
        """Write a piece. Call it when poll(2) says that the descriptor takes data."""
        try:
            # At most PIPE_BUF bytes: poll promises that so much does not block, on a blocking descriptor too.
            written = os.write(self._fd, memoryview(self._buffer)[:PIPE_BUF])
        except BlockingIOError:
            return
        except OSError:
            self.open = False
            written = len(self._buffer)
        del self._buffer[:written]
        if len(self._buffer) < self.LIMIT:
            self._full_since = 0.0
        if self._leaving_out and len(self._buffer) < self.LIMIT // 2:
            self._leaving_out = False
            told, self._dropped = self._dropped, 0
            if self.open:
                self._buffer += b"rkt: %d lines left out: the reader is too slow\n" % told
