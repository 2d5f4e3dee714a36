"""Labels: what, besides the name, tells images apart (spec/aci.md)."""

from __future__ import annotations

from appc.jsonfield import Fields, listed, quoted, string
from appc.types import platforms
from appc.types.names import ACIdentifier
from appc.types.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Self


class Label(Record):
    """One name and its value, which may be empty."""

    name: ACIdentifier
    value: str = ""

    @classmethod
    def from_json(cls, value: object) -> Label:
        """Refuses the name ``name``: the image has its own field for that."""
        fields = Fields(value)
        name = fields.required("name", ACIdentifier)
        text = fields.optional("value", string, "")
        if name == "name":
            fields.problem("name", 'invalid label name: "name"')
        fields.finish()
        return cls(name=name, value=text)

    def to_json(self) -> dict[str, object]:
        """The JSON form."""
        return {"name": self.name, "value": self.value}


class Labels(tuple[Label, ...]):
    """Labels in the order in which they were written; names are unique."""

    __slots__ = ()

    @classmethod
    def from_json(cls, value: object) -> Self:
        """``null`` is an empty list, as in Go."""
        labels = cls(listed(Label.from_json)(value)) if value is not None else cls()
        labels.check()
        return labels

    @classmethod
    def from_mapping(cls, values: Mapping[str, str]) -> Self:
        """Sorted by name, so that the same labels give the same bytes."""
        return cls.from_json([{"name": name, "value": values[name]} for name in sorted(values)])

    def check(self) -> None:
        """ValueError for a repeated name, or an os and arch that no host has."""
        check_unique(label.name for label in self)
        if (os := self.get("os")) is not None:
            platforms.check(os, self.get("arch"))

    def get(self, name: str) -> str | None:
        """The value of the label `name`; None if there is none."""
        return next((label.value for label in self if label.name == name), None)

    def as_dict(self) -> dict[str, str]:
        """Name to value, in order."""
        return {label.name: label.value for label in self}

    def match(self, wanted: Mapping[str, str]) -> bool:
        """Whether every label of `wanted` is here with the same value; more labels here do no harm."""
        return all(self.get(name) == value for name, value in wanted.items())

    def to_json(self) -> list[dict[str, object]]:
        """The JSON form."""
        return [label.to_json() for label in self]


def check_unique(names: Iterable[str]) -> None:
    """ValueError that tells the first name to come twice."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ValueError(f"the name {quoted(name)} occurs twice")
        seen.add(name)
