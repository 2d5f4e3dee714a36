"""Checking images and image layouts: every problem at once, as far as one can look behind the first."""

from __future__ import annotations

import os
import stat

from appc.aci import compression, tar
from appc.aci.errors import InvalidArchive, shown
from appc.aci.layout import MANIFEST, ROOTFS, Layout
from appc.aci.limits import DEFAULT, Limits
from appc.errors import InvalidManifest
from appc.schema.image import ImageManifest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import BinaryIO


def image_problems(file: BinaryIO, *, limits: Limits = DEFAULT) -> list[str]:
    """What is wrong with the image in `file` (seekable): archive, layout, manifest. Nothing, if it is valid.

    Stricter than whoever unpacks it: a rootfs without an entry has no owner, mode and time to keep.
    UnknownFormat is raised, not listed: such a file is no image at all.
    """
    layout = Layout(limits)
    manifest: bytes | None = None
    chunks = compression.inflate(file, limits=limits)
    try:
        reader = tar.TarReader(chunks, limits)
        for entry in reader:
            layout.see(entry)
            if entry.name == MANIFEST and entry.kind is tar.FILE and manifest is None:
                manifest = reader.read()
        layout.finish()
        if layout.implies_rootfs:
            layout.problem("no rootfs: only what is in it")
    except InvalidArchive as error:
        layout.problems.extend(error.problems)  # what follows in the archive cannot be read
    return layout.problems + ([] if manifest is None else manifest_problems(manifest))


def manifest_problems(data: bytes) -> list[str]:
    """What is wrong with the bytes of an image manifest."""
    try:
        ImageManifest.parse(data)
    except InvalidManifest as error:
        return [f"manifest: {problem}" for problem in error.problems]
    return []


def layout_problems(path: str, *, limits: Limits = DEFAULT) -> list[str]:
    """What is wrong with the image layout in the directory `path`. OSError when that cannot be read."""
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        names = sorted(map(os.fsencode, os.listdir(directory)))
        problems = [
            f"{shown(name)}: only manifest and rootfs may be in an image"
            for name in names
            if name not in {MANIFEST, ROOTFS}
        ]
        if ROOTFS not in names:
            problems.append("no rootfs")
        elif not stat.S_ISDIR(os.lstat(ROOTFS, dir_fd=directory).st_mode):
            problems.append("rootfs is not a directory")
        if MANIFEST not in names:
            problems.append("no manifest")
        elif not stat.S_ISREG(os.lstat(MANIFEST, dir_fd=directory).st_mode):
            problems.append("manifest is not a file")
        else:
            problems += manifest_problems(layout_manifest(path, limits=limits))
    finally:
        os.close(directory)
    return problems


def layout_manifest(path: str, *, limits: Limits = DEFAULT) -> bytes:
    """The bytes of the manifest in the layout `path`. ValueError when it is too large or no file."""
    from linux.paths import Root

    with Root.open(path) as root:
        return root.read_file("manifest", limits.manifest)
