"""The journal's native protocol: one datagram of fields for each entry (systemd's JOURNAL_NATIVE_PROTOCOL).

A field is ``NAME=value`` and a newline, or, for a value with newlines in it, ``NAME``, a newline, the length
as 64 bits and the bytes. An entry too large for a datagram goes as a sealed file in memory. An entry can be
sent in the name of another process: the journal then records the unit and the command of that one.
"""

from __future__ import annotations

import errno
import os
import struct

from linux.bare import socket

SOCKET = "/run/systemd/journal/socket"
INFO = 6
_SCM_CREDENTIALS = 2
# As journald refuses larger ones (DATA_SIZE_MAX is 768 MiB), and nobody reads a line of a megabyte.
LARGEST = 1 << 20


class Journal:
    """The way to the journal. Its socket is looked up for each entry: journald may restart at any time."""

    __slots__ = ("_path", "_socket")

    def __init__(self, path: str = SOCKET) -> None:
        flags = socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | flags)

    def send(self, entry: bytes, *, pid: int = 0) -> bool:
        """Write one entry, made by `field`s, as the process `pid` (0: this one); whether it was taken.

        It never waits: when the journal is too slow the entry is lost, and that must not hold up an app.
        Another process's `pid` takes CAP_SYS_ADMIN; for one that is gone the entry is this process's.
        """
        if len(entry) > LARGEST:
            return False
        try:
            return self._send(entry, pid)
        except OSError as error:
            if error.errno not in {errno.EMSGSIZE, errno.ENOBUFS}:
                return False
        try:
            return self._send_file(entry, pid)
        except OSError:
            return False

    def _send(self, entry: bytes, pid: int) -> bool:
        if pid:
            try:
                self._socket.sendmsg([entry], [_credentials(pid)], 0, self._path)
            except OSError as error:
                if error.errno not in {errno.ESRCH, errno.EPERM}:
                    raise
            else:
                return True
        self._socket.sendto(entry, self._path)
        return True

    def _send_file(self, entry: bytes, pid: int) -> bool:
        import fcntl

        file = os.memfd_create("journal-entry", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            view = memoryview(entry)
            while view:
                view = view[os.write(file, view) :]
            # journald maps the file: it takes none that can still change.
            seals = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL
            fcntl.fcntl(file, fcntl.F_ADD_SEALS, seals)
            rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("=i", file))
            try:
                both = [rights, _credentials(pid)] if pid else [rights]
                self._socket.sendmsg([], both, 0, self._path)
            except OSError as error:
                if error.errno not in {errno.ESRCH, errno.EPERM}:
                    raise
                self._socket.sendmsg([], [rights], 0, self._path)
        finally:
            os.close(file)
        return True

    def close(self) -> None:
        """Close the descriptor."""
        self._socket.close()


def field(name: str, value: bytes) -> bytes:
    """One field of an entry. Names are capitals, digits and underscores; the journal drops other ones."""
    if b"\n" in value:
        return name.encode() + b"\n" + struct.pack("<Q", len(value)) + value + b"\n"
    return name.encode() + b"=" + value + b"\n"


def is_stream(fd: int, variable: str | None = None) -> bool:
    """Whether `fd` is the stream to the journal that systemd connected to this service: $JOURNAL_STREAM.

    What is printed there lands in the journal as text of the service; who sees that can send entries instead.
    """
    told = os.environ.get("JOURNAL_STREAM", "") if variable is None else variable
    if not told:
        return False
    try:
        info = os.fstat(fd)
    except OSError:
        return False
    return told == f"{info.st_dev}:{info.st_ino}"


def _credentials(pid: int) -> tuple[int, int, bytes]:
    content = struct.pack("=iII", pid, os.getuid(), os.getgid())
    return socket.SOL_SOCKET, _SCM_CREDENTIALS, content
