"""The environment of an app (spec/aci.md, ``app.environment``)."""

from __future__ import annotations

from appc.jsonfield import Fields, listed, quoted, string
from appc.types.labels import check_unique
from appc.types.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Self

_FIRST = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_"
_LATER = _FIRST + "0123456789.-"


def variable_name(value: object) -> str:
    """A letter or ``_``, then letters, digits, ``_``, ``.`` and ``-``."""
    name = string(value)
    if not name:
        raise ValueError("the name of an environment variable may not be empty")
    if name.strip(_LATER):
        raise ValueError(f"{quoted(name)} is not a name for an environment variable")
    if name[0] not in _FIRST:
        raise ValueError(f"{quoted(name)}: the name of a variable must start with a letter or _")
    return name


class EnvironmentVariable(Record):
    """One name and its value, which may be empty and is never substituted."""

    name: str
    value: str = ""

    @classmethod
    def from_json(cls, value: object) -> EnvironmentVariable:
        """An absent value is an empty one."""
        fields = Fields(value)
        name = fields.required("name", variable_name)
        text = fields.optional("value", string, "")
        fields.finish()
        return cls(name=name, value=text)

    def to_json(self) -> dict[str, object]:
        """The JSON form."""
        return {"name": self.name, "value": self.value}


class Environment(tuple[EnvironmentVariable, ...]):
    """Variables in the order in which they were written; names are unique."""

    __slots__ = ()

    @classmethod
    def from_json(cls, value: object) -> Self:
        """``null`` is an empty list, as in Go."""
        if value is None:
            return cls()
        variables = cls(listed(EnvironmentVariable.from_json)(value))
        check_unique(variable.name for variable in variables)
        return variables

    @classmethod
    def from_mapping(cls, values: Mapping[str, str]) -> Self:
        """In the order of `values`."""
        return cls.from_json([{"name": name, "value": value} for name, value in values.items()])

    def get(self, name: str) -> str | None:
        """The value of `name`; None if it is not set."""
        return next((variable.value for variable in self if variable.name == name), None)

    def as_dict(self) -> dict[str, str]:
        """Name to value, in order."""
        return {variable.name: variable.value for variable in self}

    def to_json(self) -> list[dict[str, object]]:
        """The JSON form."""
        return [variable.to_json() for variable in self]
