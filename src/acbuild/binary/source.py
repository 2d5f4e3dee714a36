"""A root filesystem to take files from, the host's own or another: where a path leads in it, link by link."""

from __future__ import annotations

import os
import stat

from acbuild.errors import AcbuildError
from linux.named_tuple import NamedTuple
from linux.paths import Root, reopen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

_MOST_LINKS = 40


class Trail(NamedTuple):
    """`links` are the links on the way, in order, `end` is what the path leads to: all below the root."""

    links: tuple[str, ...]
    end: str


class Source:
    """``with Source("/") as source``: paths in it are absolute, and links stay inside."""

    def __init__(self, directory: str) -> None:
        self.directory = directory
        self._root = Root.open(directory)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._root.close()

    def trail(self, path: str) -> Trail:
        """Where `path` leads. FileNotFoundError for nothing, AcbuildError for links in a circle."""
        links: list[str] = []
        done, followed = "", 0
        todo = [part for part in reversed(path.split("/")) if part not in {"", "."}]
        while todo:
            part = todo.pop()
            if part == "..":
                done = done.rpartition("/")[0]
                continue
            here = f"{done}/{part}"
            if not stat.S_ISLNK(self._root.lstat(here).st_mode):
                done = here
                continue
            followed += 1
            if followed > _MOST_LINKS:
                raise AcbuildError(f"{path}: too many links")
            if here not in links:
                links.append(here)
            text = os.readlink(self.outside(here))
            if text.startswith("/"):
                done = ""
            todo += [part for part in reversed(text.split("/")) if part not in {"", "."}]
        return Trail(tuple(links), done or "/")

    def outside(self, path: str) -> str:
        """The end of a trail, or a link on one, as a path of the host: its directories are no links."""
        return self.directory.rstrip("/") + path

    def is_file(self, path: str) -> bool:
        """Whether `path` leads to a regular file."""
        return self._kind(path) == stat.S_IFREG

    def is_directory(self, path: str) -> bool:
        """Whether `path` leads to a directory."""
        return self._kind(path) == stat.S_IFDIR

    def _kind(self, path: str) -> int:
        try:
            fd = self._root.open_file(path, os.O_PATH)
        except (OSError, ValueError):
            return 0
        try:
            return stat.S_IFMT(os.fstat(fd).st_mode)
        finally:
            os.close(fd)

    def open(self, path: str) -> int:
        """An fd to read the regular file `path`. ValueError for anything else, which is not opened (R5)."""
        found = self._root.open_file(path, os.O_PATH)
        try:
            if not stat.S_ISREG(os.fstat(found).st_mode):
                raise ValueError(f"{path}: not a regular file")
            return reopen(found, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
        finally:
            os.close(found)

    def text(self, path: str) -> str:
        """What the file `path` says, at most 1 MiB; "" when there is none."""
        try:
            return self._root.read_file(path).decode("utf-8", "surrogateescape")
        except FileNotFoundError:
            return ""

    def names(self, path: str) -> list[str]:
        """The names in the directory `path`, sorted; none where there is no directory."""
        try:
            fd = self._root.open_file(path, os.O_RDONLY | os.O_DIRECTORY)
        except (FileNotFoundError, NotADirectoryError):
            return []
        try:
            return sorted(os.listdir(fd))
        finally:
            os.close(fd)
