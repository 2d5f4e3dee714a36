"""linux.namespaces on the real kernel."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from linux import namespaces, process

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root for namespaces")


def identity(kind: str, pid: int | str = "self") -> str:
    return os.readlink(f"/proc/{pid}/ns/{kind}")


def test_inside_visits_a_network_namespace_and_comes_back() -> None:
    before = identity("net")
    with subprocess.Popen(
        ["unshare", "--net", "sh", "-c", "echo; exec cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline()
        path = f"/proc/{holder.pid}/ns/net"
        assert not namespaces.same(path, "/proc/self/ns/net")
        with namespaces.inside(path):
            assert identity("net", "thread-self") == os.readlink(path)
        with pytest.raises(KeyError), namespaces.inside(path):
            raise KeyError
        with open(path, "rb") as opened:
            for _ in range(2):
                with namespaces.inside(opened.fileno()):
                    assert identity("net", "thread-self") == os.readlink(path)
    assert identity("net") == before


def test_inside_refuses_what_is_no_namespace(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    os.mkfifo(tmp_path / "fifo")
    for name in ("file", "fifo"):
        with pytest.raises(ValueError, match="not a namespace"), namespaces.inside(tmp_path / name):
            pass
    with pytest.raises(OSError, match="user"), namespaces.inside("/proc/self/ns/user"):
        pass
    for path in (tmp_path / "file", "/proc/self/ns/user"):
        with (
            open(path, "rb") as opened,
            pytest.raises(ValueError, match="not a network namespace"),
            namespaces.inside(opened.fileno()),
        ):
            pass


def test_inside_dies_rather_than_stay(tmp_path: Path) -> None:
    program = (
        "import os\n"
        "from linux import namespaces\n"
        "namespaces.unshare(namespaces.NEWNET)\n"
        "visit = namespaces.inside(f'/proc/{os.getppid()}/ns/net')\n"
        "visit.__enter__()\n"
        "os.close(visit._back)\n"
        "visit.__exit__(None, None, None)\n"
        "print('still here')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        check=False,
        env={"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == 70
    assert done.stdout == b""
    assert b"cannot return from network namespace" in done.stderr


def test_user_namespace_carries_its_maps_without_a_process() -> None:
    fd = namespaces.user_namespace([(0, 700000, 65536)], [(0, 800000, 65536)])

    def maps() -> bytes:
        namespaces.setns(fd, namespaces.NEWUSER)
        return Path("/proc/self/uid_map").read_bytes() + Path("/proc/self/gid_map").read_bytes()

    try:
        assert process.fork_and_read(maps, pass_fds=[fd]).split() == (
            b"0 700000 65536 0 800000 65536".split()
        )
    finally:
        os.close(fd)


def test_a_bad_map_is_an_error_that_names_the_file() -> None:
    with pytest.raises(OSError, match="gid_map"):
        namespaces.user_namespace([(0, 0, 1)], [(0, 0, 10), (5, 20, 10)])
