"""What the store has in the place of an archive for an image of layers: a document that names all its parts.

The image ID is the SHA-512 of these bytes, as it is of an archive's. No archive begins like one, so what a
stranger sends as an image is never taken for a record.
"""

from __future__ import annotations

import os

from appc import jsonfield
from appc.jsonfield import Fields, listed, string
from appc.schema.image import ImageManifest
from appc.schema.kind import exactly
from linux.named_tuple import NamedTuple
from oci.types.descriptor import Descriptor
from oci.types.digest import Digest

KIND, VERSION = "layeredImage", "v1"
#: Bytes; 500 layers and the largest image manifest stay below.
LIMIT = 8 << 20


class StoredLayer(NamedTuple):
    """A layer as it is stored, and the digest of its plain archive, by which it is unpacked but once."""

    descriptor: Descriptor
    diff_id: Digest


class Record(NamedTuple):
    """An image of layers, the lowest first.

    `reference` is the whole name by which it was asked for, "" for one from a file. `image_manifest` is what
    appc says of it: name, labels, app.
    """

    reference: str
    manifest: Descriptor
    config: Descriptor
    layers: tuple[StoredLayer, ...]
    image_manifest: ImageManifest

    @property
    def diff_ids(self) -> tuple[Digest, ...]:
        """The digests of the plain layers."""
        return tuple(layer.diff_id for layer in self.layers)

    @property
    def blobs(self) -> tuple[Descriptor, ...]:
        """All that the image is made of."""
        return self.manifest, self.config, *(layer.descriptor for layer in self.layers)

    @property
    def size(self) -> int:
        """Bytes of all of it, as it is stored."""
        return sum(one.size for one in self.blobs)

    def encode(self) -> bytes:
        """The record's bytes: the same image under the same name gives the same."""
        return jsonfield.encode({
            "rktKind": KIND,
            "rktVersion": VERSION,
            "reference": self.reference,
            "manifest": _plain(self.manifest).to_json(),
            "config": _plain(self.config).to_json(),
            "layers": [
                {**_plain(layer.descriptor).to_json(), "diffId": layer.diff_id} for layer in self.layers
            ],
            "imageManifest": self.image_manifest.to_json(),
        })

    @classmethod
    def parse(cls, data: bytes) -> Record:
        """From its bytes. ValueError with every problem."""
        fields = Fields(jsonfield.parse(data, limit=LIMIT))
        fields.required("rktKind", exactly(KIND))
        fields.required("rktVersion", exactly(VERSION))
        found = cls(
            fields.required("reference", string),
            fields.required("manifest", Descriptor.from_json),
            fields.required("config", Descriptor.from_json),
            fields.required("layers", listed(_layer)),
            fields.required("imageManifest", ImageManifest.from_json),
        )
        fields.finish()
        return found


def _plain(descriptor: Descriptor) -> Descriptor:
    """What annotations an index had for it, and which platform, is not the image's own."""
    return Descriptor(descriptor.media_type, descriptor.digest, descriptor.size)


def _layer(value: object) -> StoredLayer:
    fields = Fields(value)
    diff_id = fields.required("diffId", Digest)
    fields.finish()
    return StoredLayer(Descriptor.from_json(value), diff_id)


def read(fd: int) -> Record:
    """The record open at `fd`. ValueError for a damaged one."""
    return Record.parse(os.pread(fd, LIMIT + 1, 0))
