"""Extraction: everything kept, nothing outside touched, whatever the archive says (rules R1 to R5)."""

from __future__ import annotations

import gzip
import io
import os
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import pytest
import zstandard

from appc.aci import extract, reader, writer
from appc.aci.errors import InvalidArchive
from appc.errors import AppcError
from fixtures import tars

CAPABILITY = bytes.fromhex("0100000200200000000000000000000000000000")


class Place:
    """A directory to extract into, and beside it the canary that must stay as it is."""

    def __init__(self, top: Path) -> None:
        self.target = top / "target"
        self.canary = top / "canary"
        self.target.mkdir()
        self.canary.mkdir()
        (self.canary / "passwd").write_text("root:x:0:0\n")
        (self.canary / "directory").mkdir()
        (self.canary / "passwd").chmod(0o640)
        self.before = self.look()

    def look(self) -> dict[str, tuple[int, int, int, int, bytes]]:
        found = {}
        for path in (self.canary, *sorted(self.canary.rglob("*"))):
            status = path.lstat()
            data = path.read_bytes() if path.is_file() else b""
            found[str(path)] = (status.st_mode, status.st_uid, status.st_mtime_ns, status.st_ino, data)
        return found


@pytest.fixture
def place(tmp_path: Path, root: None) -> Iterator[Place]:
    place = Place(tmp_path)
    mounts = Path("/proc/self/mountinfo").read_text()
    yield place
    assert place.look() == place.before, "the canary was touched"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["canary", "target"]
    assert Path("/proc/self/mountinfo").read_text() == mounts


def unpack(data: bytes, place: Place) -> extract.Extracted:
    with as_file(data, place.target.parent) as file:
        return extract.extract(file, str(place.target))


def as_file(data: bytes, directory: Path) -> BinaryIO:
    fd = os.open(directory, os.O_TMPFILE | os.O_RDWR, 0o600)
    file = os.fdopen(fd, "w+b")
    file.write(data)
    file.flush()
    return file


def test_all_walls_stand(place: Place) -> None:
    told = unpack(tars.image(tars.file(b"rootfs/a", b"x")), place)
    assert told.walls == ("namespaces", "root", "landlock", "capabilities", "seccomp")


def test_everything_is_kept(place: Place) -> None:
    unpack(
        tars.image(
            tars.directory(b"rootfs/d", 0o1770, uid=5, gid=6, mtime=1_000_000_000),
            tars.file(b"rootfs/d/f", b"content", mode=0o4750, uid=1000, gid=4000, mtime=1_100_000_000),
            tars.hard_link(b"rootfs/h", b"rootfs/d/f"),
            tars.symlink(b"rootfs/l", b"/etc/passwd", uid=7, gid=8, mtime=1_200_000_000),
            tars.hard_link(b"rootfs/hl", b"rootfs/l"),
            tars.header(b"rootfs/p", b"6", mode=0o620, uid=1, gid=2, mtime=1_300_000_000),
            tars.pax(
                (b"SCHILY.xattr.user.note", b"v"),
                (b"SCHILY.xattr.security.capability", CAPABILITY),
                (b"uid", b"4294967294"),
                (b"mtime", b"1400000000.25"),
            ),
            tars.file(b"rootfs/ping", b"elf"),
            tars.file(b"rootfs/none", mode=0),
            tars.file(b"rootfs/implied/x/f", b"y"),
            tars.directory(b"rootfs/late", 0o555),
            tars.file(b"rootfs/late/f", b"z"),
        ),
        place,
    )
    top = place.target

    def facts(name: str) -> tuple[int, int, int, float]:
        status = (top / name).lstat()
        return status.st_mode, status.st_uid, status.st_gid, status.st_mtime

    assert facts("d") == (stat.S_IFDIR | 0o1770, 5, 6, 1_000_000_000)
    assert facts("d/f") == (stat.S_IFREG | 0o4750, 1000, 4000, 1_100_000_000)
    assert (top / "d/f").read_bytes() == b"content"
    assert (top / "h").stat().st_ino == (top / "d/f").stat().st_ino
    assert facts("l") == (stat.S_IFLNK | 0o777, 7, 8, 1_200_000_000)
    assert os.readlink(top / "hl") == "/etc/passwd"
    assert facts("p") == (stat.S_IFIFO | 0o620, 1, 2, 1_300_000_000)
    assert facts("ping")[1] == 4294967294
    assert facts("ping")[3] == 1_400_000_000.25
    assert os.getxattr(top / "ping", "user.note") == b"v"
    assert os.getxattr(top / "ping", "security.capability") == CAPABILITY
    assert stat.S_IMODE((top / "none").stat().st_mode) == 0
    assert facts("implied")[:3] == (stat.S_IFDIR | 0o755, 0, 0)
    assert stat.S_IMODE((top / "late").stat().st_mode) == 0o555
    assert facts(".")[:3] == (stat.S_IFDIR | 0o755, 0, 0)


def test_what_was_built_comes_out_the_same(place: Place) -> None:
    unpack(
        tars.image(
            tars.file(b"rootfs/a/f", b"x" * 5_000_000, mode=0o2755), tars.symlink(b"rootfs/a/l", b"f")
        ),
        place,
    )
    out = io.BytesIO()
    first = writer.build(str(place.target), tars.manifest(), out, compression="none")
    again = place.target / "again"
    again.mkdir()
    with as_file(out.getvalue(), place.target) as file:
        extract.extract(file, str(again))
    assert writer.build(str(again), tars.manifest(), io.BytesIO(), compression="none") == first


def hostile(canary: bytes) -> dict[str, list[bytes]]:
    """Archives that try to reach `canary`, an absolute path, and to do other harm; each must be refused."""
    up = b"../" * 30 + canary[1:]
    return {
        "absolute name": [tars.file(canary + b"/passwd", b"evil")],
        "dot dot": [tars.file(b"rootfs/" + up + b"/passwd", b"evil")],
        "dot dot by pax": [tars.pax((b"path", b"rootfs/" + up + b"/new")), tars.file(b"x", b"evil")],
        "dot dot by a long name": [
            tars.file(b"L", b"rootfs/" + up + b"/new\0", flag=b"L"),
            tars.file(b"x", b"evil"),
        ],
        "file through a link, CVE-2021-29136": [
            tars.symlink(b"rootfs/l", canary),
            tars.file(b"rootfs/l/passwd", b"evil"),
        ],
        "file through a relative link": [tars.symlink(b"rootfs/l", up), tars.file(b"rootfs/l/new", b"evil")],
        "directory over a link": [tars.symlink(b"rootfs/l", canary), tars.directory(b"rootfs/l", 0o777)],
        "two steps, CVE-2026-17106": [
            tars.symlink(b"rootfs/a", b"."),
            tars.symlink(b"rootfs/a/b", up),
            tars.file(b"rootfs/a/b/new", b"evil"),
        ],
        "link named first below, then above": [
            tars.file(b"rootfs/d/new", b"evil"),
            tars.symlink(b"rootfs/d", canary),
        ],
        "file over a link, CVE-2025-47290": [
            tars.symlink(b"rootfs/l", canary + b"/passwd"),
            tars.file(b"rootfs/l", b"evil"),
        ],
        "hard link out": [tars.hard_link(b"rootfs/h", canary + b"/passwd"), tars.file(b"rootfs/h", b"evil")],
        "hard link out by dot dot": [tars.hard_link(b"rootfs/h", b"rootfs/" + up + b"/passwd")],
        "hard link through a link": [
            tars.symlink(b"rootfs/l", canary),
            tars.hard_link(b"rootfs/h", b"rootfs/l/passwd"),
        ],
        "hard link to nothing": [tars.hard_link(b"rootfs/h", b"rootfs/none")],
        "hard link to a directory": [tars.directory(b"rootfs/d"), tars.hard_link(b"rootfs/h", b"rootfs/d")],
        "rootfs is a link": [tars.symlink(b"rootfs", canary)],
        "root of the archive is a link": [tars.symlink(b"./", canary)],
        "beside the rootfs": [tars.file(b"rootfs2/f", b"evil")],
        "a second manifest": [tars.file(b"manifest", tars.manifest())],
        "same name twice": [tars.file(b"rootfs/f", b"1"), tars.file(b"rootfs/f", b"2")],
        "sparse of 1 PiB": [
            tars.pax((b"GNU.sparse.realsize", b"1125899906842624")),
            tars.file(b"rootfs/f", b"x"),
        ],
        "old sparse": [tars.header(b"rootfs/f", b"S")],
        "uid -1": [tars.header(b"rootfs/f", uid=(1 << 63 | 0xFFFFFFFF).to_bytes(8, "big"))],
        "name of 300 bytes": [tars.pax((b"path", b"rootfs/" + b"n" * 300)), tars.file(b"x")],
        "300 directories deep": [tars.pax((b"path", b"rootfs/" + b"d/" * 300 + b"f")), tars.file(b"x")],
    }


@pytest.mark.parametrize("name", hostile(b"/canary"))
@pytest.mark.parametrize("compressed", [False, True])
def test_hostile_archives_are_refused_and_the_canary_lives(place: Place, name: str, compressed: bool) -> None:
    members = hostile(os.fsencode(place.canary))[name]
    data = tars.image(*members, rootfs=not name.startswith("rootfs is"))
    with pytest.raises((InvalidArchive, OSError)):
        unpack(gzip.compress(data) if compressed else data, place)


HARMLESS = {
    "device nodes": ([tars.header(b"rootfs/kmsg", b"3", major=1, minor=11)], set()),
    "a whiteout of overlayfs": ([tars.header(b"rootfs/f", b"3")], set()),
    "a fifo in the place of passwd": ([tars.header(b"rootfs/etc/passwd", b"6")], {"etc", "etc/passwd"}),
    "links out that nothing follows": (
        [
            tars.symlink(b"rootfs/etc", b"/etc"),
            tars.symlink(b"rootfs/up", b"../../.."),
            tars.symlink(b"rootfs/self", b"/proc/self/exe"),
        ],
        {"etc", "up", "self"},
    ),
    "a link in a circle": ([tars.symlink(b"rootfs/a", b"a")], {"a"}),
    "names that look odd": (
        [
            tars.file(b"rootfs/-rf"),
            tars.file(b"rootfs/a\nb"),
            tars.file(b"rootfs/\xff\xfe"),
            tars.file(b"rootfs/..."),
        ],
        {"-rf", "a\nb", "\udcff\udcfe", "..."},
    ),
}


@pytest.mark.parametrize("name", HARMLESS)
def test_harmless_archives(place: Place, name: str) -> None:
    members, expected = HARMLESS[name]
    unpack(tars.image(*members), place)
    found = {
        os.path.relpath(os.path.join(top, entry), place.target)
        for top, directories, files in os.walk(place.target)
        for entry in (*directories, *files)
    }
    assert found == expected


def test_device_nodes_are_counted_and_never_made_r5(place: Place) -> None:
    told = unpack(
        tars.image(
            tars.header(b"rootfs/zero", b"3", major=1, minor=5),
            tars.header(b"rootfs/disk", b"4", major=7),
        ),
        place,
    )
    assert told.devices == 2
    assert list(place.target.iterdir()) == []


@pytest.mark.parametrize(
    "key",
    [b"trusted.overlay.redirect", b"user.overlay.opaque", b"security.selinux", b"trusted.x", b"security.ima"],
)
def test_attributes_that_command_overlayfs_or_the_host_are_left_out(place: Place, key: bytes) -> None:
    record = tars.pax((b"SCHILY.xattr." + key, b"/../../.."))
    told = unpack(tars.image(record, tars.file(b"rootfs/f")), place)
    assert told.attributes == 1
    assert os.listxattr(place.target / "f") == []


def test_setuid_bits_do_not_pass_by_a_hard_link_cve_2021_32760(place: Place) -> None:
    """What a hard link's header says about modes and owners is not applied to what it links to."""
    unpack(
        tars.image(
            tars.symlink(b"rootfs/l", os.fsencode(place.canary / "passwd")),
            tars.hard_link(b"rootfs/h", b"rootfs/l", mode=0o4777, uid=1),
            tars.file(b"rootfs/f", mode=0o600),
            tars.hard_link(b"rootfs/g", b"rootfs/f", mode=0o4777, uid=1),
        ),
        place,
    )
    assert stat.S_IMODE((place.target / "f").stat().st_mode) == 0o600


def test_thousands_of_entries_take_seconds(place: Place) -> None:
    data = tars.image(*[tars.file(b"rootfs/d%d/f%d" % (n % 50, n)) for n in range(5000)])
    started = time.monotonic()
    unpack(data, place)
    assert time.monotonic() - started < 30


@pytest.mark.parametrize("library", [True, False])
def test_zstd_by_the_library_or_by_the_program(
    place: Place, monkeypatch: pytest.MonkeyPatch, library: bool
) -> None:
    if not library:
        monkeypatch.setitem(sys.modules, "zstandard", None)
    plain = tars.image(tars.file(b"rootfs/f", os.urandom(3_000_000)))
    data = zstandard.ZstdCompressor().compress(plain)
    unpack(data, place)
    assert (place.target / "f").stat().st_size == 3_000_000
    with as_file(data, place.target) as file:
        assert reader.read_caged(file) == reader.read(io.BytesIO(plain))
    for damaged in (data[:-100_000], data[:1000] + b"!" * 5000 + data[6000:]):
        with as_file(damaged, place.target) as file, pytest.raises(InvalidArchive):
            reader.read_caged(file)


def test_a_directory_that_is_not_there(place: Place) -> None:
    with as_file(tars.image(), place.target) as file, pytest.raises(FileNotFoundError):
        extract.extract(file, str(place.target / "none"))


def test_no_archive_at_all(place: Place) -> None:
    with pytest.raises(AppcError):
        unpack(b"PK\x03\x04", place)


@pytest.mark.parametrize("reachable", [True, False])
def test_without_root(root: None, reachable: bool, open_checkout: Path) -> None:
    """Everything belongs to the caller; setuid bits, which would name the wrong owner, are left out.

    A directory that can only be reached by its fd cannot be the child's root; the other walls stand.
    """
    with tempfile.TemporaryDirectory(dir="/var/tmp") as top:
        place = Place(Path(top))
        os.chmod(top, 0o755 if reachable else 0o700)
        os.chown(place.target, 65534, 65534)
        target = os.open(place.target, os.O_RDONLY | os.O_DIRECTORY)
        try:
            _extract_as_nobody(place, target, 5 if reachable else 4, open_checkout / "src")
        finally:
            os.close(target)


_AS_NOBODY = """
import os, sys
sys.path.insert(0, sys.argv[1])
from appc.aci import extract
from linux import libc
os.setgroups([])
os.setresgid(65534, 65534, 65534)
os.setresuid(65534, 65534, 65534)
libc.prctl(libc.PR_SET_DUMPABLE, 1)  # as a process is that was not root before
with os.fdopen(int(sys.argv[2]), "rb") as file:
    told = extract.extract(file, int(sys.argv[3]))
print(len(told.walls))
"""


def _extract_as_nobody(place: Place, target: int, walls: int, sources: Path) -> None:
    data = tars.image(
        tars.directory(b"rootfs/d", 0o500, uid=5),
        tars.file(b"rootfs/d/f", b"x", mode=0o6755, uid=1000, gid=1000),
        tars.symlink(b"rootfs/l", b"/x", uid=3),
    )
    with as_file(data, place.target) as file:
        os.fchmod(file.fileno(), 0o644)
        command = ["/usr/bin/python3", "-I", "-c", _AS_NOBODY, str(sources), str(file.fileno()), str(target)]
        fds = (file.fileno(), target)
        done = subprocess.run(command, pass_fds=fds, cwd="/", capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, f"{walls}\n"), done.stderr
    status = (place.target / "d/f").stat()
    assert (stat.S_IMODE(status.st_mode), status.st_uid) == (0o755, 65534)
    assert stat.S_IMODE((place.target / "d").stat().st_mode) == 0o500
