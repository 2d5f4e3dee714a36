"""Prepare a pod: make its directory with everything in it that a stage 1 needs to run it.

Nothing outside the pod's directory is touched but the range of user IDs, which is taken under the pod's
UUID and so can be collected. A failure removes what was made; a kill leaves a pod in `prepare` without a
lock, which `gc` collects.
"""

from __future__ import annotations

import os

from linux import files
from linux.named_tuple import NamedTuple
from rkt.pods import phases, removal, uid_ranges
from rkt.stage1 import flavours

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rkt.pods.directory import PodDirectory
    from rkt.pods.pod import Pod
    from rkt.settings import GlobalOptions
    from rkt.store import Store

_STAGE1 = "stage1/rootfs"
_SUBDIRECTORIES = ("appsinfo", "logs", f"{_STAGE1}/rkt/status", f"{_STAGE1}/rkt/env", f"{_STAGE1}/opt/stage2")


class Preparation(NamedTuple):
    """What a pod is made of.

    `manifest` is the reified pod manifest as it will be stored; `apps` are (app name, image ID) in its
    order. `stage1_image` is the ID of a stage 1 image, only for the flavour `image`. `private_users`
    gives the pod a user namespace with a range of IDs of its own. `uuid_file` is written first of all.
    """

    manifest: bytes
    apps: tuple[tuple[str, str], ...]
    flavour: str = flavours.DEFAULT
    stage1_image: str | None = None
    overlay: bool = True
    private_users: bool = False
    pod_name: str | None = None
    uuid_file: str | None = None


def prepare(settings: GlobalOptions, store: Store, pods: PodDirectory, wanted: Preparation) -> Pod:
    """A new pod, locked, in phase `prepare`, complete. The caller moves it on, or discards it.

    Raises RktError or OSError; then nothing is left behind.
    """
    with pods.preparing():
        pod = pods.create(name=wanted.pod_name)
        try:
            if wanted.uuid_file:
                files.write_atomically(os.path.abspath(wanted.uuid_file), pod.uuid.encode())
            _fill(pod, store, pods.data_dir, wanted)
        except BaseException:
            with pod:
                removal.discard(pod, settings.data_dir, settings.local_config)
            raise
    return pod


def keep(pod: Pod) -> None:
    """Make a prepared pod durable and put it where `run-prepared` finds it (D3, D4)."""
    files.sync_filesystem(pod.fd)
    pod.move(phases.PREPARED)


def _fill(pod: Pod, store: Store, data_dir: str, wanted: Preparation) -> None:
    _put(pod, flavours.FLAVOUR_FILE, wanted.flavour.encode())
    if wanted.private_users:
        shift, count = uid_ranges.reserve(data_dir, pod.uuid)
        _put(pod, "private-users-prepared", f"{shift}:{count}".encode())
    if wanted.stage1_image is not None:
        os.mkdir("stage1", 0o755, dir_fd=pod.fd)
        _add_stage1(pod, store, wanted.stage1_image)
    for name in _SUBDIRECTORIES:
        os.makedirs(f"{pod.path}/{name}", mode=0o755, exist_ok=True)
    for name, image in wanted.apps:
        _add_app(pod, store, name, image, overlay=wanted.overlay)
    if wanted.overlay:
        _put(pod, "overlay-prepared", b"")
    _put(pod, "pod", wanted.manifest)
    _put(pod, "pod.lck", b"")
    _put(pod, "pod-created", b"")


def _add_app(pod: Pod, store: Store, name: str, image: str, *, overlay: bool) -> None:
    tree = store.tree(image, flat=not overlay)
    os.mkdir(f"{pod.path}/appsinfo/{name}", 0o755)
    _put(pod, f"appsinfo/{name}/manifest", store.manifest_bytes(image))
    _put(pod, f"appsinfo/{name}/treeStoreID", tree.id.encode())
    _put(pod, f"appsinfo/{name}/rootfs-path", tree.rootfs_path.encode())
    if len(tree.lowers) > 1:
        _put(pod, f"appsinfo/{name}/layers", "\n".join(tree.lowers[1:]).encode())
    rootfs = f"{pod.path}/stage1/rootfs/opt/stage2/{name}/rootfs"
    if overlay:
        os.makedirs(rootfs, mode=0o755)
        for kind in ("upper", "work"):
            os.makedirs(f"{pod.path}/overlay/{tree.id}/{kind}/{name}", mode=0o755)
        # The upper directory becomes the app's root directory: it needs the image's mode and owner.
        info = os.stat(tree.rootfs_path)
        upper = f"{pod.path}/overlay/{tree.id}/upper/{name}"
        os.chown(upper, info.st_uid, info.st_gid)
        os.chmod(upper, info.st_mode & 0o7777)
    else:
        os.makedirs(os.path.dirname(rootfs), mode=0o755)
        _copy(tree.rootfs_path, rootfs)


def _add_stage1(pod: Pod, store: Store, image: str) -> None:
    """Copy the tree of a stage 1 image into the pod: it writes there, and a copy cannot leak like a mount."""
    tree = store.tree(image, flat=True)
    _put(pod, "stage1TreeStoreID", tree.id.encode())
    _copy(tree.rootfs_path, f"{pod.path}/stage1/rootfs")
    _put(pod, "stage1/manifest", store.manifest_bytes(image))


def _copy(source: str, target: str) -> None:
    from rkt.store.copytree import copy

    copy(source, target)


def _put(pod: Pod, name: str, data: bytes) -> None:
    """Write a new file of the pod. Not flushed: `keep` flushes all at once."""
    fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=pod.fd)
    with os.fdopen(fd, "wb") as stream:
        stream.write(data)
