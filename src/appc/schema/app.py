"""The app of an image: what to run, as whom, with what (spec/aci.md, ``app``)."""

from __future__ import annotations

from appc.jsonfield import Fields, between, listed, nonempty, quoted, string, string_map
from appc.schema.kind import pruned
from appc.types.environment import Environment
from appc.types.isolators import Isolators
from appc.types.labels import check_unique
from appc.types.mounts import MountPoint
from appc.types.ports import Port
from appc.types.record import Record
from appc.types.volumes import HIGHEST_ID

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

PRE_START = "pre-start"
POST_STOP = "post-stop"
#: NGROUPS_MAX: the kernel refuses more, and rkt hung over 70 000.
MOST_GROUPS = 65536


class EventHandler(Record):
    """A program that runs before (``pre-start``) or after (``post-stop``) the app."""

    name: str
    exec: tuple[str, ...] = ()

    @classmethod
    def from_json(cls, value: object) -> EventHandler:
        """The list of arguments may be missing or empty."""
        fields = Fields(value)
        name = fields.required("name", _event)
        arguments = fields.optional("exec", listed(string), ())
        fields.finish()
        return cls(name=name, exec=arguments)

    def to_json(self) -> dict[str, object]:
        """The JSON form."""
        return {"name": self.name, "exec": list(self.exec)}


class App(Record):
    """An app. `exec` may be empty: then whoever runs it must give one. `working_directory` is "" for "/"."""

    user: str
    group: str
    exec: tuple[str, ...] = ()
    event_handlers: tuple[EventHandler, ...] = ()
    supplementary_gids: tuple[int, ...] = ()
    working_directory: str = ""
    environment: Environment = Environment()
    mount_points: tuple[MountPoint, ...] = ()
    ports: tuple[Port, ...] = ()
    isolators: Isolators = Isolators()
    user_annotations: Mapping[str, str] = {}
    user_labels: Mapping[str, str] = {}

    @classmethod
    def from_json(cls, value: object) -> App:
        """Every problem of the app is reported together."""
        fields = Fields(value)
        app = cls(
            exec=fields.optional("exec", listed(string), ()),
            event_handlers=fields.optional("eventHandlers", _handlers, ()),
            user=fields.required("user", identity),
            group=fields.required("group", identity),
            supplementary_gids=fields.optional("supplementaryGIDs", _groups, ()),
            working_directory=fields.optional("workingDirectory", _directory, ""),
            environment=fields.optional("environment", Environment.from_json, Environment()),
            mount_points=fields.optional("mountPoints", listed(MountPoint.from_json), ()),
            ports=fields.optional("ports", listed(Port.from_json), ()),
            isolators=fields.optional("isolators", Isolators.from_json, Isolators()),
            user_annotations=fields.optional("userAnnotations", string_map, {}),
            user_labels=fields.optional("userLabels", string_map, {}),
        )
        fields.finish()
        return app

    def handler(self, name: str) -> EventHandler | None:
        """The event handler `name`; None if the app has none."""
        return next((handler for handler in self.event_handlers if handler.name == name), None)

    def to_json(self) -> dict[str, object]:
        """The JSON form, in the specification's order; what is empty is left out."""
        return pruned({
            "exec": list(self.exec),
            "eventHandlers": [handler.to_json() for handler in self.event_handlers],
            "user": self.user,
            "group": self.group,
            "supplementaryGIDs": list(self.supplementary_gids),
            "workingDirectory": self.working_directory,
            "environment": self.environment.to_json(),
            "mountPoints": [point.to_json() for point in self.mount_points],
            "ports": [port.to_json() for port in self.ports],
            "isolators": self.isolators.to_json(),
            "userAnnotations": {name: self.user_annotations[name] for name in sorted(self.user_annotations)},
            "userLabels": {name: self.user_labels[name] for name in sorted(self.user_labels)},
        })


def identity(value: object) -> str:
    """A user or group: a name, a number up to 2^32 - 2, or the path of a file whose owner it is.

    Numbers with a sign or beyond 32 bits are refused here: passed on, they wrap to root (CVE-2024-40635).
    """
    text = nonempty(value)
    if text.startswith("/"):
        return text
    if any(character < " " or character in ":\x7f" for character in text):
        raise ValueError(f"{quoted(text)} is no name of a user or group")
    digits = text[1:] if text[0] in "+-" else text
    if digits and not digits.strip("0123456789"):
        if digits is not text and text[0] in "+-":
            raise ValueError(f"{quoted(text)} is no ID: a sign is not allowed")
        if len(digits.lstrip("0")) > 10 or int(digits) > HIGHEST_ID:
            raise ValueError(f"{quoted(text)} is no ID: the highest is {HIGHEST_ID}")
    return text


def _event(value: object) -> str:
    name = string(value)
    if name not in {PRE_START, POST_STOP}:
        raise ValueError(f"{quoted(name)} is no event (must be {PRE_START} or {POST_STOP})")
    return name


def _handlers(value: object) -> tuple[EventHandler, ...]:
    handlers = listed(EventHandler.from_json)(value)
    check_unique(handler.name for handler in handlers)
    return handlers


def _groups(value: object) -> tuple[int, ...]:
    groups = listed(between(0, HIGHEST_ID))(value)
    if len(groups) > MOST_GROUPS:
        raise ValueError(f"{len(groups)} groups are more than the {MOST_GROUPS} that the kernel allows")
    return groups


def _directory(value: object) -> str:
    path = string(value)
    if path and not path.startswith("/"):
        raise ValueError(f"{quoted(path)} is not an absolute path")
    return path
