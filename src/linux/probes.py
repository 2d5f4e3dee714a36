"""What this host can do, found out by trying it: one list for `rkt doctor` and for the tests.

A probe makes its attempt in a child with namespaces of its own and leaves nothing behind. It decides
nothing: what to do without a feature belongs to whoever asks.
"""

from __future__ import annotations

import os

from linux import namespaces, process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

OK, WARN, FAIL = "ok", "warn", "fail"
# 2024-01-01: a clock before this cannot judge certificates and signatures.
_EARLIEST_CLOCK = 1_704_067_200
_SPACE, _INODES = 1 << 30, 10_000
_NEEDED = (
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_KILL",
    "CAP_MKNOD",
    "CAP_NET_ADMIN",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_ADMIN",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
)
_PROC_NAMESPACES = ("mnt", "uts", "ipc", "pid", "net", "user", "cgroup")


class Finding:
    """What one probe found. `remedy` is what the operator can do about it; empty if nothing is wrong."""

    __slots__ = ("name", "remedy", "status", "text")

    def __init__(self, name: str, status: str, text: str, remedy: str = "") -> None:
        self.name = name
        self.status = status
        self.text = text
        self.remedy = remedy

    def to_json(self) -> dict[str, str]:
        return {"name": self.name, "status": self.status, "text": self.text, "remedy": self.remedy}


def all_of(directory: str) -> list[Finding]:
    """Every finding; `directory` (existing or not) is where data is going to lie."""
    place = _existing(directory)
    return [probe(place) for probe in PROBES.values()]


def one(name: str, directory: str) -> Finding:
    """The finding of one probe of PROBES."""
    return PROBES[name](_existing(directory))


def _existing(directory: str) -> str:
    """The directory itself or the nearest one above it that exists."""
    path = os.path.abspath(directory)
    while not os.path.isdir(path):
        path = os.path.dirname(path)
    return path


def _attempt(function: Callable[[], int | None]) -> str:
    """Run `function` in a child; empty if it worked, else the reason in one line."""
    try:
        process.fork_and_wait(function)
    except OSError as error:
        return error.strerror or str(error)
    except (RuntimeError, ValueError) as error:
        return str(error)
    return ""


def root(_directory: str) -> Finding:
    if os.geteuid() == 0:
        return Finding("root", OK, "running as root")
    return Finding(
        "root", WARN, f"running as uid {os.geteuid()}", "run pods as root, for example through sudo"
    )


def capabilities(_directory: str) -> Finding:
    from linux import capabilities as caps

    missing = caps.names(caps.mask(_NEEDED) & ~caps.read().effective)
    if not missing:
        return Finding("capabilities", OK, "all that pods need")
    return Finding(
        "capabilities",
        FAIL if os.geteuid() == 0 else WARN,
        "missing " + ", ".join(missing),
        "start the container or service that this runs in with these capabilities",
    )


def kernel(_directory: str) -> Finding:
    """Whether it has the newest of the system calls without which no pod runs."""
    import errno

    from linux.mount import api

    release = os.uname().release
    try:
        api.mount_setattr(-1)
    except OSError as error:
        if error.errno == errno.ENOSYS:
            text = f"Linux {release} is too old: it has no mount_setattr(2), and no pod runs"
            return Finding("kernel", FAIL, text, "use Linux 5.12 or later")
    return Finding("kernel", OK, f"Linux {release}")


def kernel_namespaces(_directory: str) -> Finding:
    missing = [name for name in _PROC_NAMESPACES if not os.path.exists(f"/proc/self/ns/{name}")]
    if missing:
        return Finding(
            "namespaces",
            FAIL,
            "the kernel has none of kind " + ", ".join(missing),
            "use a kernel with namespaces",
        )
    flags = namespaces.NEWNS | namespaces.NEWNET | namespaces.NEWPID | namespaces.NEWIPC | namespaces.NEWUTS
    reason = _attempt(lambda: namespaces.unshare(flags))
    if not reason:
        return Finding("namespaces", OK, ", ".join(_PROC_NAMESPACES))
    status = FAIL if os.geteuid() == 0 else WARN
    return Finding("namespaces", status, f"cannot be made: {reason}", "allow CAP_SYS_ADMIN and unshare(2)")


def user_namespaces(_directory: str) -> Finding:
    reason = _attempt(lambda: namespaces.unshare(namespaces.NEWUSER))
    if not reason:
        return Finding("user-namespaces", OK, "can be made")
    return Finding(
        "user-namespaces",
        WARN,
        f"cannot be made: {reason}; pods run without",
        "sysctl user.max_user_namespaces=15000 (and kernel.unprivileged_userns_clone=1 where it exists)",
    )


def overlay(directory: str) -> Finding:
    from linux.mount import overlay as overlays

    try:
        works, where = overlays.supported(directory), directory
    except OSError as error:
        works, where = False, f"{directory} ({error.strerror})"
    if works:
        return Finding("overlay", OK, f"works on {where}")
    return Finding(
        "overlay",
        WARN,
        f"does not work on {where}; pods get copies of their images",
        "modprobe overlay, or put the data on ext4, xfs (with ftype=1) or btrfs (see --dir)",
    )


def idmapped_mounts(directory: str) -> Finding:
    from linux.mount import idmap

    try:
        works = idmap.supported(directory)
    except OSError:
        works = False
    if works:
        return Finding("idmapped-mounts", OK, f"work on {directory}")
    return Finding(
        "idmapped-mounts",
        WARN,
        f"do not work on {directory}; pods run without a user namespace of their own",
        "use Linux 5.12 or later and ext4, xfs or btrfs",
    )


def cgroups(_directory: str) -> Finding:
    from linux.cgroups import Hierarchy

    found = Hierarchy.detect()
    wanted = ("cpu", "memory", "pids")
    if found.version == 2:
        have = _read(os.path.join(next(iter(found.bases.values())), "cgroup.controllers")).split()
    else:
        have = [name for name in wanted if name in found.bases]
    missing = [name for name in wanted if name not in have]
    layout = {0: "none mounted", 1: "version 1 or hybrid", 2: "version 2"}[found.version]
    if not missing:
        return Finding("cgroups", OK, f"{layout}, with {', '.join(wanted)}")
    return Finding(
        "cgroups",
        WARN,
        f"{layout}; not limited: {', '.join(missing)}",
        "mount the cgroup file systems; on version 2 delegate the controllers (Delegate=yes in a unit)",
    )


def seccomp(_directory: str) -> Finding:
    actions = _read("/proc/sys/kernel/seccomp/actions_avail").split()
    if "errno" in actions and "kill_process" in actions:
        return Finding("seccomp", OK, "filters work")
    return Finding(
        "seccomp", FAIL, "the kernel has no seccomp filters", "use a kernel with CONFIG_SECCOMP_FILTER"
    )


def landlock(_directory: str) -> Finding:
    from linux import landlock as lock

    version = lock.version()
    if version:
        return Finding("landlock", OK, f"version {version}")
    return Finding(
        "landlock", WARN, "not there; one wall less round unpacking", "boot with landlock in the lsm= list"
    )


def nftables(_directory: str) -> Finding:
    reason = _attempt(_masquerade)
    if not reason:
        return Finding("nftables", OK, "the kernel masquerades")
    return Finding(
        "nftables",
        FAIL,
        f"cannot masquerade: {reason}",
        "modprobe nf_tables nft_chain_nat nft_masq; networks and ports need them",
    )


def _masquerade() -> None:
    """A rule in a network namespace that ends with this child."""
    from linux.netlink.nftables import expressions, objects
    from linux.netlink.nftables.transaction import Transaction
    from linux.netlink.socket import NETFILTER, Socket

    namespaces.unshare(namespaces.NEWNET)
    family, hook, priority = objects.INET, objects.POSTROUTING, objects.SRCNAT
    with Socket(NETFILTER) as socket:
        Transaction(
            objects.add_table(family, "probe"),
            objects.add_base_chain(family, "probe", "out", kind="nat", hook=hook, priority=priority),
            objects.add_rule(family, "probe", "out", expressions.masquerade()),
        ).commit(socket)


def bridges(_directory: str) -> Finding:
    reason = _attempt(_make_links)
    if not reason:
        return Finding("network-links", OK, "bridge and veth can be made")
    return Finding("network-links", FAIL, f"cannot be made: {reason}", "modprobe bridge veth; run as root")


def _make_links() -> None:
    """A bridge and a veth pair in a network namespace that ends with this child."""
    from linux.netlink import batch, link
    from linux.netlink.socket import ROUTE, Socket

    namespaces.unshare(namespaces.NEWNET)
    with Socket(ROUTE) as socket:
        batch.commit(socket, link.create_bridge("probe0"))
        batch.commit(socket, link.create_veth("probe1", "probe2"))


def gpgv(_directory: str) -> Finding:
    try:
        done = process.run(["gpgv", "--version"], timeout=10)
    except (OSError, TimeoutError):
        return Finding("gpgv", FAIL, "not found: no signature can be verified", "apt-get install gpgv")
    return Finding("gpgv", OK, done.stdout.decode("ascii", "replace").split("\n", 1)[0])


def init(_directory: str) -> Finding:
    name = _read("/proc/1/comm").strip() or "unknown"
    if os.path.isdir("/run/systemd/system"):
        return Finding("init", OK, f"PID 1 is {name}; systemd manages this host")
    return Finding("init", OK, f"PID 1 is {name}; nothing here needs systemd")


def clock(_directory: str) -> Finding:
    import time

    now = time.time()
    shown = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now))
    if now > _EARLIEST_CLOCK:
        return Finding("clock", OK, shown)
    return Finding(
        "clock",
        FAIL,
        f"{shown} cannot be: certificates and signatures are judged by it",
        "set the clock, for example with timedatectl set-ntp true",
    )


def disk(directory: str) -> Finding:
    facts = os.statvfs(directory)
    free, inodes = facts.f_bavail * facts.f_frsize, facts.f_favail
    text = f"{free >> 20} MiB free below {directory}"
    if facts.f_flag & os.ST_RDONLY:
        return Finding("disk", FAIL, f"{directory} is read-only", "remount it, or choose another --dir")
    # btrfs and others do not count inodes.
    if free < _SPACE or (facts.f_files and inodes < _INODES):
        return Finding(
            "disk", WARN, f"{text}, {inodes} inodes", "rkt gc; rkt image gc; or choose another --dir"
        )
    return Finding("disk", OK, text)


def _read(path: str) -> str:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


PROBES: dict[str, Callable[[str], Finding]] = {
    "root": root,
    "capabilities": capabilities,
    "kernel": kernel,
    "namespaces": kernel_namespaces,
    "user-namespaces": user_namespaces,
    "overlay": overlay,
    "idmapped-mounts": idmapped_mounts,
    "cgroups": cgroups,
    "seccomp": seccomp,
    "landlock": landlock,
    "nftables": nftables,
    "network-links": bridges,
    "gpgv": gpgv,
    "init": init,
    "clock": clock,
    "disk": disk,
}
