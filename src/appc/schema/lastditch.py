"""A tolerant reader: the little that can be shown of a manifest that breaks the specification.

For listing and removing pods and images whose manifests an older or a foreign tool wrote. Texts are taken
as they are and must not be used for anything but showing them. Only what is no JSON, has the wrong kind, or
has a wrong JSON type where a text or list belongs is refused.
"""

from __future__ import annotations

from appc.jsonfield import Fields, listed, string
from appc.schema.kind import IMAGE, POD, exactly, parsed, pruned
from appc.types.record import Record


class Label(Record):
    """A label of any name."""

    name: str
    value: str

    @classmethod
    def from_json(cls, value: object) -> Label:
        """Absent texts are empty."""
        fields = Fields({} if value is None else value)
        label = cls(name=fields.optional("name", string, ""), value=fields.optional("value", string, ""))
        fields.finish()
        return label

    def to_json(self) -> dict[str, object]:
        """The JSON form."""
        return {"name": self.name, "value": self.value}


class ImageManifest(Record):
    """What can be said about an image."""

    ac_version: str
    name: str
    labels: tuple[Label, ...]

    @classmethod
    def from_json(cls, value: object) -> ImageManifest:
        """Absent texts are empty."""
        fields = Fields(value)
        fields.required("acKind", exactly(IMAGE))
        manifest = cls(
            ac_version=fields.optional("acVersion", string, ""),
            name=fields.optional("name", string, ""),
            labels=fields.optional("labels", listed(Label.from_json), ()),
        )
        fields.finish()
        return manifest

    @classmethod
    def parse(cls, data: bytes) -> ImageManifest:
        """From the bytes of a manifest file."""
        return parsed("image manifest", data, cls.from_json)

    def to_json(self) -> dict[str, object]:
        """The JSON form of what was read."""
        labels = [label.to_json() for label in self.labels]
        return {
            "acKind": IMAGE,
            "acVersion": self.ac_version,
            "name": self.name,
            **pruned({"labels": labels}),
        }


class RuntimeApp(Record):
    """What can be said about an app of a pod."""

    name: str
    image_name: str
    image_id: str
    labels: tuple[Label, ...]

    @classmethod
    def from_json(cls, value: object) -> RuntimeApp:
        """Absent texts are empty."""
        fields = Fields({} if value is None else value)
        name = fields.optional("name", string, "")
        image = fields.optional("image", Fields, None) or Fields({})
        fields.finish()
        app = cls(
            name=name,
            image_name=image.optional("name", string, ""),
            image_id=image.optional("id", string, ""),
            labels=image.optional("labels", listed(Label.from_json), ()),
        )
        image.finish()
        return app

    def to_json(self) -> dict[str, object]:
        """The JSON form of what was read."""
        labels = [label.to_json() for label in self.labels]
        image = {**pruned({"name": self.image_name}), "id": self.image_id, **pruned({"labels": labels})}
        return {"name": self.name, "image": image}


class PodManifest(Record):
    """What can be said about a pod."""

    ac_version: str
    apps: tuple[RuntimeApp, ...]

    @classmethod
    def from_json(cls, value: object) -> PodManifest:
        """Absent texts are empty."""
        fields = Fields(value)
        fields.required("acKind", exactly(POD))
        manifest = cls(
            ac_version=fields.optional("acVersion", string, ""),
            apps=fields.optional("apps", listed(RuntimeApp.from_json), ()),
        )
        fields.finish()
        return manifest

    @classmethod
    def parse(cls, data: bytes) -> PodManifest:
        """From the bytes of a manifest file."""
        return parsed("pod manifest", data, cls.from_json)

    def to_json(self) -> dict[str, object]:
        """The JSON form of what was read."""
        apps = [app.to_json() for app in self.apps]
        return {"acKind": POD, "acVersion": self.ac_version, "apps": apps}
