"""Landlock: what a process gave up is gone, what it named is there."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from linux import landlock
from linux.process import fork_and_read

pytestmark = pytest.mark.skipif(landlock.version() == 0, reason="this kernel has no Landlock")


def restricted(rules: list[tuple[Path, int]], attempt: Callable[[], object]) -> str:
    def work() -> bytes:
        landlock.restrict([(os.open(path, os.O_PATH), rights) for path, rights in rules])
        try:
            attempt()
        except OSError as error:
            return os.strerror(error.errno or 0).encode()
        return b"done"

    return fork_and_read(work).decode()


def test_nothing_named_nothing_left(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("x")
    for attempt in (
        lambda: (tmp_path / "f").read_text(),
        lambda: (tmp_path / "new").touch(),
        lambda: os.listdir(tmp_path),
        lambda: (tmp_path / "f").unlink(),
        lambda: os.truncate(tmp_path / "f", 0),
    ):
        assert restricted([], attempt) == "Permission denied"


def test_reading_is_not_writing(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("x")
    rules = [(tmp_path, landlock.READ)]
    assert restricted(rules, lambda: (tmp_path / "f").read_text()) == "done"
    assert restricted(rules, lambda: (tmp_path / "f").write_text("y")) == "Permission denied"
    assert restricted(rules, lambda: os.execv("/bin/true", ["true"])) == "Permission denied"
    assert (tmp_path / "f").read_text() == "x"


def test_building_a_tree_in_one_place(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    rules = [(tmp_path / "in", landlock.BUILD)]

    def build() -> None:
        top = tmp_path / "in"
        (top / "d").mkdir()
        (top / "d/f").write_text("x")
        os.link(top / "d/f", top / "g")
        (top / "l").symlink_to("/etc")
        os.mkfifo(top / "p")
        (top / "g").unlink()

    assert restricted(rules, build) == "done"
    assert restricted(rules, lambda: (tmp_path / "out/f").touch()) == "Permission denied"
    assert restricted(rules, lambda: os.rename(tmp_path / "in/d", tmp_path / "out/d")) in {
        "Permission denied",
        "Invalid cross-device link",
    }
    assert list((tmp_path / "out").iterdir()) == []


def test_no_device_nodes(tmp_path: Path, root: None) -> None:
    rules = [(tmp_path, landlock.BUILD)]
    attempt = lambda: os.mknod(tmp_path / "null", 0o20666, os.makedev(1, 3))  # noqa: E731
    assert restricted(rules, attempt) == "Permission denied"
