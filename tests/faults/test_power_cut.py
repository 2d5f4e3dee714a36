"""The power fails right after a command has returned: what it said is done, is there and verifies.

The store lies on an ext4 of its own whose backing file is copied at the very moment, with a journal that
would not write anything by itself for a quarter of an hour. The copy is mounted and read, as after a boot.
"""

from __future__ import annotations

import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import Rkt

pytestmark = [
    pytest.mark.usefixtures("root"),
    pytest.mark.skipif(not Path("/dev/loop-control").exists(), reason="no loop devices in this /dev"),
]
IMAGE = "--insecure-options=image"
_MEGABYTES = 96


@contextmanager
def mounted(image: Path, where: Path) -> Iterator[None]:
    """Mount the filesystem in the file `image`, its journal asleep."""
    where.mkdir(exist_ok=True)
    options = "loop,commit=900,noauto_da_alloc"
    subprocess.run(["mount", "-t", "ext4", "-o", options, image, where], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", where], check=True)


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """An empty ext4 in a file."""
    image = tmp_path / "disk"
    with image.open("wb") as stream:
        stream.truncate(_MEGABYTES << 20)
    subprocess.run(["mkfs.ext4", "-q", image], check=True)
    return image


def cut(disk: Path, copy: Path) -> None:
    """Copy the disk as it is now: what the kernel has not written yet is lost."""
    subprocess.run(["dd", f"if={disk}", f"of={copy}", "bs=1M", "iflag=direct", "status=none"], check=True)


def test_a_fetched_image_and_a_prepared_pod_survive(rkt: Rkt, true_aci: Path, disk: Path) -> None:
    data = rkt.directory / "data"
    fetched, prepared = disk.with_name("after-fetch"), disk.with_name("after-prepare")
    with mounted(disk, data):
        identity = rkt(IMAGE, "fetch", "--full", true_aci).stdout.strip()
        cut(disk, fetched)
        uuid = rkt(IMAGE, "prepare", true_aci).stdout.strip()
        cut(disk, prepared)
    with mounted(fetched, data):
        assert identity in rkt("image", "list", "--full").stdout
        assert "successfully verified" in rkt("image", "verify", identity).stdout
    with mounted(prepared, data):
        assert "state=prepared" in rkt("status", uuid).stdout
        assert "successfully verified" in rkt("image", "verify", identity).stdout
        rkt("run-prepared", "--net=none", uuid)


def test_a_removed_image_stays_removed(rkt: Rkt, true_aci: Path, disk: Path) -> None:
    data = rkt.directory / "data"
    after = disk.with_name("after")
    with mounted(disk, data):
        identity = rkt(IMAGE, "fetch", "--full", true_aci).stdout.strip()
        rkt("image", "rm", identity)
        cut(disk, after)
    with mounted(after, data):
        rkt("image", "fsck")
        assert identity not in rkt("image", "list", "--full").stdout
