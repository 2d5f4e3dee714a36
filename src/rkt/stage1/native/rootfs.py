"""The root directories of the apps, put together inside the pod's mount namespace by its PID 1.

The pod's own root is a small tmpfs that holds nothing but the apps' roots, a masked /proc and /sys and the
device nodes to copy from; nothing of the host is in it. Every path inside an app goes through
`linux.paths`, and mounts are made on descriptors, never on names (rules R6 and R7): an image or a volume
shared with a running app may hold a symbolic link anywhere.
"""

from __future__ import annotations

import errno
import os
import stat

from linux import libc, namespaces, paths, tty
from linux.mount import api, masks
from linux.paths import Root
from rkt.errors import RktError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rkt.stage1.native.plan import AppPlan

_A = api.Attribute
_NO_SUID_DEV_EXEC = _A.NOSUID | _A.NODEV | _A.NOEXEC
_PATH = os.O_PATH | os.O_CLOEXEC
_PATH_DIR = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

# name -> (major, minor): checked before use, so that a swapped node is never bound (CVE-2025-31133).
DEVICES = {"null": (1, 3), "zero": (1, 5), "full": (1, 7), "random": (1, 8), "urandom": (1, 9), "tty": (5, 0)}
_SELF = "/proc/self/fd"
_LINKS = {"fd": _SELF, "stdin": f"{_SELF}/0", "stdout": f"{_SELF}/1", "stderr": f"{_SELF}/2"}

_SYSCTL = r"(net[.][a-z0-9_./-]+|kernel[.](msg|sem|shm)[a-z_]*|fs[.]mqueue[.][a-z_]+)"
SHARED = ("shm", "mqueue")
# What `Root.write_file` says of a directory, or of the very file, that is mounted.
ON_ANOTHER_MOUNT = {errno.EXDEV, errno.EBUSY}
# Where the apps' roots are, in the pod's own root.
APPS = "/apps"


def enter_empty_root(
    sys_fd: int | None, journal_fd: int | None, *, mask: bool, sysctls: dict[str, str]
) -> None:
    """Replace the caller's root by a tmpfs with proc, sys and dev in it, and let go of the host's root.

    The caller is alone in a new mount namespace and is PID 1 of a new PID namespace. `sys_fd` is a detached
    mount to use as /sys where a new sysfs may not be made (a pod in the host's network namespace);
    `journal_fd` one to have as /var/log/journal, where `journalctl -M` looks for it. No app sees that.
    """
    _check_sysctls(sysctls)
    api.set_propagation("/", api.MountFlag.REC | api.MountFlag.PRIVATE)
    base = api.filesystem("tmpfs", (("size", "1m"), ("mode", "0755")), attributes=_A.NOSUID | _A.NODEV)
    proc = api.filesystem("proc", attributes=_NO_SUID_DEV_EXEC)
    if sys_fd is None:
        sys_fd = api.filesystem("sysfs", attributes=_NO_SUID_DEV_EXEC | _A.RDONLY)
    devices = {name: _device(name) for name in DEVICES}
    shared = _shared_memory()
    # Over a directory that every host has, for now: before Linux 6.15 nothing mounts on what is detached.
    api.move_mount(base, "/proc")
    for name in ("proc", "sys", "dev", "apps"):
        os.mkdir(name, 0o755, dir_fd=base)
    api.move_mount(proc, "proc", to_fd=base)
    api.move_mount(sys_fd, "sys", to_fd=base)
    for name, fd in devices.items():
        os.close(os.open(f"dev/{name}", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=base))
        api.move_mount(fd, f"dev/{name}", to_fd=base)
        os.close(fd)
    os.close(proc)
    os.close(sys_fd)
    for name, fd in shared.items():
        os.mkdir(f"dev/{name}", 0o755, dir_fd=base)
        api.move_mount(fd, f"dev/{name}", to_fd=base)
        os.close(fd)
    if journal_fd is not None:
        for path in ("var", "var/log", "var/log/journal"):
            os.mkdir(path, 0o755, dir_fd=base)
        api.move_mount(journal_fd, "var/log/journal", to_fd=base)
        os.close(journal_fd)
    _pivot(base)
    os.close(base)
    for key, value in sysctls.items():
        _set_sysctl(key, value)
    if mask:
        masks.mask()


def _shared_memory() -> dict[str, int]:
    """What the apps of a pod share as they share its IPC namespace: POSIX memory and message queues."""
    shm = api.filesystem("tmpfs", (("size", "64m"), ("mode", "1777")), attributes=_NO_SUID_DEV_EXEC)
    try:
        queues = api.filesystem("mqueue", attributes=_NO_SUID_DEV_EXEC)
    except OSError:
        # The namespace is the host's, which a user namespace of the pod has no say in: an empty directory.
        queues = api.filesystem("tmpfs", (("size", "4k"),), attributes=_NO_SUID_DEV_EXEC | _A.RDONLY)
    return {"shm": shm, "mqueue": queues}


def _check_sysctls(sysctls: dict[str, str]) -> None:
    """RktError for a kernel parameter that is not the pod's own: of its network, IPC or UTS namespace.

    Everything else belongs to the host (GHSA-w2j5-3rcx-vx7x, CVE-2022-0811).
    """
    if not sysctls:
        return
    import re  # few pods have a sysctl; and this is before the host's files are out of reach

    for key, value in sysctls.items():
        if not re.fullmatch(_SYSCTL, key) or ".." in key or not value.isprintable():
            raise RktError(
                f"sysctl {key!r} is not a pod's own", hint="a pod has net.* and the IPC parameters"
            )


def _set_sysctl(key: str, value: str) -> None:
    path = "proc/sys/" + key.replace(".", "/")
    try:
        fd = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise RktError(f"sysctl {key!r}: {error.strerror}") from error
    with os.fdopen(fd, "wb") as stream:
        stream.write(value.encode())


def _device(name: str) -> int:
    fd = api.open_tree(f"/dev/{name}")
    info = os.fstat(fd)
    if not stat.S_ISCHR(info.st_mode) or (os.major(info.st_rdev), os.minor(info.st_rdev)) != DEVICES[name]:
        os.close(fd)
        raise RktError(f"/dev/{name} of the host is not the device it should be")
    return fd


def _pivot(base: int) -> None:
    """Make the mount `base` the root, and drop everything else."""
    os.fchdir(base)
    libc.pivot_root(".", ".")
    api.umount(".", api.UmountFlag.DETACH)
    os.chdir("/")


class AppRoot:
    """The root directory of one app, attached at /apps/NAME in the pod's namespace."""

    def __init__(self, app: AppPlan, root_fd: int) -> None:
        self.app = app
        self.path = f"{APPS}/{app.name}"
        os.mkdir(self.path, 0o755)
        api.move_mount(root_fd, self.path)
        os.close(root_fd)
        self.root = Root(os.open(self.path, _PATH_DIR))

    def build(self, volumes: list[int], cgroups: dict[str, int]) -> None:
        """Mount everything that belongs into the root, and close the descriptors.

        `volumes` are detached mounts for the app's mounts, in their order; `cgroups` control group
        directories by controller.
        """
        self._system_mount("proc", "/proc")
        self._system_mount("sys", "/sys")
        self._cgroups(cgroups)
        self._dev()
        for mount, fd in zip(self.app.mounts, volumes, strict=True):
            self._volume(mount.path, fd, read_only=mount.read_only)

    def finish(self, files: list[dict[str, str]], *, nosuid: bool) -> None:
        """Write what depends on the network, and close the root for changes of attributes.

        Each of `files` has `path`, `text`, and `if_missing` when a file of the image is to be left alone.
        """
        for file in files:
            if not (file.get("if_missing") and self._exists(file["path"])):
                self._file(file["path"], file["text"].encode())
        self._mtab()
        attributes = _A.NOSUID if nosuid else _A.NONE
        if self.app.read_only_rootfs:
            attributes |= _A.RDONLY
        if attributes:
            fd = os.open(self.path, _PATH_DIR)
            api.mount_setattr(fd, set_=attributes)
            os.close(fd)

    def _mtab(self) -> None:
        """/etc/mtab for an image that has an /etc without it (as rkt does); no pod fails for its lack."""
        try:
            directory, name = self.root.parent("/etc/mtab")
        except OSError:
            return
        try:
            if paths.on_one_mount(directory, self.root.fd):
                os.symlink("../proc/mounts", name, dir_fd=directory)
        except OSError:
            pass  # it is there, or the image's /etc is no directory
        finally:
            os.close(directory)

    def _system_directory(self, name: str) -> int:
        """/proc, /sys or /dev as a descriptor. A symbolic link there is refused (CVE-2019-19921)."""
        try:
            os.mkdir(name, 0o755, dir_fd=self.root.fd)
        except FileExistsError:
            pass
        try:
            return os.open(name, _PATH_DIR, dir_fd=self.root.fd)
        except OSError as error:
            raise RktError(f"{self.app.name}: /{name} of the image is not a directory: refused") from error

    def _system_mount(self, name: str, source: str) -> None:
        target = self._system_directory(name)
        fd = api.open_tree(source, recursive=True)
        api.move_mount(fd, to_fd=target)
        os.close(fd)
        os.close(target)

    def _cgroups(self, cgroups: dict[str, int]) -> None:
        """The app's own control groups below /sys/fs/cgroup, read-only."""
        try:
            target = os.open("sys/fs/cgroup", _PATH_DIR, dir_fd=self.root.fd)
        except OSError:
            target = -1
        if target >= 0 and "" in cgroups:
            api.move_mount(cgroups[""], to_fd=target)
        elif target >= 0:
            options = (("size", "64k"), ("mode", "0755"))
            fd = api.filesystem("tmpfs", options, attributes=_NO_SUID_DEV_EXEC)
            for name in cgroups:
                os.mkdir(name, 0o755, dir_fd=fd)
            api.move_mount(fd, to_fd=target)
            for name, cgroup in cgroups.items():
                api.move_mount(cgroup, name, to_fd=fd)
            api.mount_setattr(fd, set_=_A.RDONLY)
            os.close(fd)
        if target >= 0:
            os.close(target)
        for fd in cgroups.values():
            os.close(fd)

    def _dev(self) -> None:
        target = self._system_directory("dev")
        dev = api.filesystem("tmpfs", (("size", "64k"), ("mode", "0755")), attributes=_A.NOSUID | _A.NOEXEC)
        for name in DEVICES:
            os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666, dir_fd=dev))
        os.close(os.open("console", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o620, dir_fd=dev))
        for name in ("pts", *SHARED):
            os.mkdir(name, 0o755, dir_fd=dev)
        os.symlink("pts/ptmx", "ptmx", dir_fd=dev)
        for name, link in _LINKS.items():
            os.symlink(link, name, dir_fd=dev)
        api.move_mount(dev, to_fd=target)
        for name in DEVICES:
            fd = api.open_tree(f"/dev/{name}")
            api.move_mount(fd, name, to_fd=dev)
            os.close(fd)
        terminals = (("ptmxmode", "0666"), ("mode", "0620"), ("gid", "5"))
        self._in_dev(dev, "pts", "devpts", terminals, _A.NOSUID | _A.NOEXEC)
        for name in SHARED:
            fd = api.open_tree(f"/dev/{name}")
            api.move_mount(fd, name, to_fd=dev)
            os.close(fd)
        # Without a terminal of its own the console is the null device: writes succeed and go nowhere.
        fd = api.open_tree("/dev/null")
        api.move_mount(fd, "console", to_fd=dev)
        for descriptor in (fd, dev, target):
            os.close(descriptor)

    @staticmethod
    def _in_dev(
        dev: int, name: str, fstype: str, options: tuple[tuple[str, str], ...], attributes: int
    ) -> None:
        fd = api.filesystem(fstype, options, attributes=attributes)
        api.move_mount(fd, name, to_fd=dev)
        os.close(fd)

    def _volume(self, path: str, fd: int, *, read_only: bool) -> None:
        """Mount a volume at `path`, which is made if it is missing (spec/ace: 0:0, mode 0755)."""
        if read_only:
            api.mount_setattr(fd, set_=_A.RDONLY, recursive=True)
        try:
            if stat.S_ISDIR(os.fstat(fd).st_mode):
                target = self.root.make_directories(path, 0o755)
            else:
                target = self._file_target(path)
        except OSError as error:
            reason = f"{path} cannot be made for the volume: {error.strerror}"
            raise RktError(f"{self.app.name}: {reason}") from error
        # The manifest's path was looked at before; what counts is where the image's links lead it.
        if libc.filesystem_type(target) == libc.PROC_SUPER_MAGIC or os.path.samestat(
            os.fstat(target), os.fstat(self.root.fd)
        ):
            raise RktError(f"{self.app.name}: {path}: neither /proc nor the whole root can be mounted over")
        if stat.S_ISDIR(os.fstat(target).st_mode) and not stat.S_ISDIR(os.fstat(fd).st_mode):
            raise RktError(f"{self.app.name}: {path} is a directory, the volume for it is a file")
        api.move_mount(fd, to_fd=target)
        os.close(fd)
        os.close(target)

    def _file_target(self, path: str) -> int:
        directory, name = self.root.parent(path, create_mode=0o755)
        try:
            try:
                os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644, dir_fd=directory))
            except FileExistsError:
                pass
            return self.root.open_file(path, os.O_PATH)
        finally:
            os.close(directory)

    def _exists(self, path: str) -> bool:
        try:
            self.root.lstat(path)
        except OSError:
            return False
        return True

    def _file(self, path: str, content: bytes) -> None:
        """Put a small file of ours into the app in place of the old one, whatever that is.

        Links in the path are followed inside the root only; a link at its end is replaced, not followed.
        What lies on a volume is the volume's, and stays as it is.
        """
        try:
            self.root.write_file(path, content, one_mount=True)
        except OSError as error:
            if error.errno not in ON_ANOTHER_MOUNT:
                reason = f"{path} of the image cannot be replaced: {error.strerror}"
                raise RktError(f"{self.app.name}: {reason}") from error


def open_terminal(app: str, *, console: bool) -> tuple[int, int]:
    """A new pseudo terminal (master, slave) of the app's own devpts; with `console` its /dev/console too.

    The app may run already: nothing of its root is trusted but that dev and dev/pts are our mounts, which
    it cannot move.
    """
    with Root.open(f"{APPS}/{app}") as root:
        ptmx = root.open_file("dev/pts/ptmx", _PATH | os.O_NOFOLLOW)
        try:
            master, slave, _ = tty.open_pair(f"/proc/self/fd/{ptmx}")
        finally:
            os.close(ptmx)
        if console:
            target = root.open_file("dev/console", _PATH | os.O_NOFOLLOW)
            copy = api.open_tree("", dir_fd=slave)
            api.move_mount(copy, to_fd=target)
            os.close(copy)
            os.close(target)
    return master, slave


def become(app: str, *, locked: bool) -> None:
    """Make the root of `app` the caller's: for a process that is about to execute a program of the app.

    With `locked` the caller is not in the user namespace of the mounts: then its copy of them is locked.
    """
    path = f"{APPS}/{app}"
    top = api.open_tree(path, recursive=True) if locked else -1
    namespaces.unshare(namespaces.NEWNS)
    if locked:
        api.move_mount(top, path)  # what is locked cannot become the root, what lies on it can
        os.close(top)
    os.chdir(path)
    libc.pivot_root(".", ".")
    api.umount(".", api.UmountFlag.DETACH)
    os.chdir("/")
