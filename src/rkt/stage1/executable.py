"""Which file a program's name means in an app, and why the kernel may not run it.

Looked up as the app's own user, after all that it gave up; the kernel is asked only afterwards, behind the
seccomp filter, where nothing could be found out any more.
"""

from __future__ import annotations

import os
import stat
import struct

from linux.paths import reopen
from rkt.errors import RktError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from linux.paths import Root

_FALLBACK_PATH = ("/bin", "/usr/bin")
# e_machine of the ELF files that a machine (uname's word) runs by itself.
_ELF_MACHINES = {"x86_64": (62, 3), "aarch64": (183, 40)}
_PT_INTERP = 3
_ELF_NAMES = {
    3: "i386", 8: "mips", 20: "ppc", 21: "ppc64", 22: "s390", 40: "arm", 62: "x86_64", 183: "aarch64",
    243: "riscv",
}  # fmt: skip


class CannotExecute(RktError):
    """A program that is not there (exit code 127) or cannot be run (126), as shells count."""

    def __init__(self, message: str, *, missing: bool, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.exit_code = 127 if missing else 126


def find(root: Root, name: str, path: str, working_directory: str) -> tuple[str, str]:
    """The path of the program `name`, and what makes it doubtful that it runs ("" when nothing does).

    A name that holds a ``/`` is taken as it stands, from the working directory; else the directories of
    `path` are searched, or, if that is empty, those of rkt: the working directory, /bin, /usr/bin. The
    caller has the app's identity, `root` is the app's root. CannotExecute, in rkt's words, if there is none.
    """
    if not name:
        raise CannotExecute('exec: "": no program is given', missing=True)
    if "/" in name:
        found = os.path.join(working_directory, name)
        return found, check(root, found)
    directories = path.split(":") if path else [working_directory, *_FALLBACK_PATH]
    refused: CannotExecute | None = None
    for directory in directories:
        candidate = os.path.join(working_directory, directory, name)
        try:
            return candidate, check(root, candidate)
        except CannotExecute as error:
            if error.exit_code == 126 and refused is None:
                refused = error
    if refused is not None:
        raise refused
    raise CannotExecute(f'exec: "{name}": executable file not found in $PATH', missing=True)


def check(root: Root, path: str) -> str:
    """Raise CannotExecute if `path` certainly cannot be run; else what is doubtful about it, "" if nothing.

    A path that goes through a magic link of /proc, such as /proc/self/exe, is refused: it would run a
    program of the host (CVE-2019-5736). Never opens anything but a regular file (R5).
    """
    try:
        fd = root.open_file(path, os.O_PATH)
    except (FileNotFoundError, NotADirectoryError):
        raise CannotExecute(f'exec: "{path}" not found', missing=True) from None
    except (OSError, ValueError) as error:
        raise CannotExecute(f'exec: "{path}": {_reason(error)}', missing=False) from error
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise CannotExecute(f'exec: "{path}" is not a file', missing=False)
        if not os.access(path, os.X_OK):
            raise CannotExecute(f'exec: "{path}": permission denied', missing=False)
        return _check_contents(root, path, fd)
    finally:
        os.close(fd)


def _reason(error: OSError | ValueError) -> str:
    return getattr(error, "strerror", None) or str(error)


def _check_contents(root: Root, path: str, fd: int) -> str:
    try:
        readable = reopen(fd, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError:
        return ""  # executable but not readable: the kernel will see
    try:
        head = os.pread(readable, 256, 0)
        if head.startswith(b"#!"):
            words = head[2:].split(b"\n", 1)[0].split()
            if not words:
                return "its first line names no interpreter"
            _check_interpreter(root, path, os.fsdecode(words[0]))
            return ""
        if head.startswith(b"\x7fELF") and len(head) >= 64:
            return _check_elf(root, path, readable, head)
    finally:
        os.close(readable)
    return (
        "it is empty"
        if not head
        else "it is neither a program nor a script with a first line such as #!/bin/sh"
    )


def _check_elf(root: Root, path: str, fd: int, head: bytes) -> str:
    """An ELF file: its dynamic loader must be there. A foreign one may run all the same (binfmt_misc)."""
    order = "<" if head[5] == 1 else ">"
    (machine,) = struct.unpack_from(order + "H", head, 18)
    native = os.uname().machine
    if machine not in _ELF_MACHINES.get(native, (machine,)):
        theirs = _ELF_NAMES.get(machine, f"machine {machine}")
        return f"it is a program for {theirs}, and this machine is {native}"
    loader = _loader(fd, head, order)
    if loader is not None:
        _check_interpreter(root, path, loader)
    return ""


def _loader(fd: int, head: bytes, order: str) -> str | None:
    """The dynamic loader that the program headers (elf(5), PT_INTERP) ask for; None for a static program."""
    wide = head[4] == 2
    (table,) = struct.unpack_from(order + ("Q" if wide else "I"), head, 32 if wide else 28)
    size, count = struct.unpack_from(order + "HH", head, 54 if wide else 42)
    # Of each header: its type, where it points in the file, and how long that is.
    form = order + ("I4xQ16xQ" if wide else "II8xI")
    if size < struct.calcsize(form) or table >= 1 << 62:
        return None
    headers = os.pread(fd, size * min(count, 64), table)
    for place in range(0, len(headers) - size + 1, size):
        kind, start, length = struct.unpack_from(form, headers, place)
        if kind == _PT_INTERP and start < 1 << 62:
            return os.fsdecode(os.pread(fd, min(length, 4096), start).split(b"\0", 1)[0])
    return None


def _check_interpreter(root: Root, path: str, interpreter: str) -> None:
    """CannotExecute unless the interpreter of `path` is a file of the image, not behind a magic link."""
    try:
        os.close(root.open_file(interpreter, os.O_PATH))
    except (OSError, ValueError) as error:
        missing = isinstance(error, FileNotFoundError | NotADirectoryError)
        raise CannotExecute(
            f'exec: "{path}" needs {interpreter}: {_reason(error)}',
            missing=missing,
            hint="the image lacks the interpreter or the dynamic loader" if missing else None,
        ) from error
