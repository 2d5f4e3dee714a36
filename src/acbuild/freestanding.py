"""The context-free mode: one command from an image in a file to an image in a file, for Make.

A command that concerns the manifest alone copies the archive with another manifest; any other begins,
applies the command and writes. The target is replaced when all went well, and only then.
"""

from __future__ import annotations

import os

from acbuild.context import APPC, CURRENT, OCI, Build
from acbuild.errors import AcbuildError
from acbuild.scratch import scratch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from acbuild.settings import Settings


def edit(
    settings: Settings, apply: Callable[[Build], None], *, changes_files: bool, say: Callable[[str], None]
) -> None:
    """Write the image `settings.source` (none: an empty one), changed by `apply`, to `settings.target`."""
    if not settings.target:
        raise AcbuildError("--to is missing", hint="say where the result is to be written")
    if settings.source:
        _check_source(settings.source)
        _check_kind(settings)
    with scratch() as directory:
        if not changes_files and is_aci(settings):
            _manifest_only(settings, directory, apply)
            return
        from acbuild.begin import begin
        from acbuild.write import Output, write

        mode = _mode(settings)
        own = settings._replace(work_path=directory)
        begin(own, os.path.abspath(settings.source) if settings.source else "", mode=mode, say=say)
        with Build.open(directory, waiting=lambda: None) as build:
            apply(build)
            output = Output(settings.target, overwrite=True, compression=_compression(settings), unnamed=True)
            write(build, output, warn=say)


def manifest(settings: Settings, which: str, *, pretty: bool) -> bytes:
    """The manifest (or config) of `settings.source` as text."""
    _check_given(settings)
    with scratch() as directory:
        if is_aci(settings):
            return _read_manifest(settings.source, directory).image.text(which, pretty=pretty)
        from acbuild.image.oci import read_archive

        return read_archive(settings.source).text(which, pretty=pretty)


def check_reading(settings: Settings) -> None:
    """AcbuildError unless there is a source, and nothing that a command which only reads could write."""
    if settings.target:
        flag = "--modify-*" if settings.modify_mode else "--to"
        raise AcbuildError(f"cannot be used with {flag}", hint="say with --from which image is meant")
    _check_given(settings)


def _check_given(settings: Settings) -> None:
    if not settings.source:
        raise AcbuildError("--from is missing", hint="say which image is meant")
    _check_source(settings.source)


def _check_source(path: str) -> None:
    if not os.path.lexists(path):
        raise AcbuildError(f"no such file or directory: {path}")
    if os.path.isdir(path):
        raise AcbuildError(f"{path}: is a directory, not an image")


def _check_kind(settings: Settings) -> None:
    """What is changed in place must not become something else in that place."""
    if settings.modify_mode == APPC and not is_aci(settings):
        raise AcbuildError(f"{settings.source}: is no ACI", hint="for OCI images there is --modify-oci")
    if settings.modify_mode == OCI:
        from acbuild.begin_oci import is_image

        if not is_image(settings.source):
            raise AcbuildError(f"{settings.source}: is no OCI image", hint="for ACIs there is --modify-appc")


def _mode(settings: Settings) -> str:
    if settings.modify_mode:
        return settings.modify_mode
    return OCI if settings.source and not is_aci(settings) else APPC


def is_aci(settings: Settings) -> bool:
    """Whether the source is an ACI, rather than an OCI image, an archive of files or nothing."""
    if not settings.source or settings.modify_mode == OCI:
        return False
    from acbuild.tree.unpacking import is_image

    with open(settings.source, "rb") as file:
        return is_image(file)


def _compression(settings: Settings) -> str:
    """That of the source: whoever chose it had a reason."""
    from appc.aci.compression import GZIP, detect, peek

    if not settings.source:
        return GZIP
    with open(settings.source, "rb") as file:
        return detect(peek(file)) or GZIP


def _read_manifest(path: str, directory: str) -> Build:
    """A build that has the manifest of the ACI in `path` and nothing else."""
    from acbuild.image.appc import write_manifest
    from appc.aci.reader import read_manifest
    from appc.schema.image import ImageManifest

    os.mkdir(f"{directory}/{CURRENT}")
    with open(path, "rb") as file:
        write_manifest(f"{directory}/{CURRENT}", ImageManifest.parse(read_manifest(file)))
    return Build(directory, -1, APPC)


def _manifest_only(settings: Settings, directory: str, apply: Callable[[Build], None]) -> None:
    from appc.aci.output import replacing
    from appc.aci.writer import replace_manifest

    build = _read_manifest(settings.source, directory)
    apply(build)
    changed = build.image.text("manifest", pretty=False)
    with open(settings.source, "rb") as file, replacing(settings.target, overwrite=True) as out:
        replace_manifest(file, changed, out, compression=_compression(settings))
