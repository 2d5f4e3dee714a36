"""The root directory of a fly app, made in a mount namespace that is the app's alone.

The host's mount table is never touched (rkt's fly shared its mounts with the app, and `gc` then took up to
ten of the host's away): mounts of the host that come and go are seen by the app, its own are seen by nobody,
and all are gone with its last process. Every path inside the root goes through `linux.paths` (R6): an image
may have a symbolic link anywhere.
"""

from __future__ import annotations

import errno
import os
import stat

from linux import libc, namespaces, paths
from linux.mount import api
from linux.paths import Root
from rkt.errors import RktError
from rkt.stage1.native import detached
from rkt.stage1.native.rootfs import ON_ANOTHER_MOUNT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rkt.stage1.native.plan import AppPlan, MountPlan

_PATH_DIR = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEWNS = 0x00020000
_OF_THE_HOST = ("dev", "proc", "sys")


def build(
    app: AppPlan, pod_dir: str, *, layered: bool, recursive: frozenset[str], files: list[dict[str, object]]
) -> None:
    """Make the app's root and make it the caller's; the caller is a forked child with one thread.

    `recursive` names the volumes that are mounted with what is mounted below them: only those that say so,
    unlike in other flavours (rkt's rule for fly). `files` as `native.files.etc_files` gives them. RktError or
    OSError when something is in the way; nothing has to be undone then but the caller's end.
    """
    namespaces.unshare(_NEWNS)
    api.set_propagation("/", api.MountFlag.REC | api.MountFlag.SLAVE)
    path = f"{pod_dir}/stage1/rootfs/opt/stage2/{app.name}/rootfs"
    fd = detached.root_of_app(app, pod_dir, layered=layered, userns=None, shift=None)
    _attach(fd, path)
    with Root(os.open(path, _PATH_DIR)) as root:
        for name in _OF_THE_HOST:
            _bind_from_host(root, app.name, name)
        _temporary(root, app)
        done: list[str] = []
        for mount in app.mounts:
            if mount.volume.kind == "empty":
                detached.make_empty(mount.volume, app, mount.path)
            deep = mount.volume.name in recursive
            _volume(root, app.name, mount, recursive=deep, nested=_is_below(mount.path, done))
            done.append(mount.path)
        for file in files:
            _file(root, app.name, file)
        if app.read_only_rootfs:
            api.mount_setattr(root.fd, set_=api.Attribute.RDONLY)
        os.fchdir(root.fd)
    libc.pivot_root(".", ".")
    api.umount(".", api.UmountFlag.DETACH)
    os.chdir("/")


def _attach(fd: int, path: str) -> None:
    try:
        api.move_mount(fd, path)
    finally:
        os.close(fd)


def _bind_from_host(root: Root, app: str, name: str) -> None:
    """The host's /dev, /proc or /sys with all below. A link in its place is refused (CVE-2019-19921)."""
    try:
        os.mkdir(name, 0o755, dir_fd=root.fd)
    except FileExistsError:
        pass
    try:
        target = os.open(name, _PATH_DIR, dir_fd=root.fd)
    except OSError as error:
        raise RktError(f"{app}: /{name} of the image is not a directory: refused") from error
    try:
        # The link that a host may have in its place is followed: it is not the image's.
        source = os.open(f"/{name}", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            _mount_on(target, source, recursive=True)
        finally:
            os.close(source)
    finally:
        os.close(target)


def _mount_on(target: int, source: int, *, recursive: bool, read_only: bool = False) -> None:
    fd = api.open_tree("", dir_fd=source, recursive=recursive)
    try:
        if read_only:
            api.mount_setattr(fd, set_=api.Attribute.RDONLY, recursive=recursive)
        api.move_mount(fd, to_fd=target)
    finally:
        os.close(fd)


def _temporary(root: Root, app: AppPlan) -> None:
    """An empty /tmp, as rkt's fly has it, unless a volume goes there."""
    if any(mount.path.rstrip("/") == "/tmp" for mount in app.mounts):  # noqa: S108 - a path in the app
        return
    target = _directory(root, app.name, "/tmp", mode=0o1777)  # noqa: S108
    try:
        attributes = api.Attribute.NOSUID | api.Attribute.NODEV
        api.mount_at(target, "tmpfs", (("mode", "1777"),), attributes=attributes)
    finally:
        os.close(target)


def _is_below(path: str, others: list[str]) -> bool:
    return any(path.startswith(f"{other.rstrip('/')}/") for other in others)


def _directory(root: Root, app: str, path: str, *, mode: int = 0o755, nested: bool = False) -> int:
    """An O_PATH fd of the directory `path` of the app, made if missing, but never in the host's /dev or /sys.

    An image chooses the path and its links: what they lead to beyond the image's own files must be there
    already. `nested` allows to make it in a volume, which no link may lead away from.
    """
    try:
        return root.open_file(path, os.O_PATH | os.O_DIRECTORY)
    except FileNotFoundError:
        pass
    try:
        return root.make_directories(path, mode, follow=not nested, one_mount=not nested)
    except OSError as error:
        raise RktError(
            f"{app}: {path} cannot be made: {error.strerror}",
            hint="nothing is made in the host's /dev, /proc and /sys" if error.errno == errno.EXDEV else None,
        ) from error


def _volume(root: Root, app: str, mount: MountPlan, *, recursive: bool, nested: bool) -> None:
    """Mount a volume at its path, which is made if it is missing (spec/ace: 0:0, mode 0755)."""
    path, source = mount.path, mount.volume.source
    try:
        is_directory = stat.S_ISDIR(os.stat(source).st_mode)
    except FileNotFoundError as error:
        raise RktError(
            f"volume source {source} does not exist", hint="create it, or mend the volume"
        ) from error
    if is_directory:
        target = _directory(root, app, path, nested=nested)
    else:
        target = _file_target(root, app, path, nested=nested)
    try:
        # open_tree does not follow a link at the end; a volume's source may be one, as the operator gave it.
        source_fd = os.open(source, os.O_PATH | os.O_CLOEXEC)
        try:
            _mount_on(target, source_fd, recursive=recursive, read_only=mount.read_only)
        finally:
            os.close(source_fd)
    finally:
        os.close(target)


def _file_target(root: Root, app: str, path: str, *, nested: bool) -> int:
    try:
        return root.open_file(path, os.O_PATH)
    except FileNotFoundError:
        pass
    parent, name = os.path.split(path.rstrip("/"))
    directory = _directory(root, app, parent or "/", nested=nested)
    try:
        if not nested and not paths.on_one_mount(directory, root.fd):
            raise RktError(f"{app}: {path} cannot be made", hint="nothing is made in the host's /dev")
        flags = os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        os.close(os.open(name, flags, 0o644, dir_fd=directory))
        return os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    except OSError as error:
        raise RktError(f"{app}: {path} cannot be made: {error.strerror}") from error
    finally:
        os.close(directory)


def _file(root: Root, app: str, file: dict[str, object]) -> None:
    path = str(file["path"])
    if file.get("if_missing"):
        try:
            root.lstat(path)
        except OSError:
            pass
        else:
            return
    try:
        root.write_file(path, str(file["text"]).encode(), one_mount=True)
    except OSError as error:
        # On a volume it is the volume's; in /dev, where an image's link may lead, it is the host's.
        if error.errno not in ON_ANOTHER_MOUNT:
            raise RktError(f"{app}: {path} of the image cannot be replaced: {error.strerror}") from error
