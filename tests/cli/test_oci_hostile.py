"""Hostile layers through the commands: refused or contained, nothing outside touched, nothing left."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fixtures import tars
from fixtures.layouts import base

if TYPE_CHECKING:
    from conftest import Rkt
    from fixtures.layouts import MakeLayout

D, F, L, H = tars.directory, tars.file, tars.symlink, tars.hard_link
ANY = "--insecure-options=image"
pytestmark = [pytest.mark.usefixtures("root"), pytest.mark.needs("namespaces", "overlay")]

REFUSED = {
    "dotdot": [F(b"../escaped", b"x")],
    "dotdot-inside": [F(b"a/../../escaped", b"x")],
    "whiteout-dotdot": [F(b"../.wh.canary")],
    "whiteout-of-dotdot": [F(b"a/.wh...")],
    "twice": [F(b"a", b"1"), F(b"a", b"2")],
    "below-a-file": [F(b"a", b"1"), F(b"a/b", b"2")],
    "link-to-nothing": [H(b"a", b"nowhere")],
    "through-a-link": [L(b"out", b"/"), F(b"out/escaped", b"x")],
    "no-archive": [b"this is no archive" * 64],
}


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    top = tmp_path / "canary"
    top.mkdir()
    (top / "passwd").write_text("root:x:0:0\n")
    return top


def unchanged(canary: Path) -> bool:
    return os.listdir(canary) == ["passwd"] and (canary / "passwd").read_text() == "root:x:0:0\n"


@pytest.mark.parametrize("kind", REFUSED)
@pytest.mark.parametrize("place", ["lower", "upper"])
def test_refused_at_fetch(
    rkt: Rkt, make_layout: MakeLayout, busybox: Path, canary: Path, kind: str, place: str
) -> None:
    """R1, R2; the endless loop of docker2aci's D2 (CVE-2016-8579) among them."""
    layers = [base(busybox), REFUSED[kind]]
    image = make_layout(*(layers if place == "upper" else layers[::-1]))
    started = time.monotonic()
    done = rkt(ANY, "fetch", image, code=254)
    assert time.monotonic() - started < 20
    assert "internal error" not in done.stderr
    assert unchanged(canary)
    assert not list(canary.parent.glob("**/escaped"))
    assert rkt("image", "list", "--no-legend").stdout == ""
    rkt("image", "gc", "--grace-period=0s")
    places = [rkt.directory / "data/cas" / name for name in ("layer", "tree", "tmp", "oci")]
    assert [path for place in places for path in place.rglob("*") if path.is_file()] == []


def test_a_layer_that_is_not_what_its_digest_says(rkt: Rkt, make_layout: MakeLayout, busybox: Path) -> None:
    image = make_layout(base(busybox), diff_ids=["sha256:" + "0" * 64])
    assert "uncompressed" in rkt(ANY, "fetch", image, code=254).stderr
    assert rkt("image", "list", "--no-legend").stdout == ""


def test_links_out_of_the_image_are_the_pods_own(
    rkt: Rkt, make_layout: MakeLayout, busybox: Path, canary: Path
) -> None:
    """A link of a lower layer, and a directory of an upper one in its place: never followed (R2, R6)."""
    image = make_layout(
        base(busybox),
        [L(b"out", str(canary).encode()), L(b"etc2", b"../../../../" + str(canary).encode())],
        [D(b"out"), F(b"out/escaped", b"x"), F(b"out/.wh.passwd"), F(b"etc2/.wh.passwd")],
    )
    done = rkt(ANY, "run", "--net=none", image, "--exec=/bin/ls", "--", "/out")
    assert done.stdout.rpartition("]: ")[2] == "escaped\n"
    assert unchanged(canary)
    assert list(canary.parent.glob("canary/escaped")) == []


def test_devices_and_attributes_of_overlays_are_not_made(
    rkt: Rkt, make_layout: MakeLayout, busybox: Path
) -> None:
    """R5: no device in the store. A layer cannot command overlayfs by attributes of its own."""
    redirect = (b"SCHILY.xattr.trusted.overlay.redirect", b"/etc")
    metacopy = (b"SCHILY.xattr.user.overlay.opaque", b"y")
    image = make_layout(
        [*base(busybox), F(b"lower", b"from below")],
        [
            tars.header(b"disk", b"4", major=8, minor=0),
            tars.header(b"null", b"3", major=1, minor=3),
            tars.header(b"lower", b"3"),
            tars.pax(redirect, metacopy),
            D(b"trick"),
        ],
    )
    script = "ls -a /trick; ls /disk /null /lower 2>&1; find / -xdev -type b"
    done = rkt(ANY, "run", "--net=none", image, "--exec=/bin/sh", "--", "-c", script)
    assert "passwd" not in done.stdout
    assert done.stdout.count("No such file") == 3
    devices = [
        path
        for path in (rkt.directory / "data/cas/layer").rglob("*")
        if path.is_block_device() or (path.is_char_device() and path.stat().st_rdev)
    ]
    assert devices == []


def test_the_image_that_stands_where_system_directories_go_is_refused(
    rkt: Rkt, make_layout: MakeLayout, busybox: Path, canary: Path
) -> None:
    """CVE-2019-19921: /proc of a layer is a link out."""
    image = make_layout(base(busybox), [L(b"proc", str(canary).encode())])
    done = rkt(ANY, "run", "--net=none", image, "--exec=/bin/ls", code=254)
    assert "/proc of the image is not a directory" in done.stderr
    assert unchanged(canary)


def test_what_a_stranger_calls_a_record_is_none(rkt: Rkt, tmp_path: Path) -> None:
    """An ACI that is fetched cannot be a document that names layers of the store."""
    record = b'{"rktKind":"layeredImage","rktVersion":"v1","reference":"","layers":[]}'
    (tmp_path / "forged.aci").write_bytes(record)
    rkt(ANY, "fetch", tmp_path / "forged.aci", code=254)
    assert rkt("image", "list", "--no-legend").stdout == ""


def test_layouts_and_archives_of_devices_and_pipes(rkt: Rkt, make_layout: MakeLayout, busybox: Path) -> None:
    """A FIFO among the blobs does not hold the fetch."""
    image = make_layout(base(busybox))
    blobs = Path(image.split(":")[1]) / "blobs/sha256"
    largest = max(blobs.iterdir(), key=lambda path: path.stat().st_size)
    largest.unlink()
    os.mkfifo(largest)
    assert "is no file" in rkt(ANY, "fetch", image, code=254, timeout=20).stderr
