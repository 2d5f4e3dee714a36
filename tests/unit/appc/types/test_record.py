"""Records behave as frozen dataclasses do."""

from __future__ import annotations

import copy
import pickle

import pytest

from appc.types.record import Record


class Point(Record):
    """Two numbers."""

    x: int
    y: int = 0


def test_fields_and_defaults() -> None:
    point = Point(x=1)
    assert (point.x, point.y) == (1, 0)
    assert repr(point) == "Point(x=1, y=0)"
    assert point.replace(y=2) == Point(x=1, y=2)
    assert point != Point(x=2)
    assert point != (1, 0)
    assert {Point(x=1): "found"}[point] == "found"


def test_wrong_fields() -> None:
    with pytest.raises(TypeError, match="x is missing"):
        Point(y=1)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="there is no field z"):
        Point(x=1, z=1)  # type: ignore[call-arg]


def test_records_are_immutable() -> None:
    point = Point(x=1)
    with pytest.raises(AttributeError):
        point.x = 2  # type: ignore[misc]
    with pytest.raises(AttributeError):
        del point.x
    with pytest.raises(AttributeError):
        point.z = 2  # type: ignore[attr-defined]


def test_copies() -> None:
    point = Point(x=1)
    assert copy.deepcopy(point) == point
    assert pickle.loads(pickle.dumps(point)) == point
