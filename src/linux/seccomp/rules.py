"""What a seccomp filter says about each call: the default profile, or a user's retain or remove set.

By default what programs need is allowed, what endangers the host is EPERM, and what is unknown, obsolete or
unwanted is ENOSYS, so that programs fall back to something older.
An app's own set (appc's seccomp isolators) blocks with an errno of its choice or kills.
"""

from __future__ import annotations

from errno import EAFNOSUPPORT, ENOSYS, EPERM

from linux.seccomp import bpf, names
from linux.seccomp.policies import REMOVE, RETAIN

TYPE_CHECKING = False
if TYPE_CHECKING:
    from linux.seccomp.policies import Policy

# clone(2) and unshare(2): all CLONE_NEW* bits but CLONE_NEWTIME, which clone uses for its signal number.
_NAMESPACES = 0x7E020000
_NEW_TIME = 0x00000080

# socket(2): unspecified, unix, inet, inet6, netlink, packet (which needs CAP_NET_RAW besides). All others,
# such as ALG (CVE-2026-31431), VSOCK (CVE-2021-26708), KEY, TIPC, RDS and BLUETOOTH, are kernel code that
# no app needs.
_FAMILIES = (0, 1, 2, 10, 16, 17)

# personality(2): PER_LINUX, PER_LINUX32, both with UNAME26, and the query. ADDR_NO_RANDOMIZE and
# READ_IMPLIES_EXEC switch off what protects the app.
_PERSONALITIES = (0, 8, 0x20000, 0x20008, 0xFFFFFFFF)

# What a process needs to start, to return from a signal and to end: the specification lets an
# executor add these to a retain set.
LIFE_CYCLE = ("execve", "exit", "exit_group", "restart_syscall", "rt_sigreturn", "sigreturn")

_AUDIT_ARCHITECTURE = {"x86_64": 0xC000003E, "i386": 0x40000003, "aarch64": 0xC00000B7}
_ON_MACHINE = {"x86_64": ("x86_64", "i386"), "aarch64": ("aarch64",)}
_X32_BIT = 0x40000000


def compiled(wanted: Policy, machine: str) -> bytes:
    """The BPF program of `wanted` for `machine` (uname's word). ValueError for a machine without a table."""
    if wanted.off:
        raise ValueError("a policy that retains everything has no filter")
    if machine not in _ON_MACHINE:
        raise ValueError(f"{machine}: no system call table for this machine (x86_64 and aarch64 have one)")
    actions, default = decisions(wanted)
    conditions = _conditions(wanted)
    trees = {}
    for architecture in _ON_MACHINE[machine]:
        if architecture == "i386" and not wanted.compat:
            continue
        leaves = {}
        for name, number in names.numbers(architecture).items():
            action = actions.get(name, default)
            leaves[number] = (
                conditions[name] if action == bpf.ALLOW and name in conditions else bpf.always(action)
            )
        # A number that no table has belongs to a newer kernel than ours: as if it did not exist.
        unknown = default if wanted.mode == RETAIN else bpf.errno(ENOSYS)
        trees[_AUDIT_ARCHITECTURE[architecture]] = bpf.tree(leaves, bpf.always(unknown))
    return bpf.program(trees, x32=_X32_BIT if machine == "x86_64" else None)


def decisions(wanted: Policy) -> tuple[dict[str, int], int]:
    """The action for each call that `wanted` decides on, and the one for all others (before conditions)."""
    refusal = bpf.errno(wanted.errno) if wanted.errno else bpf.KILL_PROCESS
    if wanted.mode == RETAIN:
        retained = names.expand((*wanted.words, *LIFE_CYCLE))
        return dict.fromkeys(retained, bpf.ALLOW), refusal
    actions = dict.fromkeys(names.expand(("@rkt/default-blacklist",)), bpf.errno(EPERM))
    allowed = names.expand(("@rkt/default-whitelist", *_capability_groups(wanted.capabilities)))
    actions.update(dict.fromkeys(allowed, bpf.ALLOW))
    if wanted.socketcall:
        actions["socketcall"] = bpf.ALLOW
    if wanted.mode == REMOVE:
        removed = names.expand(wanted.words).difference(LIFE_CYCLE)
        actions.update(dict.fromkeys(removed, refusal))
    return actions, bpf.errno(ENOSYS)


def _capability_groups(capabilities: int) -> list[str]:
    """The groups `@rkt/cap-…` of the capabilities in the mask `capabilities`."""
    from linux import capabilities as caps

    wanted = ["@rkt/" + name.lower().replace("_", "-") for name in caps.names(capabilities)]
    return [group for group in wanted if group in names.groups()]


def _conditions(wanted: Policy) -> dict[str, list[bpf.Instruction]]:
    """What is asked about the arguments of an allowed call, and the leaf that asks it."""
    from linux import capabilities as caps

    leaves = {"personality": bpf.only_values(0, _PERSONALITIES, bpf.errno(EPERM))}
    may_unshare = wanted.capabilities & caps.mask(("CAP_SYS_ADMIN",)) or "@rkt/namespaces" in wanted.words
    if not may_unshare:
        leaves["clone"] = bpf.unless_bits(0, _NAMESPACES, bpf.errno(EPERM))
        leaves["unshare"] = bpf.unless_bits(0, _NAMESPACES | _NEW_TIME, bpf.errno(EPERM))
    if "@rkt/socket-families" not in wanted.words:
        family = bpf.only_values(0, _FAMILIES, bpf.errno(EAFNOSUPPORT))
        leaves["socket"] = leaves["socketpair"] = family
    return leaves
