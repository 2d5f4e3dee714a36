"""linux.mount.api and info on the real kernel, in private mount namespaces."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from linux import namespaces, process
from linux.mount import api, info

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount")


def privately(function: Callable[[], None]) -> None:
    """Run `function` in a child with a mount namespace of its own."""

    def body() -> int:
        namespaces.unshare(namespaces.NEWNS)
        api.set_propagation("/", api.MountFlag.PRIVATE | api.MountFlag.REC)
        function()
        return 0

    before = [(entry.id, entry.target) for entry in info.mounts()]
    process.fork_and_wait(body)
    assert [(entry.id, entry.target) for entry in info.mounts()] == before


def entry_at(path: Path) -> info.MountEntry:
    found = [entry for entry in info.mounts() if entry.target == str(path)]
    return found[-1]


def test_mount_errors_name_both_paths(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="nothing") as failed:
        api.mount("nothing", str(tmp_path / "missing"), "tmpfs")
    assert failed.value.filename2 == str(tmp_path / "missing")


def test_mountinfo_undoes_the_kernels_escapes(tmp_path: Path) -> None:
    odd = tmp_path / "a b\tc\\d\nü#e"
    odd.mkdir()

    def body() -> None:
        api.mount("my source", str(odd), "tmpfs", api.MountFlag.NOSUID | api.MountFlag.NODEV, "size=1m")
        entry = entry_at(odd)
        assert (entry.fstype, entry.source) == ("tmpfs", "my source")
        assert {"rw", "nosuid", "nodev"} <= set(entry.options)
        assert "size=1024k" in entry.super_options
        api.mount("inner", str(odd), "tmpfs")
        assert [e.source for e in info.below(str(odd))] == ["inner", "my source"]
        api.umount(str(odd))
        api.umount(str(odd))
        assert info.below(str(odd)) == []

    privately(body)


def test_a_new_filesystem_is_seen_only_when_attached(tmp_path: Path) -> None:
    def body() -> None:
        fd = api.filesystem("tmpfs", [("size", "1m"), ("mode", "0700")], attributes=api.Attribute.NOEXEC)
        assert info.below(str(tmp_path)) == []
        api.move_mount(fd, str(tmp_path))
        os.close(fd)
        assert "noexec" in entry_at(tmp_path).options

    privately(body)


def test_the_kernels_own_words_are_in_the_error() -> None:
    with pytest.raises(OSError, match="nonsense"):
        api.filesystem("tmpfs", [("nonsense", "1")])
    with pytest.raises(OSError, match="no-such-fs"):
        api.filesystem("no-such-fs")


@pytest.mark.parametrize("old_kernel", [False, True])
def test_bind_and_mount_at_descriptors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, old_kernel: bool
) -> None:
    """With and without the calls of Linux 5.2: the same mounts, the same flags."""
    source = tmp_path / "source"
    target = tmp_path / "target"
    other = tmp_path / "other"
    for path in (source / "below", target, other):
        path.mkdir(parents=True)
    (source / "file").write_bytes(b"x")
    real = api.syscall

    def without(name: str, *args: object, path: object = None, path2: str | None = None) -> int:
        if name in {"open_tree", "fsopen", "mount_setattr", "move_mount"}:
            raise OSError(38, "Function not implemented", name)
        return real(name, *args, path=path, path2=path2)  # type: ignore[arg-type]

    if old_kernel:
        monkeypatch.setattr(api, "syscall", without)

    def body() -> None:
        api.mount("t", str(source / "below"), "tmpfs")
        from_fd = os.open(source, os.O_PATH)
        to_fd = os.open(target, os.O_PATH)
        flags = api.Attribute.RDONLY | api.Attribute.NODEV | api.Attribute.NOSUID
        api.bind_at(from_fd, to_fd, flags, recursive=True)
        assert {"ro", "nodev", "nosuid"} <= set(entry_at(target).options)
        assert entry_at(target).optional == []
        assert entry_at(target / "below").fstype == "tmpfs"
        with pytest.raises(OSError, match="Read-only"):
            (target / "file").write_bytes(b"y")
        other_fd = os.open(other, os.O_PATH)
        api.mount_at(other_fd, "tmpfs", [("mode", "0711")], attributes=api.Attribute.NOEXEC)
        assert "noexec" in entry_at(other).options
        assert other.stat().st_mode & 0o777 == 0o711

    privately(body)


def test_a_recursive_read_only_bind_is_so_below_too(tmp_path: Path) -> None:
    for name in ("source/below", "target"):
        (tmp_path / name).mkdir(parents=True)

    def body() -> None:
        api.mount("t", str(tmp_path / "source/below"), "tmpfs")
        from_fd = os.open(tmp_path / "source", os.O_PATH)
        to_fd = os.open(tmp_path / "target", os.O_PATH)
        api.bind_at(from_fd, to_fd, api.Attribute.RDONLY, recursive=True)
        with pytest.raises(OSError, match="Read-only"):
            (tmp_path / "target/below/file").write_bytes(b"")

    privately(body)


def test_a_link_is_no_mount_target(tmp_path: Path) -> None:
    """CVE-2015-3627: the target of a mount must not lead elsewhere."""
    (tmp_path / "canary").mkdir()
    (tmp_path / "link").symlink_to("canary")

    def body() -> None:
        fd = api.filesystem("tmpfs")
        at = os.open(tmp_path, os.O_PATH)
        with pytest.raises(OSError, match="link"):
            api.move_mount(fd, "link", to_fd=at)
        with pytest.raises(OSError, match="link"):
            api.mount_setattr(at, "link", set_=api.Attribute.RDONLY)
        os.close(fd)

    privately(body)
