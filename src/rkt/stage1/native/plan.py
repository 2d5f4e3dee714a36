"""What a pod directory says is to be run, as plain values for the processes of the native stage 1."""

from __future__ import annotations

import os

from appc.schema.image import App, ImageManifest
from appc.schema.pod import PodManifest
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
    """One app: what it is and where its files are. `lower` is the image's rendered tree on the host."""

    name: str
    image_id: str
    image: ImageManifest
    app: App
    mounts: tuple[MountPlan, ...]
    read_only_rootfs: bool
    tree_id: str
    lower: str


class PodPlan(NamedTuple):
    """The pod: its manifest, its apps in order, and how their root directories are made."""

    manifest: PodManifest
    apps: tuple[AppPlan, ...]
    overlay: bool


def load(invocation: Invocation) -> PodPlan:
    """Read the plan of the pod that `invocation` names. RktError when the directory is not complete."""
    pod_dir = invocation.pod_dir
    manifest = PodManifest.parse(_read(pod_dir, "pod"))
    volumes = {str(volume.name): _volume(pod_dir, volume) for volume in manifest.volumes}
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
    mounts = [
        MountPlan(path, volume, read_only=read_only)
        for path, (volume, read_only) in _mounted(pod_dir, runtime, app, volumes).items()
    ]
    return AppPlan(
        name=name,
        image_id=str(runtime.image.id),
        image=image,
        app=app,
        # Outer paths first: a mount on /a must not hide the one on /a/b.
        mounts=tuple(sorted(mounts, key=lambda mount: mount.path.split("/"))),
        read_only_rootfs=runtime.read_only_root_fs,
        tree_id=_read(pod_dir, f"appsinfo/{name}/treeStoreID").decode(),
        lower=_read(pod_dir, f"appsinfo/{name}/rootfs-path").decode(),
    )


def _mounted(
    pod_dir: str, runtime: RuntimeApp, app: App, volumes: dict[str, VolumePlan]
) -> dict[str, tuple[VolumePlan, bool]]:
    """The app's volume and whether it is read-only there, by path.

    A mount of the pod decides; a mount point that no mount speaks of gets the volume of its own name. A
    volume that says whether it is read-only is obeyed, else the mount point of that path, or of that name,
    is.
    """
    points = {point.path: point for point in app.mount_points}
    names = {str(point.name): point for point in app.mount_points}
    found: dict[str, tuple[VolumePlan, bool]] = {}
    for mount in runtime.mounts:
        volume = (
            _volume(pod_dir, mount.app_volume)
            if mount.app_volume is not None
            else volumes.get(str(mount.volume))
        )
        if volume is None:
            raise RktError(f"{runtime.name}: could not find volume {mount.volume}")
        point = points.get(mount.path) or names.get(str(mount.volume))
        default = point is not None and point.read_only
        found[mount.path] = (volume, default if volume.read_only is None else volume.read_only)
    for path, point in points.items():
        if path not in found and str(point.name) in volumes:
            volume = volumes[str(point.name)]
            found[path] = (volume, point.read_only if volume.read_only is None else volume.read_only)
    return found


def _volume(pod_dir: str, volume: Volume) -> VolumePlan:
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
