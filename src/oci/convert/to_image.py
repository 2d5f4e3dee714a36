"""An ACI, or a rendered root filesystem with its manifest, as an OCI image in a store of blobs."""

from __future__ import annotations

from appc.aci import compression as compressions
from appc.aci.limits import DEFAULT, Limits
from appc.schema.image import ImageManifest
from oci.convert import to_config
from oci.errors import OciError
from oci.image import Image, assemble
from oci.layers import write

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import BinaryIO

    from oci.blobs import BlobDirectory


def from_aci(
    aci: BinaryIO,
    blobs: BlobDirectory,
    notes: list[str],
    *,
    compression: str = compressions.GZIP,
    limits: Limits = DEFAULT,
) -> tuple[ImageManifest, Image]:
    """The ACI in `aci` (seekable) as an image of one layer, and its own manifest.

    OciError for one with dependencies or a whitelist: that has to be rendered first.
    """
    data, layer = write.from_aci(aci, blobs, compression=compression, limits=limits)
    manifest = ImageManifest.parse(data)
    if manifest.dependencies or manifest.path_whitelist:
        raise OciError(
            f"{manifest.name}: has dependencies or a path whitelist",
            hint="render it first, as `rkt image render` does, and convert the tree",
        )
    config = to_config.config(manifest, [layer.diff_id] if layer.diff_id else [], notes)
    return manifest, assemble(blobs, config, [layer])


def from_tree(
    root: int,
    manifest: ImageManifest,
    blobs: BlobDirectory,
    notes: list[str],
    *,
    compression: str = compressions.GZIP,
    latest: int | None = None,
) -> Image:
    """The rendered root filesystem under the directory fd `root`, with the app of `manifest`, as an image."""
    layer = write.from_directory(root, blobs, compression=compression, latest=latest)
    config = to_config.config(manifest, [layer.diff_id] if layer.diff_id else [], notes)
    return assemble(blobs, config, [layer])
