"""Configurations of images: what to run and how, and which layers make the root (image-spec, config.md).

Docker's own (schema 2, docker save) have the same members. What an image says about its process is kept as it
is written: ports, volumes and users are judged where they are used.
"""

from __future__ import annotations

from appc import jsonfield
from appc.jsonfield import Fields, boolean, listed, obj, string, string_map
from linux.named_tuple import NamedTuple
from oci.errors import InvalidImage
from oci.types.digest import Digest
from oci.types.platform import Platform

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

#: Bytes; a configuration with a long history has 50 000.
LIMIT = 8 << 20


class Process(NamedTuple):
    """The member ``config``. `entrypoint` and `cmd` are None where they are absent."""

    user: str = ""
    entrypoint: tuple[str, ...] | None = None
    cmd: tuple[str, ...] | None = None
    env: tuple[str, ...] = ()
    working_dir: str = ""
    #: Paths and ports (``80``, ``53/udp``), sorted.
    volumes: tuple[str, ...] = ()
    exposed_ports: tuple[str, ...] = ()
    labels: Mapping[str, str] = {}
    stop_signal: str = ""

    @classmethod
    def from_json(cls, value: object) -> Process:
        """The problems of all members are reported together."""
        fields = Fields(value)
        ports = fields.optional("ExposedPorts", _names, None)
        if ports is None:  # what docker wrote before 2014
            ports = tuple(sorted(fields.optional("PortSpecs", listed(string), ())))
        found = cls(
            fields.optional("User", string, ""),
            fields.optional("Entrypoint", listed(string), None),
            fields.optional("Cmd", listed(string), None),
            fields.optional("Env", listed(string), ()),
            fields.optional("WorkingDir", string, ""),
            fields.optional("Volumes", _names, ()),
            ports,
            fields.optional("Labels", string_map, {}),
            fields.optional("StopSignal", string, ""),
        )
        fields.finish()
        return found

    def to_json(self) -> dict[str, object]:
        """The JSON form; what is empty is left out."""
        members: dict[str, object] = {
            "User": self.user,
            "ExposedPorts": {port: {} for port in sorted(self.exposed_ports)},
            "Env": list(self.env),
            "Entrypoint": list(self.entrypoint or ()),
            "Cmd": list(self.cmd or ()),
            "Volumes": {path: {} for path in sorted(self.volumes)},
            "WorkingDir": self.working_dir,
            "Labels": {key: self.labels[key] for key in sorted(self.labels)},
            "StopSignal": self.stop_signal,
        }
        return {name: value for name, value in members.items() if value}

    @property
    def command(self) -> tuple[str, ...]:
        """What is run without arguments of the user's: the entry point, and Cmd behind it."""
        return (self.entrypoint or ()) + (self.cmd or ())


class History(NamedTuple):
    """One step of how the image came to be; an `empty_layer` changed no file."""

    created: str = ""
    created_by: str = ""
    author: str = ""
    comment: str = ""
    empty_layer: bool = False

    @classmethod
    def from_json(cls, value: object) -> History:
        """All members are optional."""
        fields = Fields(value)
        found = cls(
            fields.optional("created", string, ""),
            fields.optional("created_by", string, ""),
            fields.optional("author", string, ""),
            fields.optional("comment", string, ""),
            fields.optional("empty_layer", boolean, default=False),
        )
        fields.finish()
        return found

    def to_json(self) -> dict[str, object]:
        """The JSON form; what is empty is left out."""
        return {name: value for name, value in self._asdict().items() if value}


class ImageConfig(NamedTuple):
    """An image's configuration. `process` is None where the image has none: then it is only built upon."""

    platform: Platform
    process: Process | None = None
    #: Of the plain layers, the lowest first. Empty in docker save's oldest format, which has none.
    diff_ids: tuple[Digest, ...] = ()
    created: str = ""
    author: str = ""
    comment: str = ""
    history: tuple[History, ...] = ()
    #: Members of docker save's oldest format: the IDs of this layer and of the one below it.
    id: str = ""
    parent: str = ""

    @classmethod
    def from_json(cls, value: object) -> ImageConfig:
        """ValueError with every problem."""
        fields = Fields(value)
        found = cls(
            Platform.from_json(value),
            fields.optional("config", Process.from_json, None),
            fields.optional("rootfs", _diff_ids, ()),
            fields.optional("created", string, ""),
            fields.optional("author", string, ""),
            fields.optional("comment", string, ""),
            fields.optional("history", listed(History.from_json), ()),
            fields.optional("id", string, ""),
            fields.optional("parent", string, ""),
        )
        fields.finish()
        return found

    @classmethod
    def parse(cls, data: bytes, what: str) -> ImageConfig:
        """From the bytes of a configuration; `what` names it. InvalidImage lists every problem."""
        try:
            return cls.from_json(jsonfield.parse(data, limit=LIMIT))
        except ValueError as error:
            reasons = "; ".join(jsonfield.reasons(error))
            raise InvalidImage(f"{what}: invalid configuration: {reasons}") from None

    def encode(self) -> bytes:
        """Compact JSON; equal configurations give equal bytes."""
        value: dict[str, object] = {}
        if self.created:
            value["created"] = self.created
        if self.author:
            value["author"] = self.author
        value |= self.platform.to_json()
        if self.process is not None:
            value["config"] = self.process.to_json()
        value["rootfs"] = {"type": "layers", "diff_ids": list(self.diff_ids)}
        if self.history:
            value["history"] = [step.to_json() for step in self.history]
        return jsonfield.encode(value)


def _names(value: object) -> tuple[str, ...]:
    """The keys of an object whose values mean nothing: Go's way to write a set."""
    return tuple(sorted(string(name) for name in obj(value)))


def _diff_ids(value: object) -> tuple[Digest, ...]:
    fields = Fields(value)
    kind = fields.optional("type", string, "layers")
    found = fields.optional("diff_ids", listed(Digest), ())
    fields.finish()
    if kind != "layers":
        raise ValueError(f"type: {jsonfield.quoted(kind)} is unknown (only layers is)")
    return found
