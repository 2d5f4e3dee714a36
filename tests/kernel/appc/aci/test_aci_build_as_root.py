"""What only root can have in a tree: owners, devices, file capabilities, several filesystems."""

from __future__ import annotations

import io
import os
import subprocess
from pathlib import Path

import pytest

from appc.aci import tar, writer
from fixtures import tars

pytestmark = pytest.mark.usefixtures("root")


def entries(rootfs: Path) -> dict[str, tar.Entry]:
    out = io.BytesIO()
    writer.build(str(rootfs), tars.manifest(), out, compression="none")
    return {entry.name.decode(): entry for entry in tar.TarReader(iter([out.getvalue()]))}


def test_devices_are_archived_unopened_b3(tmp_path: Path) -> None:
    """The reference opens them: /dev/zero ends in "write too long", 0:0 in ENXIO, others block."""
    for name, major, minor in (("zero", 1, 5), ("whiteout", 0, 0), ("kmsg", 1, 11)):
        os.mknod(tmp_path / name, 0o20660, os.makedev(major, minor))
    os.mknod(tmp_path / "disk", 0o60660, os.makedev(7, 99))
    found = entries(tmp_path)
    assert {name: (entry.kind, entry.device) for name, entry in found.items() if entry.device != (0, 0)} == {
        "rootfs/zero": (tar.CHARACTER_DEVICE, (1, 5)),
        "rootfs/kmsg": (tar.CHARACTER_DEVICE, (1, 11)),
        "rootfs/disk": (tar.BLOCK_DEVICE, (7, 99)),
    }
    assert found["rootfs/whiteout"].kind is tar.CHARACTER_DEVICE


def test_file_capabilities_are_kept_b2(tmp_path: Path) -> None:
    (tmp_path / "ping").touch()
    capability = bytes.fromhex("0100000200200000000000000000000000000000")
    os.setxattr(tmp_path / "ping", "security.capability", capability)
    assert entries(tmp_path)["rootfs/ping"].xattrs == {b"security.capability": capability}


def test_attributes_of_the_host_are_not_kept(tmp_path: Path) -> None:
    (tmp_path / "f").touch()
    os.setxattr(tmp_path / "f", "trusted.overlay.opaque", b"y")
    os.setxattr(tmp_path / "f", "user.overlay.opaque", b"y")
    assert entries(tmp_path)["rootfs/f"].xattrs == {}


def test_equal_inodes_of_two_filesystems_are_no_hard_links_b4(tmp_path: Path) -> None:
    """The reference looks at the inode number alone; two fresh tmpfs number alike."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", tmp_path / name], check=True)
    try:
        for name in ("a", "b"):
            (tmp_path / name / "one").write_text(name)
            os.link(tmp_path / name / "one", tmp_path / name / "two")
        assert (tmp_path / "a/one").stat().st_ino == (tmp_path / "b/one").stat().st_ino
        found = entries(tmp_path)
        links = {name: entry.target for name, entry in found.items() if entry.kind is tar.HARD_LINK}
        assert links == {"rootfs/a/two": b"rootfs/a/one", "rootfs/b/two": b"rootfs/b/one"}
    finally:
        for name in ("a", "b"):
            subprocess.run(["umount", tmp_path / name], check=True)


def test_owners(tmp_path: Path) -> None:
    (tmp_path / "f").touch()
    os.chown(tmp_path / "f", 4_000_000_000, 12345)
    entry = entries(tmp_path)["rootfs/f"]
    assert (entry.uid, entry.gid) == (4_000_000_000, 12345)
