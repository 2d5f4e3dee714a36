"""Hostile images through the commands (S1): refused or contained, 30 s and 300 MB at most, nothing left.

A canary beside the store, the working directory and the host's mounts must be as before.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import zstandard

from fixtures import measure, tars

if TYPE_CHECKING:
    from conftest import Rkt

pytestmark = pytest.mark.usefixtures("root")
SECONDS, KIB = 30, 300 << 10


class Scene:
    """Runs commands in an empty directory beside a canary, and looks at what they took."""

    def __init__(self, rkt: Rkt, top: Path) -> None:
        self.rkt = rkt
        self.cwd = top / "cwd"
        self.canary = top / "canary"
        self.image = top / "hostile.aci"
        self.cwd.mkdir()
        self.canary.mkdir()
        (self.canary / "passwd").write_text("root:x:0:0\n")
        self.before = self.look()

    def look(self) -> list[tuple[str, int, int, bytes]]:
        found = []
        for path in (self.canary, *sorted(self.canary.rglob("*"))):
            status = path.lstat()
            found.append((
                str(path),
                status.st_mode,
                status.st_mtime_ns,
                path.read_bytes() if path.is_file() else b"",
            ))
        return found

    def run(self, *words: str | Path) -> tuple[int, str]:
        """The exit status and what was said, of a command that keeps to the limits."""
        started = time.monotonic()
        with open(self.canary.parent / "said", "w+b") as said:
            reading, writing = os.pipe()
            with subprocess.Popen(
                measure.command(self.rkt.argv(*words), writing),
                cwd=self.cwd,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                pass_fds=(writing,),
            ):
                os.close(writing)
                code, used = measure.result(reading)
            said.seek(0)
            text = said.read().decode("utf-8", "replace")
        assert time.monotonic() - started < SECONDS, words
        assert used < KIB, f"{words}: {used} KiB"
        assert "Traceback" not in text
        assert "internal error" not in text
        return code, text


@pytest.fixture
def scene(rkt: Rkt, tmp_path: Path) -> Iterator[Scene]:
    top = tmp_path / "scene"
    top.mkdir()
    mounts = Path("/proc/self/mountinfo").read_text()
    scene = Scene(rkt, top)
    yield scene
    assert scene.look() == scene.before, "the canary was touched"
    assert list(scene.cwd.iterdir()) == []
    assert Path("/proc/self/mountinfo").read_text() == mounts
    cas = rkt.directory / "data/cas"
    assert list((cas / "tmp").iterdir()) == []


def refused(canary: bytes) -> dict[str, list[bytes]]:
    up = b"../" * 40 + canary[1:]
    return {
        "absolute name": [tars.file(canary + b"/new")],
        "dot dot": [tars.file(b"rootfs/" + up + b"/new")],
        "through a link": [tars.symlink(b"rootfs/l", canary), tars.file(b"rootfs/l/new")],
        "hard link out": [tars.hard_link(b"rootfs/h", canary + b"/passwd")],
        "sparse": [tars.header(b"rootfs/f", b"S")],
        "second manifest": [tars.file(b"manifest", b"{}")],
        "rootfs2": [tars.file(b"rootfs2/f")],
        "uid -1": [tars.header(b"rootfs/f", uid=(1 << 63 | 0xFFFFFFFF).to_bytes(8, "big"))],
        "a manifest of 64 MiB": [],
    }


@pytest.mark.parametrize("name", refused(b"/c"))
def test_refused_at_fetch(scene: Scene, name: str) -> None:
    manifest = tars.manifest() + b" " * (64 << 20) if "64 MiB" in name else None
    scene.image.write_bytes(tars.image(*refused(os.fsencode(scene.canary))[name], manifest_bytes=manifest))
    code, said = scene.run("--insecure-options=image", "fetch", scene.image)
    assert code == 254, said
    assert scene.run("image", "list", "--no-legend") == (0, "")


def contained(canary: bytes) -> dict[str, list[bytes]]:
    return {
        "devices": [
            tars.header(b"rootfs/kmsg", b"3", major=1, minor=11),
            tars.header(b"rootfs/disk", b"4", major=254),
        ],
        "whiteout": [tars.header(b"rootfs/f", b"3")],
        "links out": [tars.symlink(b"rootfs/etc", canary), tars.symlink(b"rootfs/up", b"../" * 40)],
        "fifo as passwd": [tars.directory(b"rootfs/etc"), tars.header(b"rootfs/etc/passwd", b"6")],
        "setuid": [tars.file(b"rootfs/su", b"x", mode=0o6755)],
        "overlay attributes": [
            tars.pax((b"SCHILY.xattr.trusted.overlay.redirect", b"/../../etc")),
            tars.directory(b"rootfs/d"),
        ],
        "unreadable directories": [tars.directory(b"rootfs/d", 0), tars.directory(b"rootfs/d/e", 0)],
        "200 directories deep": [tars.file(b"rootfs/" + b"d/" * 200 + b"f")],
    }


@pytest.mark.parametrize("name", contained(b"/c"))
def test_contained(scene: Scene, name: str) -> None:
    scene.image.write_bytes(gzip.compress(tars.image(*contained(os.fsencode(scene.canary))[name])))
    code, said = scene.run("--insecure-options=image", "fetch", scene.image)
    assert code == 0, said
    out = scene.canary.parent / "out"
    for verb in ("render", "extract"):
        code, said = scene.run("image", verb, "example.com/app", out)
        assert code == 0, said
        assert not any(path.is_char_device() or path.is_block_device() for path in out.rglob("*"))
        subprocess.run(["rm", "-rf", out], check=True)
    assert scene.run("image", "verify", "example.com/app")[0] == 0
    assert scene.run("image", "gc", "--grace-period=0s")[0] == 0
    assert scene.run("image", "list", "--no-legend") == (0, "")


ZEROS = bytes(16 << 20)
BOMBS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": lambda data: gzip.compress(data, 9),
    "bzip2": lambda data: bz2.compress(data, 9),
    "xz": lzma.compress,
    "zstd": lambda data: zstandard.ZstdCompressor(level=1).compress(data),
}


@pytest.mark.parametrize("kind", BOMBS)
def test_bombs_of_16_gib(scene: Scene, kind: str) -> None:
    compress = BOMBS[kind]
    size = (1 << 95 | 16 << 30).to_bytes(12, "big")
    start = tars.image(tars.header(b"rootfs/zeros", size=size), end=b"")
    member = compress(ZEROS)
    with open(scene.image, "wb") as file:
        file.write(compress(start))
        for _ in range((16 << 30) // len(ZEROS)):
            file.write(member)
        file.write(compress(tars.END))
    code, said = scene.run("--insecure-options=image", "fetch", scene.image)
    assert code == 254
    assert "over the limit" in said or "bytes when uncompressed" in said or "a file of" in said
    subprocess.run(["rm", scene.image], check=True)
