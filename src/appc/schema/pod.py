"""Pod manifests (spec/pods.md): several apps that share a network and volumes."""

from __future__ import annotations

from appc.jsonfield import Fields, boolean, encode, listed, quoted, string_map
from appc.schema.app import App
from appc.schema.kind import AC_VERSION, POD, ac_version, exactly, parsed, pruned
from appc.types.annotations import Annotations
from appc.types.image_id import ImageID
from appc.types.isolators import Isolators
from appc.types.labels import Labels, check_unique
from appc.types.mounts import Mount
from appc.types.names import ACIdentifier, ACName
from appc.types.ports import ExposedPort
from appc.types.record import Record
from appc.types.semver import SemVer
from appc.types.volumes import Volume

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class RuntimeImage(Record):
    """The image of an app: its ID decides; name and labels tell what it was found by."""

    id: ImageID
    name: ACIdentifier | None = None
    labels: Labels = Labels()

    @classmethod
    def from_json(cls, value: object) -> RuntimeImage:
        """Only the ID is required."""
        fields = Fields(value)
        image = cls(
            name=fields.optional("name", ACIdentifier, None),
            id=fields.required("id", ImageID),
            labels=fields.optional("labels", Labels.from_json, Labels()),
        )
        fields.finish()
        return image

    def to_json(self) -> dict[str, object]:
        """The JSON form; what is empty is left out."""
        return pruned({"name": self.name, "id": self.id, "labels": self.labels.to_json()})


class RuntimeApp(Record):
    """One app of a pod. `app` replaces the image's own app as a whole; None leaves that as it is."""

    name: ACName
    image: RuntimeImage
    app: App | None = None
    read_only_root_fs: bool = False
    mounts: tuple[Mount, ...] = ()
    annotations: Annotations = Annotations()

    @classmethod
    def from_json(
        cls, value: object, *, annotations: Callable[[object], Annotations] = Annotations.from_json
    ) -> RuntimeApp:
        """`annotations` reads the annotations."""
        fields = Fields(value)
        app = cls(
            name=fields.required("name", ACName),
            image=fields.required("image", RuntimeImage.from_json),
            app=fields.optional("app", App.from_json, None),
            read_only_root_fs=fields.optional("readOnlyRootFS", boolean, default=False),
            mounts=fields.optional("mounts", listed(Mount.from_json), ()),
            annotations=fields.optional("annotations", annotations, Annotations()),
        )
        fields.finish()
        return app

    def to_json(self) -> dict[str, object]:
        """The JSON form; what is empty or false is left out."""
        return pruned({
            "name": self.name,
            "image": self.image.to_json(),
            "app": self.app.to_json() if self.app else None,
            "readOnlyRootFS": self.read_only_root_fs or None,
            "mounts": [mount.to_json() for mount in self.mounts],
            "annotations": self.annotations.to_json(),
        })


class PodManifest(Record):
    """A pod. It is reified, ready to run, when every mount point of every app has a volume."""

    apps: tuple[RuntimeApp, ...]
    ac_version: SemVer = AC_VERSION
    volumes: tuple[Volume, ...] = ()
    isolators: Isolators = Isolators()
    annotations: Annotations = Annotations()
    ports: tuple[ExposedPort, ...] = ()
    user_annotations: Mapping[str, str] = {}
    user_labels: Mapping[str, str] = {}

    @classmethod
    def from_json(cls, value: object, *, by_the_letter: bool = False) -> PodManifest:
        """Raises Problems (a ValueError) with every problem.

        `by_the_letter` restricts the names of annotations to AC names, as the text of spec/pods.md does;
        the reference, stage1 images and every known pod use identifiers (``coreos.com/rkt/…``) there.
        """
        annotations = Annotations.from_pod_json if by_the_letter else Annotations.from_json
        fields = Fields(value)
        fields.required("acKind", exactly(POD))
        manifest = cls(
            ac_version=fields.required("acVersion", ac_version),
            apps=fields.required(
                "apps", listed(lambda app: RuntimeApp.from_json(app, annotations=annotations))
            ),
            volumes=fields.optional("volumes", listed(Volume.from_json), ()),
            isolators=fields.optional("isolators", Isolators.from_json, Isolators()),
            annotations=fields.optional("annotations", annotations, Annotations()),
            ports=fields.optional("ports", listed(ExposedPort.from_json), ()),
            user_annotations=fields.optional("userAnnotations", string_map, {}),
            user_labels=fields.optional("userLabels", string_map, {}),
        )
        if fields.sound:
            manifest._check(fields)
        fields.finish()
        return manifest

    @classmethod
    def parse(cls, data: bytes, *, by_the_letter: bool = False) -> PodManifest:
        """From the bytes of a manifest file; InvalidManifest lists every problem."""
        return parsed("pod manifest", data, lambda value: cls.from_json(value, by_the_letter=by_the_letter))

    def _check(self, fields: Fields) -> None:
        """What concerns several members: unique names, and mounts of volumes that exist."""
        named = {
            "apps": [app.name for app in self.apps],
            "volumes": [volume.name for volume in self.volumes],
        }
        for member, names in named.items():
            try:
                check_unique(names)
            except ValueError as error:
                fields.problem(member, str(error))
        for index, app in enumerate(self.apps):
            for number, mount in enumerate(app.mounts):
                if mount.app_volume is None and mount.volume not in named["volumes"]:
                    where = f"apps[{index}].mounts[{number}].volume"
                    fields.problem(where, f"the pod has no volume {quoted(mount.volume)}")

    def app(self, name: str) -> RuntimeApp | None:
        """The app `name`; None if the pod has none."""
        return next((app for app in self.apps if app.name == name), None)

    def volume(self, name: str) -> Volume | None:
        """The volume `name`; None if the pod has none."""
        return next((volume for volume in self.volumes if volume.name == name), None)

    def to_json(self) -> dict[str, object]:
        """The JSON form, in the specification's order; what is empty is left out, but for the apps."""
        head: dict[str, object] = {
            "acVersion": self.ac_version,
            "acKind": POD,
            "apps": [app.to_json() for app in self.apps],
        }
        return head | pruned({
            "volumes": [volume.to_json() for volume in self.volumes],
            "isolators": self.isolators.to_json(),
            "annotations": self.annotations.to_json(),
            "ports": [port.to_json() for port in self.ports],
            "userAnnotations": {name: self.user_annotations[name] for name in sorted(self.user_annotations)},
            "userLabels": {name: self.user_labels[name] for name in sorted(self.user_labels)},
        })

    def encode(self) -> bytes:
        """Compact JSON; equal manifests give equal bytes."""
        return encode(self.to_json())
