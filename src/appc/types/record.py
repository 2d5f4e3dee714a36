"""Immutable records with named fields: what frozen dataclasses give, without their start-up cost.

``import dataclasses`` alone takes 13 ms of CPU, and each class half a millisecond more; these types are
loaded by every ``rkt run``. A type checker treats a record as a frozen, keyword-only dataclass.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Self, dataclass_transform
else:

    def dataclass_transform(**_: object):
        """What type checkers read; nothing at run time."""
        return lambda cls: cls


class _RecordType(type):
    """Turns annotations into slots and values into defaults."""

    _fields: tuple[str, ...]
    _defaults: dict[str, object]

    def __new__(mcs, name: str, bases: tuple[type, ...], namespace: dict[str, Any]) -> _RecordType:
        fields = tuple(namespace.get("__annotations__", ()))
        namespace["_defaults"] = {field: namespace.pop(field) for field in fields if field in namespace}
        namespace["_fields"] = fields
        namespace["__slots__"] = fields
        return super().__new__(mcs, name, bases, namespace)


@dataclass_transform(kw_only_default=True, frozen_default=True, eq_default=True)
class Record(metaclass=_RecordType):
    """The base of all records. Fields are the annotated names of the subclass, given by keyword."""

    def __init__(self, **values: object) -> None:
        cls = type(self)
        for field in cls._fields:
            if field in values:
                value = values.pop(field)
            elif field in cls._defaults:
                value = cls._defaults[field]
            else:
                raise TypeError(f"{cls.__name__}: {field} is missing")
            object.__setattr__(self, field, value)
        if values:
            raise TypeError(f"{cls.__name__}: there is no field {next(iter(values))}")

    def replace(self, **changes: object) -> Self:
        """A copy with `changes`; nothing is checked again."""
        return type(self)(**{**{name: getattr(self, name) for name in type(self)._fields}, **changes})

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__} is immutable")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{type(self).__name__} is immutable")

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in type(self)._fields)

    def __hash__(self) -> int:
        return hash((type(self), *(getattr(self, name) for name in type(self)._fields)))

    def __repr__(self) -> str:
        values = ", ".join(f"{name}={getattr(self, name)!r}" for name in type(self)._fields)
        return f"{type(self).__name__}({values})"

    def __reduce__(self) -> tuple[object, ...]:
        return _restore, (type(self), {name: getattr(self, name) for name in type(self)._fields})


def _restore(cls: type[Record], values: dict[str, object]) -> Record:
    return cls(**values)
