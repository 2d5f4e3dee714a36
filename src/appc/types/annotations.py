"""Annotations: what images and pods say about themselves (spec/aci.md).

The well-known names ``created``, ``homepage`` and ``documentation`` have a checked value, wherever
annotations occur. Everything else is free text, and must never decide about security.
"""

from __future__ import annotations

from appc.jsonfield import Fields, Problems, listed, string
from appc.types.labels import check_unique
from appc.types.names import ACIdentifier, ACName
from appc.types.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Self

SUPPORTS_SYSTEMD_NOTIFY = "appc.io/executor/supports-systemd-notify"
#: What docker2aci notes of an image that it converts, and what we note beside it.
DOCKER = "appc.io/docker/"
ENTRYPOINT, CMD, STOP_SIGNAL = DOCKER + "entrypoint", DOCKER + "cmd", DOCKER + "stopsignal"


class Annotation(Record):
    """One name and its value, which may be empty."""

    name: ACIdentifier | ACName
    value: str = ""

    @classmethod
    def from_json(
        cls, value: object, *, name: Callable[[object], ACIdentifier | ACName] = ACIdentifier
    ) -> Annotation:
        """`name` reads the name: images have identifiers there, pods by the letter of the text AC names."""
        fields = Fields(value)
        found = fields.required("name", name)
        text = fields.optional("value", string, "")
        fields.finish()
        try:
            _check_value(found, text)
        except ValueError as error:
            raise Problems([("value", str(error))]) from None
        return cls(name=found, value=text)

    def to_json(self) -> dict[str, object]:
        """The JSON form."""
        return {"name": self.name, "value": self.value}


class Annotations(tuple[Annotation, ...]):
    """Annotations in the order in which they were written; names are unique."""

    __slots__ = ()

    @classmethod
    def from_json(cls, value: object) -> Self:
        """``null`` is an empty list, as in Go."""
        return cls._read(value, ACIdentifier)

    @classmethod
    def from_pod_json(cls, value: object) -> Self:
        """As spec/pods.md has it: names are AC names, without dots and slashes."""
        return cls._read(value, ACName)

    @classmethod
    def _read(cls, value: object, name: Callable[[object], ACIdentifier | ACName]) -> Self:
        if value is None:
            return cls()
        annotations = cls(listed(lambda item: Annotation.from_json(item, name=name))(value))
        check_unique(annotation.name for annotation in annotations)
        return annotations

    @classmethod
    def from_mapping(cls, values: Mapping[str, str]) -> Self:
        """In the order of `values`."""
        return cls.from_json([{"name": name, "value": value} for name, value in values.items()])

    def get(self, name: str) -> str | None:
        """The value of the annotation `name`; None if there is none."""
        return next((annotation.value for annotation in self if annotation.name == name), None)

    @property
    def of_docker(self) -> bool:
        """Whether they are those of an image that was converted from one of Docker's."""
        return any(annotation.name.startswith(DOCKER) for annotation in self)

    def as_dict(self) -> dict[str, str]:
        """Name to value, in order."""
        return {annotation.name: annotation.value for annotation in self}

    def overridden(self, others: Annotations) -> Self:
        """These with the values of `others` in place, and what only `others` has behind (spec/ace.md)."""
        changes = others.as_dict()
        kept = [
            annotation.replace(value=changes.pop(annotation.name, annotation.value)) for annotation in self
        ]
        added = [annotation for annotation in others if annotation.name in changes]
        return type(self)(kept + added)

    def to_json(self) -> list[dict[str, object]]:
        """The JSON form."""
        return [annotation.to_json() for annotation in self]


def _check_value(name: str, value: str) -> None:
    if name == "created":
        from appc.types.date import Date

        Date(value)
    elif name in {"homepage", "documentation"}:
        from appc.types.url import URL

        URL(value)
