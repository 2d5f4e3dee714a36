"""Directories for builds that last no longer than one command: a script, or a command on files of its own."""

from __future__ import annotations

import os
import stat

from acbuild.errors import AcbuildError
from linux import files


def scratch() -> files.temporary_directory:
    """``with scratch() as path``: an empty directory, gone at the end.

    It lies in a directory of the user's own below TMPDIR, where what a killed command left is removed now.
    """
    parent = f"{os.environ.get('TMPDIR') or '/tmp'}/acbuild-{os.geteuid()}"  # noqa: S108 (looked at below)
    try:
        os.mkdir(parent, 0o700)
    except FileExistsError:
        status = os.stat(parent, follow_symlinks=False)
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o077:
            raise AcbuildError(
                f"{parent}: is not a directory of yours alone", hint="remove it, or set TMPDIR"
            ) from None
    files.collect_temporary(parent)
    return files.temporary_directory(parent)
