"""Mounts that the parent makes for the pod, detached: nobody sees them until the pod attaches them.

Only the host's root may map the owners of a filesystem into a user namespace (mount_setattr with
MOUNT_ATTR_IDMAP), so these mounts are made outside of the pod and handed in as descriptors. Nothing of them
ever appears in the host's mount table, so nothing can be left there.
"""

from __future__ import annotations

import os
import stat

from linux.mount import api, idmap, overlay
from linux.paths import Root
from rkt.errors import RktError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from rkt.stage1.native.plan import AppPlan, VolumePlan

_PRIVATE = api.MountFlag.PRIVATE
_PATH_DIR = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC


def root_of_app(app: AppPlan, pod_dir: str, *, layered: bool, userns: int | None, shift: int | None) -> int:
    """The root filesystem of an app: an overlay of a directory of the pod and its image's tree, or a copy.

    The tree is one directory, or several layers; then the first holds nothing but the root's properties.

    With `userns`, whose root is the host's ID `shift`, every layer is mapped, so that files belong on disk to
    the IDs that the app sees, whatever range the pod has: nothing needs a chown, and an export needs none
    either.
    """
    if not layered:
        return idmap.mapped(f"{pod_dir}/stage1/rootfs/opt/stage2/{app.name}/rootfs", userns)
    fds: list[int] = []
    try:
        own = idmap.mapped(f"{pod_dir}/overlay/{app.tree_id}", userns)
        fds.append(own)
        fds.extend(os.open(f"{kind}/{app.name}", _PATH_DIR, dir_fd=own) for kind in ("upper", "work"))
        fds.extend(idmap.mapped(path, userns) for path in (app.lower, *app.below))
        return overlay.detached(
            fds[3:],
            fds[1],
            fds[2],
            attributes=api.Attribute.NODEV,
            source=f"rkt-{app.name}",
            owner=None if shift is None else (shift, shift),
            within=(own, *fds[3:]),
        )
    finally:
        for fd in fds:
            os.close(fd)


def volume(wanted: VolumePlan, *, userns: int | None) -> tuple[int, str]:
    """A volume as a detached mount, and a remark if its owners could not be mapped (empty if all is well).

    Raises RktError if the source is missing.
    """
    remark = ""
    try:
        # open_tree does not follow a link at the end; a volume's source may be one, as the operator gave it.
        source = os.open(wanted.source, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise RktError(
            f'volume "{wanted.name}": {wanted.source} does not exist',
            hint="create it, or mend the volume's source",
        ) from error
    try:
        mode = os.fstat(source).st_mode
        is_device = stat.S_ISCHR(mode) or stat.S_ISBLK(mode)
        try:
            fd = idmap.mapped("", userns, recursive=wanted.recursive, dir_fd=source)
        except OSError as error:
            if userns is None or error.errno not in idmap.CANNOT:
                error.filename = wanted.source
                raise
            fd = idmap.mapped("", None, recursive=wanted.recursive, dir_fd=source)
            if not is_device:  # whose one owner says nothing about who may use it
                remark = f"volume {wanted.name}: owners are not mapped, its filesystem cannot"
    finally:
        os.close(source)
    attributes = api.Attribute.NOSUID
    if wanted.kind == "empty" or not is_device:
        attributes |= api.Attribute.NODEV
    try:
        api.mount_setattr(fd, set_=attributes, recursive=wanted.recursive)
    except BaseException:
        os.close(fd)
        raise
    return fd, remark


def make_empty(wanted: VolumePlan, app: AppPlan | None = None, path: str = "") -> None:
    """Make the directory of an empty volume, once per pod (spec/pods: fresh, shared by the pod's apps).

    For an image converted from Docker it starts with what the image has at `path`, as people expect it of
    Docker's volumes; unless somebody said how the volume shall be.
    """
    ordinary = wanted.mode in {None, 0o755} and not wanted.uid and not wanted.gid
    os.makedirs(os.path.dirname(wanted.source), mode=0o755, exist_ok=True)
    image = app if app is not None and ordinary and app.image.annotations.of_docker else None
    if image is not None and _seed(wanted.source, image, path):
        return
    try:
        os.mkdir(wanted.source)
    except FileExistsError:
        return
    os.chown(wanted.source, wanted.uid, wanted.gid)
    os.chmod(wanted.source, 0o755 if wanted.mode is None else wanted.mode)


def _seed(target: str, image: AppPlan, path: str) -> bool:
    """Copy the image's directory at `path` to `target`; False when the image has none there."""
    from rkt.store import copytree

    with Root(image_files(image.lower, image.below)) as root:
        try:
            source = root.open_file(path, _PATH_DIR)
        except OSError:
            return False
    try:
        copytree.copy(f"/proc/self/fd/{source}", target)
    except FileExistsError:
        return True  # another app of the pod was first
    finally:
        os.close(source)
    return True


def image_files(lower: str, below: Sequence[str]) -> int:
    """The files of an image as a descriptor: its tree, or its layers as a read-only overlay."""
    if not below:
        return os.open(lower, _PATH_DIR)
    fds: list[int] = []
    try:
        fds.extend(os.open(path, _PATH_DIR) for path in (lower, *below))
        return overlay.detached(fds, attributes=api.Attribute.NODEV)
    finally:
        for fd in fds:
            os.close(fd)


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
