"""linux.paths: nothing under a root leads out of it, by openat2 and by hand alike."""

from __future__ import annotations

import os
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from linux import libc, paths
from linux.paths import Root


@pytest.fixture(params=["openat2", "by-hand"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(paths, "_no_openat2", request.param == "by-hand")
    return str(request.param)


@pytest.fixture
def canary(tmp_path: Path) -> Iterator[Path]:
    """A directory outside the root that must stay as it is."""
    canary = tmp_path / "canary"
    canary.mkdir()
    (canary / "keep").write_bytes(b"host secret")
    yield canary
    assert sorted(os.listdir(canary)) == ["keep"]
    assert (canary / "keep").read_bytes() == b"host secret"


@pytest.fixture
def rootfs(tmp_path: Path, canary: Path) -> Path:
    """A root with every kind of link an image can hold."""
    rootfs = tmp_path / "rootfs"
    (rootfs / "etc" / "conf.d").mkdir(parents=True)
    (rootfs / "bin").mkdir()
    (rootfs / "bin" / "sh").write_bytes(b"shell")
    (rootfs / "etc" / "passwd").write_bytes(b"root:x:0:0::/:/bin/sh\n")
    links = {
        "absolute": "/etc/passwd",
        "relative": "etc/passwd",
        "up": "../../../../etc/passwd",
        "out": str(canary),
        "out-file": f"{canary}/keep",
        "out-relative": "../canary",
        "loop": "loop",
        "loop-a": "loop-b",
        "loop-b": "loop-a",
        "to-directory": "etc",
        "to-slash": "/",
        "to-dots": "..",
        "slashes": "etc//conf.d///",
        "dangling": "/nowhere/at/all",
        "etc/back": "../bin/sh",
        "etc/chain": "/to-directory/back",
    }
    for name, text in links.items():
        (rootfs / name).symlink_to(text)
    os.mkfifo(rootfs / "fifo")
    return rootfs


PATHS = [
    ".",
    "/",
    "etc",
    "etc/",
    "/etc/passwd",
    "etc/passwd/",
    "etc/./passwd",
    "etc/../bin/sh",
    "../etc/passwd",
    "../../..",
    "absolute",
    "relative",
    "up",
    "out",
    "out/keep",
    "out-file",
    "out-relative",
    "out-relative/keep",
    "loop",
    "loop-a/x",
    "to-directory",
    "to-directory/",
    "to-directory/passwd",
    "to-slash",
    "to-slash/bin/sh",
    "to-dots",
    "to-dots/bin",
    "to-dots/..",
    "slashes",
    "slashes/..",
    "dangling",
    "dangling/x",
    "dangling/",
    "etc/back",
    "etc/chain",
    "etc/chain/",
    "missing",
    "missing/x",
    "bin/sh/x",
    "bin/sh/..",
    "//",
    "./.",
    "etc/conf.d/../../absolute",
    "absolute/",
    "fifo",
]


def outcome(root: Root, method: str, path: str, flags: int) -> object:
    """What opening does: the error's number, or which file was reached."""
    try:
        fd = getattr(root, method)(path, flags)
    except OSError as failed:
        return failed.filename, os.strerror(failed.errno or 0)
    status = os.fstat(fd)
    os.close(fd)
    return status.st_dev, status.st_ino


@pytest.mark.parametrize("method", ["open_file", "open_beneath"])
@pytest.mark.parametrize(
    "flags",
    [os.O_PATH, os.O_PATH | os.O_NOFOLLOW, os.O_RDONLY | os.O_NONBLOCK, os.O_RDONLY | os.O_DIRECTORY],
    ids=["path", "nofollow", "read", "directory"],
)
def test_by_hand_reaches_what_openat2_reaches(
    rootfs: Path, monkeypatch: pytest.MonkeyPatch, method: str, flags: int
) -> None:
    with Root.open(str(rootfs)) as root:
        monkeypatch.setattr(paths, "_no_openat2", False)
        kernel = {path: outcome(root, method, path, flags) for path in PATHS}
        assert not paths._no_openat2, "this kernel has no openat2: nothing was compared"
        monkeypatch.setattr(paths, "_no_openat2", True)
        by_hand = {path: outcome(root, method, path, flags) for path in PATHS}
    assert by_hand == kernel


def test_creation_stays_inside(rootfs: Path, canary: Path, way: str) -> None:
    with Root.open(str(rootfs)) as root:
        os.close(root.open_file("etc/new", os.O_WRONLY | os.O_CREAT, 0o640))
        assert (rootfs / "etc/new").stat().st_mode & 0o777 == 0o640
        with pytest.raises(FileExistsError):
            root.open_file("out-file", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with pytest.raises(FileNotFoundError):
            root.open_file("out-file", os.O_WRONLY | os.O_CREAT, 0o600)
        with pytest.raises(IsADirectoryError):
            root.open_file("etc/", os.O_WRONLY | os.O_CREAT, 0o600)
        (rootfs / "inside").symlink_to("/etc/made")
        os.close(root.open_file("inside", os.O_WRONLY | os.O_CREAT, 0o600))
        assert (rootfs / "etc/made").is_file()


def test_magic_links_of_proc_are_refused(canary: Path, way: str) -> None:
    """CVE-2024-21626: a descriptor's link in /proc leads out of any root."""
    held = os.open(canary, os.O_RDONLY)
    with Root.open("/proc") as root:
        for path in (f"self/fd/{held}", f"self/fd/{held}/keep", "self/exe", "self/cwd", "self/root/etc"):
            with pytest.raises(OSError, match="symbolic links"):
                root.open_file(path, os.O_PATH)
        os.close(root.open_file("self/status", os.O_RDONLY))
        os.close(root.open_file("net/dev", os.O_RDONLY))
    os.close(held)


def test_make_directories_follows_links_inside_only(rootfs: Path, canary: Path, way: str) -> None:
    """CVE-2024-45310: making a mount's target must not make it on the host."""
    with Root.open(str(rootfs)) as root:
        for path in ("out/a/b", "out-relative/c", "to-dots/../d", "dangling/e", "plain/f"):
            fd = root.make_directories(path, 0o751, uid=os.geteuid(), gid=os.getegid())
            assert os.readlink(f"/proc/self/fd/{fd}").startswith(str(rootfs))
            os.close(fd)
        assert (rootfs / "plain/f").stat().st_mode & 0o7777 == 0o751
        assert (rootfs / str(canary).lstrip("/") / "a/b").is_dir()
        assert (rootfs / "nowhere/at/all/e").is_dir()
        with pytest.raises(NotADirectoryError):
            root.make_directories("bin/sh/x")


def test_make_directories_refuses_links_when_told(rootfs: Path, canary: Path, way: str) -> None:
    """CVE-2019-19921, CVE-2026-41579: /proc and /dev as links."""
    with Root.open(str(rootfs)) as root:
        for path in ("out", "out/x", "to-directory/x", "dangling"):
            with pytest.raises(OSError, match="symbolic links"):
                root.make_directories(path, follow=False)
            with pytest.raises(OSError, match="symbolic links"):
                root.parent(f"{path}/name", follow=False)
        os.close(root.make_directories("etc/x", follow=False))


def test_read_file_wants_regular_files_of_modest_size(rootfs: Path, way: str) -> None:
    with Root.open(str(rootfs)) as root:
        assert root.read_file("etc/chain") == b"shell"
        assert root.read_file("bin/sh", limit=5) == b"shell"
        with pytest.raises(ValueError, match="larger than 4 bytes"):
            root.read_file("bin/sh", limit=4)
        for path in ("fifo", "etc"):
            with pytest.raises(ValueError, match="not a regular file"):
                root.read_file(path)
        with pytest.raises(FileNotFoundError):
            root.read_file("out-file")


def test_write_file_replaces_links(rootfs: Path, canary: Path, way: str) -> None:
    """rkt 1.30 wrote hosts and mtab through a link at /etc."""
    with Root.open(str(rootfs)) as root:
        root.write_file("out-file", b"mine", 0o600, os.geteuid(), os.getegid())
        assert (rootfs / "out-file").read_bytes() == b"mine"
        root.write_file("out/hosts", b"mine", 0o644, os.geteuid(), os.getegid())
        with pytest.raises(IsADirectoryError):
            root.write_file("bin", b"x", 0o644, os.geteuid(), os.getegid())
        assert sorted(os.listdir(rootfs / "bin")) == ["sh"]
        assert not [name for name in os.listdir(rootfs) if name.startswith(f".{os.getpid()}")]


def test_remove_takes_the_link_and_not_its_target(rootfs: Path, canary: Path, way: str) -> None:
    with Root.open(str(rootfs)) as root:
        root.remove("out")
        root.remove("etc/")
        root.remove("etc")
        root.remove("missing/x")
        for path in ("/", "..", "bin/.."):
            with pytest.raises(ValueError, match="no last component"):
                root.remove(path)
    assert not (rootfs / "etc").exists()
    assert not (rootfs / "out").is_symlink()


def test_names_with_nul_are_refused(rootfs: Path, way: str) -> None:
    with Root.open(str(rootfs)) as root, pytest.raises(ValueError, match="NUL"):
        root.open_file("etc\0/passwd", os.O_PATH)


def test_a_directory_swapped_for_a_link_never_leads_out(rootfs: Path, canary: Path, way: str) -> None:
    """CVE-2021-30465, CVE-2018-15664: the racer of the runc and docker cp reports."""
    (rootfs / "swap").mkdir()
    (rootfs / "swap" / "keep").write_bytes(b"inside")
    (rootfs / "other").symlink_to(canary)
    stop = threading.Event()

    def race() -> None:
        at = os.open(rootfs, os.O_PATH)
        while not stop.is_set():
            libc.syscall("renameat2", at, "swap", at, "other", 2)  # RENAME_EXCHANGE
        os.close(at)

    racer = threading.Thread(target=race)
    racer.start()
    seen = set()
    try:
        with Root.open(str(rootfs)) as root:
            for turn in range(1500):
                try:
                    seen.add(root.read_file("swap/keep"))
                    os.close(root.make_directories("swap/" + str(turn % 7)))
                    root.write_file("swap/w", b"x", uid=os.geteuid(), gid=os.getegid())
                    root.remove("swap/w")
                except (FileNotFoundError, BlockingIOError):
                    seen.add(b"missing")
    finally:
        stop.set()
        racer.join()
    assert b"inside" in seen
    assert b"host secret" not in seen


def _refuse_openat2() -> None:
    """Install a seccomp filter that answers ENOSYS to openat2, as a kernel before 5.6 does."""
    import ctypes

    program = b"".join(
        struct.pack("HBBI", *instruction)
        for instruction in (
            (0x20, 0, 0, 0),  # load the number
            (0x15, 0, 1, libc.number("openat2")),
            (0x06, 0, 0, 0x00050000 | 38),  # SECCOMP_RET_ERRNO | ENOSYS
            (0x06, 0, 0, 0x7FFF0000),
        )
    )
    buffer = ctypes.create_string_buffer(program)
    libc.prctl(libc.PR_SET_NO_NEW_PRIVS, 1)
    libc.syscall("seccomp", 1, 0, struct.pack("HxxxxxxQ", len(program) // 8, ctypes.addressof(buffer)))


def test_a_kernel_without_openat2_is_noticed(rootfs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "_no_openat2", False)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            _refuse_openat2()
            with Root.open(str(rootfs)) as root:
                fine = root.read_file("up") == (rootfs / "etc/passwd").read_bytes()
                try:
                    root.open_file("out", os.O_PATH)
                except FileNotFoundError:
                    code = 0 if fine and paths._no_openat2 else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
