"""Files and directories that have their name when they are complete, and not before."""

from __future__ import annotations

import errno
import os
from contextlib import contextmanager

from linux import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO


@contextmanager
def replacing(path: str, *, overwrite: bool, mode: int = 0o666) -> Iterator[BinaryIO]:
    """``with replacing(path, overwrite=…) as out``: a file that is `path` once the body has ended well.

    Until then `path` is what it was, and nothing else is left whatever happens (with the reference a failed
    build leaves a broken target). Durable at the end. FileExistsError for an existing `path` unless
    `overwrite` is given.
    """
    directory, name = os.path.split(os.path.abspath(path))
    _refuse_existing(path, overwrite=overwrite)
    with open(files.anonymous_file(directory, mode), "w+b") as out:
        yield out
        out.flush()
        try:
            files.link_into_place(out.fileno(), f"{directory}/{name}")
        except FileExistsError:
            if not overwrite:
                raise
            temporary = f"{directory}/.tmp-{os.getpid()}-{name}"[:200]
            files.link_into_place(out.fileno(), temporary)
            try:
                os.rename(temporary, f"{directory}/{name}")
            except BaseException:
                os.unlink(temporary)
                raise
            files.sync_directory(directory)


@contextmanager
def new_directory(path: str, *, overwrite: bool, rootfs_only: bool) -> Iterator[str]:
    """A directory to put `manifest` and `rootfs` in; at the end it, or its rootfs alone, is `path`, durably.

    FileExistsError when `path` exists, unless `overwrite` is given. A failure leaves `path` as it was.
    """
    parent, name = os.path.split(os.path.abspath(path))
    _refuse_existing(path, overwrite=overwrite)
    with files.temporary_directory(parent, name) as directory:
        yield directory
        result = f"{directory}/rootfs" if rootfs_only else f"{directory}/image"
        if not rootfs_only:
            os.mkdir(result, 0o755)
            for part in ("manifest", "rootfs"):
                os.rename(f"{directory}/{part}", f"{result}/{part}")
        files.sync_filesystem(directory)
        if os.path.lexists(path):
            os.rename(path, f"{directory}/old")
        os.rename(result, f"{parent}/{name}")
        files.sync_directory(parent)


def _refuse_existing(path: str, *, overwrite: bool) -> None:
    if not overwrite and os.path.lexists(path):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
