"""What of /proc and /sys a container shall not see, or not change."""

from __future__ import annotations

import os
import stat

from linux.mount import api

_A = api.Attribute
_NO_SUID_DEV_EXEC = _A.NOSUID | _A.NODEV | _A.NOEXEC
_PATH = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC

# Rule R14 of the security reference, and what rkt 1.30 hid (its `paths` isolation).
HIDDEN = (
    *("proc/acpi", "proc/asound", "proc/config.gz", "proc/interrupts", "proc/kallsyms", "proc/kcore"),
    *("proc/keys", "proc/kmem", "proc/latency_stats", "proc/mem", "proc/sched_debug", "proc/scsi"),
    *("proc/slabinfo", "proc/timer_list", "proc/timer_stats", "proc/vmallocinfo"),
    *("sys/devices/virtual/powercap", "sys/firmware", "sys/fs/selinux", "sys/hypervisor"),
    *("sys/module", "sys/power"),
)
READ_ONLY = ("proc/bus", "proc/fs", "proc/irq", "proc/sys", "proc/sysrq-trigger")
_THERMAL = "thermal_throttle"


def mask() -> None:
    """Hide what tells about the host and make read-only what changes it, in the working directory.

    That has proc, sys and dev/null in it, mounted by the caller, and gets an empty directory `empty`. It is
    no place of an image: its names are to be trusted.
    """
    options = (("size", "4k"), ("mode", "0555"))
    empty = api.filesystem("tmpfs", options, attributes=_NO_SUID_DEV_EXEC | _A.RDONLY)
    os.mkdir("empty", 0o555)
    api.move_mount(empty, "empty")
    os.close(empty)
    for path in (*HIDDEN, *_thermal()):
        _hide(path)
    for path in READ_ONLY:
        try:
            fd = api.open_tree(path)
        except OSError:
            continue
        target = os.open(path, _PATH)
        api.mount_setattr(fd, set_=_A.RDONLY | _NO_SUID_DEV_EXEC)
        api.move_mount(fd, to_fd=target)
        os.close(fd)
        os.close(target)


def _hide(path: str) -> None:
    try:
        target = os.open(path, _PATH)
    except OSError:
        return
    try:
        directory = stat.S_ISDIR(os.fstat(target).st_mode)
        source = api.open_tree("empty" if directory else "dev/null")
        try:
            api.move_mount(source, to_fd=target)
        finally:
            os.close(source)
    finally:
        os.close(target)


def _thermal() -> list[str]:
    cpus = "sys/devices/system/cpu"
    try:
        names = os.listdir(cpus)
    except OSError:
        return []
    return [f"{cpus}/{name}/{_THERMAL}" for name in names if name[3:].isdigit()]
