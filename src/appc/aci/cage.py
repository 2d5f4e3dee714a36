"""A child process in which hostile bytes are decompressed, parsed and written: nothing to gain there (R3).

The walls, from the outside in: user, mount, network, IPC and UTS namespaces of its own; an empty read-only
root with nothing in it but the one directory to write to; limits on memory, file size and processor time;
Landlock; five capabilities over that directory at most; a list of a few dozen system calls. Nothing of the
interpreter can be imported any more, so that no file of an image is ever taken for one of ours.

Each wall is put up where the kernel and the caller's rights allow it. `Caged.walls` says which stand, and a
missing one does not weaken the next.
"""

from __future__ import annotations

import errno
import json
import os
import resource
import signal
import sys

from appc.aci import errors
from appc.errors import AppcError
from linux import capabilities, clone, landlock, libc, namespaces, process, seccomp
from linux.mount import api as mounts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Any, NoReturn, Self

#: Seconds of processor time; far above what the largest archive within the limits takes.
CPU_SECONDS = 1800
#: Bytes of address space beyond what the process has when it starts.
MEMORY = 384 << 20
_LARGEST_RESULT = 64 << 20

_NAMESPACES = clone.NEWNS | clone.NEWNET | clone.NEWIPC | clone.NEWUTS
_CAPABILITIES = ("CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_SETFCAP")
_CALLS = (
    *("read", "readv", "pread64", "write", "writev", "lseek", "close", "close_range", "dup", "dup3", "fcntl"),
    *("openat", "openat2", "open", "mkdirat", "mkdir", "mknodat", "mknod", "symlinkat", "symlink", "linkat"),
    *("link", "unlinkat", "unlink", "rmdir", "readlinkat", "getdents64", "ftruncate", "fallocate", "umask"),
    *("fstat", "newfstatat", "statx", "fstatfs", "fchown", "fchownat", "lchown", "fchmod", "fchmodat"),
    *(
        "fsetxattr",
        "fgetxattr",
        "flistxattr",
        "utimensat",
        "copy_file_range",
        "sendfile",
        "fadvise64",
        "sync_file_range",
    ),
    *("brk", "mmap", "munmap", "mremap", "mprotect", "madvise", "futex", "getrandom", "clock_gettime"),
    *("rt_sigaction", "rt_sigprocmask", "sigaltstack", "getpid", "gettid", "tgkill", "exit", "exit_group"),
    *("ioctl", "getcwd", "clock_nanosleep", "poll", "ppoll", "sched_yield", "getppid", "geteuid", "getuid"),
)
_ERRORS = {
    "InvalidArchive": errors.InvalidArchive,
    "LimitExceeded": errors.LimitExceeded,
    "UnknownFormat": errors.UnknownFormat,
}


class Caged:
    """A running child. ``with start(…) as child: child.result()``: leaving the body kills what still runs.

    `walls` tells after the end which walls stood, of "namespaces", "root", "landlock", "capabilities" and
    "seccomp".
    """

    def __init__(self, pid: int, result: int) -> None:
        self._pid = pid
        self._result = result
        self.walls: tuple[str, ...] = ()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._result)
        if self._pid:
            os.kill(self._pid, signal.SIGKILL)
            self._reap()

    def result(self) -> bytes:
        """Wait for the end; what `work` returned. Its exception is raised here as the same kind of error."""
        parts: list[bytes] = []
        size = 0
        while (part := os.read(self._result, 1 << 20)) and size <= _LARGEST_RESULT:
            parts.append(part)
            size += len(part)
        if size > _LARGEST_RESULT:
            raise AppcError("the process that reads the archive gave an endless answer")
        status = self._reap()
        answer = b"".join(parts)
        head, newline, body = answer.partition(b"\n")
        if not newline or status:
            raise _death(status)
        told = json.loads(head)
        self.walls = tuple(str(wall) for wall in told["walls"])
        if "error" not in told:
            return body
        raise _raised(told["error"])

    def _reap(self) -> int:
        pid, self._pid = self._pid, 0
        while True:
            try:
                return os.waitpid(pid, 0)[1]
            except InterruptedError:
                continue


def start(
    work: Callable[[int], bytes],
    *,
    directory: int | None = None,
    keep: tuple[int, ...] = (),
    file_size: int = resource.RLIM_INFINITY,
) -> Caged:
    """Run ``work(fd)`` in a cage, where `fd` is `directory` (-1 without one), all that it can write to.

    `keep` are the fds it may go on using. `work` must have imported all that it needs. `file_size` bounds
    each file it writes, in bytes. The caller must have a single thread.
    """
    go = os.pipe()
    answer = os.pipe()
    pipes = [*go, *answer]
    try:
        flags = clone.NEWUSER | _NAMESPACES
        parent = os.getpid()
        try:
            pid = clone.clone(flags)
        except OSError:  # user namespaces are switched off or used up: root needs none for the others
            flags = _NAMESPACES if os.geteuid() == 0 else 0
            pid = clone.clone(flags)
        if pid == 0:
            os.close(go[1])  # else the parent's death would never be the end of that pipe
            _child(work, flags, directory, keep, file_size, parent, go[0], answer[1])
        for fd in (go[0], answer[1]):
            os.close(fd)
            pipes.remove(fd)
        try:
            if flags & clone.NEWUSER:
                _write_maps(pid)
            os.write(go[1], b"g")
        except BaseException:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise
        pipes.remove(answer[0])
        return Caged(pid, answer[0])
    finally:
        for fd in pipes:
            os.close(fd)


def _write_maps(pid: int) -> None:
    """Root's child keeps all owners as they are: chown must mean the same. Others have one, as root."""
    if os.geteuid() == 0:
        namespaces.write_id_maps(pid, _own_ids("uid_map"), _own_ids("gid_map"))
        return
    with open(f"/proc/{pid}/setgroups", "w", encoding="ascii") as file:
        file.write("deny")
    namespaces.write_id_maps(pid, [(0, os.geteuid(), 1)], [(0, os.getegid(), 1)])


def _own_ids(kind: str) -> list[tuple[int, int, int]]:
    """All IDs of this process's own user namespace, each as itself."""
    with open(f"/proc/self/{kind}", encoding="ascii") as own:
        return [(int(inside), int(inside), int(count)) for inside, _, count in map(str.split, own)]


def _raised(error: Any) -> Exception:
    kind = error["kind"]
    if kind == "OSError":
        return OSError(error["errno"], error["strerror"], error["filename"])
    if kind in _ERRORS:
        return _ERRORS[kind]([str(problem) for problem in error["problems"]], hint=error["hint"])
    return AppcError(error["text"], hint=error["hint"])


def _death(status: int) -> AppcError:
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        if number == signal.SIGXCPU:
            return errors.LimitExceeded(f"reading it took more than {CPU_SECONDS} s of processor time")
        return AppcError(f"the process that reads the archive died of {signal.Signals(number).name}")
    code = os.waitstatus_to_exitcode(status)
    return AppcError(f"the process that reads the archive ended with status {code}")


# --- the child


def _child(
    work: Callable[[int], bytes],
    flags: int,
    directory: int | None,
    keep: tuple[int, ...],
    file_size: int,
    parent: int,
    go: int,
    answer: int,
) -> NoReturn:
    walls: list[str] = []
    code = 1
    try:
        try:
            if os.read(go, 1) != b"g":
                os._exit(1)
            target = _lock_in(walls, flags, directory, (*keep, answer), file_size, parent)
            body = work(target)
            head: dict[str, object] = {"walls": walls}
        except BaseException as error:  # noqa: BLE001 (the parent raises it)
            body = b""
            head = {"walls": walls, "error": _told(error)}
        _write_all(answer, json.dumps(head).encode() + b"\n" + body)
        code = 0
    finally:
        os._exit(code)


def _told(error: BaseException) -> dict[str, object]:
    if isinstance(error, errors.InvalidArchive):
        return {"kind": type(error).__name__, "problems": error.problems[:100], "hint": error.hint}
    if isinstance(error, OSError):
        name = error.filename
        name = name.decode("utf-8", "backslashreplace") if isinstance(name, bytes) else name
        name = name if isinstance(name, str) else None
        return {"kind": "OSError", "errno": error.errno, "strerror": error.strerror, "filename": name}
    if isinstance(error, MemoryError):
        return {"kind": "LimitExceeded", "problems": ["reading it needs too much memory"], "hint": None}
    if isinstance(error, AppcError):
        return {"kind": "AppcError", "text": str(error), "hint": error.hint}
    return {"kind": "AppcError", "text": f"{type(error).__name__}: {error}", "hint": None}


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _lock_in(
    walls: list[str],
    flags: int,
    directory: int | None,
    keep: tuple[int, ...],
    file_size: int,
    parent: int,
) -> int:
    """Put up the walls; the fd of the directory, now seen from inside."""
    os.umask(0)
    # Looked up now: later there is no file to read it from.
    highest = capabilities.last()
    program = seccomp.compile(seccomp.policy("retain", _CALLS, errno=errno.EPERM, compat=False))
    size = resource.getpagesize() * int(_first_line("/proc/self/statm").split()[0])
    target = -1 if directory is None else os.dup(directory)
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    for number in (0, 1, 2):
        if number not in keep:
            os.dup2(null, number)
    process.close_fds_from(3, keep if target < 0 else (*keep, target))
    if flags:
        walls.append("namespaces")
        target, changed = _empty_root(target)
        if changed:
            walls.append("root")
    for kind, limit in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, file_size),
        (resource.RLIMIT_AS, size + MEMORY),
        (resource.RLIMIT_CPU, CPU_SECONDS),
    ):
        hard = resource.getrlimit(kind)[1]
        if limit != resource.RLIM_INFINITY and (hard == resource.RLIM_INFINITY or limit <= hard):
            resource.setrlimit(kind, (limit, limit))
    libc.prctl(libc.PR_SET_NO_NEW_PRIVS, 1)
    if landlock.restrict([] if target < 0 else [(target, landlock.BUILD)]):
        walls.append("landlock")
    if _drop_capabilities(highest):
        walls.append("capabilities")
    process.set_parent_death_signal(parent)  # after the credentials: their change takes it back
    seccomp.install(program)
    walls.append("seccomp")
    sys.meta_path[:] = [_NothingToImport]
    sys.path.clear()
    return target


class _NothingToImport:
    """The only finder that is left: it finds nothing."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> None:
        """As every finder has it."""


def _first_line(path: str) -> str:
    with open(path, encoding="ascii") as file:
        return file.readline()


def _empty_root(target: int) -> tuple[int, bool]:
    """Change to a root that holds nothing, or nothing but `target` at its name; the fd of that from inside.

    /proc is the one directory that is sure to exist; it lends its place until the pivot. A target that
    its path does not lead to, for this user, stays where it is, and so does the root.
    """
    mounts.set_propagation("/", mounts.MountFlag.PRIVATE | mounts.MountFlag.REC)
    try:
        tree = _clone(target) if target >= 0 else -1
    except OSError:
        return target, False
    flags = mounts.MountFlag.NOSUID | mounts.MountFlag.NODEV | mounts.MountFlag.NOEXEC
    mounts.mount("tmpfs", "/proc", "tmpfs", flags, "size=4k,nr_inodes=4,mode=755")
    os.chdir("/proc")
    if target >= 0:
        os.mkdir("target", 0o700)
        place = os.open("target", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        mounts.move_mount(tree, to_fd=place)
        os.close(place)
        os.close(tree)
        os.close(target)
    libc.pivot_root(".", ".")
    mounts.umount(".", mounts.MNT_DETACH)
    os.chdir("/")
    inside = -1
    if target >= 0:
        inside = os.open("/target", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    mounts.mount("", "/", "", mounts.MountFlag.REMOUNT | mounts.MountFlag.RDONLY | flags)
    return inside, True


def _clone(target: int) -> int:
    """A detached mount of the directory `target`, to which nothing above it belongs.

    The fd comes from another mount namespace, so the directory has to be found again by its name.
    """
    path = os.readlink(f"/proc/self/fd/{target}")
    tree = mounts.open_tree(path)
    if not os.path.samestat(os.fstat(tree), os.fstat(target)):
        raise OSError(errno.ESTALE, "directory was moved", path)
    return tree


def _drop_capabilities(highest: int) -> bool:
    """Keep the five that writing a tree takes, as far as there are any; whether that could be done."""
    wanted = capabilities.mask(_CAPABILITIES)
    try:
        capabilities.drop_bounding(wanted, highest=highest)
    except PermissionError:
        return False  # an ordinary user without a user namespace: there is nothing to drop
    capabilities.set_all(wanted, wanted)
    return True
