"""One pod: an open directory, its phase, its lock and the small files in it.

All reading goes through the directory's file descriptor, so that a pod which another process
renames meanwhile is still read as one. The descriptor is also what carries the lock: whoever
inherits it keeps the pod alive.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time

from linux import files
from rkt.errors import RktError
from rkt.pods import phases

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# A reader probes liveness with a shared lock that it holds for microseconds; whoever wants the
# exclusive one must not mistake that for an owner.
_PROBES_END = 0.3
_SMALL = 1 << 22


class PodBusy(RktError):
    """Another process holds the pod's lock."""


class Pod:
    """An open pod directory. A context manager: closes the descriptor (and so drops its own lock)."""

    __slots__ = ("fd", "phase", "root", "uuid")

    def __init__(self, root: str, uuid: str, phase: str, fd: int) -> None:
        self.root = root
        self.uuid = uuid
        self.phase = phase
        self.fd = fd

    @classmethod
    def open(cls, root: str, uuid: str) -> Pod | None:
        """The pod `uuid` below the pods directory `root`; None if there is no such pod.

        The phases are tried in the order in which a pod moves, twice, so that a pod which moves
        during the search is found.
        """
        for _ in range(2):
            for phase in phases.PHASES:
                try:
                    fd = os.open(f"{root}/{phase}/{uuid}", _DIRECTORY)
                except OSError as error:
                    if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                        continue
                    raise
                return cls(root, uuid, phase, fd)
        return None

    @property
    def path(self) -> str:
        """Where the pod lay when its phase was last known."""
        return f"{self.root}/{self.phase}/{self.uuid}"

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def __enter__(self) -> Pod:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- lock and state

    def is_locked(self) -> bool:
        """Whether another process holds the pod: a failed shared lock, as rkt asks."""
        try:
            fcntl.flock(self.fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        fcntl.flock(self.fd, fcntl.LOCK_UN)
        return False

    def lock(self) -> None:
        """Take the exclusive lock and make sure that the pod still lies where it was found.

        Raises PodBusy if another process keeps it, and RktError if the pod moved away.
        """
        deadline = time.monotonic() + _PROBES_END
        while True:
            try:
                fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise PodBusy(f"pod {self.uuid} is in use by another process") from None
                time.sleep(0.005)
        if not self._is_at(self.path):
            fcntl.flock(self.fd, fcntl.LOCK_UN)
            raise PodBusy(f"pod {self.uuid} is no longer in state {self.phase}: another command took it")

    def refresh(self) -> None:
        """Find the phase that the directory lies in now (`garbage` if it is gone)."""
        for _ in range(2):
            for phase in phases.PHASES:
                if self._is_at(f"{self.root}/{phase}/{self.uuid}"):
                    self.phase = phase
                    return
        self.phase = phases.GARBAGE

    def state(self) -> str:
        """The pod's state as rkt names it."""
        return phases.state(self.phase, locked=self.is_locked())

    def move(self, phase: str, *, durable: bool = True) -> None:
        """Move the pod, whose lock the caller holds, to another phase.

        `durable` costs two flushes of the disk's journal. A pod that is about to run can do without: a
        power cut ends it anyway, and whatever phase it is found in afterwards, `gc` knows what to do.
        """
        target = f"{self.root}/{phase}"
        os.makedirs(target, mode=0o700, exist_ok=True)
        os.rename(self.path, f"{target}/{self.uuid}")
        if durable:
            files.sync_directory(target)
            files.sync_directory(f"{self.root}/{self.phase}")
        self.phase = phase

    def _is_at(self, path: str) -> bool:
        try:
            there = os.stat(path, follow_symlinks=False)
        except FileNotFoundError:
            return False
        mine = os.fstat(self.fd)
        return (there.st_dev, there.st_ino) == (mine.st_dev, mine.st_ino)

    # -- files

    def read(self, name: str) -> bytes | None:
        """The content of the pod's file `name` (a path of our own making), None if there is none."""
        try:
            fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=self.fd)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR):
                return None
            raise
        try:
            return os.read(fd, _SMALL)
        except OSError as error:
            error.filename = f"{self.path}/{name}"
            raise
        finally:
            os.close(fd)

    def read_text(self, name: str) -> str | None:
        """As `read`, stripped and decoded; None also for an empty file."""
        data = self.read(name)
        return data.decode("utf-8", "replace").strip() or None if data is not None else None

    def write(self, name: str, data: bytes, *, mode: int = 0o600) -> None:
        """Write the pod's file `name` durably, all or nothing."""
        files.write_atomically(name, data, mode=mode, dir_fd=self.fd)

    def modified(self, name: str) -> float | None:
        """Seconds since the epoch at which the file `name` was written; None if there is none."""
        try:
            return os.stat(name, dir_fd=self.fd, follow_symlinks=False).st_mtime
        except FileNotFoundError:
            return None
