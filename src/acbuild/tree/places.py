"""Directories of the image, found and made so that the day of the build leaves no trace.

What acbuild makes by itself has the time 0 (or SOURCE_DATE_EPOCH), and a directory in which it puts or
removes something keeps the time that it had: so the same commands give the same image on any day.
"""

from __future__ import annotations

import errno
import os
import stat

from acbuild.errors import AcbuildError
from linux.paths import Root

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from acbuild.tree.journal import Journal

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY


def source_date_epoch() -> int | None:
    """The seconds in SOURCE_DATE_EPOCH (reproducible-builds.org); None where it is not set."""
    text = os.environ.get("SOURCE_DATE_EPOCH", "")
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 11):
        raise AcbuildError(f"SOURCE_DATE_EPOCH is {text!r}, no number of seconds")
    return int(text)


def cleaned(path: str) -> str:
    """`path` of the image from its root on: relative, without ``.`` and ``..``; "." for the root."""
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in {"", "."}:
            parts.append(part)
    return "/".join(parts) or "."


class Places:
    """``with Places(rootfs) as places``: directories of one root filesystem; times are put back at the end.

    Links are followed as far as they stay inside, as they would be when the image is run.
    """

    def __init__(
        self, rootfs: str, context: str = "", journal: Journal | None = None, *, repeats: bool = False
    ) -> None:
        """`context` is that of the build; with `repeats` the `journal` is that of a killed command."""
        self.root = Root.open(rootfs)
        self._journal = journal
        status = os.stat(context or rootfs, follow_symlinks=False)
        #: Device and inode of what must not be copied into itself.
        self.context = status.st_dev, status.st_ino
        self._made_at = source_date_epoch() or 0
        #: Directories that were there before: identity to an fd and the times to put back.
        self._kept: dict[tuple[int, int], tuple[str, int, int]] = {}
        #: Directories that the killed command made: they may lack all that they are to have.
        self.unfinished: set[str] = set()
        if journal is not None and repeats:
            self.unfinished, kept = journal.read()
            # As if made just now: what the command put into them before the kill leaves no trace.
            made_at = self._made_at * 10**9
            kept |= dict.fromkeys(self.unfinished, (made_at, made_at))
            for path, (accessed, modified) in kept.items():
                if self.is_directory(path):
                    self._keep_again(path, accessed, modified)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            for path, accessed, modified in self._kept.values():
                self._restore(path, accessed, modified)
        finally:
            self.root.close()
            if self._journal is not None:
                self._journal.close()

    def _keep_again(self, path: str, accessed: int, modified: int) -> None:
        fd = self.directory(path)
        try:
            if path in self.unfinished:
                self._finish(fd)
            status = os.fstat(fd)
            self._kept[status.st_dev, status.st_ino] = path, accessed, modified
        finally:
            os.close(fd)

    def _restore(self, path: str, accessed: int, modified: int) -> None:
        try:
            fd = self.root.open_file(path, _DIRECTORY)
        except OSError as failed:
            if failed.errno in {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}:
                return  # removed since
            raise
        try:
            os.utime(fd, ns=(accessed, modified))
        finally:
            os.close(fd)

    def changing(self, fd: int, path: str) -> None:
        """Something in the open directory `fd`, at `path`, is about to change: its times are to stay."""
        status = os.fstat(fd)
        identity = status.st_dev, status.st_ino
        if identity not in self._kept:
            self._kept[identity] = path, status.st_atime_ns, status.st_mtime_ns
            if self._journal is not None:
                self._journal.kept(path, status.st_atime_ns, status.st_mtime_ns)

    def forget(self, path: str) -> None:
        """The directory `path` has got the times that are meant."""
        status = self.root.lstat(path)
        self._kept.pop((status.st_dev, status.st_ino), None)

    def directory(self, path: str) -> int:
        """An fd of the directory `path` (cleaned), which must be there."""
        return self.root.open_file(path, _DIRECTORY)

    def made(self, path: str) -> int:
        """An fd of the directory `path` (cleaned), made with all above it where it is missing: 0755."""
        try:
            return self.directory(path)
        except FileNotFoundError:
            pass
        above, _, name = path.rpartition("/")
        parent = self.made(above or ".")
        try:
            self.changing(parent, above or ".")
            if self._journal is not None:
                self._journal.made(path)
            try:
                os.mkdir(name, 0o755, dir_fd=parent)
            except FileExistsError:
                raise FileNotFoundError(errno.ENOENT, "is a link to nothing", path) from None
            fd = os.open(name, _DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
            self._finish(fd)
            return fd
        finally:
            os.close(parent)

    def _finish(self, fd: int) -> None:
        os.fchmod(fd, 0o755)
        os.utime(fd, (self._made_at, self._made_at))

    def kind(self, path: str) -> int:
        """The type bits of what is at `path` (cleaned), of a link itself; 0 for nothing."""
        try:
            return stat.S_IFMT(self.root.lstat(path).st_mode)
        except (FileNotFoundError, NotADirectoryError):
            return 0

    def is_directory(self, path: str) -> bool:
        """Whether a directory is at `path` (cleaned), or a link to one in the image."""
        try:
            os.close(self.root.open_file(path, os.O_PATH | os.O_DIRECTORY))
        except OSError as failed:
            if failed.errno in {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}:
                return False
            raise
        return True

    def remove(self, path: str) -> bool:
        """Remove what is at `path` (cleaned), with all below it; False when nothing is there."""
        if not self.kind(path):
            return False
        above, _, name = path.rpartition("/")
        parent = self.directory(above or ".")
        try:
            self.changing(parent, above or ".")
            from linux.files import remove_below

            remove_below(parent, name, path)
        finally:
            os.close(parent)
        return True
