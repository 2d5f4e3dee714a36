"""Isolators: what an app or a pod may use and do (spec/ace.md, "Isolators").

An isolator of an unknown name is accepted and kept as it is; `Isolators.unrecognised` lists them, because
what an executor ignores must be visible to the user. A known one has a typed `setting`:

==================================== ==================
``resource/*``                       `Resource`
``os/linux/capabilities-*-set``      `NameSet`
``os/linux/seccomp-*-set``           `SeccompSet`
``os/linux/selinux-context``         `SELinuxContext`
``os/linux/apparmor-profile``        str (the profile)
``os/linux/no-new-privileges``       bool
``os/linux/oom-score-adj``           int
``os/linux/cpu-shares``              int
``os/unix/sysctl``                   dict[str, str]
==================================== ==================
"""

from __future__ import annotations

from appc.jsonfield import Fields, Problems, between, boolean, listed, nonempty, quoted, string, string_map
from appc.types.names import ACIdentifier
from appc.types.quantity import Quantity
from appc.types.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Self

CPU = "resource/cpu"
MEMORY = "resource/memory"
BLOCK_BANDWIDTH = "resource/block-bandwidth"
BLOCK_IOPS = "resource/block-iops"
NETWORK_BANDWIDTH = "resource/network-bandwidth"
CAPABILITIES_RETAIN = "os/linux/capabilities-retain-set"
CAPABILITIES_REMOVE = "os/linux/capabilities-remove-set"
SECCOMP_RETAIN = "os/linux/seccomp-retain-set"
SECCOMP_REMOVE = "os/linux/seccomp-remove-set"
SELINUX_CONTEXT = "os/linux/selinux-context"
APPARMOR_PROFILE = "os/linux/apparmor-profile"
NO_NEW_PRIVILEGES = "os/linux/no-new-privileges"
OOM_SCORE_ADJ = "os/linux/oom-score-adj"
CPU_SHARES = "os/linux/cpu-shares"
SYSCTL = "os/unix/sysctl"

#: At most one of each; the others may repeat, and the last one counts.
_SINGLE = (
    SECCOMP_RETAIN,
    SECCOMP_REMOVE,
    SELINUX_CONTEXT,
    APPARMOR_PROFILE,
    OOM_SCORE_ADJ,
    CPU_SHARES,
    SYSCTL,
)
_EXCLUSIVE = ((SECCOMP_RETAIN, SECCOMP_REMOVE), (CAPABILITIES_RETAIN, CAPABILITIES_REMOVE))

#: capability(7) of Linux 6.x; an unknown name in a manifest could not be kept or dropped as promised.
CAPABILITIES = frozenset(
    f"CAP_{name}"
    for name in """
    AUDIT_CONTROL AUDIT_READ AUDIT_WRITE BLOCK_SUSPEND BPF CHECKPOINT_RESTORE CHOWN DAC_OVERRIDE
    DAC_READ_SEARCH FOWNER FSETID IPC_LOCK IPC_OWNER KILL LEASE LINUX_IMMUTABLE MAC_ADMIN MAC_OVERRIDE
    MKNOD NET_ADMIN NET_BIND_SERVICE NET_BROADCAST NET_RAW PERFMON SETFCAP SETGID SETPCAP SETUID SYSLOG
    SYS_ADMIN SYS_BOOT SYS_CHROOT SYS_MODULE SYS_NICE SYS_PACCT SYS_PTRACE SYS_RAWIO SYS_RESOURCE
    SYS_TIME SYS_TTY_CONFIG WAKE_ALARM
    """.split()  # noqa: SIM905 (a table of 41 lines says no more)
)


class Resource(Record):
    """Amounts of a resource. `default` is about which device or network the isolator governs."""

    limit: Quantity | None = None
    request: Quantity | None = None
    default: bool = False

    @classmethod
    def from_json(cls, value: object) -> Resource:
        """cpu in cores, memory in bytes: a request, a limit, or both; no ``default``."""
        fields = Fields(value)
        default = fields.optional("default", boolean, default=False)
        request = fields.optional("request", Quantity.from_json, None)
        limit = fields.optional("limit", Quantity.from_json, None)
        if default:
            fields.problem("default", "must not be true for this resource")
        fields.finish()
        return cls(limit=limit, request=request, default=default)

    @classmethod
    def of_default_device(cls, value: object) -> Resource:
        """Block and network bandwidth per second: ``default`` must be true, a limit given, and no request."""
        fields = Fields(value)
        default = fields.optional("default", boolean, default=False)
        limit = fields.required("limit", Quantity.from_json)
        if default is False:
            fields.problem("default", "must be true")
        if fields.optional("request", lambda request: request, None) is not None:
            fields.problem("request", "is not supported by this resource")
        fields.finish()
        return cls(limit=limit, default=True)


class NameSet(Record):
    """Names of capabilities."""

    names: tuple[str, ...]

    @classmethod
    def from_json(cls, value: object) -> NameSet:
        """At least one name. Whether it exists is checked for the manifest as a whole."""
        fields = Fields(value)
        names = fields.required("set", _names)
        fields.finish()
        return cls(names=names)


class SeccompSet(Record):
    """Names of system calls, or wildcards that start with ``@``.

    `errno` is what a filtered call fails with, such as ``EPERM``; None kills the process.
    """

    names: tuple[str, ...]
    errno: str | None = None

    @classmethod
    def from_json(cls, value: object) -> SeccompSet:
        """At least one name; errno as errno(3) writes it."""
        fields = Fields(value)
        names = fields.required("set", _names)
        errno = fields.optional("errno", _errno, None)
        fields.finish()
        return cls(names=names, errno=errno or None)


class SELinuxContext(Record):
    """The four parts of an SELinux label."""

    user: str
    role: str
    type: str
    level: str

    @classmethod
    def from_json(cls, value: object) -> SELinuxContext:
        """None may be empty; only the level may hold a colon."""
        fields = Fields(value)
        user, role, kind = (fields.required(name, _without_colon) for name in ("user", "role", "type"))
        level = fields.required("level", nonempty)
        fields.finish()
        return cls(user=user, role=role, type=kind, level=level)

    def __str__(self) -> str:
        return f"{self.user}:{self.role}:{self.type}:{self.level}"


def _names(value: object) -> tuple[str, ...]:
    names = listed(string)(value)
    if not names:
        raise ValueError("may not be empty")
    return names


def _errno(value: object) -> str:
    text = string(value)
    if text and (text[0] != "E" or text.strip("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")):
        raise ValueError(f"{quoted(text)} is no errno such as EPERM")
    return text


def _without_colon(value: object) -> str:
    text = nonempty(value)
    if ":" in text:
        raise ValueError(f"{quoted(text)} may not hold a colon")
    return text


def _profile(value: object) -> str:
    fields = Fields(value)
    profile = fields.required("profile", nonempty)
    fields.finish()
    return profile


_SETTINGS: dict[str, Callable[[object], object]] = {
    CPU: Resource.from_json,
    MEMORY: Resource.from_json,
    BLOCK_BANDWIDTH: Resource.of_default_device,
    BLOCK_IOPS: Resource.of_default_device,
    NETWORK_BANDWIDTH: Resource.of_default_device,
    CAPABILITIES_RETAIN: NameSet.from_json,
    CAPABILITIES_REMOVE: NameSet.from_json,
    SECCOMP_RETAIN: SeccompSet.from_json,
    SECCOMP_REMOVE: SeccompSet.from_json,
    SELINUX_CONTEXT: SELinuxContext.from_json,
    APPARMOR_PROFILE: _profile,
    NO_NEW_PRIVILEGES: boolean,
    OOM_SCORE_ADJ: between(-1000, 1000),
    CPU_SHARES: between(2, 262144),
    SYSCTL: string_map,
}


class Isolator(Record):
    """A name, the value as it was written, and what it means; `setting` is None for an unknown name."""

    name: ACIdentifier
    value: object
    setting: object = None

    @classmethod
    def from_json(cls, value: object) -> Isolator:
        """Both members are required; the value of an unknown isolator may be anything."""
        fields = Fields(value)
        name = fields.required("name", ACIdentifier)
        read = _SETTINGS.get(name, _anything)
        if "value" not in fields:
            fields.problem("value", "is required")
        setting: object = None
        given = fields.optional("value", _anything, None)
        if read is not _anything and given is None and "value" in fields:
            fields.problem("value", "may not be null")
        elif read is not _anything:
            setting = fields.optional("value", read, None)
        fields.finish()
        return cls(name=name, value=given, setting=setting)

    @classmethod
    def make(cls, name: str, value: object) -> Isolator:
        """An isolator of this name and JSON value; ValueError tells what is wrong with them."""
        return cls.from_json({"name": name, "value": value})

    @property
    def recognised(self) -> bool:
        """Whether this library knows what it means."""
        return self.name in _SETTINGS

    def to_json(self) -> dict[str, object]:
        """The JSON form, the value as it was written but for the order of its members."""
        return {"name": self.name, "value": _sorted(self.value)}


class Isolators(tuple[Isolator, ...]):
    """The isolators of an app or a pod, in the order in which they were written."""

    __slots__ = ()

    @classmethod
    def from_json(cls, value: object) -> Self:
        """``null`` is an empty list, as in Go. Isolators that contradict each other are refused."""
        if value is None:
            return cls()
        isolators = cls(listed(Isolator.from_json)(value))
        isolators.check()
        return isolators

    def check(self) -> None:
        """ValueError for repetitions, contradictions, unknown capabilities and negative amounts."""
        names = [isolator.name for isolator in self]
        problems = [("", f"{name} may be given only once") for name in _SINGLE if names.count(_id(name)) > 1]
        problems += [
            ("", f"{one} and {other} exclude each other")
            for one, other in _EXCLUSIVE
            if one in names and other in names
        ]
        for index, isolator in enumerate(self):
            problems += [(f"[{index}].value", text) for text in _senseless(isolator.setting)]
        if problems:
            raise Problems(problems)

    def get(self, name: str) -> Isolator | None:
        """The last isolator of this name: it overrides those before it. None if there is none."""
        return next((isolator for isolator in reversed(self) if isolator.name == name), None)

    def without(self, names: Iterable[str]) -> Self:
        """These but for those of `names`."""
        dropped = frozenset(names)
        return type(self)(isolator for isolator in self if isolator.name not in dropped)

    @property
    def unrecognised(self) -> tuple[str, ...]:
        """The names that this library does not know."""
        return tuple(isolator.name for isolator in self if not isolator.recognised)

    def to_json(self) -> list[dict[str, object]]:
        """The JSON form."""
        return [isolator.to_json() for isolator in self]


def _anything(value: object) -> object:
    return value


def _sorted(value: object) -> object:
    """`value` with the members of its objects in order of their names: equal values give equal bytes."""
    if isinstance(value, dict):
        return {name: _sorted(value[name]) for name in sorted(value)}
    return [_sorted(item) for item in value] if isinstance(value, list) else value


def _id(name: str) -> ACIdentifier:
    return ACIdentifier(name)


def _senseless(setting: object) -> list[str]:
    if isinstance(setting, NameSet):
        return [f"{quoted(name)} is no capability" for name in setting.names if name not in CAPABILITIES]
    if isinstance(setting, Resource):
        amounts = {"request": setting.request, "limit": setting.limit}
        return [
            f"the {key} {amount} is negative"
            for key, amount in amounts.items()
            if amount and amount.nanos < 0
        ]
    return []
