"""The root filesystem that a build's command sees, put together in a mount namespace of its own.

It is an overlay: the image's own files on top, what they depend on below, and lowest of all a skeleton with
the places to mount on. So nothing has to be made in the image for the run, and nothing can be left there.
Where there can be no overlay (the builder's own root is one already), the image's directory itself is used,
and places that had to be made in it are removed again (`Placeholders`).
"""

from __future__ import annotations

import errno
import os
import stat

from acbuild.errors import AcbuildError
from linux import libc, namespaces
from linux.mount import api, info, masks, overlay, ownroot
from linux.paths import Root

TYPE_CHECKING = False
if TYPE_CHECKING:
    from acbuild.engines import Layers

_A = api.Attribute
_NO_SUID_DEV_EXEC = _A.NOSUID | _A.NODEV | _A.NOEXEC
_PATH_DIR = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_MAKE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC

RESOLV_CONF = "etc/resolv.conf"
SYSTEM = ("proc", "sys", "dev")
# Checked before use, so that a swapped node is never bound (CVE-2025-31133).
_MEMORY = {"null": (1, 3), "zero": (1, 5), "full": (1, 7), "random": (1, 8), "urandom": (1, 9)}
_DEVICES = {**_MEMORY, "tty": (5, 0)}
_SELF = "/proc/self/fd"
_LINKS = {"fd": _SELF, "stdin": f"{_SELF}/0", "stdout": f"{_SELF}/1", "stderr": f"{_SELF}/2"}
#: Said explicitly, as a module's parameters may differ: the upper directory is to be readable by others.
_OPTIONS = (("redirect_dir", "nofollow"), ("index", "off"), ("metacopy", "off"))
#: What the kernel says where an overlay cannot have its upper directory.
NO_OVERLAY = (errno.EPERM, errno.EINVAL, errno.ENODEV, errno.EROFS, errno.EOPNOTSUPP, errno.ENOSYS)


def make_private() -> None:
    """For a process in a new mount namespace: nothing that it mounts is seen outside.

    In a chroot whose directory is no mount, pivot_root(2) refuses: that directory becomes one first.
    """
    if not any(entry.target == "/" for entry in info.mounts()):
        ownroot.enter()
    api.set_propagation("/", api.MountFlag.REC | api.MountFlag.PRIVATE)


def base(scratch: str) -> int:
    """A small filesystem, mounted on `scratch`: what is needed for the run and is never in the image."""
    fd = api.filesystem("tmpfs", (("size", "1m"), ("mode", "0755")), attributes=_A.NOSUID | _A.NODEV)
    api.move_mount(fd, scratch)
    for name in (*SYSTEM, "root", "skeleton"):
        os.mkdir(name, 0o755, dir_fd=fd)
    return fd


def skeleton(base_fd: int, directories: tuple[str, ...], files: tuple[str, ...]) -> int:
    """The lowest layer: empty `directories` and `files` to mount on, with the time 0."""
    fd = os.open("skeleton", _PATH_DIR, dir_fd=base_fd)
    for path in directories:
        os.mkdir(path, 0o755, dir_fd=fd)
    for path in files:
        os.close(os.open(path, _MAKE, 0o644, dir_fd=fd))
    for path in (*files, *reversed(directories)):
        os.utime(path, (0, 0), dir_fd=fd)
    return fd


def stacked(layers: Layers, lowest: int, work: str) -> int:
    """The detached overlay of `layers` over the directory fd `lowest`. OSError with one of NO_OVERLAY."""
    options: list[tuple[str, str | None]] = list(_OPTIONS)
    if not namespaces.in_initial_user_namespace():
        options.append(("userxattr", None))
    fds: list[int] = []
    try:
        for path in (*layers.lowers, layers.upper, work):
            fds += (os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC),)
        lowers = [*fds[:-2], lowest]
        return overlay.detached(
            lowers, fds[-2], fds[-1], attributes=_A.NODEV, source="acbuild", options=options
        )
    finally:
        for fd in fds:
            os.close(fd)


def plain(upper: str) -> int:
    """The image's directory itself as a detached mount, for where there is no overlay."""
    fd = api.open_tree(upper)
    api.mount_setattr(fd, set_=_A.NODEV, propagation=api.MountFlag.PRIVATE)
    return fd


def attach_root(base_fd: int, top: int) -> int:
    """Attach the detached mount `top` in the base; an fd of its top directory."""
    _attach(top, "root", base_fd)
    return os.open("root", _PATH_DIR, dir_fd=base_fd)


def fill_base(base_fd: int, *, masked: bool) -> None:
    """Mount /proc and /sys in the base, and bind the devices: to be copied from into the root."""
    _attach(_proc(), "proc", base_fd)
    _attach(_sys(), "sys", base_fd)
    for name in _DEVICES:
        os.close(os.open(f"dev/{name}", _MAKE, 0o600, dir_fd=base_fd))
        _attach(_device(name), f"dev/{name}", base_fd)
    if masked:
        os.fchdir(base_fd)
        masks.mask()


def _attach(fd: int, name: str, directory: int) -> None:
    try:
        api.move_mount(fd, name, to_fd=directory)
    finally:
        os.close(fd)


def _proc() -> int:
    try:
        return api.filesystem("proc", attributes=_NO_SUID_DEV_EXEC)
    except PermissionError:
        # In a container whose own /proc is partly hidden, a user namespace gets no new one: then that one.
        return api.open_tree("/proc", recursive=True)


def _sys() -> int:
    try:
        return api.filesystem("sysfs", attributes=_NO_SUID_DEV_EXEC | _A.RDONLY)
    except PermissionError:
        fd = api.open_tree("/sys", recursive=True)
        api.mount_setattr(fd, set_=_A.RDONLY, recursive=True)
        return fd


def _device(name: str) -> int:
    fd = api.open_tree(f"/dev/{name}")
    status = os.fstat(fd)
    number = os.major(status.st_rdev), os.minor(status.st_rdev)
    if not stat.S_ISCHR(status.st_mode) or number != _DEVICES[name]:
        os.close(fd)
        raise AcbuildError(f"/dev/{name} of this host is not the device that it should be")
    return fd


def mount_system(root: int, base_fd: int) -> None:
    """Mount /proc, /sys and /dev in the directory fd `root`. A link there is refused (CVE-2019-19921)."""
    for name in ("proc", "sys"):
        target = system_directory(root, name)
        try:
            fd = api.open_tree(name, dir_fd=base_fd, recursive=True)
            try:
                api.move_mount(fd, to_fd=target)
            finally:
                os.close(fd)
        finally:
            os.close(target)
    target = system_directory(root, "dev")
    try:
        _mount_dev(target, base_fd)
    finally:
        os.close(target)


def system_directory(root: int, name: str) -> int:
    """An fd of the directory `name` in the directory fd `root`. AcbuildError for anything else there."""
    try:
        return os.open(name, _PATH_DIR, dir_fd=root)
    except OSError as error:
        raise AcbuildError(
            f"/{name} of the image is no directory: refused",
            hint=f"remove what is there: acbuild remove /{name}",
        ) from error


def _mount_dev(target: int, base_fd: int) -> None:
    options = (("size", "64k"), ("mode", "0755"))
    dev = api.filesystem("tmpfs", options, attributes=_A.NOSUID | _A.NOEXEC)
    try:
        for name in (*_DEVICES, "console"):
            os.close(os.open(name, _MAKE, 0o666, dir_fd=dev))
        for name in ("pts", "shm", "mqueue"):
            os.mkdir(name, 0o755, dir_fd=dev)
        os.symlink("pts/ptmx", "ptmx", dir_fd=dev)
        for name, text in _LINKS.items():
            os.symlink(text, name, dir_fd=dev)
        api.move_mount(dev, to_fd=target)
        for name, source in (*zip(_DEVICES, _DEVICES, strict=True), ("console", "null")):
            _attach(api.open_tree(f"dev/{source}", dir_fd=base_fd), name, dev)
        terminals = (("ptmxmode", "0666"), ("mode", "0620"))
        _attach(api.filesystem("devpts", terminals, attributes=_A.NOSUID | _A.NOEXEC), "pts", dev)
        memory = (("size", "64m"), ("mode", "1777"))
        _attach(api.filesystem("tmpfs", memory, attributes=_NO_SUID_DEV_EXEC), "shm", dev)
    finally:
        os.close(dev)


def mount_resolver(root: int, base_fd: int) -> bool:
    """Show the host's name servers at /etc/resolv.conf; False where the image has no place for that.

    What is mounted is a copy: what a command writes there goes with the run. A link there is covered, not
    followed. To be called before anything else is mounted in `root`, so that no link leads into /proc.
    """
    try:
        with open("/etc/resolv.conf", "rb") as file:
            text = file.read(1 << 16)
    except OSError:
        return False
    image = Root(os.dup(root))
    try:
        directory, name = image.parent(RESOLV_CONF)
    except (OSError, ValueError):
        return False
    finally:
        image.close()
    try:
        target = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    except OSError:
        return False
    finally:
        os.close(directory)
    try:
        fd = os.open("resolv.conf", _MAKE, 0o644, dir_fd=base_fd)
        try:
            os.write(fd, text)
        finally:
            os.close(fd)
        copy = api.open_tree("resolv.conf", dir_fd=base_fd)
        try:
            api.move_mount(copy, to_fd=target)
        finally:
            os.close(copy)
    except OSError:
        return False
    finally:
        os.close(target)
    return True


def remove_skeleton_marks(layers: Layers, directories: tuple[str, ...], files: tuple[str, ...]) -> None:
    """Remove what marks a part of the skeleton as deleted: it hides nothing in the image."""
    with Root.open(layers.upper) as root:
        for path in (*files, *directories):
            try:
                found = root.lstat(path)
            except OSError:
                continue
            marked = stat.S_ISCHR(found.st_mode) and not found.st_rdev
            if marked and not any(os.path.lexists(f"{lower}/{path}") for lower in layers.lowers):
                root.remove(path)


def pivot(root: int) -> None:
    """Make the mount `root` (an fd of its top) the root directory, and let go of everything else."""
    os.fchdir(root)
    libc.pivot_root(".", ".")
    api.umount(".", api.UmountFlag.DETACH)
    os.chdir("/")


class Placeholders:
    """Places to mount on that the image lacks, made in it for a run without an overlay, and removed again.

    They are written down in `record` before they are made: the run after one that was killed removes them.
    """

    def __init__(self, upper: str, record: str) -> None:
        self._upper = upper
        self._record = record

    def make(self, directories: tuple[str, ...], files: tuple[str, ...]) -> None:
        """Make what is missing of these, parents first."""
        with Root.open(self._upper) as root:
            missing = [path for path in (*directories, *files) if not _is_there(root, path)]
            with open(self._record, "w", encoding="ascii") as file:
                file.write("\n".join(missing))
            for path in missing:
                directory, name = root.parent(path)
                try:
                    times = os.fstat(directory)
                    if path in files:
                        os.close(os.open(name, _MAKE, 0o644, dir_fd=directory))
                    else:
                        os.mkdir(name, 0o755, dir_fd=directory)
                    _keep_times(directory, times)
                finally:
                    os.close(directory)

    def remove(self) -> None:
        """Remove what was made, unless something is in it."""
        try:
            with open(self._record, encoding="ascii") as file:
                made = file.read().split()
        except FileNotFoundError:
            return
        with Root.open(self._upper) as root:
            for path in reversed(made):
                _remove_if_empty(root, path)
        os.unlink(self._record)


def _is_there(root: Root, path: str) -> bool:
    try:
        root.lstat(path)
    except FileNotFoundError:
        return False
    except OSError:
        return True  # whatever it is, it is no place to make something
    return True


def _remove_if_empty(root: Root, path: str) -> None:
    try:
        directory, name = root.parent(path)
    except OSError:
        return
    try:
        times = os.fstat(directory)
        status = os.lstat(name, dir_fd=directory)
        if stat.S_ISDIR(status.st_mode):
            os.rmdir(name, dir_fd=directory)
        elif stat.S_ISREG(status.st_mode) and not status.st_size:
            os.unlink(name, dir_fd=directory)
        _keep_times(directory, times)
    except OSError:
        return
    finally:
        os.close(directory)


def _keep_times(directory: int, times: os.stat_result) -> None:
    os.utime(f"/proc/self/fd/{directory}", ns=(times.st_atime_ns, times.st_mtime_ns))
