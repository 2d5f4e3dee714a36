"""Layers unpacked one by one and mounted as an overlay show what flattening them makes, entry by entry."""

from __future__ import annotations

import os
import random
import stat
import subprocess
import tempfile
from pathlib import Path
from typing import IO, TYPE_CHECKING

import pytest

from appc.aci.errors import InvalidArchive
from fixtures import tars
from linux.mount import api, overlay
from oci.blobs import BlobDirectory
from oci.layers import flatten, stack, write
from oci.layers.flatten import Source

if TYPE_CHECKING:
    from collections.abc import Iterator

D, F, L, H = tars.directory, tars.file, tars.symlink, tars.hard_link
pytestmark = [pytest.mark.usefixtures("root"), pytest.mark.needs("overlay")]


@pytest.fixture
def place() -> Iterator[Path]:
    """A filesystem of its own: the kernel lays no overlay over another one."""
    with tempfile.TemporaryDirectory() as top:
        api.mount("tmpfs", top, "tmpfs", 0, "mode=755")
        try:
            yield Path(top)
        finally:
            api.umount(top)


class Layers:
    """Makes layers, and closes them at the end."""

    def __init__(self) -> None:
        self.files: list[IO[bytes]] = []

    def __call__(self, *members: bytes) -> Source:
        file = tempfile.TemporaryFile()  # noqa: SIM115  closed by the fixture
        self.files.append(file)
        file.write(b"".join(members) + tars.END)
        file.seek(0)
        return Source(file)  # type: ignore[arg-type]


@pytest.fixture
def layers() -> Iterator[Layers]:
    found = Layers()
    yield found
    for file in found.files:
        file.close()


def listing(top: Path) -> dict[str, tuple[object, ...]]:
    """Everything about each entry, but for times of directories that no layer describes."""
    found: dict[str, tuple[object, ...]] = {}
    inodes: dict[int, str] = {}
    for directory, names, files in os.walk(top):
        for name in sorted(names + files):
            path = Path(directory, name)
            status = path.lstat()
            shown = str(path.relative_to(top))
            content: object = None
            if stat.S_ISREG(status.st_mode):
                content = path.read_bytes()
                if status.st_nlink > 1:
                    content = content, inodes.setdefault(status.st_ino, shown)
            elif stat.S_ISLNK(status.st_mode):
                content = os.readlink(path)
            attributes = {
                key: os.getxattr(path, key, follow_symlinks=False)
                for key in os.listxattr(path, follow_symlinks=False)
            }
            when = int(status.st_mtime) if status.st_mtime < 1e9 else "now"
            found[shown] = status.st_mode, status.st_uid, status.st_gid, when, content, attributes
    return found


def both(place: Path, sources: list[Source]) -> tuple[dict[str, object], dict[str, object]] | None:
    """What an overlay of the layers shows and what flattening makes; None when they cannot be stacked."""
    flat = place / "flat"
    flat.mkdir()
    flatten.to_directory(sources, str(flat))
    unpacked, directories = [], []
    for number, source in enumerate(sources):
        directory = place / f"layer{number}"
        directory.mkdir()
        one = stack.unpack(source, str(directory))
        if not one.links_below:
            fd = os.open(directory, os.O_RDONLY)
            stack.mark(fd, one)
            stack.mark(fd, one)
            os.close(fd)
        unpacked.append(one)
        directories.append(str(directory))
    if not stack.stackable(unpacked):
        return None
    for name in ("upper", "work", "merged"):
        (place / name).mkdir()
    merged = place / "merged"
    overlay.mount(directories[::-1], str(place / "upper"), str(place / "work"), str(merged))
    try:
        return listing(merged), listing(flat)  # type: ignore[return-value]
    finally:
        api.umount(str(merged))


def test_an_overlay_shows_what_flattening_makes(place: Path, layers: Layers) -> None:
    sources = [
        layers(
            D(b"etc", mtime=5), F(b"etc/a", b"1", mtime=6), F(b"etc/b", b"1"), D(b"opt"), F(b"opt/x", b"x"),
            F(b"tool", b"t", mode=0o4755, uid=7), H(b"tool2", b"tool"), L(b"lib", b"usr/lib"),
            D(b"var", 0o1777),
            F(b"var/gone/deep", b"1"), D(b"re"), F(b"re/old", b"1"), F(b"node", b"file"),
        ),
        layers(
            D(b"etc", 0o700, mtime=9), F(b"etc/.wh.a"), F(b"etc/c", b"2"), D(b"opt", mtime=3),
            F(b"opt/.wh..wh..opq"), F(b"opt/y", b"y"), F(b".wh.lib"), D(b"var"), F(b"var/.wh.gone"),
            F(b".wh.re"), D(b"re", 0o711), F(b"re/new", b"2"), tars.header(b"node", b"3", major=1, minor=3),
        ),
        layers(F(b"etc2/z", b"3"), D(b"lib"), F(b"lib/here", b"3"), D(b"var"), F(b"var/gone", b"a file")),
    ]  # fmt: skip
    found = both(place, sources)
    assert found is not None
    shown, made = found
    assert shown == made
    assert "etc/a" not in shown
    assert "node" not in shown
    assert shown["tool"][0] == stat.S_IFREG | 0o4755  # type: ignore[index]


@pytest.mark.parametrize(
    "top",
    [
        [H(b"link", b"d/a")],  # into the layer below
        [F(b"d/new", b"2")],  # in a directory that only the layer below describes
        [F(b"d/.wh.a")],
    ],
)
def test_what_an_overlay_would_show_otherwise_is_not_stacked(
    place: Path, layers: Layers, top: list[bytes]
) -> None:
    assert both(place, [layers(D(b"d", 0o700, uid=5), F(b"d/a", b"1")), layers(*top)]) is None


def test_layers_of_chance(place: Path, layers: Layers) -> None:
    """Whatever the layers: stacked they show what flattened they are, or are not stackable."""
    chance = random.Random(20160505)
    compared = 0
    for number in range(12):
        sources = [layers(*_members(chance)) for _ in range(3)]
        top = place / str(number)
        top.mkdir()
        try:
            found = both(top, sources)
        except InvalidArchive:
            continue
        if found is not None:
            compared += 1
            assert found[0] == found[1]
    assert compared >= 4


def _members(chance: random.Random) -> list[bytes]:
    """A layer that describes its directories, with a few of everything."""
    found = [D(b"a", 0o750, mtime=chance.randrange(9)), D(b"b", mtime=chance.randrange(9))]
    for directory in (b"a/", b"b/", b""):
        for name in chance.sample([b"1", b"2", b"3", b"4"], 3):
            kind = chance.randrange(7)
            if kind < 2:
                found.append(
                    F(directory + name, b"%d" % chance.randrange(99), mode=chance.choice([0o644, 0o755]))
                )
            elif kind == 2:
                found.append(L(directory + name, b"/x"))
            elif kind == 3:
                found += [D(directory + name, 0o711), F(directory + name + b"/in", b"x")]
            elif kind < 6:
                found.append(F(directory + b".wh." + name))
        if chance.randrange(5) == 0:
            found.append(F(directory + b".wh..wh..opq"))
    return found


def test_the_changes_of_an_overlay_become_a_layer(place: Path, layers: Layers) -> None:
    """What a build does on top of an image: write, change, delete, replace a directory."""
    base = layers(
        D(b"etc"), F(b"etc/a", b"1"), F(b"etc/b", b"1"), D(b"d"), F(b"d/old", b"1"), F(b"keep", b"1")
    )
    for name in ("lower", "upper", "work", "merged"):
        (place / name).mkdir()
    flatten.to_directory([base], str(place / "lower"))
    merged = place / "merged"
    overlay.mount([str(place / "lower")], str(place / "upper"), str(place / "work"), str(merged))
    try:
        script = "rm etc/a; echo 2 >etc/b; rm -r d; mkdir d; echo new >d/new; ln keep twin; chmod 711 etc"
        subprocess.run(["sh", "-ec", script], cwd=merged, check=True)
        expected = listing(merged)
    finally:
        api.umount(str(merged))
    blobs = BlobDirectory(str(place / "blobs"))
    fd = os.open(place / "upper", os.O_RDONLY)
    change = write.from_directory(fd, blobs, changes=True)
    os.close(fd)
    (place / "again").mkdir()
    with blobs.open(change.descriptor) as file:
        flatten.to_directory([base, Source(file, change.diff_id)], str(place / "again"))
    assert listing(place / "again") == expected
    assert set(expected) == {"etc", "etc/b", "d", "d/new", "keep", "twin"}


def test_hostile_layers_reach_nothing_outside(place: Path, layers: Layers, tmp_path: Path) -> None:
    """CVE-2014-9357, CVE-2018-15664, CVE-2021-30465 and their kind: the canary stays as it was."""
    canary = tmp_path / "canary"
    canary.mkdir()
    (canary / "file").write_text("untouched")
    before = listing(tmp_path)
    outside = str(canary).encode()
    attacks = [
        [L(b"a", outside), F(b"a/file", b"owned")],
        [[L(b"a", outside)], [F(b"a/file", b"owned")]],
        [[L(b"a", outside)], [F(b"a/.wh.file")]],
        [[L(b"a", outside)], [F(b"a/.wh..wh..opq")]],
        [[L(b"a", outside)], [D(b"a", 0o777, uid=1)]],
        [[L(b"a", outside)], [H(b"b", b"a/file")]],
        [L(b"a", b"../" * 30 + outside[1:]), H(b"b", b"a")],
        [F(b"../" * 30 + outside[1:] + b"/file", b"owned")],
        [F(b"/" + outside + b"/file", b"contained")],
        [tars.header(b"mem", b"3", major=1, minor=1), H(b"m2", b"mem")],
        [tars.header(b"etc/passwd", b"6")],
    ]
    for number, attack in enumerate(attacks):
        members = attack if isinstance(attack[0], list) else [attack]
        sources = [layers(*one) for one in members]  # type: ignore[misc]
        for way in ("flat", "stack"):
            directory = place / f"{way}{number}"
            directory.mkdir()
            try:
                if way == "flat":
                    told = flatten.to_directory(sources, str(directory))
                    assert "seccomp" in told.walls
                else:
                    for source in sources:
                        one = stack.unpack(source, str(directory))
                        fd = os.open(directory, os.O_RDONLY)
                        try:
                            stack.mark(fd, one)
                        finally:
                            os.close(fd)
            except (InvalidArchive, OSError):
                pass
        for path in place.rglob("*"):
            mode = path.lstat().st_mode
            assert not stat.S_ISBLK(mode)
            assert not stat.S_ISCHR(mode) or path.lstat().st_rdev == 0
    assert listing(tmp_path) == before
