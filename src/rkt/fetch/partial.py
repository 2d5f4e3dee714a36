"""Unfinished downloads: files in the store's `cas/tmp` that the next fetch of the same address goes on with.

Named by the SHA-512 of the address, as in rkt; `.etag` beside it says which version of the resource the bytes
are of. Whoever holds the lock on the file works on it; others who want the same address wait.
"""

from __future__ import annotations

import os

from linux import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from appc.http.download import State

_BOOT_ID = "/proc/sys/kernel/random/boot_id"
MAX_AGE = 7 * 86400.0  # seconds after which nobody is expected to come back for an unfinished download


class Partial:
    """``with Partial(directory, address) as partial``: the file `partial.fd`, ours alone in the block.

    The file stays for a later fetch unless `discard` is called.
    """

    def __init__(self, directory: str, address: str) -> None:
        import hashlib

        self._address = address
        self.path = os.path.join(directory, hashlib.sha512(address.encode()).hexdigest())
        self.fd = -1
        self._discarded = False

    def __enter__(self) -> Self:
        self.fd = files.lock_file(self.path, exclusive=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if os.fstat(self.fd).st_size == 0:
            self.discard()  # nothing to go on with, and nothing to be cleaned up later
        elif kind is not None:
            self._keep()
        os.close(self.fd)
        self.fd = -1

    def state(self) -> State | None:
        """What the file holds a part of; None if that cannot be said, and the bytes are to be thrown away.

        Bytes of before a crash of the machine count only if they were synced: files may have holes then.
        """
        from appc import jsonfield
        from appc.http.download import state_from_json

        try:
            with open(self.path + ".etag", "rb") as file:
                value = jsonfield.obj(jsonfield.parse(file.read(64 * 1024)))
            if value.get("url") != self._address:
                return None
            if value.get("bootId") != _boot_id() and value.get("synced") != os.fstat(self.fd).st_size:
                return None
            return state_from_json(value)
        except (OSError, ValueError):
            return None

    def remember(self, state: State, *, synced: int | None = None) -> None:
        """Write down, durably, what the bytes that come now are a part of."""
        from appc import jsonfield
        from appc.http.download import state_to_json

        value = state_to_json(state, url=self._address, bootId=_boot_id(), synced=synced)
        files.write_atomically(self.path + ".etag", jsonfield.encode(value), mode=0o600)

    def _keep(self) -> None:
        """After a failure: what came so far survives a crash of the machine too, if that can be had."""
        try:
            state = self.state()
            if state is not None:
                os.fsync(self.fd)
                self.remember(state, synced=os.fstat(self.fd).st_size)
        except OSError:
            return

    def discard(self) -> None:
        """Remove the file: it was used, or is of no use."""
        if self._discarded:
            return  # by now the name may belong to the next one's file
        self._discarded = True
        for path in (self.path + ".etag", self.path):
            try:
                os.unlink(path)
            except FileNotFoundError:
                continue


def _boot_id() -> str:
    with open(_BOOT_ID, encoding="ascii") as file:
        return file.read().strip()


def collect(directory: str, *, max_age: float = MAX_AGE) -> list[str]:
    """Remove downloads that nobody works on and nobody has touched for `max_age` seconds; their names."""
    import time

    removed = []
    try:
        names = os.listdir(directory)
    except FileNotFoundError:
        return []
    for name in names:
        digits = name.removesuffix(".etag")
        if len(digits) != 128 or digits.strip("0123456789abcdef"):
            continue
        path = os.path.join(directory, digits)
        try:
            if time.time() - os.stat(os.path.join(directory, name)).st_mtime < max_age:
                continue
            fd = files.lock_file(path, exclusive=True, blocking=False)
        except (FileNotFoundError, BlockingIOError):
            continue
        try:
            for leftover in (path + ".etag", path):
                if os.path.exists(leftover):
                    os.unlink(leftover)
                    removed.append(os.path.basename(leftover))
        finally:
            os.close(fd)
    return removed
