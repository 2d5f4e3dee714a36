"""Control groups made, limited, filled, killed and removed in the running kernel."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from linux.cgroups import Cgroup, Device, Hierarchy, Limits, enter_through
from linux.cgroups.limits import DEFAULT_DEVICES

if TYPE_CHECKING:
    from collections.abc import Iterator

SRC = str(Path(__file__).parents[3] / "src")
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to make control groups")


def trees() -> list[tuple[str, Hierarchy]]:
    """The detected hierarchy, and on a hybrid host its version 2 tree as one of its own."""
    found = [("detected", Hierarchy.detect())]
    unified = "/sys/fs/cgroup/unified"
    if os.path.exists(f"{unified}/cgroup.procs"):
        found.append(("unified", Hierarchy({"": unified}, mount=unified)))
    return [(name, tree) for name, tree in found if tree.version]


@pytest.fixture(params=trees(), ids=lambda item: item[0])
def group(request: pytest.FixtureRequest) -> Iterator[Cgroup]:
    """A group of the test's own, gone with it."""
    made = request.param[1].cgroup(f"rkt-test-{os.getpid()}/pod")
    made.create()
    try:
        yield made
    finally:
        made.kill()
        made.remove()
        assert not made.exists()
        assert not any(os.path.exists(os.path.dirname(path)) for path in made.directories.values())


def sleeper(body: str = "") -> subprocess.Popen[bytes]:
    """A process that forks and sleeps; the caller kills and waits for it."""
    script = f"import os, sys, time; sys.path.insert(0, {SRC!r})\n{body}\nprint(flush=True)\ntime.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    return process


@contextlib.contextmanager
def ended(process: subprocess.Popen[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    with process:
        try:
            yield process
        finally:
            process.kill()


def groups_of(pid: int) -> str:
    return Path(f"/proc/{pid}/cgroup").read_text()


def test_a_process_joins_by_itself(group: Cgroup) -> None:
    body = f"from linux.cgroups import Cgroup\nCgroup.from_record({group.record()!r}).join()"
    with ended(sleeper(body)) as process:
        assert group.processes() == [process.pid]
        assert groups_of(process.pid).count(f"/rkt-test-{os.getpid()}/pod\n") == len(group.directories)
        group.kill()
        assert process.wait() == -signal.SIGKILL


def test_a_process_is_added_by_another(group: Cgroup) -> None:
    with ended(sleeper()) as process:
        group.add(process.pid)
        assert group.processes() == [process.pid]


def test_joining_through_descriptors_opened_before(group: Cgroup) -> None:
    fds = group.open_entry()
    pid = os.fork()
    if not pid:
        with contextlib.suppress(BaseException):
            os.chroot("/proc/self/fdinfo")
            enter_through(fds)
            signal.pause()
        os._exit(1)
    try:
        for _ in range(500):
            if group.processes() == [pid]:
                break
            time.sleep(0.01)
        assert group.processes() == [pid]
    finally:
        for fd in fds:
            os.close(fd)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def test_kill_reaches_children_in_groups_below(group: Cgroup) -> None:
    child = group.child("app")
    child.create()
    body = f"""
from linux.cgroups import Cgroup
child = Cgroup.from_record({child.record()!r})
told, tell = os.pipe()
for i in range(5):
    if not os.fork():
        os.close(told)
        child.join()
        os.setsid()
        os.close(tell)
        time.sleep(60)
os.close(tell)
child.join()
os.read(told, 1)  # until the last of them is in the group
os.close(told)
"""
    with ended(sleeper(body)):
        assert len(group.processes()) == 6
        with pytest.raises(OSError, match="busy"):
            group.remove(timeout=0)
        group.kill()
        group.remove()
        assert not group.exists()


def test_a_fork_bomb_is_contained_and_killed(group: Cgroup) -> None:
    if group.apply(Limits(pids=20)):
        pytest.skip("no pids controller in this tree")
    body = f"""
from linux.cgroups import Cgroup
Cgroup.from_record({group.record()!r}).join()
while True:
    try:
        os.fork()
    except BlockingIOError:
        break
"""
    with ended(sleeper(body)):
        assert 1 <= len(group.processes()) <= 20
        group.kill()
        assert group.processes() == []


def test_nobody_kills_the_group_he_is_in() -> None:
    tree = Hierarchy.detect()
    group = tree.cgroup(f"rkt-test-{os.getpid()}/self")
    group.create()
    try:
        script = f"""
import sys; sys.path.insert(0, {SRC!r})
from linux.cgroups import Cgroup
group = Cgroup.from_record({group.record()!r})
group.join()
try:
    group.kill()
except ValueError as refused:
    print(refused)
"""
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
        assert done.stdout == "a process cannot kill the control group it is in\n"
    finally:
        group.remove()


def test_limits_reach_the_kernel() -> None:
    tree = Hierarchy.detect()
    group = tree.cgroup(f"rkt-test-{os.getpid()}/limits")
    group.create()
    try:
        wanted = Limits(memory=42 << 20, cpu=800, cpu_shares=12345, pids=100, block_iops=50)
        missed = group.apply(wanted)
        assert missed in ([], ["resource/block-iops: no disk on this host"])
        files = {
            ("memory", "memory.limit_in_bytes"): str(42 << 20),
            ("cpu", "cpu.cfs_quota_us"): "80000",
            ("cpu", "cpu.shares"): "12345",
            ("pids", "pids.max"): "100",
        }
        if tree.version == 2:
            files = {
                ("", "memory.max"): str(42 << 20),
                ("", "cpu.max"): "80000 100000",
                ("", "cpu.weight"): "471",
                ("", "pids.max"): "100",
            }
        for (controller, file), value in files.items():
            directory = group.directories.get(controller)
            if directory is not None:
                assert Path(directory, file).read_text().strip() == value
    finally:
        group.remove()


def test_what_the_kernel_refuses_is_told(group: Cgroup) -> None:
    missed = group.apply(Limits(pids=-1))
    assert len(missed) == 1
    assert missed[0].startswith("pids limit: ")
    assert group.apply(Limits()) == []


def test_a_share_of_a_core_is_all_it_gets(group: Cgroup) -> None:
    if group.apply(Limits(cpu=100)):
        pytest.skip("no cpu controller in this tree")
    body = f"from linux.cgroups import Cgroup\nCgroup.from_record({group.record()!r}).join()\n"
    body += "end = time.process_time() + 0.1\nwhile time.process_time() < end: pass"
    with ended(sleeper(body)):
        (directory,) = (path for key, path in group.directories.items() if key in ("cpu", ""))
        seen = dict(line.split() for line in Path(directory, "cpu.stat").read_text().splitlines())
        assert int(seen["nr_throttled"]) > 0


def test_a_memory_hog_dies_alone(group: Cgroup) -> None:
    if group.apply(Limits(memory=32 << 20)):
        pytest.skip("no memory controller in this tree")
    script = f"""
import sys; sys.path.insert(0, {SRC!r})
from linux.cgroups import Cgroup
Cgroup.from_record({group.record()!r}).join()
hog = bytearray(256 << 20)
"""
    with open("/dev/null", "w") as null:
        done = subprocess.run([sys.executable, "-c", script], check=False, stderr=null)
    assert done.returncode != 0
    assert group.killed_for_memory() == 1


OPEN_ALL = """
import sys; sys.path.insert(0, {src!r})
import os, stat
from linux.cgroups import Cgroup
os.chdir({directory!r})
os.mknod("before", stat.S_IFCHR | 0o600, os.makedev(1, 11))
Cgroup.from_record({record!r}).join()
def attempt(what):
    try:
        what()
        return "yes"
    except PermissionError:
        return "no"
print(*[attempt(lambda p=p: os.close(os.open(p, os.O_RDWR))) for p in ("/dev/null", "/dev/zero", "before")])
print(attempt(lambda: os.mknod("kmsg", stat.S_IFCHR | 0o600, os.makedev(1, 11))))
print(attempt(lambda: os.mknod("null", stat.S_IFCHR | 0o600, os.makedev(1, 3))))
print(attempt(lambda: os.mknod("disk", stat.S_IFBLK | 0o600, os.makedev(8, 0))))
"""


def test_device_rules(group: Cgroup, tmp_path: Path) -> None:
    """Both kinds: version 1's devices controller, and version 2's BPF program (on the unified tree)."""
    missed = group.apply(Limits(devices=DEFAULT_DEVICES))
    if missed:
        pytest.skip(missed[0])
    script = OPEN_ALL.format(src=SRC, directory=str(tmp_path), record=group.record())
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["yes", "yes", "no", "no", "yes", "no"], done.stderr


def test_a_device_that_may_only_be_read(group: Cgroup, tmp_path: Path) -> None:
    missed = group.apply(Limits(devices=(Device("c", 1, 5, "r"),)))
    if missed:
        pytest.skip(missed[0])
    script = f"""
import sys; sys.path.insert(0, {SRC!r})
import os
from linux.cgroups import Cgroup
Cgroup.from_record({group.record()!r}).join()
os.close(os.open("/dev/zero", os.O_RDONLY))
for flags in (os.O_RDWR, os.O_WRONLY):
    try:
        os.open("/dev/zero", flags)
    except PermissionError:
        print("no")
try:
    os.open("/dev/null", os.O_RDONLY)
except PermissionError:
    print("no")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["no"] * 3, done.stderr


def test_leftovers_are_found_from_anywhere(group: Cgroup) -> None:
    top = f"rkt-test-{os.getpid()}"
    found = Hierarchy.detect().find(top)
    if found:
        assert found == {"pod": sorted(group.directories.values(), key=found["pod"].index)}
    assert Hierarchy.detect().find("rkt-no-such-top") == {}


def test_creating_and_removing_twice_is_no_error(group: Cgroup) -> None:
    group.create()
    group.remove()
    group.remove()
    assert not group.exists()
    group.create()


def test_two_pods_at_once_share_the_parent() -> None:
    script = f"""
import sys; sys.path.insert(0, {SRC!r})
from linux.cgroups import Hierarchy
tree = Hierarchy.detect()
for i in range(100):
    group = tree.cgroup("rkt-test-{os.getpid()}/" + sys.argv[1])
    group.create()
    group.remove()
"""
    both = [subprocess.Popen([sys.executable, "-c", script, name]) for name in ("a", "b")]
    assert [process.wait() for process in both] == [0, 0]
