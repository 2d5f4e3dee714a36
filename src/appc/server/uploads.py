"""Uploads that are under way: directories below the root, named by tokens that nobody can guess.

All state is here, so that the server, or the process that serves one connection, may be killed at any time:
the next request goes on with what there is. Whoever works on an upload holds a lock on its directory.
"""

from __future__ import annotations

import os
import re
import shutil
import time

from appc.errors import AppcError
from linux import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType
    from typing import Self

DIRECTORY = ".uploads"
EXPIRY = 3600.0  # seconds since the last byte came
MOST = 100  # at a time
_RESERVE = 64 << 20  # bytes of the disk that stay free
MANIFEST, SIGNATURE, IMAGE = "manifest", "signature", "image"
_PART = "image.part"
_TOKEN = re.compile(r"[0-9a-f]{64}")


class Busy(AppcError):
    """Somebody else works on the upload, or there are too many."""


class OutOfStep(AppcError):
    """A part of the image that does not go on where the last one ended, at `offset`."""

    def __init__(self, offset: int) -> None:
        super().__init__(f"the image has {offset} bytes so far")
        self.offset = offset


class Full(AppcError):
    """No room on the disk."""


class Uploads:
    """The uploads of the site at `root`."""

    def __init__(self, root: str) -> None:
        self._path = f"{root}/{DIRECTORY}"

    def prepare(self) -> None:
        """Make the directory, and remove uploads that nobody went on with."""
        try:
            os.mkdir(self._path, 0o700)
        except FileExistsError:
            pass
        self._expire()

    def start(self) -> str:
        """A new upload's token. Busy when there are too many."""
        self._expire()
        if len(os.listdir(self._path)) >= MOST:
            raise Busy(
                "too many uploads are under way", hint=f"unfinished ones end after {EXPIRY / 60:.0f} min"
            )
        token = os.urandom(32).hex()
        os.mkdir(f"{self._path}/{token}", 0o700)
        return token

    def open(self, token: str) -> Upload | None:
        """The upload, locked until it is closed; None when there is none. Busy when somebody works on it."""
        if not _TOKEN.fullmatch(token):
            return None
        path = f"{self._path}/{token}"
        try:
            lock = files.lock_directory(path, exclusive=True, blocking=False)
        except FileNotFoundError:
            return None
        except BlockingIOError:
            raise Busy("another request works on this upload") from None
        if not os.path.exists(path):  # it was finished while we waited
            os.close(lock)
            return None
        return Upload(path, lock)

    def _expire(self) -> None:
        for token in os.listdir(self._path):
            path = f"{self._path}/{token}"
            try:
                if time.time() - _last_change(path) < EXPIRY:
                    continue
                lock = files.lock_directory(path, exclusive=True, blocking=False)
            except (FileNotFoundError, BlockingIOError):
                continue
            try:
                files.remove_tree(path)
            finally:
                os.close(lock)


class Upload:
    """One upload, locked. ``with uploads.open(token) as upload``."""

    def __init__(self, path: str, lock: int) -> None:
        self.path = path
        self._lock = lock

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._lock)

    def has(self, part: str) -> bool:
        return os.path.exists(f"{self.path}/{part}")

    def read(self, part: str) -> bytes:
        with open(f"{self.path}/{part}", "rb") as file:
            return file.read()

    def put(self, part: str, data: bytes) -> None:
        """Keep a small part: manifest or signature."""
        files.write_atomically(f"{self.path}/{part}", data, mode=0o600, durable=False)

    def offset(self) -> int:
        """Bytes of the image that have come so far."""
        for part in (IMAGE, _PART):
            try:
                return os.stat(f"{self.path}/{part}").st_size
            except FileNotFoundError:
                continue
        return 0

    def receive(self, chunks: Iterable[bytes], offset: int, total: int | None, expected: int | None) -> None:
        """Take the image, or with `offset` the rest of it; it is complete with `total` bytes.

        Without `total` it is complete when `chunks` end. `expected` bytes are going to come, if known.
        OutOfStep when `offset` is not where we are; Full. What came before a failure stays.
        """
        if offset and offset != self.offset():
            raise OutOfStep(self.offset())
        free = shutil.disk_usage(self.path).free - _RESERVE
        if free < 0 or (expected is not None and expected > free):
            raise Full("there is no room for the image")
        try:
            os.rename(f"{self.path}/{IMAGE}", f"{self.path}/{_PART}")  # complete once, but sent again
        except FileNotFoundError:
            pass
        fd = os.open(f"{self.path}/{_PART}", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            os.ftruncate(fd, offset)
            os.lseek(fd, offset, os.SEEK_SET)
            for chunk in chunks:
                files.write_all(fd, chunk)
            size = os.lseek(fd, 0, os.SEEK_CUR)
        finally:
            os.close(fd)
        if total is None or size == total:
            os.rename(f"{self.path}/{_PART}", f"{self.path}/{IMAGE}")

    def remove(self) -> None:
        files.remove_tree(self.path)


def _last_change(path: str) -> float:
    """When something was last written to the upload (mtime); the directory's own for an empty one."""
    return max(os.stat(each).st_mtime for each in (path, *(f"{path}/{name}" for name in os.listdir(path))))
