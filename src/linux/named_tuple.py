"""`NamedTuple` as in typing, without what importing typing and collections costs.

``import typing`` takes 5 ms of CPU (it loads re, enum and functools), and each class another 0.2 ms, as its
``__new__`` is compiled from text. A command that lives for 60 ms and has a dozen such classes notices. For
a type checker this is `typing.NamedTuple` itself.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NamedTuple as NamedTuple
else:
    from _collections import _tuplegetter

    class _Type(type):
        """Turns annotations into fields and their values into defaults."""

        def __new__(mcs, name, bases, namespace):
            if not bases:
                return super().__new__(mcs, name, (tuple,), namespace)
            fields = tuple(namespace.get("__annotations__", ()))
            defaults = {field: namespace[field] for field in fields if field in namespace}
            if tuple(defaults) != fields[len(fields) - len(defaults) :]:
                raise TypeError(f"{name}: a field without a default follows one that has one")
            for index, field in enumerate(fields):
                namespace[field] = _tuplegetter(index, None)
            if not fields:  # a subclass of a class with fields adds none
                fields, defaults = bases[0]._fields, bases[0]._field_defaults
            namespace.update(_fields=fields, _field_defaults=defaults, __match_args__=fields)
            namespace.setdefault("__slots__", ())
            return super().__new__(mcs, name, bases, namespace)

    class NamedTuple(metaclass=_Type):
        """The base of tuples with named fields: the annotated names of the subclass, in their order."""

        __slots__ = ()
        _fields = ()
        _field_defaults = {}  # noqa: RUF012  never changed

        def __new__(cls, *values, **named):
            fields = cls._fields
            if len(values) != len(fields) or named:
                if len(values) > len(fields):
                    raise TypeError(f"{cls.__name__}: {len(fields)} fields, {len(values)} values")
                values = [*values, *(cls._value_of(field, named) for field in fields[len(values) :])]
                if named:
                    raise TypeError(f"{cls.__name__}: no place for {next(iter(named))}")
            return tuple.__new__(cls, values)

        @classmethod
        def _value_of(cls, field, named):
            if field in named:
                return named.pop(field)
            if field in cls._field_defaults:
                return cls._field_defaults[field]
            raise TypeError(f"{cls.__name__}: {field} is missing")

        @classmethod
        def _make(cls, values):
            return cls(*values)

        def _replace(self, **changes):
            return type(self)(**{**self._asdict(), **changes})

        def _asdict(self):
            return dict(zip(self._fields, self, strict=True))

        def __repr__(self):
            values = ", ".join(f"{name}={value!r}" for name, value in zip(self._fields, self, strict=True))
            return f"{type(self).__name__}({values})"

        def __getnewargs__(self):
            return tuple(self)
