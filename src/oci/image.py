"""One image, wherever it lies: its manifest, its configuration, its layers."""

from __future__ import annotations

from linux.named_tuple import NamedTuple
from oci import blobs as stores
from oci.errors import InvalidImage
from oci.types import config as configs
from oci.types import manifest as manifests
from oci.types import media
from oci.types.config import ImageConfig
from oci.types.descriptor import Descriptor
from oci.types.digest import Digest
from oci.types.manifest import Index, Manifest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import BinaryIO

    from oci.blobs import Blobs, WritableBlobs
    from oci.types.platform import Platform

#: Indexes may hold indexes; nobody needs more levels.
_LEVELS = 3


class Layer(NamedTuple):
    """A layer as it is stored, and the digest of its plain archive (None where the image does not say)."""

    descriptor: Descriptor
    diff_id: Digest | None


class Image(NamedTuple):
    """`descriptor` is that of the manifest. The layers' content is in `blobs`, the lowest first."""

    blobs: Blobs
    descriptor: Descriptor
    manifest: Manifest
    config: ImageConfig

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The layers with their diff IDs, whose number was checked."""
        ids: tuple[Digest | None, ...] = self.config.diff_ids or (None,) * len(self.manifest.layers)
        return tuple(map(Layer, self.manifest.layers, ids))

    def open_layer(self, layer: Layer) -> BinaryIO:
        """The verified content of a layer, compressed as it is stored."""
        return self.blobs.open(layer.descriptor)

    def copy_to(self, target: WritableBlobs) -> Image:
        """Have all of the image in `target`: layers first, the manifest that speaks of them last."""
        for descriptor in (*self.manifest.layers, self.manifest.config):
            stores.copy(self.blobs, descriptor, target)
        if self.blobs.has(self.descriptor):
            stores.copy(self.blobs, self.descriptor, target)
        else:  # of a docker archive, which has none of its own
            stores.put(target, self.descriptor.media_type, self.manifest.encode())
        return self._replace(blobs=target)


def load(blobs: Blobs, descriptor: Descriptor, platform: Platform, what: str) -> Image:
    """The image at `descriptor`, of an index the one for `platform`; `what` names it for messages.

    Raises NoSuchImage for what is not in `blobs`, InvalidImage for what is broken or no container image.
    """

    def fetch(one: Descriptor, limit: int) -> bytes:
        return stores.read(blobs, one, limit, what)

    return resolve(blobs, descriptor, platform, what, fetch)


def resolve(
    blobs: Blobs,
    descriptor: Descriptor,
    platform: Platform,
    what: str,
    fetch: Callable[[Descriptor, int], bytes],
) -> Image:
    """As `load`, with manifests and configuration from `fetch(descriptor, limit)`; layers may be missing."""
    for _ in range(_LEVELS):
        document = manifests.parse(fetch(descriptor, manifests.LIMIT), descriptor.media_type, what)
        if isinstance(document, Manifest):
            manifests.check_is_image(document, what)
            config = ImageConfig.parse(fetch(document.config, configs.LIMIT), what)
            check(document, config, what)
            return Image(blobs, descriptor._replace(media_type=document.media_type), document, config)
        descriptor = document.choose(platform, what)
    raise InvalidImage(f"{what}: an index in an index in an index")


def assemble(
    blobs: WritableBlobs,
    config: ImageConfig,
    layers: Sequence[Layer],
    annotations: Mapping[str, str] | None = None,
) -> Image:
    """Write configuration and manifest of an image whose `layers` are in `blobs` already."""
    described = stores.put(blobs, media.OCI_CONFIG, config.encode())
    manifest = Manifest(
        media.OCI_MANIFEST, described, tuple(layer.descriptor for layer in layers), dict(annotations or {})
    )
    descriptor = stores.put(blobs, media.OCI_MANIFEST, manifest.encode())
    return Image(blobs, descriptor, manifest, config)


def check(manifest: Manifest, config: ImageConfig, what: str) -> None:
    """InvalidImage unless there is a diff ID for each layer."""
    if len(config.diff_ids) != len(manifest.layers):
        raise InvalidImage(
            f"{what}: {len(manifest.layers)} layers, but {len(config.diff_ids)} diff IDs of them"
        )


def index_of(images: list[tuple[Image, str]]) -> Index:
    """The index that an OCI layout has for `images` and their tags ("" for none)."""
    from oci.types.descriptor import REF_NAME

    entries = tuple(
        image.descriptor._replace(annotations={REF_NAME: tag} if tag else {}, platform=image.config.platform)
        for image, tag in images
    )
    return Index(media.OCI_INDEX, entries)
