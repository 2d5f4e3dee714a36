"""What a command that changes files does: so that the same command, after a kill, ends up in the same state.

Directories are noted before they are made, and the times of those that are there before something in them
changes. Fields are ended by a NUL; a record that a kill cut short is one that had no effect yet.
"""

from __future__ import annotations

import os

from linux.files import write_all

_FIELDS = 4
_MADE, _KEPT = b"made", b"kept"


class Journal:
    """The file `path`, which need not be there."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._fd = -1

    def read(self) -> tuple[set[str], dict[str, tuple[int, int]]]:
        """The directories made, and the times (accessed, modified; in ns) of those that were there."""
        made: set[str] = set()
        kept: dict[str, tuple[int, int]] = {}
        try:
            with open(self._path, "rb") as file:
                fields = file.read().split(b"\0")[:-1]
        except FileNotFoundError:
            return made, kept
        whole = len(fields) // _FIELDS * _FIELDS
        for place in range(0, whole, _FIELDS):
            kind, path, accessed, modified = fields[place : place + _FIELDS]
            if kind == _MADE:
                made.add(os.fsdecode(path))
            elif os.fsdecode(path) not in made:
                kept.setdefault(os.fsdecode(path), (int(accessed), int(modified)))
        return made, kept

    def made(self, path: str) -> None:
        """The directory `path` is about to be made."""
        self._add(_MADE, path, 0, 0)

    def kept(self, path: str, accessed: int, modified: int) -> None:
        """Something in the directory `path`, which has these times, is about to change."""
        self._add(_KEPT, path, accessed, modified)

    def _add(self, kind: bytes, path: str, accessed: int, modified: int) -> None:
        if self._fd < 0:
            self._fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        write_all(self._fd, b"%s\0%s\0%d\0%d\0" % (kind, os.fsencode(path), accessed, modified))

    def close(self) -> None:
        """Close the file, if it was opened."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
