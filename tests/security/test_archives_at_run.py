"""Hostile archives through the commands: fetch, extract, render, run, gc, rm (S1, S6; R1 to R5).

How the archive reader treats each of them is tested beside it; here is what a user sees: a refusal within
30 s and 300 MB, nothing left in the store, nothing written outside, no other command held up.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fixtures import measure, tars
from linux.mount import api, info

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from conftest import Rkt

pytestmark = [pytest.mark.usefixtures("root")]
IMAGE = "--insecure-options=image"
GIB = 1 << 30
SECONDS, MEGABYTES = 30, 300


@pytest.fixture
def canary(tmp_path: Path) -> Iterator[Path]:
    canary = tmp_path / "canary"
    canary.mkdir()
    (canary / "passwd").write_bytes(b"host")
    before = [(entry.id, entry.target) for entry in info.mounts()]
    yield canary
    assert os.listdir(canary) == ["passwd"]
    assert (canary / "passwd").read_bytes() == b"host"
    assert [(entry.id, entry.target) for entry in info.mounts()] == before


def _stored(rkt: Rkt) -> list[str]:
    """What the store holds of images: blobs, manifests, trees, and temporary files, not its index."""
    cas = rkt.directory / "data/cas"
    found = [path for kind in ("blob", "imageManifest", "tree", "tmp") for path in (cas / kind).rglob("*")]
    return sorted(str(path) for path in found if not path.is_dir())


class Measured:
    """A command that ended: its code, what it said, how long it took and the most memory it had."""

    def __init__(self, argv: list[str], meanwhile: Callable[[], object] | None = None) -> None:
        start = time.monotonic()
        reading, writing = os.pipe()
        with subprocess.Popen(
            measure.command(argv, writing),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            pass_fds=(writing,),
        ) as process:
            os.close(writing)
            if meanwhile is not None:
                meanwhile()
            assert process.stdout is not None
            self.output = process.stdout.read()
            self.code, size = measure.result(reading)
        self.seconds = time.monotonic() - start
        self.megabytes = size / 1024


def zeros(count: int, compress: Callable[[bytes], bytes], *, members: int = 64) -> bytes:
    """`count` zeros, compressed as many equal members one after the other: quick to make."""
    return compress(bytes(count // members)) * members


def bomb(kind: str) -> bytes:
    """An image with one file of 4 GiB zeros."""
    compress = {
        "gzip": lambda data: gzip.compress(data, 6),
        "bzip2": bz2.compress,
        "xz": lambda data: lzma.compress(data, preset=0),
    }[kind]
    head = tars.image(tars.header(b"rootfs/zeros", size=4 * GIB), end=b"")
    return compress(head) + zeros(4 * GIB, compress) + compress(tars.END)


@pytest.mark.parametrize("kind", ["gzip", "bzip2", "xz"])
def test_s1_bombs_end_early_and_hold_nobody_up(rkt: Rkt, tmp_path: Path, canary: Path, kind: str) -> None:
    """R4. The store is as before, and other commands answer meanwhile (podman: 14 minutes under its lock)."""
    path = tmp_path / "bomb.aci"
    path.write_bytes(bomb(kind))
    slowest = 0.0

    def others() -> None:
        nonlocal slowest
        for _ in range(3):
            start = time.monotonic()
            rkt("image", "list")
            rkt("list")
            slowest = max(slowest, time.monotonic() - start)

    done = Measured(rkt.argv(IMAGE, "fetch", path), others)
    assert done.code == 254, done.output
    assert "over the limit of 100 to 1" in done.output, done.output
    assert "Traceback" not in done.output
    assert done.seconds < SECONDS
    assert done.megabytes < MEGABYTES
    assert slowest < 10
    assert _stored(rkt) == []


def test_s1_an_archive_larger_than_the_disk(rkt: Rkt, tmp_path: Path, canary: Path) -> None:
    """A full store is told as such, is as before afterwards, and goes on working (D9)."""
    data = rkt.directory / "data"
    api.mount("small", str(data), "tmpfs", 0, "size=24m")
    try:
        path = tmp_path / "large.aci"
        noise = os.urandom(32 << 20)
        path.write_bytes(tars.image(tars.file(b"rootfs/noise", noise)))
        done = Measured(rkt.argv(IMAGE, "fetch", path))
        assert done.code == 254
        assert "No space left" in done.output or "space" in done.output
        assert "Traceback" not in done.output
        assert _stored(rkt) == []
        path.write_bytes(tars.image(tars.file(b"rootfs/little", b"x")))
        rkt(IMAGE, "fetch", path)
    finally:
        api.umount(str(data))


def hostile(canary: bytes) -> dict[str, list[bytes]]:
    up = b"../" * 40 + canary[1:]
    return {
        "dot dot": [tars.file(b"rootfs/" + up + b"/new", b"evil")],
        "absolute": [tars.file(canary + b"/new", b"evil")],
        "through a link, CVE-2021-29136": [
            tars.symlink(b"rootfs/l", up),
            tars.file(b"rootfs/l/new", b"evil"),
        ],
        "two steps, CVE-2026-17106": [
            tars.symlink(b"rootfs/a", b"."),
            tars.symlink(b"rootfs/a/b", up),
            tars.file(b"rootfs/a/b/new", b"evil"),
        ],
        "hard link out": [tars.hard_link(b"rootfs/h", canary + b"/passwd")],
        "sparse": [tars.pax((b"GNU.sparse.realsize", b"1125899906842624")), tars.file(b"rootfs/f", b"x")],
        "negative size": [tars.header(b"rootfs/f", size=b"\xff" * 12)],
        "size without content": [tars.header(b"rootfs/f", size=1 << 40)],
        "the manifest is a link": [],
        "the manifest is a fifo": [],
        "the manifest is huge": [],
    }


def _whole(name: str, members: list[bytes]) -> bytes:
    if name == "the manifest is a link":
        return tars.symlink(b"manifest", b"/etc/passwd") + tars.directory(b"rootfs") + tars.END
    if name == "the manifest is a fifo":
        return tars.header(b"manifest", b"6") + tars.directory(b"rootfs") + tars.END
    if name == "the manifest is huge":
        return tars.image(manifest_bytes=tars.manifest() + b" " * (64 << 20))
    return tars.image(*members)


def test_s1_hostile_archives_are_refused_by_every_command(rkt: Rkt, tmp_path: Path, canary: Path) -> None:
    """docker CVE-2014-9356 and so on: fetch, run and prepare refuse; nothing stays in the store."""
    empty = tmp_path / "empty"
    empty.mkdir()
    path = tmp_path / "hostile.aci"
    for name, members in hostile(os.fsencode(canary)).items():
        path.write_bytes(gzip.compress(_whole(name, members), 1))
        done = Measured(["/usr/bin/env", "-C", str(empty), *rkt.argv(IMAGE, "run", "--net=none", path)])
        assert done.code == 254, (name, done.output)
        assert "Traceback" not in done.output
        assert "internal error" not in done.output
        assert done.seconds < SECONDS
        assert done.megabytes < MEGABYTES
    assert _stored(rkt) == []
    assert os.listdir(empty) == []
    assert rkt("list", "--no-legend").stdout == ""


def test_s6_devices_and_fifos_are_never_opened(rkt: Rkt, tmp_path: Path, canary: Path) -> None:
    """rkt's fetch of an image with /kmsg never ended (R5). All commands that read trees are tried."""
    path = tmp_path / "special.aci"
    path.write_bytes(
        tars.image(
            tars.header(b"rootfs/kmsg", b"3", major=1, minor=11),
            tars.header(b"rootfs/tty", b"3", major=5, minor=0),
            tars.header(b"rootfs/loop", b"4", major=7, minor=0),
            tars.directory(b"rootfs/etc"),
            tars.header(b"rootfs/etc/passwd", b"6"),
            tars.header(b"rootfs/fifo", b"6"),
            manifest_bytes=tars.manifest(app={"exec": ["/bin/x"], "user": "0", "group": "0"}),
        )
    )
    fetched = rkt(IMAGE, "fetch", path, timeout=SECONDS).stdout.strip()
    rkt("image", "verify", fetched, timeout=SECONDS)
    for verb in ("extract", "render"):
        rkt("image", verb, fetched, tmp_path / verb, timeout=SECONDS)
        assert not any(
            node.is_char_device() or node.is_block_device() for node in (tmp_path / verb).rglob("*")
        )
    rkt("image", "export", fetched, tmp_path / "out.aci", timeout=SECONDS)
    uuid = rkt(IMAGE, "prepare", "--quiet", path, timeout=SECONDS).stdout.strip()
    rkt("rm", uuid, timeout=SECONDS)
    rkt("image", "gc", "--grace-period=0s", timeout=SECONDS)
    assert _stored(rkt) == []


def test_extract_and_render_write_only_where_they_are_told(rkt: Rkt, tmp_path: Path, canary: Path) -> None:
    """A target that is a link is refused; the image's own links are written, and never followed."""
    path = tmp_path / "links.aci"
    up = b"../" * 40 + os.fsencode(canary)[1:]
    path.write_bytes(
        tars.image(
            tars.symlink(b"rootfs/etc", os.fsencode(canary)),
            tars.symlink(b"rootfs/up", up),
            tars.directory(b"rootfs/d", 0o000),
            tars.file(b"rootfs/d/f", b"x", mode=0o4755),
        )
    )
    fetched = rkt(IMAGE, "fetch", path).stdout.strip()
    for verb in ("extract", "render"):
        target = tmp_path / verb
        target.symlink_to(canary)
        rkt("image", verb, fetched, target, code=254)
        target.unlink()
        rkt("image", verb, fetched, target)
        assert os.readlink(target / "rootfs/etc") == str(canary)
        rkt("image", verb, "--overwrite", fetched, target)
        rkt("image", verb, "--overwrite", "--rootfs-only", fetched, target)
    rkt("image", "rm", fetched)
