"""linux.mount.idmap and overlay on the real kernel: who owns what, inside and on disk."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from linux import libc, namespaces, process
from linux.mount import api, idmap, info, overlay

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount")

SHIFT = 700_000


@pytest.fixture
def userns() -> Iterator[int]:
    fd = namespaces.user_namespace([(0, SHIFT, 65536)], [(0, SHIFT, 65536)])
    yield fd
    os.close(fd)


@pytest.fixture
def layers(tmp_path: Path) -> Path:
    """Two lower directories, and an upper and a work directory."""
    if not overlay.supported(str(tmp_path)):
        pytest.skip("no overlay on the filesystem of temporary files")
    for name in ("top", "bottom/dir", "pod/upper", "pod/work", "target"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "top/both").write_bytes(b"top")
    (tmp_path / "bottom/both").write_bytes(b"bottom")
    (tmp_path / "bottom/own").write_bytes(b"x")
    os.chown(tmp_path / "bottom/own", 1000, 1001)
    (tmp_path / "bottom/gone").write_bytes(b"x")
    return tmp_path


def test_owners_are_mapped_and_the_disk_is_not_touched(layers: Path, userns: int) -> None:
    if not idmap.supported(str(layers)):
        pytest.skip("no idmapped mounts on the filesystem of temporary files")
    fd = idmap.mapped(str(layers / "bottom"), userns)
    try:
        assert os.stat("own", dir_fd=fd).st_uid == SHIFT + 1000
        with pytest.raises(OSError, match="too large"):
            os.mkdir("new", dir_fd=fd)
        with idmap.acting_as(SHIFT, SHIFT):
            os.mkdir("new", dir_fd=fd)
            # root's capabilities are still there: a mode 0 directory of somebody else can be looked into
            os.chmod(layers / "bottom/dir", 0)
            os.chown(layers / "bottom/dir", 5, 5)
            os.listdir(layers / "bottom/dir")
    finally:
        os.close(fd)
    assert (layers / "bottom/new").stat().st_uid == 0
    assert (layers / "bottom/own").stat().st_uid == 1000
    (layers / "made").mkdir()
    assert (layers / "made").stat().st_uid == 0, "acting_as has not ended"
    assert libc.prctl(libc.PR_GET_SECUREBITS) & 4 == 0


def test_filesystems_that_cannot_map_say_so(userns: int) -> None:
    assert not idmap.supported("/proc")
    with pytest.raises(OSError, match="/proc") as failed:
        idmap.mapped("/proc", userns)
    assert failed.value.errno in idmap.CANNOT


def test_an_overlay_by_paths(layers: Path) -> None:
    def body() -> int:
        namespaces.unshare(namespaces.NEWNS)
        api.set_propagation("/", api.MountFlag.PRIVATE | api.MountFlag.REC)
        lowers = [str(layers / "top"), str(layers / "bottom")]
        target = layers / "target"
        overlay.mount(lowers, str(layers / "pod/upper"), str(layers / "pod/work"), str(target))
        assert (target / "both").read_bytes() == b"top"
        (target / "gone").unlink()
        (target / "new").write_bytes(b"new")
        overlay.mount(lowers, None, None, str(target), attributes=api.Attribute.NODEV)
        assert (target / "gone").exists()
        with pytest.raises(OSError, match="Read-only"):
            (target / "new").write_bytes(b"")
        return 0

    before = len(info.mounts())
    process.fork_and_wait(body)
    assert len(info.mounts()) == before
    assert sorted(os.listdir(layers / "pod/upper")) == ["gone", "new"]
    assert (layers / "bottom/gone").exists()


def test_a_mapped_overlay_keeps_the_pods_own_ids_on_disk(layers: Path, userns: int) -> None:
    if not idmap.supported(str(layers)):
        pytest.skip("no idmapped mounts on the filesystem of temporary files")
    fds = [idmap.mapped(str(layers / name), userns) for name in ("top", "bottom", "pod")]
    fds += [os.open(name, os.O_PATH, dir_fd=fds[2]) for name in ("upper", "work")]
    merged = overlay.detached(fds[:2], fds[3], fds[4], owner=(SHIFT, SHIFT), source="pod", within=fds[:3])

    def as_the_pods_root() -> int:
        namespaces.setns(userns, namespaces.NEWUSER)
        os.setgroups([])
        os.setgid(0)
        os.setuid(0)
        assert os.stat("own", dir_fd=merged).st_uid == 1000
        os.chown("own", 7, 8, dir_fd=merged)
        os.unlink("gone", dir_fd=merged)
        os.mkdir("made", dir_fd=merged)
        os.chown("made", 1000, 1000, dir_fd=merged)
        os.setgid(1000)
        os.setuid(1000)
        os.close(os.open("made/file", os.O_CREAT | os.O_WRONLY, dir_fd=merged))
        with pytest.raises(PermissionError):
            os.unlink("both", dir_fd=merged)
        return 0

    try:
        process.fork_and_wait(as_the_pods_root, pass_fds=[merged, userns])
    finally:
        for fd in (*fds, merged):
            os.close(fd)
    upper = layers / "pod/upper"
    assert sorted(os.listdir(upper)) == ["gone", "made", "own"]
    assert ((upper / "own").stat().st_uid, (upper / "own").stat().st_gid) == (7, 8)
    assert (upper / "made/file").stat().st_uid == 1000
    assert (layers / "bottom/own").stat().st_uid == 1000


def test_a_mapped_overlay_made_as_the_hosts_root_is_refused_instead_of_read_only(
    layers: Path, userns: int
) -> None:
    if not idmap.supported(str(layers)):
        pytest.skip("no idmapped mounts on the filesystem of temporary files")
    fds = [idmap.mapped(str(layers / name), userns) for name in ("bottom", "pod")]
    fds += [os.open(name, os.O_PATH, dir_fd=fds[1]) for name in ("upper", "work")]
    try:
        with pytest.raises(OSError, match="work directory"):
            overlay.detached(fds[:1], fds[2], fds[3], within=fds[:2])
    finally:
        for fd in fds:
            os.close(fd)


@pytest.mark.parametrize("writable", [True, False])
@pytest.mark.parametrize("count", [14, 60, 127])
def test_as_many_layers_as_images_have(layers: Path, count: int, *, writable: bool) -> None:
    """127 is Docker's bound. On Linux 6.1 fsconfig takes 256 bytes of names for them, mount(2) a page."""
    fds: list[int] = []
    try:
        for number in range(count):
            (layers / f"layer{number}").mkdir()
            (layers / f"layer{number}/file{number}").write_text("x")
            (layers / f"layer{number}/top").write_text(str(number))
            fds.append(os.open(layers / f"layer{number}", os.O_PATH))
        tops = [os.open(layers / "pod" / name, os.O_PATH) for name in ("upper", "work")] if writable else []
        fds += tops
        merged = overlay.detached(fds[:count], *tops, attributes=api.Attribute.NODEV, source="many")
        fds.append(merged)
        assert len(os.listdir(f"/proc/self/fd/{merged}")) == count + 1
        assert Path(f"/proc/self/fd/{merged}/top").read_text() == "0"
        assert os.fstatvfs(merged).f_flag & os.ST_NODEV
        assert bool(os.fstatvfs(merged).f_flag & os.ST_RDONLY) is not writable
    finally:
        for fd in fds:
            os.close(fd)
    assert not [mount for mount in info.mounts() if mount.source == "many"]


def test_overlay_support_is_tried(tmp_path: Path) -> None:
    assert overlay.supported(str(tmp_path))  # ext4, xfs, btrfs and tmpfs all can
    assert os.listdir(tmp_path) == []
