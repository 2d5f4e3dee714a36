"""Writing images: what goes in comes out, twice the same, and nothing is opened that should not be."""

from __future__ import annotations

import io
import os
import socket
import stat
import subprocess
import tarfile
from pathlib import Path

import pytest

from appc.aci import header, reader, tar, writer
from appc.aci.output import new_directory, replacing
from appc.errors import AppcError
from fixtures import tars


def built(rootfs: Path, **options: object) -> tuple[bytes, str]:
    out = io.BytesIO()
    image_id = writer.build(str(rootfs), tars.manifest(), out, **options)  # type: ignore[arg-type]
    return out.getvalue(), image_id


def members(data: bytes) -> list[tar.Entry]:
    return list(tar.TarReader(iter([data])))


@pytest.fixture
def rootfs(tmp_path: Path) -> Path:
    """One of each kind that needs no root."""
    top = tmp_path / "tree"
    (top / "dir/sub").mkdir(parents=True)
    (top / "dir/file").write_bytes(b"content")
    (top / "dir/big").write_bytes(bytes(3 << 20))
    (top / "dir/empty").touch()
    os.link(top / "dir/file", top / "hard")
    (top / "link").symlink_to("../../etc/passwd")
    os.mkfifo(top / "fifo", 0o600)
    (top / "dir/file").chmod(0o4711)
    (top / "dir/sub").chmod(0o1777)
    os.setxattr(top / "dir/file", "user.note", b"kept\0")
    for path in sorted(top.rglob("*"), reverse=True):
        os.utime(path, (1_700_000_000.9, 1_700_000_000.9), follow_symlinks=False)
    os.utime(top, (1_700_000_000, 1_700_000_000))
    return top


def test_everything_comes_out_again(rootfs: Path) -> None:
    data, image_id = built(rootfs, compression="none")
    assert reader.read(io.BytesIO(data)).image_id == image_id
    found = {entry.name.decode(): entry for entry in members(data)}
    assert list(found) == [
        "manifest",
        "rootfs",
        "rootfs/dir",
        "rootfs/dir/big",
        "rootfs/dir/empty",
        "rootfs/dir/file",
        "rootfs/dir/sub",
        "rootfs/fifo",
        "rootfs/hard",
        "rootfs/link",
    ]
    assert {name: entry.kind for name, entry in found.items() if entry.kind is not tar.FILE} == {
        "rootfs": tar.DIRECTORY,
        "rootfs/dir": tar.DIRECTORY,
        "rootfs/dir/sub": tar.DIRECTORY,
        "rootfs/fifo": tar.FIFO,
        "rootfs/hard": tar.HARD_LINK,
        "rootfs/link": tar.SYMLINK,
    }
    file = found["rootfs/dir/file"]
    assert (file.mode, file.size, file.xattrs) == (0o4711, 7, {b"user.note": b"kept\0"})
    assert (file.uid, file.gid) == (os.getuid(), os.getgid())
    assert found["rootfs/dir/sub"].mode == 0o1777
    assert found["rootfs/hard"].target == b"rootfs/dir/file"
    assert found["rootfs/link"].target == b"../../etc/passwd"
    assert {entry.mtime for name, entry in found.items() if name != "manifest"} == {1_700_000_000 * 10**9}
    assert found["manifest"].mtime == 0


def test_gnu_tar_reads_it(rootfs: Path, tmp_path: Path) -> None:
    path = tmp_path / "image.aci"
    data, _ = built(rootfs)
    path.write_bytes(data)
    listed = subprocess.run(["tar", "tzf", path], capture_output=True, text=True, check=True)
    assert listed.stdout.splitlines() == [
        entry.name.decode() for entry in members(built(rootfs, compression="none")[0])
    ]
    assert listed.stderr == ""


@pytest.mark.parametrize("compression", ["none", "gzip", "bzip2", "xz", "zstd"])
def test_same_tree_same_bytes_b1(rootfs: Path, compression: str) -> None:
    """The reference gives another image ID at each build."""
    first, image_id = built(rootfs, compression=compression)
    for path in rootfs.rglob("*"):
        if path.is_file() and not path.is_symlink():
            path.read_bytes()  # another access time
    os.rename(rootfs / "dir/empty", rootfs / "dir/other")
    os.rename(rootfs / "dir/other", rootfs / "dir/empty")  # another order on the disk
    os.utime(rootfs / "dir", (1_700_000_000, 1_700_000_000))
    second, again = built(rootfs, compression=compression)
    assert (first, image_id) == (second, again)


def test_times_are_bounded(rootfs: Path) -> None:
    data, _ = built(rootfs, compression="none", latest=1_600_000_000)
    assert {entry.mtime for entry in members(data)} == {1_600_000_000 * 10**9}


def test_owner_root(rootfs: Path) -> None:
    data, _ = built(rootfs, compression="none", owner_root=True)
    assert {(entry.uid, entry.gid) for entry in members(data)} == {(0, 0)}
    data, _ = built(rootfs, compression="none", owner=lambda uid, gid: (uid + 5, gid + 6))
    assert {(entry.uid, entry.gid) for entry in members(data)[1:]} == {(os.getuid() + 5, os.getgid() + 6)}


def test_sockets_are_left_out(rootfs: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(os.path.relpath(rootfs / "socket"))
        data, _ = built(rootfs, compression="none")
    assert b"rootfs/socket" not in {entry.name for entry in members(data)}


def test_r4_a_tree_too_deep_for_readers_is_refused(rootfs: Path) -> None:
    """A pod made 30,000 levels of names of 250 bytes: its export would have been 100 GB."""
    here = os.open(rootfs, os.O_RDONLY | os.O_DIRECTORY)
    for _ in range(17):
        os.mkdir("d" * 250, dir_fd=here)
        below = os.open("d" * 250, os.O_RDONLY | os.O_DIRECTORY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    with pytest.raises(AppcError, match="a name of more than 4095 bytes"):
        built(rootfs)


def test_a_fifo_is_not_opened(rootfs: Path) -> None:
    """Opening one to read would wait for a writer for ever."""
    built(rootfs)


@pytest.mark.parametrize(
    "entry",
    [
        tar.Entry(b"n" * 100, tar.FILE, 0o644, 0, 0, 0, 0, b"", (0, 0), {}),
        tar.Entry(b"d/" + b"n" * 100, tar.FILE, 0o644, 0, 0, 0, 0, b"", (0, 0), {}),
        tar.Entry(b"p" * 155 + b"/" + b"n" * 100, tar.DIRECTORY, 0o755, 0, 0, 0, 0, b"", (0, 0), {}),
        tar.Entry(b"p" * 156 + b"/" + b"n" * 100, tar.DIRECTORY, 0o755, 0, 0, 0, 0, b"", (0, 0), {}),
        tar.Entry(b"n" * 101, tar.DIRECTORY, 0o755, 0, 0, 0, 0, b"", (0, 0), {}),
        tar.Entry(b"\xff" * 300, tar.FIFO, 0o644, 0, 0, 0, 0, b"", (0, 0), {}),
        tar.Entry("ü".encode() * 200, tar.SYMLINK, 0o777, 0, 0, 0, 0, b"t" * 101, (0, 0), {}),
        tar.Entry(b"l", tar.SYMLINK, 0o777, 0, 0, 0, 0, b"\xfe" * 4000, (0, 0), {}),
        tar.Entry(b"f", tar.FIFO, 0o644, 2097152, 4294967294, 0, 0, b"", (0, 0), {}),
        tar.Entry(b"f", tar.FIFO, 0o644, 2097151, 0, 0, -1_500_000_000, b"", (0, 0), {}),
        tar.Entry(b"f", tar.FIFO, 0o644, 0, 0, 0, 1_234_567_890, b"", (0, 0), {}),
        tar.Entry(b"f", tar.FIFO, 0o644, 0, 0, 0, 2**34 * 10**9, b"", (0, 0), {}),
        tar.Entry(b"c", tar.CHARACTER_DEVICE, 0o660, 0, 6, 0, 0, b"", (4095, (1 << 20) - 1), {}),
        tar.Entry(
            b"f", tar.FIFO, 0o7777, 0, 0, 0, 0, b"", (0, 0), {b"user.a": bytes(range(256)), b"user.b": b""}
        ),
    ],
    ids=lambda entry: f"{entry.kind} {entry.name[:4]!r} {len(entry.name)}",
)
def test_any_entry_can_be_written_and_read(entry: tar.Entry) -> None:
    assert members(header.encode(entry) + header.END) == [entry]


def test_large_files_have_a_pax_size() -> None:
    entry = tar.Entry(b"f", tar.FILE, 0o644, 0, 0, 8 << 30, 0, b"", (0, 0), {})
    written = header.encode(entry)
    read = next(iter(tar.TarReader(iter([written]))))
    assert read == entry


def test_python_reads_attributes_and_long_names() -> None:
    entry = tar.Entry(b"n" * 300, tar.FIFO, 0o644, 2**31, 0, 0, 0, b"", (0, 0), {b"user.a": b"x"})
    with tarfile.open(fileobj=io.BytesIO(header.encode(entry) + header.END)) as archive:
        (info,) = archive.getmembers()
    assert (info.name, info.uid, info.pax_headers["SCHILY.xattr.user.a"]) == ("n" * 300, 2**31, "x")


def test_a_file_that_grows_or_shrinks_is_noticed() -> None:
    for size in (5, 7):
        out = writer.Writer(io.BytesIO(), "none")
        entry = tar.Entry(b"f", tar.FILE, 0o644, 0, 0, size, 0, b"", (0, 0), {})
        with pytest.raises(AppcError, match="changed size"):
            out.add(entry, [b"123456"])


def test_replace_manifest_keeps_the_rest(rootfs: Path) -> None:
    os.setxattr(rootfs / "dir/empty", "user.x", b"y")
    data, _ = built(rootfs)
    out = io.BytesIO()
    other = tars.manifest("example.com/other")
    image_id = writer.replace_manifest(io.BytesIO(data), other, out, compression="none")
    found = reader.read(io.BytesIO(out.getvalue()))
    assert (found.image_id, found.manifest) == (image_id, other)
    assert members(out.getvalue())[1:] == members(built(rootfs, compression="none")[0])[1:]


def test_replacing_a_file_is_all_or_nothing_b8(tmp_path: Path) -> None:
    """The reference truncates the target first: a failing build leaves a broken image."""
    target = tmp_path / "out.aci"
    target.write_text("good")

    def fail() -> None:
        with replacing(str(target), overwrite=True) as file:
            file.write(b"half")
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        fail()
    assert target.read_text() == "good"
    assert list(tmp_path.iterdir()) == [target]
    with pytest.raises(FileExistsError), replacing(str(target), overwrite=False):
        raise AssertionError
    with replacing(str(target), overwrite=True) as file:
        file.write(b"new")
    assert target.read_text() == "new"
    assert list(tmp_path.iterdir()) == [target]
    fresh = tmp_path / "fresh.aci"
    with replacing(str(fresh), overwrite=False) as file:
        file.write(b"new")
        assert not fresh.exists()
    assert stat.S_IMODE(fresh.stat().st_mode) == 0o666 & ~_umask()


def _umask() -> int:
    mask = os.umask(0o22)
    os.umask(mask)
    return mask


def test_a_file_that_appears_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    target = tmp_path / "out.aci"

    def race() -> None:
        with replacing(str(target), overwrite=False) as file:
            file.write(b"mine")
            target.write_text("somebody's")

    with pytest.raises(FileExistsError):
        race()
    assert target.read_text() == "somebody's"


def test_a_new_directory_is_all_or_nothing(tmp_path: Path) -> None:
    target = tmp_path / "out"

    def make(*, overwrite: bool = False, rootfs_only: bool = False, fail: bool = False) -> None:
        with new_directory(str(target), overwrite=overwrite, rootfs_only=rootfs_only) as new:
            Path(new, "manifest").write_text("m")
            Path(new, "rootfs").mkdir()
            Path(new, "rootfs/f").write_text("x")
            if fail:
                raise OSError(5, "Input/output error")

    with pytest.raises(OSError, match="Input"):
        make(fail=True)
    assert list(tmp_path.iterdir()) == []
    make()
    assert sorted(path.name for path in target.rglob("*")) == ["f", "manifest", "rootfs"]
    with pytest.raises(FileExistsError):
        make()
    with pytest.raises(OSError, match="Input"):
        make(overwrite=True, rootfs_only=True, fail=True)
    assert sorted(path.name for path in target.rglob("*")) == ["f", "manifest", "rootfs"]
    make(overwrite=True, rootfs_only=True)
    assert [path.name for path in target.rglob("*")] == ["f"]
    assert list(tmp_path.iterdir()) == [target]
