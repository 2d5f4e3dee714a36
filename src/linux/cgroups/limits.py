"""Limits of a group, and the control files and values that stand for them in each cgroup version.

Sources: Documentation/admin-guide/cgroup-v1 and cgroup-v2.rst.
"""

from __future__ import annotations

from linux.named_tuple import NamedTuple

PERIOD = 100_000  # microseconds; the kernel's own default of cpu.max
_SHORTEST_QUOTA = 1_000  # microseconds: the kernel refuses less


class Device(NamedTuple):
    """A rule that allows: `kind` "c" or "b", numbers or None for any, `access` of r, w and m (mknod)."""

    kind: str
    major: int | None
    minor: int | None
    access: str

    def line(self) -> str:
        """The rule as version 1's devices.allow takes it: ``c 1:3 rwm``."""
        major, minor = ("*" if part is None else str(part) for part in (self.major, self.minor))
        return f"{self.kind} {major}:{minor} {self.access}"


# What an app finds in its /dev: null zero full random urandom tty console, its own terminals.
DEFAULT_DEVICES = (
    Device("c", 1, 3, "rwm"),
    Device("c", 1, 5, "rwm"),
    Device("c", 1, 7, "rwm"),
    Device("c", 1, 8, "rwm"),
    Device("c", 1, 9, "rwm"),
    Device("c", 5, 0, "rwm"),
    Device("c", 5, 1, "rwm"),
    Device("c", 5, 2, "rwm"),
    Device("c", 136, None, "rwm"),
)


class Limits(NamedTuple):
    """What a group may use; None is no limit.

    `memory` in bytes, `cpu` in thousandths of a core, `cpu_shares` 2 to 262144 (1024 is the normal weight),
    `pids` tasks, `devices` the rules that allow (anything else is denied), `block_bandwidth` bytes and
    `block_iops` operations per second on each disk, for reading and for writing.
    """

    memory: int | None = None
    cpu: int | None = None
    cpu_shares: int | None = None
    pids: int | None = None
    devices: tuple[Device, ...] | None = None
    block_bandwidth: int | None = None
    block_iops: int | None = None


def quota(millicores: int) -> int:
    """Microseconds of CPU time in each PERIOD that `millicores` thousandths of a core are."""
    return max(_SHORTEST_QUOTA, millicores * PERIOD // 1000)


def weight(shares: int) -> int:
    """Version 2's cpu.weight (1 to 10000) for version 1's cpu.shares (2 to 262144), linear as runc has it."""
    return 1 + (min(max(shares, 2), 262_144) - 2) * 9_999 // 262_142


def version_1(limits: Limits, disks: tuple[str, ...]) -> list[tuple[str, str, str, str]]:
    """(isolator, controller, file, value) of each write that enforces `limits` on version 1, in order."""
    writes: list[tuple[str, str, str, str]] = []
    if limits.memory is not None:
        writes.append(("resource/memory", "memory", "memory.limit_in_bytes", str(limits.memory)))
    if limits.cpu is not None:
        writes.append(("resource/cpu", "cpu", "cpu.cfs_period_us", str(PERIOD)))
        writes.append(("resource/cpu", "cpu", "cpu.cfs_quota_us", str(quota(limits.cpu))))
    if limits.cpu_shares is not None:
        writes.append(("os/linux/cpu-shares", "cpu", "cpu.shares", str(limits.cpu_shares)))
    if limits.pids is not None:
        writes.append(("pids limit", "pids", "pids.max", str(limits.pids)))
    for isolator, value, unit in (
        ("resource/block-bandwidth", limits.block_bandwidth, "bps"),
        ("resource/block-iops", limits.block_iops, "iops"),
    ):
        if value is not None:
            for disk in disks:
                for direction in ("read", "write"):
                    file = f"blkio.throttle.{direction}_{unit}_device"
                    writes.append((isolator, "blkio", file, f"{disk} {value}"))
    if limits.devices is not None:
        writes.append(("device rules", "devices", "devices.deny", "a"))
        writes += [("device rules", "devices", "devices.allow", rule.line()) for rule in limits.devices]
    return writes


def version_2(limits: Limits, disks: tuple[str, ...]) -> list[tuple[str, str, str, str]]:
    """The same for version 2, apart from the device rules, which are a BPF program there."""
    writes: list[tuple[str, str, str, str]] = []
    if limits.memory is not None:
        writes.append(("resource/memory", "memory", "memory.max", str(limits.memory)))
    if limits.cpu is not None:
        writes.append(("resource/cpu", "cpu", "cpu.max", f"{quota(limits.cpu)} {PERIOD}"))
    if limits.cpu_shares is not None:
        writes.append(("os/linux/cpu-shares", "cpu", "cpu.weight", str(weight(limits.cpu_shares))))
    if limits.pids is not None:
        writes.append(("pids limit", "pids", "pids.max", str(limits.pids)))
    for disk in disks:
        if limits.block_bandwidth is not None:
            value = f"{disk} rbps={limits.block_bandwidth} wbps={limits.block_bandwidth}"
            writes.append(("resource/block-bandwidth", "io", "io.max", value))
        if limits.block_iops is not None:
            value = f"{disk} riops={limits.block_iops} wiops={limits.block_iops}"
            writes.append(("resource/block-iops", "io", "io.max", value))
    return writes
