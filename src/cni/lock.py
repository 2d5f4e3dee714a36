"""Locks between plugin processes: files in /run that only one of them holds at a time."""

from __future__ import annotations

import fcntl
import os

from cni import state

TYPE_CHECKING = False  # not from typing: a plugin lives too short to import it
if TYPE_CHECKING:
    from types import TracebackType


class Lock:
    """``with Lock("nft"):`` no other process is inside one of that name. Ends with the process, too.

    A program that is given the descriptor `fd` holds it as well, until it ends.
    """

    __slots__ = ("_path", "fd")

    def __init__(self, name: str) -> None:
        self._path = f"{os.path.dirname(state.DIRECTORY)}/cni-{name}.lock"
        self.fd = -1

    def __enter__(self) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            fd = os.open(self._path, flags, 0o600)
        except FileNotFoundError:
            os.makedirs(os.path.dirname(self._path), mode=0o755, exist_ok=True)
            fd = os.open(self._path, flags, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
        except BaseException:
            os.close(fd)
            raise
        self.fd = fd

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self.fd)
        self.fd = -1
