"""Write what an app of an ended pod left in its root directory as an image of its own."""

from __future__ import annotations

import os

from rkt.errors import RktError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from appc.types.image_id import ImageID
    from rkt.pods.pod import Pod

_PATH = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def export_app(pod: Pod, app: str, target: str, *, overwrite: bool) -> ImageID:
    """Write app `app` of `pod`, whose lock the caller holds, to the new file `target`; the image's ID.

    The image's files and the pod's changes to them are seen through a read-only overlay that is never
    attached anywhere. The result is complete: it has no dependencies and no whitelist. Nothing in the
    exported files sets any policy: the manifest is the image's own (rule R16).
    """
    from appc.aci import output, writer
    from appc.schema.image import ImageManifest

    data = pod.read(f"appsinfo/{app}/manifest")
    if data is None:
        raise RktError(f"pod {pod.uuid} has no app {app!r}")
    manifest = ImageManifest.parse(data).replace(dependencies=(), path_whitelist=())
    root = _root(pod, app)
    try:
        with output.replacing(os.path.abspath(target), overwrite=overwrite) as out:
            return writer.build(root, manifest.encode(), out)
    except FileExistsError:
        raise RktError(f"{target} exists already", hint="use --overwrite to replace it") from None
    finally:
        os.close(root)


def _root(pod: Pod, app: str) -> int:
    """A descriptor, open for reading, of the app's root directory as the app left it."""
    from linux.mount import overlay

    if pod.read("overlay-prepared") is None:
        path = f"stage1/rootfs/opt/stage2/{app}/rootfs"
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=pod.fd)
    tree = pod.read_text(f"appsinfo/{app}/treeStoreID") or ""
    lowers = [pod.read_text(f"appsinfo/{app}/rootfs-path") or ""]
    lowers += (pod.read_text(f"appsinfo/{app}/layers") or "").splitlines()
    fds = []
    try:
        fds.append(os.open(f"overlay/{tree}/upper/{app}", _PATH, dir_fd=pod.fd))
        try:
            fds.extend(os.open(path, _PATH) for path in lowers)
        except FileNotFoundError as error:
            raise RktError(f"the rendered image of app {app!r} is gone from the store") from error
        mounted = overlay.detached(fds)
    finally:
        for fd in fds:
            os.close(fd)
    try:
        return os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=mounted)
    finally:
        os.close(mounted)
