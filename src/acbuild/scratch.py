"""Directories for builds that last no longer than one command: a script, or a command on files of its own."""

from __future__ import annotations

import os
import stat

from acbuild.errors import AcbuildError
from acbuild.rootless import own_uid
from linux import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType


class scratch:
    """``with scratch() as path``: an empty directory, gone at the end.

    It lies in a directory of the user's own below TMPDIR, where what a killed command left is removed now.
    """

    def __init__(self) -> None:
        self._parent = f"{os.environ.get('TMPDIR') or '/tmp'}/acbuild-{own_uid()}"  # noqa: S108 (see below)
        while True:
            _make(self._parent)
            files.collect_temporary(self._parent)
            try:
                self._directory = files.temporary_directory(self._parent)
            except FileNotFoundError:
                continue  # another command was the last one, and has removed it
            return

    def __enter__(self) -> str:
        return self._directory.path

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._directory.__exit__(kind, value, trace)
        try:
            os.rmdir(self._parent)
        except OSError:
            return  # another command has its directory there


def _make(parent: str) -> None:
    try:
        os.mkdir(parent, 0o700)
    except FileExistsError:
        try:
            status = os.stat(parent, follow_symlinks=False)
        except FileNotFoundError:
            return
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o077:
            raise AcbuildError(
                f"{parent}: is not a directory of yours alone", hint="remove it, or set TMPDIR"
            ) from None
