"""Circles among the dependencies of images."""

from __future__ import annotations

import time

import pytest

from rkt.fetch import find_circle


@pytest.mark.parametrize(
    ("needs", "circle"),
    [
        ({"a": []}, []),
        ({"a": ["b", "c"], "b": ["d"], "c": ["d"], "d": []}, []),
        ({"a": ["a"]}, ["a", "a"]),
        ({"a": ["b"], "b": ["a"]}, ["a", "b", "a"]),
        ({"a": ["b"], "b": ["c"], "c": ["b"]}, ["b", "c", "b"]),
        ({"a": ["b", "c"], "b": ["c"], "c": ["b"]}, ["c", "b", "c"]),
        ({"a": ["b"], "b": [], "x": ["x"]}, []),
    ],
)
def test_circles(needs: dict[str, list[str]], circle: list[str]) -> None:
    assert find_circle(needs, "a") == circle  # type: ignore[arg-type]


def test_many_ways_to_one_image_are_walked_once() -> None:
    needs = {str(n): [str(n + 1), str(n + 2)] for n in range(200)} | {"200": [], "201": []}
    started = time.process_time()
    assert find_circle(needs, "0") == []  # type: ignore[arg-type]
    assert time.process_time() - started < 1
