"""Images stacked by overlayfs give what rendering gives, wherever `stacked` says so."""

from __future__ import annotations

import io
import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from appc.aci import extract, treehash
from appc.render import Step
from appc.stacking import shape, stacked
from appc.types.image_id import ImageID
from fixtures import tars

ROOT = tars.directory(b"rootfs")
pytestmark = pytest.mark.usefixtures("root")


def image_id(number: int) -> ImageID:
    return ImageID(f"sha512-{number:0128x}")


def images(*layers: list[bytes]) -> list[bytes]:
    return [tars.image(*layer) for layer in layers]


def order(data: list[bytes], steps: list[int] | None = None) -> tuple[int, ...] | None:
    wanted = [Step(image_id(number), None) for number in (steps or range(len(data)))]
    found = stacked(wanted, lambda one: shape(io.BytesIO(data[int(one[7:], 16)])))
    return None if found is None else tuple(int(one[7:], 16) for one in found)


SAME = {
    "files": ([tars.file(b"rootfs/a", b"1")], [tars.file(b"rootfs/a", b"2"), tars.file(b"rootfs/b")]),
    "directories that both describe": (
        [tars.directory(b"rootfs/d", 0o700), tars.file(b"rootfs/d/a")],
        [tars.directory(b"rootfs/d", 0o711), tars.file(b"rootfs/d/b")],
    ),
    "a directory over a link": (
        [tars.symlink(b"rootfs/d", b"/etc"), tars.directory(b"rootfs/etc")],
        [tars.directory(b"rootfs/d"), tars.file(b"rootfs/d/b")],
    ),
    "a file over a directory, a directory over that": (
        [tars.directory(b"rootfs/d"), tars.file(b"rootfs/d/low")],
        [tars.file(b"rootfs/d", b"x")],
        [tars.directory(b"rootfs/d", 0o750), tars.file(b"rootfs/d/high")],
    ),
    "a link over a directory": (
        [tars.directory(b"rootfs/d"), tars.file(b"rootfs/d/low")],
        [tars.symlink(b"rootfs/d", b"elsewhere")],
    ),
    "a device that hides nothing": ([tars.file(b"rootfs/a")], [tars.header(b"rootfs/null", b"3", major=1)]),
    "hard links in one image": (
        [tars.file(b"rootfs/a", b"1"), tars.hard_link(b"rootfs/b", b"rootfs/a")],
        [tars.file(b"rootfs/a", b"2")],
    ),
    "a directory that only the lower one implies": (
        [tars.file(b"rootfs/d/low")],
        [tars.directory(b"rootfs/d", 0o711), tars.file(b"rootfs/d/high")],
    ),
}


@pytest.mark.needs("overlay")
@pytest.mark.parametrize("name", SAME)
def test_stacked_is_rendered(name: str, tmp_path: Path) -> None:
    data = images(*SAME[name])
    found = order(data)
    assert found == tuple(reversed(range(len(data))))
    lowers = []
    for number, one in enumerate(data):
        (tmp_path / f"{number}.aci").write_bytes(one)
        (tmp_path / f"{number}").mkdir()
        with open(tmp_path / f"{number}.aci", "rb") as file:
            extract.extract(file, str(tmp_path / f"{number}"))
        lowers.insert(0, str(tmp_path / f"{number}"))
    (tmp_path / "rendered").mkdir()
    with ExitStack() as stack:
        files = [stack.enter_context(open(tmp_path / f"{n}.aci", "rb")) for n in range(len(data))]
        extract.extract_layers([extract.Layer(file) for file in files], str(tmp_path / "rendered"))
    with overlay(lowers, tmp_path / "stacked"):
        assert digest(tmp_path / "stacked") == digest(tmp_path / "rendered")


@contextmanager
def overlay(lowers: list[str], where: Path) -> Iterator[None]:
    where.mkdir()
    options = "ro,lowerdir=" + ":".join(lowers)
    subprocess.run(["mount", "-t", "overlay", "-o", options, "overlay", where], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", where], check=True)


def digest(top: Path) -> str:
    fd = os.open(top, os.O_RDONLY | os.O_DIRECTORY)
    try:
        return treehash.measure(fd).hash
    finally:
        os.close(fd)


@pytest.mark.parametrize(
    "layers",
    [
        ([tars.directory(b"rootfs/d", 0o700)], [tars.file(b"rootfs/d/implied")]),
        ([tars.file(b"rootfs/null")], [tars.header(b"rootfs/null", b"3", major=1)]),
        ([tars.file(b"rootfs/a")], [tars.hard_link(b"rootfs/b", b"rootfs/a")]),
    ],
    ids=["an implied directory", "a device over a file", "a hard link to a lower image"],
)
def test_not_the_same(layers: tuple[list[bytes], ...]) -> None:
    assert order(images(*layers)) is None


def test_a_whitelist_is_not_the_same() -> None:
    one = Step(image_id(0), frozenset({b"a"}))
    assert stacked([one], lambda _: shape(io.BytesIO(tars.image()))) is None


def test_an_image_without_a_rootfs_entry_is_not_stacked_on_one_with() -> None:
    data = [tars.image(), tars.image(tars.file(b"rootfs/a"), rootfs=False)]
    assert order(data) is None
    assert order(data[::-1]) == (1, 0)


def test_a_diamond_is_stacked_once() -> None:
    data = images([tars.file(b"rootfs/d")], [tars.file(b"rootfs/b")], [tars.file(b"rootfs/c")], [])
    assert order(data, [0, 1, 0, 2, 3]) == (3, 2, 0, 1)
