"""An image of Docker's media types with OCI's: many readers of layouts take no others. Layers stay."""

from __future__ import annotations

import os

from oci.image import Image
from oci.types import media
from oci.types.descriptor import Descriptor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import BinaryIO

    from oci.blobs import Blobs


def retyped(image: Image) -> Image:
    """`image` as an OCI image, which has another digest; itself if it is one."""
    if image.manifest.media_type == media.OCI_MANIFEST:
        return image
    manifest = image.manifest._replace(
        media_type=media.OCI_MANIFEST,
        config=image.manifest.config._replace(media_type=media.OCI_CONFIG),
        layers=tuple(layer._replace(media_type=_layer(layer.media_type)) for layer in image.manifest.layers),
    )
    data = manifest.encode()
    descriptor = Descriptor.of(media.OCI_MANIFEST, data)
    return image._replace(
        blobs=_With(image.blobs, descriptor, data), descriptor=descriptor, manifest=manifest
    )


def _layer(media_type: str) -> str:
    if media_type.startswith(media.OCI_LAYER):
        return media_type
    ending = media_type.rpartition(".")[2]
    return media.layer(ending if ending in {"gzip", "zstd"} else "none")


class _With:
    """Blobs, and one more."""

    def __init__(self, blobs: Blobs, descriptor: Descriptor, data: bytes) -> None:
        self._blobs = blobs
        self._descriptor = descriptor
        self._data = data

    def has(self, descriptor: Descriptor) -> bool:
        return descriptor.digest == self._descriptor.digest or self._blobs.has(descriptor)

    def open(self, descriptor: Descriptor) -> BinaryIO:
        if descriptor.digest != self._descriptor.digest:
            return self._blobs.open(descriptor)
        file = os.fdopen(os.memfd_create("manifest", os.MFD_CLOEXEC), "w+b")
        file.write(self._data)
        file.seek(0)
        return file
