"""Mounts that the parent makes for the pod, detached: nobody sees them until the pod attaches them.

Only the host's root may map the owners of a filesystem into a user namespace (mount_setattr with
MOUNT_ATTR_IDMAP), so these mounts are made outside of the pod and handed in as descriptors. Nothing of them
ever appears in the host's mount table, so nothing can be left there.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from linux.credentials import making_files_as
from linux.mount import api
from rkt.errors import RktError

if TYPE_CHECKING:
    from rkt.stage1.native.plan import AppPlan, VolumePlan

_PRIVATE = int(api.MountFlag.PRIVATE)
_PATH_DIR = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC


def root_of_app(
    app: AppPlan, pod_dir: str, *, overlay: bool, userns: int | None, shift: int = 0
) -> int:
    """The root filesystem of an app: an overlay of its image's tree and a directory of the pod, or a copy.

    With `userns`, whose root is `shift` on the host, every layer is mapped, so that files belong on disk to
    the IDs that the app sees, whatever range the pod has: nothing needs a chown, and an export needs none.
    """
    if not overlay:
        return mapped(f"{pod_dir}/stage1/rootfs/opt/stage2/{app.name}/rootfs", userns=userns)
    fds = [mapped(app.lower, userns=userns), mapped(f"{pod_dir}/overlay/{app.tree_id}", userns=userns)]
    try:
        for kind in ("upper", "work"):
            fds.append(os.open(f"{kind}/{app.name}", _PATH_DIR, dir_fd=fds[1]))
        with making_files_as(shift, shift):
            return _overlay(fds[0], fds[2], fds[3], app.name)
    finally:
        for fd in fds:
            os.close(fd)


def _overlay(lower: int, upper: int, work: int, name: str) -> int:
    """An overlay of directories given as descriptors.

    Linux 6.13 takes the descriptors themselves; before that their names in /proc/self/fd do, as long as the
    layers are attached somewhere or need no mapping.
    """
    attributes = api.Attribute.NODEV
    layers = (("lowerdir+", lower), ("upperdir", upper), ("workdir", work))
    try:
        return api.filesystem("overlay", layers, attributes=attributes, source=f"rkt-{name}")
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOENT):
            raise
    by_name = tuple((key.rstrip("+"), f"/proc/self/fd/{fd}") for key, fd in layers)
    return api.filesystem("overlay", by_name, attributes=attributes, source=f"rkt-{name}")


def mapped(path: str, *, userns: int | None, recursive: bool = False) -> int:
    """A detached, private copy of the mount at `path`, its owners mapped into `userns` if that is given."""
    fd = api.open_tree(path, recursive=recursive)
    try:
        api.mount_setattr(fd, propagation=_PRIVATE, recursive=recursive)
        if userns is not None:
            api.mount_setattr(fd, set_=api.Attribute.IDMAP, userns_fd=userns, recursive=recursive)
    except BaseException:
        os.close(fd)
        raise
    return fd


def volume(wanted: VolumePlan, *, userns: int | None) -> tuple[int, str]:
    """A volume as a detached mount, and a remark if its owners could not be mapped (empty if all is well).

    Raises RktError if the source is missing.
    """
    remark = ""
    try:
        fd = mapped(wanted.source, userns=userns, recursive=wanted.recursive)
    except FileNotFoundError as error:
        raise RktError(
            f'volume "{wanted.name}": {wanted.source} does not exist',
            hint="create it, or mend the volume's source",
        ) from error
    except OSError as error:
        if userns is None or error.errno not in (errno.EINVAL, errno.EPERM):
            raise
        fd = mapped(wanted.source, userns=None, recursive=wanted.recursive)
        remark = f"volume {wanted.name}: owners are not mapped, its filesystem cannot"
    attributes = api.Attribute.NOSUID | api.Attribute.NODEV
    try:
        if wanted.kind != "empty" and _is_device(wanted.source):
            attributes = api.Attribute.NOSUID
        api.mount_setattr(fd, set_=attributes, recursive=wanted.recursive)
    except BaseException:
        os.close(fd)
        raise
    return fd, remark


def _is_device(path: str) -> bool:
    import stat

    mode = os.stat(path).st_mode
    return stat.S_ISCHR(mode) or stat.S_ISBLK(mode)


def make_empty(wanted: VolumePlan) -> None:
    """Make the directory of an empty volume, once per pod (spec/pods: fresh, shared by the pod's apps)."""
    parent = os.path.dirname(wanted.source)
    os.makedirs(parent, mode=0o755, exist_ok=True)
    try:
        os.mkdir(wanted.source)
    except FileExistsError:
        return
    os.chown(wanted.source, wanted.uid, wanted.gid)
    os.chmod(wanted.source, wanted.mode)


def host_sysfs() -> int:
    """The host's own /sys without what is mounted below it: for a pod in the host's network namespace."""
    fd = api.open_tree("/sys")
    attributes = api.Attribute.RDONLY | api.Attribute.NOSUID | api.Attribute.NODEV | api.Attribute.NOEXEC
    api.mount_setattr(fd, set_=attributes, propagation=_PRIVATE)
    return fd


def control_group(path: str) -> int:
    """The directory of a control group, read-only, for the /sys/fs/cgroup of the app that lives in it."""
    fd = api.open_tree(path)
    attributes = api.Attribute.RDONLY | api.Attribute.NOSUID | api.Attribute.NODEV | api.Attribute.NOEXEC
    api.mount_setattr(fd, set_=attributes, propagation=_PRIVATE)
    return fd
