"""Unfinished downloads: whose they are, what survives a crash, when they go."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from appc.http.download import State
from rkt.fetch import partial as partials
from rkt.fetch.partial import Partial, collect

ADDRESS = "https://example.com/a.aci"
STATE = State('"one"', "", 100)


def test_an_unused_file_is_removed(tmp_path: Path) -> None:
    with Partial(str(tmp_path), ADDRESS) as partial:
        assert os.path.exists(partial.path)
        assert partial.state() is None
    assert list(tmp_path.iterdir()) == []


def test_what_was_begun_is_there_the_next_time(tmp_path: Path) -> None:
    with Partial(str(tmp_path), ADDRESS) as partial:
        partial.remember(STATE)
        os.write(partial.fd, b"abc")
    with Partial(str(tmp_path), ADDRESS) as partial:
        assert partial.state() == STATE
        assert os.pread(partial.fd, 10, 0) == b"abc"
        partial.discard()
    assert list(tmp_path.iterdir()) == []


def test_bytes_of_an_earlier_boot_count_only_if_they_were_synced(tmp_path: Path) -> None:
    with Partial(str(tmp_path), ADDRESS) as partial:
        partial.remember(STATE)
        os.write(partial.fd, b"abc")
    etag = next(tmp_path.glob("*.etag"))
    state = json.loads(etag.read_text())
    etag.write_text(json.dumps({**state, "bootId": "another"}))
    with Partial(str(tmp_path), ADDRESS) as partial:
        assert partial.state() is None
    etag.write_text(json.dumps({**state, "bootId": "another", "synced": 3}))
    with Partial(str(tmp_path), ADDRESS) as partial:
        assert partial.state() == STATE


def test_a_failure_syncs_what_came(tmp_path: Path) -> None:
    class FailureError(Exception):
        pass

    try:
        with Partial(str(tmp_path), ADDRESS) as partial:
            partial.remember(STATE)
            os.write(partial.fd, b"abc")
            raise FailureError
    except FailureError:
        pass
    assert json.loads(next(tmp_path.glob("*.etag")).read_text())["synced"] == 3


def test_a_state_that_makes_no_sense_is_none(tmp_path: Path) -> None:
    with Partial(str(tmp_path), ADDRESS) as partial:
        os.write(partial.fd, b"abc")
        for text in ("", "{", "[]", "{}", '{"url":"https://other/"}'):
            Path(partial.path + ".etag").write_text(text)
            assert partial.state() is None
        partial.discard()


def test_one_at_a_time_and_nobody_removes_the_next_ones_file(tmp_path: Path) -> None:
    with Partial(str(tmp_path), ADDRESS) as first:
        other = (
            "import sys; sys.path[:0] = sys.argv[3:]\n"
            "from rkt.fetch.partial import Partial\n"
            "import os\n"
            "with Partial(sys.argv[1], sys.argv[2]) as p:\n"
            "    os.write(p.fd, b'second'); print('got it', flush=True); sys.stdin.readline()\n"
        )
        source = str(Path(partials.__file__).parents[2])
        with subprocess.Popen(
            [sys.executable, "-c", other, str(tmp_path), ADDRESS, source],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdout is not None
            assert process.stdin is not None
            time.sleep(0.3)
            os.write(first.fd, b"first")
            first.discard()
            os.close(first.fd)  # the lock goes; the other one makes a file of its own
            assert process.stdout.readline() == "got it\n"
            first.fd = os.open("/dev/null", os.O_RDONLY)
            first.discard()
            assert Path(first.path).read_bytes() == b"second"
            process.stdin.write("\n")
            process.stdin.flush()
    assert Path(first.path).read_bytes() == b"second"


def test_old_ones_are_collected_and_others_left(tmp_path: Path) -> None:
    old, young, busy = (f"https://example.com/{n}.aci" for n in ("old", "young", "busy"))
    for address in (old, young, busy):
        with Partial(str(tmp_path), address) as partial:
            partial.remember(STATE)
            os.write(partial.fd, b"abc")
    (tmp_path / "something else").write_text("")
    (tmp_path / ("0" * 128 + ".etag")).write_text("")  # its file is gone
    paths = {address: Partial(str(tmp_path), address).path for address in (old, young, busy)}
    for path in (paths[old], paths[old] + ".etag", paths[busy], tmp_path / ("0" * 128 + ".etag")):
        os.utime(path, (0, 0))
    with Partial(str(tmp_path), busy):
        os.utime(paths[busy], (0, 0))
        removed = collect(str(tmp_path))
    assert sorted(removed) == sorted([
        os.path.basename(paths[old]),
        os.path.basename(paths[old]) + ".etag",
        "0" * 128,
        "0" * 128 + ".etag",
    ])
    assert os.path.exists(paths[young])
    assert os.path.exists(paths[busy])
    assert (tmp_path / "something else").exists()
    assert collect(str(tmp_path / "missing")) == []
