"""Pods on disk: phases, locks, lookup by UUID and name, ranges of user IDs, collection."""

from __future__ import annotations

import os
from concurrent.futures import ProcessPoolExecutor
from typing import TYPE_CHECKING

import pytest

from rkt.errors import RktError
from rkt.pods import collection, phases, uid_ranges
from rkt.pods.directory import PodDirectory
from rkt.pods.pod import Pod, PodBusy

if TYPE_CHECKING:
    from pathlib import Path

UUIDS = ("11111111-2222-4333-8444-555555555555", "11111111-aaaa-4333-8444-555555555555")


@pytest.fixture
def pods(tmp_path: Path) -> PodDirectory:
    return PodDirectory(str(tmp_path))


def test_a_new_pod_is_locked_and_being_prepared(pods: PodDirectory) -> None:
    with pods.create() as pod:
        assert os.listdir(f"{pods.root}/prepare") == [pod.uuid]
        assert os.listdir(f"{pods.root}/embryo") == []
        other = Pod.open(pods.root, pod.uuid)
        assert other is not None
        with other:
            assert other.state() == "preparing"
            with pytest.raises(PodBusy, match="in use"):
                other.lock()
    with Pod.open(pods.root, pod.uuid) as again:  # type: ignore[union-attr]
        assert again.state() == "aborted prepare"


@pytest.mark.parametrize(
    ("phase", "locked", "name"),
    [
        ("prepared", False, "prepared"),
        ("run", True, "running"),
        ("run", False, "exited"),
        ("exited-garbage", True, "exited deleting"),
        ("exited-garbage", False, "exited garbage"),
        ("garbage", True, "deleting"),
        ("garbage", False, "garbage"),
    ],
)
def test_state_is_phase_and_lock(pods: PodDirectory, phase: str, locked: bool, name: str) -> None:
    with pods.create() as pod:
        pod.move(phase)
        if not locked:
            pod.close()
        with Pod.open(pods.root, pod.uuid) as seen:  # type: ignore[union-attr]
            assert seen.state() == name


def test_reading_goes_on_while_the_pod_moves(pods: PodDirectory) -> None:
    with pods.create() as pod:
        pod.write("pod", b"{}")
        with Pod.open(pods.root, pod.uuid) as reader:  # type: ignore[union-attr]
            pod.move(phases.RUN)
            assert reader.read("pod") == b"{}"
            reader.refresh()
            assert reader.phase == phases.RUN


def test_a_pod_that_another_command_took_is_not_taken_twice(pods: PodDirectory) -> None:
    with pods.create() as pod:
        pod.move(phases.PREPARED)
    with Pod.open(pods.root, pod.uuid) as first, Pod.open(pods.root, pod.uuid) as second:  # type: ignore[union-attr]
        first.lock()
        first.move(phases.RUN)
        first.close()
        with pytest.raises(PodBusy, match="no longer in state prepared"):
            second.lock()


def test_a_link_in_place_of_a_pod_is_no_pod(pods: PodDirectory, tmp_path: Path) -> None:
    os.makedirs(f"{pods.root}/run")
    os.symlink(tmp_path, f"{pods.root}/run/{UUIDS[0]}")
    assert Pod.open(pods.root, UUIDS[0]) is None


class TestLookup:
    @pytest.fixture
    def two(self, pods: PodDirectory) -> PodDirectory:
        for uuid in UUIDS:
            os.makedirs(f"{pods.root}/prepared/{uuid}")
        return pods

    def test_by_prefix(self, two: PodDirectory) -> None:
        with two.get("11111111-a") as pod:
            assert pod.uuid == UUIDS[1]

    def test_ambiguous(self, two: PodDirectory) -> None:
        with pytest.raises(RktError, match="ambiguous") as refused:
            two.get("1111")
        assert refused.value.hint is not None
        assert all(uuid in refused.value.hint for uuid in UUIDS)

    @pytest.mark.parametrize("word", ["ffff", "../prepared", "no such", "*"])
    def test_no_match(self, two: PodDirectory, word: str) -> None:
        with pytest.raises(RktError, match="no matches found for"):
            two.get(word)

    def test_empty(self, two: PodDirectory) -> None:
        with pytest.raises(RktError, match="UUID cannot be empty"):
            two.get("")

    def test_by_name_even_if_it_looks_like_a_prefix(self, pods: PodDirectory) -> None:
        with pods.create(name="cafe") as named:
            pass
        with pods.get("cafe") as found:
            assert found.uuid == named.uuid


class TestNames:
    def test_a_name_belongs_to_one_pod(self, pods: PodDirectory) -> None:
        with pods.create(name="web"), pytest.raises(RktError, match="in use"):
            pods.create(name="web")

    @pytest.mark.parametrize("name", ["", "-web", "a/b", "a b", "x" * 64, UUIDS[0], "web\n"])
    def test_malformed(self, pods: PodDirectory, name: str) -> None:
        with pytest.raises(RktError, match="cannot be a pod name"):
            pods.create(name=name)

    def test_one_of_many_at_once_gets_it(self, pods: PodDirectory) -> None:
        with ProcessPoolExecutor(4) as pool:
            won = list(pool.map(_create_named, [pods.data_dir] * 12))
        assert won.count(True) == 1


def _create_named(data_dir: str) -> bool:
    try:
        pod = PodDirectory(data_dir).create(name="only")
    except RktError:
        return False
    pod.move(phases.PREPARED)
    return True


class TestRanges:
    def test_ranges_are_unique_between_processes(self, tmp_path: Path) -> None:
        with ProcessPoolExecutor(4) as pool:
            # One UUID prefix for all: every search starts at the same place.
            shifts = list(pool.map(_reserve, [str(tmp_path)] * 40, [f"11111111-{n:04x}" for n in range(40)]))
        assert len(set(shifts)) == 40
        assert all(shift % 65536 == 0 and shift >= 1 << 30 for shift in shifts)

    def test_released_and_collected(self, tmp_path: Path) -> None:
        first, _ = uid_ranges.reserve(str(tmp_path), UUIDS[0])
        second, _ = uid_ranges.reserve(str(tmp_path), UUIDS[1])
        late = tmp_path / "pods/prepare" / UUIDS[1]  # it came after all pods were listed
        late.mkdir(parents=True)
        assert uid_ranges.collect(str(tmp_path), {UUIDS[0]}) == []
        late.rmdir()
        assert uid_ranges.collect(str(tmp_path), {UUIDS[0]}) == [second]
        uid_ranges.release(str(tmp_path), first)
        uid_ranges.release(str(tmp_path), first)
        assert os.listdir(tmp_path / "uid-ranges") == []


def _reserve(data_dir: str, uuid: str) -> int:
    return uid_ranges.reserve(data_dir, uuid)[0]


class _Said:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, text: str) -> None:
        self.lines.append(text)

    def collecting(self, uuid: str) -> None:
        self.lines.append(f"collecting {uuid}")

    def spared(self, uuid: str) -> None:
        self.lines.append(f"spared {uuid}")

    def failed(self, text: str) -> None:
        self.lines.append(f"failed {text}")


def test_mark_moves_what_has_ended_and_nothing_that_is_held(pods: PodDirectory) -> None:
    with pods.create() as exited:
        exited.move(phases.RUN)
    with pods.create() as aborted:
        pass
    with pods.create() as prepared:
        prepared.move(phases.PREPARED)
    with pods.create() as running, pods.create():
        running.move(phases.RUN)
        said = _Said()
        collection.mark(pods, said, expire_prepared=3600)
        assert sorted(said.lines) == [
            f'moving failed prepare "{aborted.uuid}" to garbage',
            f'moving pod "{exited.uuid}" to garbage',
        ]
        assert os.listdir(f"{pods.root}/run") == [running.uuid]
        collection.mark(pods, said, expire_prepared=0)
        assert said.lines[-1] == f'moving expired prepared pod "{prepared.uuid}" to garbage'
