"""What a run changed in the image's own files, brought into a form that needs no overlay to be understood."""

from __future__ import annotations

import os
import stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_OPAQUE = ("trusted.overlay.opaque", "user.overlay.opaque")


class Changes:
    """``Changes(upper, lowers).settle(since, to)``: one walk over the directory `upper` after a run.

    `deleted` are then the names (below the root) of what the command deleted of the directories `lowers`.
    """

    def __init__(self, upper: str, lowers: tuple[str, ...]) -> None:
        self._upper = upper
        self._lowers = lowers
        self.deleted: set[bytes] = set()
        self._marks: list[bytes] = []
        self._opaque: list[bytes] = []

    def settle(self, since: int, to: int) -> None:
        """Find deletions, and give what is newer than `since` (ns) the time `to` (s): no trace of the day."""
        for name, status in _walk(self._upper):
            if stat.S_ISCHR(status.st_mode) and not status.st_rdev:
                self._marks.append(name)
                if self._is_below(name):
                    self.deleted.add(name)
                continue
            if stat.S_ISDIR(status.st_mode) and self._lowers and _is_opaque(self._path(name)):
                self._opaque.append(name)
                self._hidden(name)
            if status.st_mtime_ns >= since:
                os.utime(self._path(name), (to, to), follow_symlinks=False)

    def forget_marks(self) -> None:
        """Remove the marks of an overlay from the image, now that `deleted` is known elsewhere."""
        for name in self._marks:
            directory = self._path(name.rpartition(b"/")[0] or b".")
            times = os.lstat(directory)
            os.unlink(self._path(name))
            os.utime(directory, ns=(times.st_atime_ns, times.st_mtime_ns))
        for name in self._opaque:
            path = self._path(name)
            for attribute in os.listxattr(path):
                if attribute in _OPAQUE:
                    os.removexattr(path, attribute)

    def _path(self, name: bytes) -> bytes:
        # nothing runs in the image any more, and the walk has seen every directory on the way to be one
        return os.fsencode(self._upper) + b"/" + name

    def _is_below(self, name: bytes) -> bool:
        return any(_lstat(lower, name) is not None for lower in self._lowers)

    def _hidden(self, directory: bytes) -> None:
        """All that the lower directories have in `directory`, and `upper` has not, counts as deleted."""
        for lower in self._lowers:
            status = _lstat(lower, directory)
            if status is None or not stat.S_ISDIR(status.st_mode):
                continue
            for base in os.listdir(os.fsencode(lower) + b"/" + directory):
                name = base if directory == b"." else directory + b"/" + base
                mine = _lstat(self._upper, name)
                if mine is None:
                    self.deleted.add(name)
                elif stat.S_ISDIR(mine.st_mode):
                    self._hidden(name)


def merged(upper: str, lowers: tuple[str, ...]) -> set[bytes]:
    """The names (below the root) of all that the directories together have, the topmost of `lowers` first."""
    found: dict[bytes, bool] = {}
    for tree in (upper, *lowers):
        hidden: set[bytes] = set()
        for name, status in _walk(tree):
            directory = name.rpartition(b"/")[0]
            if directory in hidden or found.get(directory) is False:
                hidden.add(name)  # lies below what is no directory in a tree further up
            elif name not in found:
                found[name] = stat.S_ISDIR(status.st_mode)
    return set(found)


def _lstat(tree: str, name: bytes) -> os.stat_result | None:
    """The status of `name` in the directory `tree`, not through links on the way; None for nothing."""
    from linux.paths import Root

    with Root.open(tree) as root:
        try:
            fd = root.open_beneath(os.fsdecode(name), os.O_PATH | os.O_NOFOLLOW)
        except OSError:
            return None
    try:
        return os.fstat(fd)
    finally:
        os.close(fd)


def _is_opaque(path: bytes) -> bool:
    for attribute in _OPAQUE:
        try:
            if os.getxattr(path, attribute, follow_symlinks=False) == b"y":
                return True
        except OSError:
            continue
    return False


def _walk(tree: str) -> Iterator[tuple[bytes, os.stat_result]]:
    """Every name below `tree` with its status: ``.`` itself first, each directory before what is in it."""
    root = os.open(tree, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield b".", os.fstat(root)
        stack = [b"."]
        while stack:
            directory = stack.pop()
            fd = os.open(directory, _DIRECTORY, dir_fd=root)
            try:
                with os.scandir(fd) as entries:
                    found = [(os.fsencode(one.name), one.stat(follow_symlinks=False)) for one in entries]
            finally:
                os.close(fd)
            for base, status in found:
                name = base if directory == b"." else directory + b"/" + base
                yield name, status
                if stat.S_ISDIR(status.st_mode):
                    stack.append(name)
    finally:
        os.close(root)
