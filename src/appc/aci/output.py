"""Files and directories that have their name when they are complete, and not before."""

from __future__ import annotations

import errno
import os

from linux import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import BinaryIO


class replacing:
    """``with replacing(path, overwrite=…) as out``: a file that is `path` once the body has ended well.

    Until then `path` is what it was, and nothing else is left whatever happens (with the reference a failed
    build leaves a broken target). Durable at the end. FileExistsError for an existing `path` unless
    `overwrite` is given.
    """

    __slots__ = ("_mode", "_out", "_overwrite", "_path")

    def __init__(self, path: str, *, overwrite: bool, mode: int = 0o666) -> None:
        _refuse_existing(path, overwrite=overwrite)
        self._path = os.path.abspath(path)
        self._overwrite = overwrite
        self._mode = mode

    def __enter__(self) -> BinaryIO:
        self._out = open(files.anonymous_file(os.path.dirname(self._path), self._mode), "w+b")
        return self._out

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._out as out:
            if value is None:
                out.flush()
                files.link_into_place(out.fileno(), self._path, replace=self._overwrite)


class new_directory:
    """A directory to put `manifest` and `rootfs` in; at the end it, or its rootfs alone, is `path`, durably.

    FileExistsError when `path` exists, unless `overwrite` is given. A failure leaves `path` as it was.
    """

    __slots__ = ("_path", "_rootfs_only", "_temporary")

    def __init__(self, path: str, *, overwrite: bool, rootfs_only: bool) -> None:
        _refuse_existing(path, overwrite=overwrite)
        self._path = os.path.abspath(path)
        self._rootfs_only = rootfs_only

    def __enter__(self) -> str:
        self._temporary = files.temporary_directory(*os.path.split(self._path))
        return self._temporary.path

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._temporary as directory:
            if value is None:
                self._finish(directory)

    def _finish(self, directory: str) -> None:
        result = f"{directory}/rootfs" if self._rootfs_only else f"{directory}/image"
        if not self._rootfs_only:
            os.mkdir(result, 0o755)
            for part in ("manifest", "rootfs"):
                os.rename(f"{directory}/{part}", f"{result}/{part}")
        files.sync_filesystem(directory)
        if os.path.lexists(self._path):
            os.rename(self._path, f"{directory}/old")
        os.rename(result, self._path)
        files.sync_directory(os.path.dirname(self._path))


def _refuse_existing(path: str, *, overwrite: bool) -> None:
    if not overwrite and os.path.lexists(path):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
