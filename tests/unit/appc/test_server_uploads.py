"""Uploads under way: one worker at a time, going on where it was, bounds in number, time and room."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from typing import NamedTuple

import pytest

from appc.server import uploads
from appc.server.uploads import Busy, Full, OutOfStep, Uploads


@pytest.fixture
def store(tmp_path: Path) -> Uploads:
    made = Uploads(str(tmp_path))
    made.prepare()
    return made


def test_the_directory_and_what_is_in_it_are_nobody_elses(store: Uploads, tmp_path: Path) -> None:
    token = store.start()
    upload = store.open(token)
    assert upload is not None
    with upload:
        upload.put(uploads.MANIFEST, b"x")
    for path in (tmp_path / uploads.DIRECTORY, tmp_path / uploads.DIRECTORY / token):
        assert path.stat().st_mode & 0o777 == 0o700


def test_two_cannot_work_on_one_upload(store: Uploads) -> None:
    token = store.start()
    with store.open(token) or pytest.fail("lost"), pytest.raises(Busy):
        store.open(token)
    with store.open(token) or pytest.fail("lost"):
        pass


def test_a_broken_stream_keeps_what_came_and_goes_on_there(store: Uploads) -> None:
    with store.open(store.start()) or pytest.fail("lost") as upload:

        def breaking() -> object:
            yield b"abc"
            raise ConnectionError

        with pytest.raises(ConnectionError):
            upload.receive(breaking(), 0, 6, 6)  # type: ignore[arg-type]
        assert (upload.offset(), upload.has(uploads.IMAGE)) == (3, False)
        with pytest.raises(OutOfStep):
            upload.receive([b"x"], 4, 6, 2)
        upload.receive([b"def"], 3, 6, 3)
        assert upload.read(uploads.IMAGE) == b"abcdef"


def test_sent_again_from_the_start_it_is_the_new_one(store: Uploads) -> None:
    with store.open(store.start()) or pytest.fail("lost") as upload:
        upload.receive([b"a long first attempt"], 0, 20, 20)
        upload.receive([b"short"], 0, None, None)
        assert upload.read(uploads.IMAGE) == b"short"


def test_only_so_many_and_what_is_old_makes_room(
    store: Uploads, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "MOST", 2)
    first = store.start()
    store.start()
    with pytest.raises(Busy, match="too many"):
        store.start()
    long_ago = time.time() - uploads.EXPIRY - 1
    os.utime(tmp_path / uploads.DIRECTORY / first, (long_ago, long_ago))
    with store.open(first) or pytest.fail("lost"), pytest.raises(Busy, match="too many"):
        store.start()  # it is being worked on
    store.start()
    assert store.open(first) is None


class _Usage(NamedTuple):
    free: int


def test_no_room_is_said_before_anything_is_written(store: Uploads, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: _Usage(100 << 20))
    with store.open(store.start()) or pytest.fail("lost") as upload:
        with pytest.raises(Full):
            upload.receive([b"x"], 0, 1 << 30, 1 << 30)
        assert not os.listdir(upload.path)
