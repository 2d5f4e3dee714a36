"""Finding the trees of a host from /proc, naming groups, and the values that stand for limits."""

from __future__ import annotations

from pathlib import Path

import pytest

from linux.cgroups import Cgroup, Device, Hierarchy, Limits, limits

V1 = "{n} 20 0:{n} / {root}/{name} rw,relatime - cgroup cgroup rw,{options}\n"
V2 = "{n} 20 0:{n} / {root}/{name} rw,relatime - cgroup2 cgroup2 rw\n"


def proc(tmp_path: Path, mountinfo: str, cgroup: str) -> str:
    directory = tmp_path / "proc"
    directory.mkdir()
    (directory / "mountinfo").write_text("20 1 8:1 / / rw - ext4 /dev/sda1 rw\n" + mountinfo)
    (directory / "cgroup").write_text(cgroup)
    return str(directory)


def test_version_1_puts_groups_below_the_callers_own(tmp_path: Path) -> None:
    (tmp_path / "memory" / "limited").mkdir(parents=True)
    (tmp_path / "cpu,cpuacct").mkdir()
    mounts = V1.format(n=30, root=tmp_path, name="memory", options="memory")
    mounts += V1.format(n=31, root=tmp_path, name="cpu,cpuacct", options="cpu,cpuacct")
    mounts += V1.format(n=32, root=tmp_path, name="systemd", options="name=systemd")
    mounts += V2.format(n=33, root=tmp_path, name="unified")
    own = "3:memory:/limited\n2:cpu,cpuacct:/gone\n1:name=systemd:/a.service\n0::/a.service\n"

    found = Hierarchy.detect(proc(tmp_path, mounts, own))

    assert found.version == 1
    assert found.bases == {"memory": f"{tmp_path}/memory/limited", "cpu": f"{tmp_path}/cpu,cpuacct"}


def test_version_2_goes_to_the_root_unless_delegated(tmp_path: Path) -> None:
    (tmp_path / "cgroup" / "user.slice").mkdir(parents=True)
    mounts = V2.format(n=33, root=tmp_path, name="cgroup")

    found = Hierarchy.detect(proc(tmp_path, mounts, "0::/user.slice\n"))

    assert (found.version, found.bases) == (2, {"": f"{tmp_path}/cgroup"})


def test_a_part_of_a_tree_mounted_in_a_container(tmp_path: Path) -> None:
    (tmp_path / "memory" / "inner").mkdir(parents=True)
    mounts = f"30 20 0:30 /docker/c1 {tmp_path}/memory rw - cgroup cgroup rw,memory\n"

    inside = Hierarchy.detect(proc(tmp_path, mounts, "3:memory:/docker/c1/inner\n"))
    assert inside.bases == {"memory": f"{tmp_path}/memory/inner"}


@pytest.mark.parametrize("own", ["/docker/c12", "/..", "/../../etc", "/docker/c1/../.."])
def test_a_group_outside_of_the_mounted_part_is_not_followed(tmp_path: Path, own: str) -> None:
    (tmp_path / "memory").mkdir()
    mounts = f"30 20 0:30 /docker/c1 {tmp_path}/memory rw - cgroup cgroup rw,memory\n"
    assert Hierarchy.detect(proc(tmp_path, mounts, f"3:memory:{own}\n")).bases == {
        "memory": f"{tmp_path}/memory"
    }


def test_a_host_without_control_groups(tmp_path: Path) -> None:
    found = Hierarchy.detect(proc(tmp_path, "", "0::/\n"))
    assert found.version == 0
    group = found.cgroup("rkt/u1")
    group.create()
    missed = group.apply(Limits(memory=1 << 20))
    assert missed == ["resource/memory: no cgroup controller 'memory' for it on this host"]
    assert group.processes() == []
    group.kill()
    group.remove()


@pytest.mark.parametrize("name", ["", "rkt", "/rkt/u1", "rkt/", "rkt/..", "rkt/./a", "rkt//a", "rkt/a\nb"])
def test_names_that_could_escape_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="not the name of a group"):
        Hierarchy({"memory": "/sys/fs/cgroup/memory"}).cgroup(name)


@pytest.mark.parametrize("name", ["", "..", "a/b", "a\nb"])
def test_children_that_could_escape_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="not the name of a group"):
        Hierarchy({"memory": "/sys/fs/cgroup/memory"}).cgroup("rkt/u1").child(name)


def test_a_group_survives_as_text() -> None:
    group = Hierarchy({"memory": "/a b/c", "": "/u"}).cgroup("rkt/u1").child("app")
    again = Cgroup.from_record(group.record())
    assert again.directories == {"memory": "/a b/c/rkt/u1/app", "": "/u/rkt/u1/app"}
    assert again.record() == group.record()


@pytest.mark.parametrize("text", ["memory:/a\n", "3:memory:a\n", "3:memory:/a/../b\n", "x:memory:/a\n"])
def test_damaged_records_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        Cgroup.from_record(text)


def test_values_of_version_1() -> None:
    wanted = Limits(memory=42 << 20, cpu=800, cpu_shares=12345, pids=2048, block_iops=5, block_bandwidth=7)
    writes = [(c, f, v) for _, c, f, v in limits.version_1(wanted, ("8:0",))]
    assert writes == [
        ("memory", "memory.limit_in_bytes", "44040192"),
        ("cpu", "cpu.cfs_period_us", "100000"),
        ("cpu", "cpu.cfs_quota_us", "80000"),
        ("cpu", "cpu.shares", "12345"),
        ("pids", "pids.max", "2048"),
        ("blkio", "blkio.throttle.read_bps_device", "8:0 7"),
        ("blkio", "blkio.throttle.write_bps_device", "8:0 7"),
        ("blkio", "blkio.throttle.read_iops_device", "8:0 5"),
        ("blkio", "blkio.throttle.write_iops_device", "8:0 5"),
    ]


def test_values_of_version_2() -> None:
    wanted = Limits(memory=42 << 20, cpu=800, cpu_shares=1024, pids=2048, block_iops=5, block_bandwidth=7)
    assert [(f, v) for _, _, f, v in limits.version_2(wanted, ("8:0",))] == [
        ("memory.max", "44040192"),
        ("cpu.max", "80000 100000"),
        ("cpu.weight", "39"),
        ("pids.max", "2048"),
        ("io.max", "8:0 rbps=7 wbps=7"),
        ("io.max", "8:0 riops=5 wiops=5"),
    ]


@pytest.mark.parametrize(
    ("shares", "weight"), [(2, 1), (1024, 39), (262144, 10000), (0, 1), (1 << 40, 10000)]
)
def test_shares_become_weights(shares: int, weight: int) -> None:
    assert limits.weight(shares) == weight


def test_the_shortest_quota_of_the_kernel() -> None:
    assert limits.quota(1) == 1000
    assert limits.quota(2500) == 250_000


def test_device_rules_deny_first() -> None:
    writes = limits.version_1(Limits(devices=(Device("c", 1, None, "r"),)), ())
    assert [(f, v) for _, _, f, v in writes] == [("devices.deny", "a"), ("devices.allow", "c 1:* r")]
