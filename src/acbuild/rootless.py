"""Building without root: the rest of the command runs as root of a user namespace of the user's own.

With subordinate IDs (/etc/subuid, /etc/subgid, newuidmap(1)) the image may have any owners; without them it
has one, and a namespace is only made for `run`. Files of such a build belong on disk to subordinate IDs, so
that all later commands on it come here too: the context notes it.
"""

from __future__ import annotations

import os

from acbuild.errors import AcbuildError
from linux import namespaces
from linux.bare import signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

#: In the context of a build whose files belong to subordinate IDs.
MARK = "subordinate"
#: What the kernel shows for owners that the user namespace has no ID for.
OVERFLOW = 65534


def is_needed(context: str) -> bool:
    """Whether the build in the directory `context`, of a caller who is not root, has files of other IDs."""
    return os.path.lexists(f"{context}/{MARK}")


def mark(context: str) -> None:
    """Note that commands on this build need the namespace, if this one is in it."""
    if not namespaces.in_initial_user_namespace():
        os.close(os.open(f"{context}/{MARK}", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))


def own_uid() -> int:
    """The user's ID outside of the namespace, or where there is none."""
    uid = os.geteuid()
    if uid == 0 and not namespaces.in_initial_user_namespace():
        with open("/proc/self/uid_map", encoding="ascii") as file:
            uid = int(file.readline().split()[1])
    return uid


def owner() -> Callable[[int, int], tuple[int, int]] | None:
    """In the namespace: what belongs to nobody there belongs to root, such as files of the host's root."""
    if os.geteuid() != 0 or namespaces.in_initial_user_namespace():
        return None
    return lambda uid, gid: (0 if uid == OVERFLOW else uid, 0 if gid == OVERFLOW else gid)


def may_have_owners() -> bool:
    """Whether the caller is not root, and has subordinate IDs."""
    return os.geteuid() != 0 and _ranges(os.geteuid()) is not None


def enter(*, say: Callable[[str], None]) -> None:
    """Go on as root of a new user namespace, in a child; this process waits, and ends with its exit code.

    Nothing for who is root already. AcbuildError when a namespace cannot be had.
    """
    if os.geteuid() == 0:
        return
    from acbuild import waiting
    from linux import clone, process

    uid, gid = os.geteuid(), os.getegid()
    ranges = _ranges(uid)
    parent = os.getpid()
    going, go = os.pipe()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, waiting.WAITED)
    try:
        child = clone.clone(namespaces.NEWUSER | namespaces.NEWNS)
    except OSError as error:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        os.close(going)
        os.close(go)
        raise AcbuildError(
            f"a user namespace cannot be made here: {error.strerror}",
            hint="run acbuild as root, or allow user namespaces (sysctl user.max_user_namespaces)",
        ) from None
    if child == 0:
        os.close(go)
        mapped = os.read(going, 1)
        os.close(going)
        if not mapped:
            os._exit(1)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        process.set_parent_death_signal(parent)
        return
    os.close(going)
    try:
        if not (ranges and _map_ranges(child, uid, gid, ranges)):
            say("no subordinate IDs: all that the image has belongs to one user")
            _map_one(child, uid, gid)
        os.write(go, b"g")
    finally:
        os.close(go)
    code = waiting.wait(child)
    os._exit(code if code >= 0 else 128 - code)


def _ranges(uid: int) -> tuple[tuple[int, int], tuple[int, int]] | None:
    """First and count of the user's subordinate users and groups; None without both."""
    import pwd

    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        name = str(uid)
    found = [_range(path, (name, str(uid))) for path in ("/etc/subuid", "/etc/subgid")]
    users, groups = found
    return None if users is None or groups is None else (users, groups)


def _range(path: str, names: tuple[str, ...]) -> tuple[int, int] | None:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            lines = file.read().split("\n")
    except OSError:
        return None
    for line in lines:
        fields = line.split(":")
        if len(fields) == 3 and fields[0] in names and fields[1].isdigit() and fields[2].isdigit():
            return int(fields[1]), int(fields[2])
    return None


def _map_ranges(child: int, uid: int, gid: int, ranges: tuple[tuple[int, int], tuple[int, int]]) -> bool:
    """Have the host's programs map the ranges; False where they are missing or refuse."""
    from linux import process

    for program, own, (first, count) in (("newuidmap", uid, ranges[0]), ("newgidmap", gid, ranges[1])):
        words = [program, *map(str, (child, 0, own, 1, 1, first, count))]
        try:
            done = process.run(words, timeout=30)
        except FileNotFoundError:
            return False
        if done.returncode:
            return False
    return True


def _map_one(child: int, uid: int, gid: int) -> None:
    """Map root to the user alone, which needs nobody's help; a user map of half a failure before stays."""
    try:
        with open(f"/proc/{child}/setgroups", "w", encoding="ascii") as file:
            file.write("deny")
        namespaces.write_id_maps(child, [(0, uid, 1)], [(0, gid, 1)])
    except OSError as error:
        os.kill(child, signal.SIGKILL)
        raise AcbuildError(
            f"the user namespace cannot be mapped: {error.strerror}",
            hint="look at the lines for you in /etc/subuid and /etc/subgid",
        ) from None
