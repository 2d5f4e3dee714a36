"""Beginning a build: with nothing, a directory, an image, an archive of files, or an image to be fetched."""

from __future__ import annotations

import os

from acbuild import rootless
from acbuild.context import APPC, CURRENT, OCI, Beginning, Build
from acbuild.errors import AcbuildError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import BinaryIO

    from acbuild.settings import Settings
    from appc.schema.image import ImageManifest


def begin(
    settings: Settings,
    start: str = "",
    *,
    mode: str = APPC,
    insecure: bool = False,
    say: Callable[[str], None],
) -> None:
    """Make the build in the work path. Any failure leaves none. `say` is told what could not be kept."""
    os.makedirs(settings.work_path, exist_ok=True)
    with Beginning(settings.work_path) as new:
        if mode == OCI:
            from acbuild import begin_oci

            begin_oci.fill(settings, new.path, start, insecure=insecure, say=say)
        else:
            _fill(settings, new.path, start, insecure=insecure, say=say)
        rootless.mark(new.path)
        new.finish(mode)


def is_path(start: str) -> bool:
    """Whether START names something of the host, rather than an image to be fetched."""
    return start.startswith((".", "/", "~"))


def local(start: str) -> str:
    """The path that START names: the shell did not see a ``~`` that was quoted."""
    path = os.path.expanduser(start)
    if not os.path.lexists(path):
        raise AcbuildError(f"no such file or directory: {start}")
    return path


def _fill(
    settings: Settings, context: str, start: str, *, insecure: bool, say: Callable[[str], None]
) -> None:
    from acbuild.image import appc

    directory = f"{context}/{CURRENT}"
    build = Build(context, -1, APPC)
    os.mkdir(build.rootfs, 0o755)
    os.utime(build.rootfs, (0, 0))
    manifest = None
    if is_path(start):
        path = local(start)
        if os.path.isdir(path):
            from_directory(build, path, say)
        else:
            with open(path, "rb") as file:
                manifest = unpacked(build, file, f"file:{start}", say)
        if manifest is None and _is_foreign(build.rootfs):
            say(
                f"{start} is an image of Docker or OCI, whose archive is the root filesystem now: "
                "to build upon the image, convert it with docker2aci, or use --build-mode=oci"
            )
    elif start:
        from acbuild import fetch

        with fetch.image(settings, start, insecure=insecure, say=say) as (file, uri):
            manifest = unpacked(build, file, uri, say)
    appc.write_manifest(directory, manifest or appc.empty())


def _is_foreign(rootfs: str) -> bool:
    """Whether the files are those of a layout or of what `docker save` writes, not of a system."""
    names = set(os.listdir(rootfs))
    return "oci-layout" in names or ("manifest.json" in names and not names & {"bin", "etc", "usr"})


def from_directory(build: Build, path: str, say: Callable[[str], None]) -> None:
    """Copy the directory `path` to be the root filesystem."""
    from acbuild.provenance import note_copied
    from acbuild.tree.copying import copy_root
    from acbuild.tree.places import Places

    with Places(build.rootfs, build.path) as places:
        copied = copy_root(places, path)
    if copied.sockets:
        say(f"{copied.sockets} sockets were left out")
    note_copied(build, [copied])


def unpacked(build: Build, file: BinaryIO, uri: str, say: Callable[[str], None]) -> ImageManifest | None:
    """Unpack an ACI, or an archive of files, to be the root filesystem; the manifest of an ACI."""
    from acbuild import provenance
    from acbuild.tree import unpacking

    manifest = None
    if unpacking.is_image(file):
        from appc.aci.reader import read_manifest
        from appc.schema.image import ImageManifest

        manifest = ImageManifest.parse(read_manifest(file))
        refused = unpacking.image(file, build.rootfs)
    else:
        refused = unpacking.archive(file, build.rootfs)
    if refused:
        say(f"{refused} device nodes were left out, as only root may make them")
    provenance.note(build, uri, {"sha256": unpacking.digest(file)})
    return manifest
