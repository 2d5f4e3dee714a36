"""Which file a command's name means in the image, and whether it can be run: found out before it is tried.

A way through a magic link of /proc is refused, for the program, for the interpreter of a script and for a
dynamic loader alike: ``#!/proc/self/exe`` would run, and give away, a program of the host (CVE-2019-5736).
Nothing else runs in the image meanwhile that could change it between the look and the run.
"""

from __future__ import annotations

import os
import stat

from acbuild.binary import elf
from acbuild.engines import NotRun
from linux.paths import reopen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from linux.paths import Root

#: Scripts whose interpreter is a script: as many levels as the kernel takes.
_LEVELS = 5
_HINT = "put what it needs into the image, with `acbuild copy-binary` for example"


def find(root: Root, name: str, path: str, working_directory: str) -> str:
    """The path in `root` of the program `name`. NotRun when there is none, or it cannot be run.

    A name with a ``/`` is taken as it stands, from the working directory; for others `path` is searched.
    """
    if "/" in name:
        found = os.path.join(working_directory, name)
        _check(root, found, _LEVELS)
        return found
    refused: NotRun | None = None
    for directory in path.split(":"):
        candidate = os.path.join(working_directory, directory, name)
        try:
            _check(root, candidate, _LEVELS)
        except NotRun as error:
            if refused is None and error.exit_code == 126:
                refused = error
        else:
            return candidate
    raise refused or NotRun(f"{name}: not found in the image's PATH ({path})", missing=True, hint=_HINT)


def _check(root: Root, path: str, levels: int, needed_by: str = "") -> None:
    shown = f"{needed_by}: needs {path}, which" if needed_by else f"{path}:"
    try:
        fd = root.open_file(path, os.O_PATH)
    except (FileNotFoundError, NotADirectoryError):
        missing = f"{shown} is not in the image" if needed_by else f"{shown} no such file in the image"
        raise NotRun(missing, missing=not needed_by, hint=_HINT) from None
    except (OSError, ValueError) as error:
        raise NotRun(f"{shown} cannot be used: {getattr(error, 'strerror', None) or error}") from None
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise NotRun(f"{shown} is no file")
        if not status.st_mode & 0o111:
            raise NotRun(f"{shown} is not executable", hint=f"make it so: chmod +x {path}")
        file = reopen(fd, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    finally:
        os.close(fd)
    try:
        _check_content(root, path, shown, file, levels)
    finally:
        os.close(file)


def _check_content(root: Root, path: str, shown: str, file: int, levels: int) -> None:
    head = os.pread(file, 256, 0)
    if head.startswith(b"#!"):
        words = head[2:].split(b"\n", 1)[0].split()
        if not words or not levels:
            raise NotRun(f"{shown} is a script whose first line names no interpreter")
        _check(root, os.fsdecode(words[0]), levels - 1, path)
        return
    try:
        found = elf.read(file)
    except ValueError as error:
        raise NotRun(f"{shown} {error}") from None
    if found is None:
        if levels == _LEVELS and head:
            raise NotRun(f"{shown} neither a program nor a script with a first line such as #!/bin/sh")
        raise NotRun(f"{shown} is no program")
    if found.interpreter:
        _check_loader(root, path, found.interpreter)


def _check_loader(root: Root, path: str, loader: str) -> None:
    try:
        os.close(root.open_file(loader, os.O_PATH))
    except (OSError, ValueError) as error:
        reason = "is not in the image" if isinstance(error, FileNotFoundError) else "cannot be used"
        raise NotRun(f"{path}: needs the dynamic loader {loader}, which {reason}", hint=_HINT) from None
