"""The cage itself: what a process that was taken over by a hostile archive can still do, which is nothing."""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from appc.aci import cage
from appc.aci.errors import InvalidArchive, LimitExceeded, UnknownFormat
from appc.errors import AppcError

pytestmark = pytest.mark.usefixtures("root")


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[int]:
    (tmp_path / "target").mkdir()
    (tmp_path / "beside").write_text("secret")
    fd = os.open(tmp_path / "target", os.O_RDONLY | os.O_DIRECTORY)
    yield fd
    os.close(fd)


def caged(work: Callable[[int], bytes], directory: int | None = None, **options: int) -> bytes:
    with cage.start(work, directory=directory, **options) as child:
        return child.result()


def attempt(what: Callable[[], object]) -> bytes:
    try:
        return repr(what()).encode()
    except OSError as error:
        return errno.errorcode[error.errno or 0].encode()


def test_it_can_write_to_its_directory_alone(directory: int) -> None:
    def work(inside: int) -> bytes:
        os.mkdir("d", dir_fd=inside)
        fd = os.open("d/f", os.O_CREAT | os.O_WRONLY, dir_fd=inside)
        os.write(fd, b"x")
        os.close(fd)
        os.link("d/f", "g", src_dir_fd=inside, dst_dir_fd=inside)
        os.unlink("g", dir_fd=inside)
        return b"done"

    assert caged(work, directory) == b"done"
    assert os.listdir(directory) == ["d"]


@pytest.mark.parametrize(
    "path", ["/", "/etc/passwd", "/proc/self/status", "/target", "/dev/null", "..", "../..", "../beside"]
)
def test_nothing_else_can_be_seen(directory: int, path: str) -> None:
    def work(inside: int) -> bytes:
        return attempt(lambda: os.open(path, os.O_RDONLY, dir_fd=inside))

    if path == "/target":
        assert caged(work, directory).isdigit()  # the directory itself, by its name inside
    else:
        assert caged(work, directory) in {b"ENOENT", b"EACCES", b"EPERM"}


def test_nothing_is_imported_from_what_is_extracted(directory: int) -> None:
    """An image that holds a module must not have it run (CVE-2019-14271 in another language)."""
    fd = os.open("evil.py", os.O_CREAT | os.O_WRONLY, 0o644, dir_fd=directory)
    os.write(fd, b"raise SystemExit(3)\n")
    os.close(fd)

    def work(inside: int) -> bytes:
        sys.path.insert(0, "/target")
        try:
            __import__("evil")
        except ImportError:
            return b"refused"
        return b"imported"

    assert caged(work, directory) == b"refused"


ATTEMPTS: dict[str, Callable[[], object]] = {
    "fork": os.fork,
    "kill another": lambda: os.kill(1, signal.SIGTERM),
    "connect": lambda: socket.socket().connect(("127.0.0.1", 1)),
    "run a program": lambda: os.execv("/bin/true", ["true"]),
    "setuid": lambda: os.setuid(12345),
    "chroot": lambda: os.chroot("/target"),
    "make a device": lambda: os.mknod("/target/null", 0o20666, os.makedev(1, 3)),
    "a new namespace": lambda: _call(272, 0x10000000),
    "ptrace": lambda: _call(101, 16, 1),
    "mount": lambda: _call(165, 0, 0, 0, 0, 0),
    "load a key": lambda: _call(248, 0, 0, 0, 0, 0),
    "bpf": lambda: _call(321, 0, 0, 0),
    "io_uring": lambda: _call(425, 1, 0),
}


def _call(number: int, *arguments: int) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(number, *arguments) < 0:
        raise OSError(ctypes.get_errno(), "refused")
    return 0


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="numbers of x86_64")
@pytest.mark.parametrize("name", ATTEMPTS)
def test_system_calls(directory: int, name: str) -> None:
    assert caged(lambda _: attempt(ATTEMPTS[name]), directory) in {b"EPERM", b"EACCES", b"ENOSYS", b"ENOENT"}


def test_fds_are_those_it_was_given(directory: int) -> None:
    leaked = os.open("/etc", os.O_RDONLY)
    kept = os.open("/etc/passwd", os.O_RDONLY)
    try:

        def work(inside: int) -> bytes:
            held = []
            for fd in range(200):
                try:
                    os.fstat(fd)
                except OSError:
                    continue
                held.append(fd)
            return repr((held, inside)).encode()

        held, inside = eval(caged(work, directory, keep=(kept,)))  # type: ignore[arg-type]
    finally:
        os.close(leaked)
        os.close(kept)
    assert set(held) >= {0, 1, 2, kept, inside}
    assert len(held) == 6  # and the pipe for the answer
    assert leaked not in held


@pytest.mark.parametrize(
    "error",
    [
        InvalidArchive(["one", "two"], hint="a hint"),
        LimitExceeded("too much"),
        UnknownFormat("what"),
        AppcError("plain", hint="h"),
        OSError(errno.ENOSPC, "No space left on device", "some/name"),
    ],
)
def test_errors_come_back_as_they_are(error: Exception) -> None:
    def work(_: int) -> bytes:
        raise error

    with pytest.raises(type(error)) as raised:
        caged(work)
    assert str(raised.value) == str(error)
    assert getattr(raised.value, "hint", None) == getattr(error, "hint", None)


def test_an_unexpected_error_is_told(directory: int) -> None:
    with pytest.raises(AppcError, match="KeyError"):
        caged(lambda _: {}["x"], directory)  # type: ignore[typeddict-item]


def test_memory_is_bounded() -> None:
    with pytest.raises(LimitExceeded, match="memory"):
        caged(lambda _: bytes(2 << 30))


def test_file_size_is_bounded(directory: int) -> None:
    def work(inside: int) -> bytes:
        fd = os.open("f", os.O_CREAT | os.O_WRONLY, dir_fd=inside)
        return attempt(lambda: [os.write(fd, bytes(100)) for _ in range(20)])

    assert caged(work, directory, file_size=1000) == b"EFBIG"


def test_a_child_that_is_killed_is_an_error() -> None:
    def die(_: int) -> bytes:
        os.abort()

    with pytest.raises(AppcError, match="SIGABRT"):
        caged(die)


def test_leaving_early_ends_the_child() -> None:
    def work(_: int) -> bytes:
        time.sleep(60)
        return b""

    started = time.monotonic()
    with cage.start(work):
        pass
    assert time.monotonic() - started < 10
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_the_child_dies_with_its_parent(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    parent = os.fork()
    if parent == 0:
        try:
            os.close(reading)

            def work(_: int) -> bytes:
                os.write(writing, b"up")
                time.sleep(60)
                return b""

            with cage.start(work, keep=(writing,)):
                os.close(writing)
                time.sleep(60)
        finally:
            os._exit(1)
    os.close(writing)
    assert os.read(reading, 2) == b"up"
    os.kill(parent, signal.SIGKILL)
    os.waitpid(parent, 0)
    assert os.read(reading, 1) == b""  # the last holder of the pipe is gone
    os.close(reading)


def test_without_user_namespaces(directory: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host may switch them off: root then has the other walls."""
    from linux import clone

    real = clone.clone

    def refuse(flags: int) -> int:
        if flags & clone.NEWUSER:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(flags)

    monkeypatch.setattr(clone, "clone", refuse)

    def work(inside: int) -> bytes:
        os.mkdir("d", dir_fd=inside)
        return attempt(lambda: os.open("/etc/passwd", os.O_RDONLY))

    with cage.start(work, directory=directory) as child:
        assert child.result() == b"ENOENT"
        assert child.walls == ("namespaces", "root", "landlock", "capabilities", "seccomp")


def test_without_any_namespace(directory: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Landlock and seccomp stand alone where an ordinary user may make no namespace."""
    from linux import clone

    real = clone.clone
    monkeypatch.setattr(clone, "clone", lambda flags: real(0) if not flags else _refuse())
    monkeypatch.setattr(os, "geteuid", lambda: 1000)

    def work(inside: int) -> bytes:
        os.mkdir("d", dir_fd=inside)
        return attempt(lambda: os.open("/etc/passwd", os.O_RDONLY))

    with cage.start(work, directory=directory) as child:
        assert child.result() == b"EACCES"
        assert child.walls == ("landlock", "capabilities", "seccomp")


def _refuse() -> int:
    raise OSError(errno.EPERM, "Operation not permitted")
