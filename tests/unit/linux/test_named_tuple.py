"""The lean NamedTuple against the one of typing, on the same class bodies."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
import typing

import pytest

from linux import named_tuple


class Lean(named_tuple.NamedTuple):
    """A record."""

    path: str
    size: int = 0
    owner: str | None = None

    @property
    def large(self) -> bool:
        return self.size > 100


class Typed(typing.NamedTuple):
    """A record."""

    path: str
    size: int = 0
    owner: str | None = None

    @property
    def large(self) -> bool:
        return self.size > 100


@pytest.mark.parametrize("values", [("a",), ("a", 7), ("a", 700, "root")], ids=["one", "two", "all"])
def test_behaves_as_typings(values: tuple[object, ...]) -> None:
    lean, typed = Lean(*values), Typed(*values)
    assert tuple(lean) == tuple(typed)
    assert lean == tuple(typed)
    assert (lean.path, lean.size, lean.owner, lean.large) == (
        typed.path,
        typed.size,
        typed.owner,
        typed.large,
    )
    assert repr(lean) == repr(typed).replace("Typed", "Lean")
    assert lean._asdict() == typed._asdict()
    assert lean._replace(size=9) == typed._replace(size=9)
    assert hash(lean) == hash(typed)
    assert Lean._fields == Typed._fields
    assert copy.deepcopy(lean) == lean
    assert pickle.loads(pickle.dumps(lean)) == lean
    assert isinstance(lean, tuple)
    assert type(copy.copy(lean)) is Lean


def test_keywords_may_stand_for_positions() -> None:
    assert Lean(owner="root", path="a") == ("a", 0, "root")
    assert Lean("a", owner="root") == ("a", 0, "root")


@pytest.mark.parametrize(
    ("values", "named"),
    [((), {}), (("a", 1, "b", "c"), {}), (("a",), {"colour": 1}), (("a",), {"path": "b"})],
    ids=["missing", "too many", "unknown", "twice"],
)
def test_wrong_values_are_refused_as_typings_refuses_them(
    values: tuple[object, ...], named: dict[str, object]
) -> None:
    for cls in (Lean, Typed):
        with pytest.raises(TypeError):
            cls(*values, **named)  # type: ignore[arg-type]


def test_fields_cannot_be_set_nor_added() -> None:
    record = Lean("a")
    with pytest.raises(AttributeError):
        record.path = "b"  # type: ignore[misc]
    with pytest.raises(AttributeError):
        record.colour = "b"  # type: ignore[attr-defined]


def test_a_default_may_not_stand_before_a_field_without() -> None:
    with pytest.raises(TypeError, match="without a default"):
        type(Lean)("Bad", (named_tuple.NamedTuple,), {"__annotations__": {"a": "int", "b": "int"}, "a": 1})


def test_it_loads_neither_typing_nor_collections() -> None:
    code = "import sys; sys.path[:0] = %r; import linux.named_tuple"
    code += "; print([name for name in ('typing', 'collections', 're') if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-ISs", "-c", code % sys.path], check=True, capture_output=True, text=True
    )
    assert done.stdout == "[]\n"
