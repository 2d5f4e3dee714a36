"""Image manifests (spec/aci.md)."""

from __future__ import annotations

from appc.jsonfield import Fields, between, encode, listed, nonempty, quoted
from appc.schema.app import App as App
from appc.schema.app import EventHandler as EventHandler
from appc.schema.kind import AC_VERSION, IMAGE, ac_version, exactly, parsed, pruned
from appc.types.annotations import Annotations
from appc.types.image_id import ImageID
from appc.types.labels import Labels
from appc.types.names import ACIdentifier
from appc.types.record import Record
from appc.types.semver import SemVer

#: The largest size that fits what the reference stores, in bytes.
LARGEST = 2**63 - 1


class Dependency(Record):
    """An image below this one. `size` is that of its archive in bytes, 0 where unknown."""

    image_name: ACIdentifier
    image_id: ImageID | None = None
    labels: Labels = Labels()
    size: int = 0

    @classmethod
    def from_json(cls, value: object) -> Dependency:
        """Only the name is required."""
        fields = Fields(value)
        dependency = cls(
            image_name=fields.required("imageName", ACIdentifier),
            image_id=fields.optional("imageID", ImageID, None),
            labels=fields.optional("labels", Labels.from_json, Labels()),
            size=fields.optional("size", between(0, LARGEST), 0),
        )
        fields.finish()
        return dependency

    def to_json(self) -> dict[str, object]:
        """The JSON form; what is empty is left out."""
        return pruned({
            "imageName": self.image_name,
            "imageID": self.image_id,
            "labels": self.labels.to_json(),
            "size": self.size or None,
        })


class ImageManifest(Record):
    """An image. `app` is None for one that others only build upon."""

    name: ACIdentifier
    ac_version: SemVer = AC_VERSION
    labels: Labels = Labels()
    app: App | None = None
    dependencies: tuple[Dependency, ...] = ()
    path_whitelist: tuple[str, ...] = ()
    annotations: Annotations = Annotations()

    @classmethod
    def from_json(cls, value: object) -> ImageManifest:
        """Raises Problems (a ValueError) with every problem."""
        fields = Fields(value)
        fields.required("acKind", exactly(IMAGE))
        manifest = cls(
            ac_version=fields.required("acVersion", ac_version),
            name=fields.required("name", ACIdentifier),
            labels=fields.optional("labels", Labels.from_json, Labels()),
            app=fields.optional("app", App.from_json, None),
            dependencies=fields.optional("dependencies", listed(Dependency.from_json), ()),
            path_whitelist=fields.optional("pathWhitelist", listed(_absolute), ()),
            annotations=fields.optional("annotations", Annotations.from_json, Annotations()),
        )
        fields.finish()
        return manifest

    @classmethod
    def parse(cls, data: bytes) -> ImageManifest:
        """From the bytes of a manifest file; InvalidManifest lists every problem."""
        return parsed("image manifest", data, cls.from_json)

    def to_json(self) -> dict[str, object]:
        """The JSON form, in the specification's order; what is empty is left out."""
        return pruned({
            "acKind": IMAGE,
            "acVersion": self.ac_version,
            "name": self.name,
            "labels": self.labels.to_json(),
            "app": self.app.to_json() if self.app else None,
            "dependencies": [dependency.to_json() for dependency in self.dependencies],
            "pathWhitelist": list(self.path_whitelist),
            "annotations": self.annotations.to_json(),
        })

    def encode(self) -> bytes:
        """Compact JSON; equal manifests give equal bytes."""
        return encode(self.to_json())


def _absolute(value: object) -> str:
    path = nonempty(value)
    if not path.startswith("/"):
        raise ValueError(f"{quoted(path)} is not an absolute path")
    return path
