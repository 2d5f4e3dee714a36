"""Descriptors: what points to content, with its kind, digest and size (image-spec, descriptor.md)."""

from __future__ import annotations

from appc.jsonfield import Fields, between, nonempty, string_map
from linux.named_tuple import NamedTuple
from oci.types.digest import Digest
from oci.types.platform import Platform

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

#: Bytes; the largest that the wire format can say.
LARGEST = 2**63 - 1
REF_NAME = "org.opencontainers.image.ref.name"


class Descriptor(NamedTuple):
    """`platform` is set in an index. Addresses of foreign layers (``urls``) are dropped, never followed."""

    media_type: str
    digest: Digest
    #: Bytes of the content as it is stored, that is compressed.
    size: int
    annotations: Mapping[str, str] = {}
    platform: Platform | None = None
    artifact_type: str = ""

    @classmethod
    def from_json(cls, value: object) -> Descriptor:
        """Media type, digest and size are required."""
        fields = Fields(value)
        found = cls(
            fields.required("mediaType", nonempty),
            fields.required("digest", Digest),
            fields.required("size", between(0, LARGEST)),
            fields.optional("annotations", string_map, {}),
            fields.optional("platform", Platform.from_json, None),
            fields.optional("artifactType", nonempty, ""),
        )
        fields.finish()
        return found

    @classmethod
    def of(cls, media_type: str, data: bytes) -> Descriptor:
        """That of `data`."""
        return cls(media_type, Digest.of(data), len(data))

    def to_json(self) -> dict[str, object]:
        """The JSON form, in the specification's order."""
        value: dict[str, object] = {"mediaType": self.media_type, "digest": self.digest, "size": self.size}
        if self.artifact_type:
            value["artifactType"] = self.artifact_type
        if self.annotations:
            value["annotations"] = {key: self.annotations[key] for key in sorted(self.annotations)}
        if self.platform is not None:
            value["platform"] = self.platform.to_json()
        return value
