"""What a pod directory says is to be run, as plain values for the processes of the native stage 1."""

from __future__ import annotations

import os

from appc.schema.image import App, ImageManifest
from appc.schema.pod import PodManifest
from appc.types.mounts import cleaned
from linux.named_tuple import NamedTuple
from rkt.errors import RktError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from appc.schema.pod import RuntimeApp
    from appc.types.volumes import Volume
    from rkt.stage1.abi import Invocation

_MANIFEST = 8 << 20


class VolumePlan(NamedTuple):
    """A volume of the pod. `source` is a host path, for an empty one the directory made in the pod.

    `read_only` is None if the volume leaves it to the image, `mode` None if nobody asked for one.
    """

    name: str
    kind: str
    source: str
    read_only: bool | None
    recursive: bool
    mode: int | None
    uid: int
    gid: int


class MountPlan(NamedTuple):
    """A volume at a path of one app."""

    path: str
    volume: VolumePlan
    read_only: bool


class AppPlan(NamedTuple):
    """One app: what it is and where its files are.

    `lower` is the image's tree on the host, `below` are the layers that lie under it, the topmost first.
    """

    name: str
    image_id: str
    image: ImageManifest
    app: App
    mounts: tuple[MountPlan, ...]
    read_only_rootfs: bool
    tree_id: str
    lower: str
    below: tuple[str, ...] = ()


class PodPlan(NamedTuple):
    """The pod: its manifest, its apps in order, and how their root directories are made."""

    manifest: PodManifest
    apps: tuple[AppPlan, ...]
    overlay: bool


def load(invocation: Invocation) -> PodPlan:
    """Read the plan of the pod that `invocation` names. RktError when the directory is not complete."""
    pod_dir = invocation.pod_dir
    manifest = PodManifest.parse(_read(pod_dir, "pod"))
    volumes = {str(volume.name): volume_plan(pod_dir, volume) for volume in manifest.volumes}
    apps = tuple(_app(pod_dir, app, volumes) for app in manifest.apps)
    return PodPlan(manifest, apps, overlay=os.path.exists(f"{pod_dir}/overlay-prepared"))


def _read(pod_dir: str, name: str) -> bytes:
    try:
        with open(f"{pod_dir}/{name}", "rb") as stream:
            return stream.read(_MANIFEST)
    except FileNotFoundError as error:
        raise RktError(f"the pod directory lacks {name}") from error


def _app(pod_dir: str, runtime: RuntimeApp, volumes: dict[str, VolumePlan]) -> AppPlan:
    name = str(runtime.name)
    image = ImageManifest.parse(_read(pod_dir, f"appsinfo/{name}/manifest"))
    app = runtime.app or image.app
    if app is None:
        raise RktError(f"{name}: neither the pod nor the image says what to execute")
    return AppPlan(
        name=name,
        image_id=str(runtime.image.id),
        image=image,
        app=app,
        mounts=mounts(runtime, app, volumes, pod_dir),
        read_only_rootfs=runtime.read_only_root_fs,
        tree_id=_read(pod_dir, f"appsinfo/{name}/treeStoreID").decode(),
        lower=_read(pod_dir, f"appsinfo/{name}/rootfs-path").decode(),
        below=_layers(pod_dir, name),
    )


def _layers(pod_dir: str, app: str) -> tuple[str, ...]:
    """The directories of layers, if the app's tree is made of some."""
    try:
        fd = os.open(f"{pod_dir}/appsinfo/{app}/layers", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return ()
    try:
        return tuple(os.fsdecode(os.read(fd, _MANIFEST)).splitlines())
    finally:
        os.close(fd)


def mounts(
    runtime: RuntimeApp, app: App, volumes: dict[str, VolumePlan], pod_dir: str
) -> tuple[MountPlan, ...]:
    """What to mount in the app: outer paths first, as a mount on /a must not hide the one on /a/b.

    A volume that says whether it is read-only decides; else the image's mount point of that path does, or the
    one of that name (rkt's order). RktError for a volume that is not there. Mount points that no mount speaks
    of have got one when the pod was prepared.
    """
    paths = {cleaned(point.path): point for point in app.mount_points}
    names = {str(point.name): point for point in app.mount_points}
    found = []
    for mount in runtime.mounts:
        own = mount.app_volume
        volume = volumes.get(str(mount.volume)) if own is None else volume_plan(pod_dir, own)
        if volume is None:
            raise RktError(f"{runtime.name}: could not find volume {mount.volume}")
        path = cleaned(mount.path)
        point = paths.get(path) or names.get(str(mount.volume))
        default = point is not None and point.read_only
        found.append(MountPlan(path, volume, default if volume.read_only is None else volume.read_only))
    return tuple(sorted(found, key=lambda mount: mount.path.split("/")))


def volume_plan(pod_dir: str, volume: Volume) -> VolumePlan:
    """A volume of the pod's manifest, with the directory that an empty one has in the pod."""
    empty = volume.kind == "empty"
    return VolumePlan(
        name=volume.name,
        kind=volume.kind,
        source=f"{pod_dir}/sharedVolumes/{volume.name}" if empty else volume.source or "",
        read_only=volume.read_only,
        recursive=volume.recursive is not False,
        mode=None if volume.mode is None else int(volume.mode, 8),
        uid=volume.uid or 0,
        gid=volume.gid or 0,
    )
