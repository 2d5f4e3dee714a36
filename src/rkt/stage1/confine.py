"""The last step before a program of an app runs: give up everything the app shall not have, then become it.

One function for all: `run`, event handlers and `enter` come through here, in every flavour. The caller is a
forked process with one thread, already in the app's namespaces and root, with the app's streams as 0, 1, 2.
The order is forced: what needs privileges first, identity, capabilities, and the filter last of all, because
after it nothing but execve is sure to work.
"""

from __future__ import annotations

import ctypes
import errno
import gc
import os
import resource
import sys

from linux import capabilities, libc, seccomp
from linux.bare import signal
from linux.paths import Root
from rkt.errors import RktError, one_line
from rkt.stage1 import executable, identity, stub

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from rkt.stage1.confinement import Confinement

_JOIN_SESSION_KEYRING, _GET_KEYRING_ID, _SESSION_KEYRING = 1, 0, -3
_NSIG = 65


def forbid_imports() -> None:
    """Let the process import nothing any more: its search path now leads into an image (R11).

    For a process that is about to leave the host's root; what it needs must be loaded by then. A codec of
    text counts as an import too.
    """
    sys.meta_path.clear()
    sys.path.clear()


def let_open_again() -> None:
    """Let the app open pipes that are its streams by name too: many servers log to /dev/stdout.

    A pipe belongs to whoever made it. Only the direction that the app has anyway is given: as the owner it
    could read what others write there. Nobody else gets at a pipe without a name; one with a name is left.
    """
    for number, access in enumerate((0o044, 0o022, 0o022)):
        try:
            if libc.filesystem_type(number) == libc.PIPEFS_MAGIC:
                os.fchmod(number, os.fstat(number).st_mode & 0o777 | access)
        except OSError:
            continue  # of another user, in a user namespace: as before


def tell_why(app: str, error: Exception) -> None:
    """Say on the app's own stderr why its program was not executed: nobody else is there to tell it."""
    text = one_line(error)
    line = text if text.startswith(f"{app}: ") else f"{app}: {text}"
    os.write(2, f"{line}\n".encode("utf-8", "backslashreplace"))


def confine(wanted: Confinement, *, kept_fds: int = 0) -> NoReturn:
    """Become the program of `wanted`, confined. Returns never; raises RktError or OSError if it cannot.

    The descriptors 3 to 2 + `kept_fds` (sockets that the app was promised) stay open beside 0, 1, 2.
    `exit_code` of the exception is 127 for a program that is not there, 126 for one that cannot be run.
    Until the exec the process is not dumpable: nothing in the pod can look into it or trace it.
    """
    if not wanted.seccomp and not wanted.unfiltered:
        raise RktError(f"{wanted.app}: no seccomp filter, and nobody asked for none")
    forbid_imports()
    libc.prctl(libc.PR_SET_DUMPABLE, 0)
    with Root.open("/") as root:
        who = identity.resolve(
            root, wanted.user, wanted.group, group_may_be_missing=wanted.group_may_be_missing
        )
        os.umask(0o022)
        _change_directory(root, wanted)
        _set_limits(wanted)
        set_oom_score(wanted.oom_score_adjust)
        _new_session_keyring()
        _set_label(wanted)
        _set_identity(wanted, who)
        environment = _environment(wanted, who)
        program, doubt = _find(root, wanted)
    launcher = stub.sealed("exec")
    for fd in range(3, 3 + kept_fds):
        os.set_inheritable(fd, True)  # noqa: FBT003
    libc.close_range(3 + kept_fds, flags=libc.CLOSE_RANGE_CLOEXEC)
    _reset_signals()
    if wanted.no_new_privileges:
        libc.prctl(libc.PR_SET_NO_NEW_PRIVS, 1)
    _execute(launcher, _complaint(program, doubt), program, wanted.argv, environment, wanted.seccomp)


def confine_lightly(wanted: Confinement) -> NoReturn:
    """The same for an app without isolation (the `fly` flavour).

    It keeps the caller's capabilities, limits and place in the queue of the out-of-memory killer, and is not
    filtered; but descriptors, keyring, identity and no_new_privs are dealt with as for any app.
    """
    let_open_again()
    confine(
        wanted._replace(
            capabilities=(1 << capabilities.last() + 1) - 1,
            seccomp=b"",
            unfiltered=True,
            rlimits=(),
            label=None,
            oom_score_adjust=_own_oom_score() if wanted.oom_score_adjust is None else wanted.oom_score_adjust,
        )
    )


def _own_oom_score() -> int:
    with open("/proc/self/oom_score_adj", "rb") as file:
        return int(file.read())


def _change_directory(root: Root, wanted: Confinement) -> None:
    """Go to the working directory, which must exist (spec/aci.md) and lie inside the root (R13).

    It is opened without magic links: /proc/self/fd/7 might be a directory of the host (CVE-2024-21626).
    """
    path = wanted.working_directory
    try:
        fd = root.open_file(path, os.O_PATH | os.O_DIRECTORY)
        try:
            os.fchdir(fd)
        finally:
            os.close(fd)
    except FileNotFoundError:
        raise RktError(
            f'{wanted.app}: working directory "{path}" does not exist',
            hint="make it in the image, or mend it",
        ) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise RktError(f'{wanted.app}: working directory "{path}": {reason}') from error
    if not os.getcwd().startswith("/"):  # the kernel says "(unreachable)" in front of what is outside
        raise RktError(f'{wanted.app}: working directory "{path}" is outside of the app')


def _set_limits(wanted: Confinement) -> None:
    """Set the resource limits; without CAP_SYS_RESOURCE a hard limit can only be lowered."""
    for kind, soft, hard in wanted.rlimits:
        try:
            resource.setrlimit(kind, (soft, hard))
        except (ValueError, OSError):
            highest = resource.getrlimit(kind)[1]
            hard = hard if highest == resource.RLIM_INFINITY else min(hard, highest)
            resource.setrlimit(kind, (min(soft, hard), hard))


def set_oom_score(wanted: int | None) -> None:
    """Set how soon the kernel ends the app when memory is short; never below 0 unless that was asked for.

    Lowering needs CAP_SYS_RESOURCE on the host; `confinement.plan` has told the user what cannot be. In a
    user namespace of the pod the file cannot be written any more, as it belongs to the host's root while the
    process is not dumpable: who joins one calls this before, and `confine` finds it done. (A process that is
    dumpable for a moment there is open to an app with CAP_SYS_PTRACE, with all that rkt has in memory.)
    """
    path = "/proc/self/oom_score_adj"
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if libc.filesystem_type(fd) != libc.PROC_SUPER_MAGIC:
            raise RktError("/proc of the app is no proc filesystem")
        present = int(os.read(fd, 16))
    finally:
        os.close(fd)
    score = max(present, 0) if wanted is None else wanted
    if score == present:
        return
    try:
        _write_own(path, score)
    except PermissionError:
        if present < 0:
            _write_own(path, 0)


def _write_own(path: str, number: int) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.write(fd, str(number).encode())
    finally:
        os.close(fd)


def _new_session_keyring() -> None:
    """Leave the caller's session keyring, which may hold its secrets, for a new and empty one."""
    try:
        libc.syscall("keyctl", _JOIN_SESSION_KEYRING, None, path="session keyring")
    except OSError as error:
        # A kernel without keyrings has none to leave. Where a filter round all of us (of nspawn, Docker)
        # forbids the whole call, it is closed to the app too.
        if error.errno != errno.ENOSYS and not (error.errno == errno.EPERM and _keyrings_are_closed()):
            raise


def _keyrings_are_closed() -> bool:
    try:
        libc.syscall("keyctl", _GET_KEYRING_ID, _SESSION_KEYRING, 0)
    except OSError as error:
        return error.errno == errno.EPERM
    return False


def _set_label(wanted: Confinement) -> None:
    """Have the kernel's security module put its label on what is executed next. A profile must be loaded."""
    if wanted.label is None:
        return
    module, name = wanted.label
    value = f"exec {name}" if module == "apparmor" else name
    path = f"/proc/thread-self/attr/{module}/exec"
    try:
        fd = os.open(
            path if os.path.exists(path) else "/proc/thread-self/attr/exec", os.O_WRONLY | os.O_CLOEXEC
        )
        try:
            os.write(fd, value.encode())
        finally:
            os.close(fd)
    except OSError as error:
        raise RktError(
            f"{wanted.app}: {module} refuses {name}: {error.strerror}",
            hint="is the profile loaded on this host?",
        ) from error


def _set_identity(wanted: Confinement, who: identity.Identity) -> None:
    """Bounding set, groups, user, and the other capability sets, in this order; then look what came of it.

    Inheritable and ambient are empty always (CVE-2022-24769); effective and permitted are the bounding set
    for uid 0, empty for others. One exception until the exec, which takes it away: installing a filter
    without no_new_privs takes CAP_SYS_ADMIN.
    """
    capabilities.drop_bounding(wanted.capabilities)
    held = capabilities.read("self").permitted
    needs_admin = bool(wanted.seccomp) and not wanted.no_new_privileges
    if needs_admin:
        capabilities.keep_over_setuid(on=True)
    gids = tuple(dict.fromkeys(wanted.supplementary_gids))
    try:
        os.setgroups(gids)
        os.setresgid(who.gid, who.gid, who.gid)
        os.setresuid(who.uid, who.uid, who.uid)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        highest = max(who.uid, who.gid, *gids)
        raise RktError(
            f"{wanted.app}: the pod has no user or group {highest}: its range of IDs is smaller",
            hint="use a smaller number, or --private-users=false",
        ) from error
    permitted = held & wanted.capabilities if who.uid == 0 else 0
    effective = permitted
    if needs_admin:
        admin = held & (1 << capabilities.SYS_ADMIN)
        permitted, effective = permitted | admin, effective | admin
    capabilities.set_all(effective, permitted)
    # A change of user resets this to the host's fs.suid_dumpable, which may allow it.
    libc.prctl(libc.PR_SET_DUMPABLE, 0)
    if (
        os.getresuid() != (who.uid,) * 3
        or os.getresgid() != (who.gid,) * 3
        or set(os.getgroups()) != set(gids)
    ):
        raise RktError(f"{wanted.app}: the kernel did not give the process the user {who.uid}:{who.gid}")


def _environment(wanted: Confinement, who: identity.Identity) -> list[str]:
    items = list(wanted.environment)
    if not any(item.startswith("HOME=") for item in items):
        items.append(f"HOME={wanted.home or who.home or ('/root' if who.uid == 0 else '/')}")
    return items


def _find(root: Root, wanted: Confinement) -> tuple[str, str]:
    if not wanted.argv:
        raise executable.CannotExecute(f"{wanted.app}: there is nothing to execute", missing=True)
    path = next((item[5:] for item in wanted.environment if item.startswith("PATH=")), "")
    return executable.find(root, wanted.argv[0], path, wanted.working_directory)


def _complaint(program: str, doubt: str) -> str:
    """What the launcher says if the kernel refuses; prepared now, as nothing can be looked up then."""
    return f'exec: "{program}": ' + (doubt or "the kernel refused to run it") + "\n"


def _reset_signals() -> None:
    """Give every signal its default action and unblock it: our interpreter ignores SIGPIPE."""
    for number in range(1, _NSIG):
        if number not in {signal.SIGKILL, signal.SIGSTOP, 32, 33}:
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _execute(
    launcher: int,
    complaint: str,
    program: str,
    argv: tuple[str, ...],
    environment: list[str],
    filtered: bytes,
) -> NoReturn:
    """Install the filter and execute, with everything allocated before: a filter may forbid even mmap.

    The launcher is executed through /proc/self/fd, because execve is the one call that every filter allows.
    """
    native = ctypes.CDLL(None, use_errno=True)
    words = [os.fsencode(word) for word in (complaint, program, *argv)]
    arguments = (ctypes.c_char_p * (len(words) + 1))(*words, None)
    variables = (ctypes.c_char_p * (len(environment) + 1))(*[os.fsencode(item) for item in environment], None)
    path = f"/proc/self/fd/{launcher}".encode()
    install = seccomp.prepare(filtered) if filtered else None
    gc.disable()
    if install is not None:
        install()
    native.execve(path, arguments, variables)
    reason = os.strerror(ctypes.get_errno())
    raise executable.CannotExecute(f'exec: "{program}": {reason}', missing=False)
