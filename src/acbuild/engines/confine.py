"""The last step of a build's command: give up what a command of a build shall not have, then become it.

It is confined as an app of a pod is: the capabilities of one, a seccomp filter, no_new_privs, a session and
a session keyring of its own. What it runs may come from an image that somebody else made.
"""

from __future__ import annotations

import errno
import os
import sys

from acbuild.engines import NotRun, program
from linux import capabilities, libc
from linux.bare import signal
from linux.paths import Root

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from acbuild.engines import Command

_JOIN_SESSION_KEYRING = 1
_NSIG = 65
#: What an app has without a user namespace of its own (docs/reference/differences.md), which is enough to
#: install packages: of the specification's set not MKNOD, NET_RAW and AUDIT_WRITE, which reach the host.
_KEPT = (
    *("CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_KILL", "CAP_NET_BIND_SERVICE"),
    *("CAP_SETUID", "CAP_SETGID", "CAP_SETPCAP", "CAP_SETFCAP", "CAP_SYS_CHROOT"),
)


def filter_program() -> bytes:
    """The seccomp filter, made before the host's files are out of reach."""
    from linux import seccomp

    return seccomp.compile(seccomp.default_policy(capabilities.mask(_KEPT)))


def forbid_imports() -> None:
    """Import nothing any more: the search path now leads into an image (R11)."""
    sys.meta_path.clear()
    sys.path.clear()


def become(command: Command, filtered: bytes, *, path: str = "") -> NoReturn:
    """Become the command, in the root directory that is the image's; with a filter also confined.

    `path` is that of the program when it has been found already: to find it here takes a /proc. NotRun or
    OSError when it cannot be. The caller is a forked process with one thread.
    """
    environment = command.variables()
    with Root.open("/") as root:
        _change_directory(root, command.working_directory)
        path = path or program.find(root, command.argv[0], environment["PATH"], command.working_directory)
    os.umask(0o022)
    if filtered:
        os.setsid()  # no terminal is the command's own: nothing can be typed into the builder's (TIOCSTI)
        _new_session_keyring()
        kept = capabilities.mask(_KEPT)
        capabilities.drop_bounding(kept)
        held = capabilities.read("self").permitted & kept
        _become_root()
        capabilities.set_all(held, held)
    else:
        _become_root()
    libc.close_range(3, flags=libc.CLOSE_RANGE_CLOEXEC)
    reset_signals()
    if filtered:
        from linux import seccomp

        libc.prctl(libc.PR_SET_NO_NEW_PRIVS, 1)
        seccomp.install(filtered)
    try:
        os.execve(path, command.argv, environment)
    except OSError as error:
        raise NotRun(f"{path}: {error.strerror}") from None


def reset_signals() -> None:
    """Give every signal its default action, and unblock it."""
    for number in range(1, _NSIG):
        if number not in {signal.SIGKILL, signal.SIGSTOP, 32, 33}:
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _change_directory(root: Root, path: str) -> None:
    """Opened without magic links: /proc/self/fd/7 might be a directory of the host (CVE-2024-21626)."""
    try:
        fd = root.open_file(path, os.O_PATH | os.O_DIRECTORY)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        hint = "make it in the image, or use --working-dir"
        raise NotRun(f"working directory {path}: {reason}", hint=hint) from None
    try:
        os.fchdir(fd)
    finally:
        os.close(fd)


def _new_session_keyring() -> None:
    """Leave the builder's session keyring, which may hold secrets. Where keyrings are closed, so be it."""
    try:
        libc.syscall("keyctl", _JOIN_SESSION_KEYRING, None, path="session keyring")
    except OSError as error:
        if error.errno not in {errno.ENOSYS, errno.EPERM}:
            raise


def _become_root() -> None:
    try:
        os.setgroups([])
    except PermissionError:
        pass  # a user namespace with a single ID forbids it, and gave the process no other group to drop
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
