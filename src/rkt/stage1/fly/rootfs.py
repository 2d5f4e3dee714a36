"""The root directory of a fly app, made in a mount namespace that is the app's alone.

The host's mount table is never touched (rkt's fly shared its mounts with the app, and `gc` then took up to
ten of the host's away): mounts of the host that come and go are seen by the app, its own are seen by nobody,
and all are gone with its last process. Every path inside the root goes through `linux.paths` (R6): an image
may have a symbolic link anywhere.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from linux import libc, namespaces
from linux.mount import api
from linux.paths import Root
from rkt.errors import RktError
from rkt.stage1.native import detached

if TYPE_CHECKING:
    from rkt.stage1.native.plan import AppPlan

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
        for mount in app.mounts:
            if mount.volume.kind == "empty":
                detached.make_empty(mount.volume)
            volume = mount.volume._replace(recursive=mount.volume.name in recursive)
            _volume(root, mount.path, volume.source, recursive=volume.recursive, read_only=mount.read_only)
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
        _mount_on(target, f"/{name}", recursive=True)
    finally:
        os.close(target)


def _mount_on(target: int, source: str, *, recursive: bool, read_only: bool = False) -> None:
    fd = api.open_tree(source, recursive=recursive)
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
    target = root.make_directories("/tmp", 0o1777)  # noqa: S108
    try:
        attributes = api.Attribute.NOSUID | api.Attribute.NODEV
        api.mount_at(target, "tmpfs", (("mode", "1777"),), attributes=attributes)
    finally:
        os.close(target)


def _volume(root: Root, path: str, source: str, *, recursive: bool, read_only: bool) -> None:
    """Mount a volume at `path`, which is made if it is missing (spec/ace: 0:0, mode 0755)."""
    try:
        is_directory = stat.S_ISDIR(os.stat(source).st_mode)
    except FileNotFoundError as error:
        raise RktError(
            f"volume source {source} does not exist", hint="create it, or mend the volume"
        ) from error
    if is_directory:
        target = root.make_directories(path, 0o755)
    else:
        directory, name = root.parent(path, create_mode=0o755)
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            os.close(os.open(name, flags, 0o644, dir_fd=directory))
        except FileExistsError:
            pass
        finally:
            os.close(directory)
        target = root.open_file(path, os.O_PATH)
    try:
        # open_tree does not follow a link at the end; a volume's source may be one, as the operator gave it.
        source_fd = os.open(source, os.O_PATH | os.O_CLOEXEC)
        try:
            _mount_on(target, f"/proc/self/fd/{source_fd}/", recursive=recursive, read_only=read_only)
        finally:
            os.close(source_fd)
    finally:
        os.close(target)


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
        root.write_file(path, str(file["text"]).encode())
    except (IsADirectoryError, NotADirectoryError) as error:
        raise RktError(f"{app}: {path} of the image cannot be replaced") from error
