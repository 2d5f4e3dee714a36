"""Manifests and indexes: one image, and a choice of images (image-spec, manifest.md and image-index.md)."""

from __future__ import annotations

from appc import jsonfield
from appc.jsonfield import Fields, between, listed, string, string_map
from linux.named_tuple import NamedTuple
from oci.errors import InvalidImage
from oci.types import media
from oci.types.descriptor import Descriptor
from oci.types.platform import Platform, best

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

#: Bytes; registries refuse more as well (distribution-spec, "Pushing Manifests").
LIMIT = 4 << 20
#: The most layers of an image; overlayfs takes 500, Docker 125.
MOST_LAYERS = 500


class Manifest(NamedTuple):
    """One image: its configuration and its layers, the lowest first."""

    media_type: str
    config: Descriptor
    layers: tuple[Descriptor, ...]
    annotations: Mapping[str, str] = {}

    def encode(self) -> bytes:
        """Compact JSON; equal manifests give equal bytes."""
        value: dict[str, object] = {
            "schemaVersion": 2,
            "mediaType": self.media_type,
            "config": self.config.to_json(),
            "layers": [layer.to_json() for layer in self.layers],
        }
        if self.annotations:
            value["annotations"] = {key: self.annotations[key] for key in sorted(self.annotations)}
        return jsonfield.encode(value)


class Index(NamedTuple):
    """A choice of manifests (Docker calls it a manifest list)."""

    media_type: str
    manifests: tuple[Descriptor, ...]
    annotations: Mapping[str, str] = {}

    def encode(self) -> bytes:
        """Compact JSON; equal indexes give equal bytes."""
        value: dict[str, object] = {
            "schemaVersion": 2,
            "mediaType": self.media_type,
            "manifests": [manifest.to_json() for manifest in self.manifests],
        }
        if self.annotations:
            value["annotations"] = {key: self.annotations[key] for key in sorted(self.annotations)}
        return jsonfield.encode(value)

    def choose(self, platform: Platform, what: str) -> Descriptor:
        """The manifest for `platform`; `what` is the image's name for messages. InvalidImage if none is.

        Entries that say ``unknown/unknown`` are attestations, not images. An index of one image that says
        no platform is taken for what it is.
        """
        known = [
            (one.platform, one)
            for one in self.manifests
            if one.platform and one.media_type in media.MANIFESTS | media.INDEXES
        ]
        found = best(platform, known)
        if found is None and len(self.manifests) == 1 and self.manifests[0].platform is None:
            return self.manifests[0]
        if found is None:
            offered = sorted({str(one) for one, _ in known if one.os not in {"", "unknown"}})
            raise InvalidImage(
                f"{what}: there is no image for {platform}",
                hint=f"there is one for {', '.join(offered)}" if offered else None,
            )
        return found


def parse(data: bytes, media_type: str, what: str) -> Manifest | Index:
    """The document `data`, which was announced as `media_type` ("" if it was not); `what` names it.

    Raises InvalidImage for a broken one, for one that says it is something else than was announced, and for
    one that could be both a manifest and an index (CVE-2021-41190): two readers would see two images.
    """
    try:
        fields = Fields(jsonfield.parse(data, limit=LIMIT))
        said = fields.optional("mediaType", string, "")
        version = fields.required("schemaVersion", between(1, 2))
        fields.finish()
        if version == 1 or media_type in media.SCHEMA_1:
            raise InvalidImage(
                f"{what}: is a manifest of Docker's schema 1, which nobody can verify",
                hint="push the image again with a Docker of 2016 or later, or with skopeo",
            )
        if media_type and said and media_type != said:
            raise ValueError(f"announced as {media_type}, but says it is {said}")
        return _read(fields, said or media_type)
    except InvalidImage:
        raise
    except ValueError as error:
        raise InvalidImage(f"{what}: invalid manifest: " + "; ".join(jsonfield.reasons(error))) from None


def _read(fields: Fields, kind: str) -> Manifest | Index:
    is_index, is_manifest = "manifests" in fields, "layers" in fields or "config" in fields
    if is_index and is_manifest:
        raise ValueError("has both the members of a manifest and those of an index")
    if not kind:
        kind = media.OCI_INDEX if is_index else media.OCI_MANIFEST
    if kind in media.INDEXES:
        index = Index(
            kind,
            fields.required("manifests", listed(Descriptor.from_json)),
            fields.optional("annotations", string_map, {}),
        )
        fields.finish()
        return index
    if kind not in media.MANIFESTS:
        raise ValueError(f"{jsonfield.quoted(kind)} is no kind of manifest that is supported")
    manifest = Manifest(
        kind,
        fields.required("config", Descriptor.from_json),
        fields.required("layers", listed(Descriptor.from_json)),
        fields.optional("annotations", string_map, {}),
    )
    fields.finish()
    if len(manifest.layers) > MOST_LAYERS:
        raise ValueError(f"{len(manifest.layers)} layers are more than the limit of {MOST_LAYERS}")
    return manifest


def check_is_image(manifest: Manifest, what: str) -> None:
    """InvalidImage when the manifest is that of something else: a chart, a signature, an encrypted image."""
    if manifest.config.media_type not in media.CONFIGS:
        kind = jsonfield.quoted(manifest.config.media_type)
        raise InvalidImage(f"{what}: is no container image but {kind}")
    for layer in manifest.layers:
        if not media.is_layer(layer.media_type):
            raise InvalidImage(
                f"{what}: the layer {layer.digest} is {jsonfield.quoted(layer.media_type)}, no file system"
            )
