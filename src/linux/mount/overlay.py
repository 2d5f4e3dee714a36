"""Overlays: read-only layers with one writable directory on top, their owners mapped when asked for.

Measured on Linux 6.18 and 6.1 with ext4: layers may be detached, mapped mounts given as descriptors
(FSCONFIG_SET_FD, Linux 6.13; before that they are attached, in a mount namespace that passes). With all
layers mapped, the upper directory holds the pod's own IDs (0 for its root), whatever range the pod has:
exports need no shift and the range may change at the next start. The price is that the overlay must be made
by somebody whose ID the map knows, or the kernel cannot make the work directory (EOVERFLOW) and quietly
mounts read-only; so `detached` acts as the map's root meanwhile.

Kernel defaults for redirect_dir and metacopy (off) stay: rename of a directory of a lower layer is EXDEV,
which every tool falls back from, and layers stay readable by other tools.
"""

from __future__ import annotations

import errno
import os

from linux import namespaces
from linux.mount import api
from linux.mount.idmap import acting_as

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_PATH = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
# What an older kernel says to `lowerdir+`, or (before Linux 6.5: EOPNOTSUPP) to any descriptor.
_TOO_NEW = (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOENT, errno.ENOSYS)
# Bytes with the NUL behind: of a value for fsconfig(2), and of all options of mount(2).
_LONGEST_VALUE, _LONGEST_OPTIONS = 256, 4096


def detached(
    lowers: Sequence[int],
    upper: int | None = None,
    work: int | None = None,
    *,
    attributes: int = 0,
    source: str = "overlay",
    owner: tuple[int, int] | None = None,
    options: Sequence[tuple[str, str | None]] = (),
    within: Sequence[int] = (),
) -> int:
    """The detached mount of an overlay of directories given as descriptors, the topmost lower one first.

    Without `upper` and `work` (two directories of one mount) it is read-only. `owner` is the host's uid and
    gid of the root user that the layers are mapped for. `attributes` are Attribute bits, `options` are
    further ones of overlayfs, such as ``("userxattr", None)``. `within` are the detached mounts that the
    layers are in; on a kernel before 6.13 they are no longer for attaching afterwards. Raises OSError,
    EROFS when the kernel could use the work directory only for reading: that would be a read-only root
    that nobody asked for.
    """
    layers: list[tuple[str, str | int | None]] = [*options, *(("lowerdir+", fd) for fd in lowers)]
    if upper is not None and work is not None:
        layers += [("upperdir", upper), ("workdir", work)]
    if owner is None:
        fd = _by_descriptor_or_name(layers, attributes, source, within)
    else:
        with acting_as(*owner):
            fd = _by_descriptor_or_name(layers, attributes, source, within)
    if upper is not None and os.fstatvfs(fd).f_flag & os.ST_RDONLY and not attributes & api.Attribute.RDONLY:
        os.close(fd)
        raise OSError(errno.EROFS, "overlay: its work directory cannot be used", source)
    return fd


def _by_descriptor_or_name(
    layers: list[tuple[str, str | int | None]], attributes: int, source: str, within: Sequence[int]
) -> int:
    """Linux 6.13 takes the descriptors themselves; before that, names of them in /proc/self/fd.

    By name the layers must be attached in the caller's mount namespace (ESTALE or EINVAL if not), and
    fsconfig(2) takes names of some 14 layers, mount(2) those of 200: so from there on, or when something is
    to be attached, an own namespace is where it is done.
    """
    try:
        return api.filesystem("overlay", layers, attributes=attributes, source=source)
    except OSError as failed:
        if failed.errno not in _TOO_NEW:
            raise
    named = _named(layers)
    if not within and all(len(value or "") < _LONGEST_VALUE for _, value in named):
        return api.filesystem("overlay", named, attributes=attributes, source=source)
    before = [os.open(path, os.O_PATH | os.O_CLOEXEC) for path in ("/", ".")]
    space = namespaces.open_namespace("/proc/thread-self/ns/mnt")
    opened: list[int] = []
    try:
        namespaces.unshare(namespaces.NEWNS)
        try:
            api.set_propagation("/", api.MountFlag.REC | api.MountFlag.PRIVATE)
            for fd in within:
                api.move_mount(fd, "/dev")  # one over the other, where nothing is looked for meanwhile
            if not within:
                for place, (key, layer) in enumerate(layers):
                    if isinstance(layer, int):
                        opened.append(_opened_here(layer))
                        layers[place] = (key, opened[-1])
            return _mounted(_named(layers), attributes, source)
        finally:
            # Both leave the thread in the root of the namespace, which is not its own in a chroot.
            namespaces.setns(space, namespaces.NEWNS)
            os.fchdir(before[0])
            os.chroot(".")
            os.fchdir(before[1])
    finally:
        for fd in (*before, *opened, space):
            os.close(fd)


def _named(layers: list[tuple[str, str | int | None]]) -> list[tuple[str, str | None]]:
    """The options with names in place of descriptors, those of one kind in one."""
    names: dict[str, list[str]] = {}
    for key, fd in layers:
        if isinstance(fd, int):
            names.setdefault(key.rstrip("+"), []).append(f"/proc/self/fd/{fd}")
    others = [(key, value) for key, value in layers if not isinstance(value, int)]
    return [*others, *((key, ":".join(paths)) for key, paths in names.items())]


def _opened_here(fd: int) -> int:
    """A descriptor of the same directory, in the mount namespace that is the caller's now."""
    path = os.readlink(f"/proc/self/fd/{fd}")
    opened = os.open(path, _PATH)
    if os.path.samestat(os.fstat(opened), os.fstat(fd)):
        return opened
    os.close(opened)
    raise OSError(errno.ESTALE, "overlay: a layer was moved meanwhile", path)


def _mounted(options: list[tuple[str, str | None]], attributes: int, source: str) -> int:
    """The overlay, detached, by mount(2), in a mount namespace that passes."""
    text = ",".join(key if value is None else f"{key}={value}" for key, value in options)
    if len(text) >= _LONGEST_OPTIONS:
        raise OSError(errno.E2BIG, "overlay: more layers than this kernel takes", source)
    api.mount(source, "/dev", "overlay", 0, text)
    made = api.open_tree("/dev")
    try:
        api.mount_setattr(made, set_=attributes)
    except BaseException:
        os.close(made)
        raise
    return made


def mount(
    lowers: Sequence[str], upper: str | None, work: str | None, target: str, *, attributes: int = 0
) -> None:
    """Mount an overlay of directories given by trusted paths on `target`, the topmost lower one first."""
    fds: list[int] = []
    try:
        tops = [path for path in (upper, work) if path is not None]
        fds.extend(os.open(path, _PATH) for path in (*lowers, *tops))
        count = len(lowers)
        top = fds[count:] if upper is not None and work is not None else [None, None]
        fd = detached(fds[:count], *top, attributes=attributes)
        try:
            api.move_mount(fd, target)
        finally:
            os.close(fd)
    finally:
        for fd in fds:
            os.close(fd)


def supported(directory: str) -> bool:
    """Whether an overlay can have its upper directory on the filesystem of `directory`: tried, then removed.

    False on filesystems without d_type, whiteouts or extended attributes (NFS, old XFS, another overlay), and
    where overlay or the rights for it are missing.
    """
    from linux.files import temporary_directory

    with temporary_directory(directory, "overlay-probe") as path:
        for name in ("lower", "upper", "work"):
            os.mkdir(f"{path}/{name}")
        fds = [os.open(f"{path}/{name}", _PATH) for name in ("lower", "upper", "work")]
        try:
            os.close(detached(fds[:1], fds[1], fds[2]))
        except OSError:
            return False
        finally:
            for fd in fds:
                os.close(fd)
    return True
