"""Writing the image to a file: complete, signed if asked for, or not at all."""

from __future__ import annotations

import os

from acbuild.context import APPC, CURRENT
from acbuild.errors import AcbuildError
from acbuild.tree.places import source_date_epoch
from appc.aci.output import replacing
from linux.named_tuple import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import BinaryIO

    from acbuild.context import Build


class Output(NamedTuple):
    """What to write. `gpg` are arguments for gpg; None: no signature. `provenance` is a file, "" for none.

    An image without a name is refused, unless `unnamed`: a step on the way to one.
    """

    path: str
    overwrite: bool = False
    compression: str = "gzip"
    gpg: Sequence[str] | None = None
    provenance: str = ""
    version: str = ""
    unnamed: bool = False


def write(build: Build, output: Output, *, warn: Callable[[str], None]) -> str:
    """Write the image of `build`; its ID. A failure leaves every file as it was.

    FileExistsError becomes AcbuildError: an existing file is only replaced with `overwrite`. The signature is
    made before the image has its name, and stands beside it as ``PATH.asc``.
    """
    files = [output.path]
    if output.provenance:
        files.append(output.provenance)
    if output.gpg is not None:
        files += [f"{path}.asc" for path in files]
    for path in files:
        if os.path.lexists(path) and not output.overwrite:
            what = "image" if path == output.path else "file"
            raise AcbuildError(f"{what} already exists: {path}", hint="use --overwrite")
    with replacing(output.path, overwrite=output.overwrite) as file:
        image_id = _content(build, output, file, warn)
        file.flush()
        beside = [] if output.gpg is None else [(f"{output.path}.asc", _signature(file, output.gpg))]
        if output.provenance:
            beside += _provenance(build, output, file, image_id)
        # On disk before the image has its name: what can fail has not failed.
        pending = [replacing(path, overwrite=output.overwrite) for path, _ in beside]
        opened = []
        try:
            for place, (_, data) in zip(pending, beside, strict=True):
                opened.append(place)
                place.__enter__().write(data)
        except BaseException as error:
            for place in opened:
                place.__exit__(type(error), error, None)
            raise
    for place in pending:
        place.__exit__(None, None, None)
    return image_id


def _content(build: Build, output: Output, file: BinaryIO, warn: Callable[[str], None]) -> str:
    if build.mode != APPC:
        from acbuild.layers import write_archive

        return write_archive(build, file, compression=output.compression)
    from acbuild.image.appc import UNNAMED, AppcImage
    from appc.aci import writer

    manifest = AppcImage.load(f"{build.path}/{CURRENT}").manifest
    if manifest.name == UNNAMED and not output.unnamed:
        raise AcbuildError("can't write the image: it has no name yet", hint="use `acbuild set-name`")
    if manifest.app is not None and not manifest.app.exec and not output.unnamed:
        warn("the image has an app, but no exec: who runs it must say what to run")
    if manifest.dependencies:
        from acbuild.running.dependencies import whitelisted

        manifest = whitelisted(build, manifest)
    return str(
        writer.build(
            build.rootfs,
            manifest.encode(),
            file,
            compression=output.compression,
            owner=owner(),
            latest=source_date_epoch(),
        )
    )


def owner() -> Callable[[int, int], tuple[int, int]] | None:
    """For who is not root: what is the builder's is root's in the image, whoever builds it."""
    if os.geteuid() == 0:
        return None
    uid, gid = os.geteuid(), os.getegid()

    def mapped(one: int, other: int) -> tuple[int, int]:
        return (0 if one == uid else one), (0 if other == gid else other)

    return mapped


def _signature(file: BinaryIO, arguments: Sequence[str]) -> bytes:
    from appc.signing import sign

    return sign(file.fileno(), arguments)[0]


def _provenance(build: Build, output: Output, file: BinaryIO, image_id: str) -> list[tuple[str, bytes]]:
    """The statement, and its signature when the image has one."""
    from acbuild import provenance
    from acbuild.tree.unpacking import digest

    digests = {"sha256": digest(file)}
    statement = provenance.statement(build, output.path, image_id, digests, output.version)
    made = [(output.provenance, statement)]
    if output.gpg is not None:
        from linux.files import write_all

        fd = os.memfd_create("statement", os.MFD_CLOEXEC)
        try:
            write_all(fd, statement)
            from appc.signing import sign

            made.append((f"{output.provenance}.asc", sign(fd, output.gpg)[0]))
        finally:
            os.close(fd)
    return made
