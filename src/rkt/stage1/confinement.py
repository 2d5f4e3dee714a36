"""What an app may do, computed from its manifest and the user's flags: plain data, no kernel call.

The result is used by everything that runs a program of an app: `run`, its event handlers, `enter`. It is
stored in the pod's directory, so that `enter` confines as `run` did (CVE-2019-10144, -10145, -10147).
"""

from __future__ import annotations

import errno
import os

from appc import jsonfield
from appc.types import isolators as names
from appc.types.annotations import STOP_SIGNAL
from linux import capabilities, seccomp
from linux.bare import signal
from linux.cgroups import limits as cgroup_limits
from linux.named_tuple import NamedTuple
from rkt.errors import RktError
from rkt.stage1 import identity

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeVar

    from appc.schema.app import App
    from appc.schema.image import ImageManifest
    from appc.schema.pod import PodManifest
    from appc.types.isolators import Isolators
    from linux.paths import Root
    from rkt.stage1.abi import Invocation

    _T = TypeVar("_T")

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
PIDS_MAX = 2048

# The specification's default set (spec/ace.md, capabilities-remove-set).
DEFAULT_CAPABILITIES = (
    "CAP_AUDIT_WRITE", "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_KILL", "CAP_MKNOD",
    "CAP_NET_RAW", "CAP_NET_BIND_SERVICE", "CAP_SETUID", "CAP_SETGID", "CAP_SETPCAP", "CAP_SETFCAP",
    "CAP_SYS_CHROOT",
)  # fmt: skip
# Harmless in a user namespace of the pod's own; without one they reach the host: devices, packets, its log.
NOT_ON_THE_HOST = ("CAP_AUDIT_WRITE", "CAP_MKNOD", "CAP_NET_RAW")

# resource.RLIMIT_*: soft and hard; lowered to what the caller may give.
_CORE, _NOFILE, _MEMLOCK = 4, 7, 8
RLIMITS = ((_CORE, 0, 0), (_NOFILE, 1024, 524_288), (_MEMLOCK, 8 << 20, 8 << 20))


class Confinement(NamedTuple):
    """One program of an app and everything that bounds it.

    `environment` are ``NAME=value`` strings. `user` and `group` are the manifest's words until the
    app's root exists, then the numbers that they mean there (`as_found`), and `home` is the user's directory,
    empty for one that has to be looked up; `group_may_be_missing` lets an unknown group be the user's number
    (images converted from Docker). `capabilities` is the bounding set, and for uid 0 the permitted and
    effective one. `seccomp` is a compiled program, empty only if `unfiltered`. `oom_score_adjust` None leaves
    the caller's, but never below 0. `label` is (`apparmor` or `selinux`, name) or None. `limits` are those of
    the app's control group. `not_enforced` says what the user asked for and does not get. The signal
    `stop_signal` asks the main program to end.
    """

    app: str
    argv: tuple[str, ...]
    environment: tuple[str, ...]
    working_directory: str
    user: str
    group: str
    home: str
    group_may_be_missing: bool
    supplementary_gids: tuple[int, ...]
    capabilities: int
    seccomp: bytes
    unfiltered: bool
    no_new_privileges: bool
    oom_score_adjust: int | None
    rlimits: tuple[tuple[int, int, int], ...]
    label: tuple[str, str] | None
    limits: cgroup_limits.Limits
    not_enforced: tuple[str, ...]
    stop_signal: int = signal.SIGTERM

    def with_environment(self, values: dict[str, str]) -> Confinement:
        """The same with these variables added; they override equal ones."""
        kept = [item for item in self.environment if item.partition("=")[0] not in values]
        return self._replace(environment=(*kept, *(f"{name}={value}" for name, value in values.items())))


def plan(name: str, app: App, image: ImageManifest, pod: PodManifest, invocation: Invocation) -> Confinement:
    """The confinement of the app `name`, for its main program.

    RktError for an isolator that must not be ignored and cannot be obeyed: an unknown capability or system
    call (R18), a retain next to a remove set.
    """
    own_users = invocation.private_users is not None
    missed: list[str] = [f"{isolator}: not known, ignored" for isolator in app.isolators.unrecognised]
    kept = _capabilities(name, app.isolators, invocation, own_users=own_users, missed=missed)
    program, unfiltered = _filter(name, app.isolators, image, invocation, kept)
    nnp = app.isolators.get(names.NO_NEW_PRIVILEGES)
    stop_signal = _stop_signal(image, missed)
    return Confinement(
        app=name,
        argv=tuple(app.exec),
        environment=_environment(name, app),
        working_directory=app.working_directory or "/",
        user=app.user,
        group=app.group,
        home="",
        group_may_be_missing=image.annotations.of_docker,
        supplementary_gids=tuple(app.supplementary_gids),
        capabilities=kept,
        seccomp=program,
        unfiltered=unfiltered,
        no_new_privileges=nnp is None or nnp.setting is not False,
        oom_score_adjust=_oom_score(app.isolators, own_users=own_users, missed=missed),
        rlimits=RLIMITS,
        label=_label(name, app.isolators, missed),
        limits=_limits(app.isolators, missed),
        not_enforced=tuple(missed),
        stop_signal=stop_signal,
    )


def as_found(bounds: Confinement, root: Root) -> Confinement | None:
    """`bounds` with what user and group mean in the app's `root` now, before anything of the app has run.

    What the app does to its accounts later must not decide as whom its handlers run, or who enters. None for
    numbers, which mean themselves, and for a user that cannot be found: executing the program will tell.
    """
    if not (bounds.user + bounds.group).strip("0123456789"):
        return None
    try:
        who = identity.resolve(
            root, bounds.user, bounds.group, group_may_be_missing=bounds.group_may_be_missing
        )
    except RktError:
        return None
    return bounds._replace(user=str(who.uid), group=str(who.gid), home=who.home)


def programs(confinement: Confinement, app: App) -> dict[str, Confinement]:
    """The programs of an app's life by step, `pre-start`, `main`, `post-stop`: all confined alike."""
    found = {"main": confinement}
    for handler in app.event_handlers:
        if handler.exec:
            found[handler.name] = confinement._replace(argv=tuple(handler.exec))
    return found


def pod_limits(
    pod: PodManifest, devices: tuple[cgroup_limits.Device, ...] = ()
) -> tuple[cgroup_limits.Limits, list[str]]:
    """The limits of the pod's control group, and what is not enforced. `devices` are allowed too."""
    missed = [f"{isolator}: not known, ignored" for isolator in pod.isolators.unrecognised]
    limits = _limits(pod.isolators, missed)
    rules = (*cgroup_limits.DEFAULT_DEVICES, *devices)
    return limits._replace(pids=PIDS_MAX, devices=rules), missed


def _environment(name: str, app: App) -> tuple[str, ...]:
    """What every app gets (spec/ace.md, "Execution environment"); the manifest may change PATH only."""
    values = {"PATH": PATH, **app.environment.as_dict(), "AC_APP_NAME": name, "container": "rkt"}
    return tuple(f"{key}={value}" for key, value in values.items())


def _stop_signal(image: ImageManifest, missed: list[str]) -> int:
    """Docker's STOPSIGNAL: a number or a name, as SIGQUIT, INT, RTMIN+3; SIGTERM where there is none."""
    word = image.annotations.get(STOP_SIGNAL)
    if word is None:
        return signal.SIGTERM
    name, plus, more = word.upper().removeprefix("SIG").partition("+")
    number = 0
    if not word.strip("0123456789") and len(word) < 3:
        number = int(word or 0)
    elif plus and name == "RTMIN" and not more.strip("0123456789") and len(more) < 3:
        number = signal.SIGRTMIN + int(more or 0)
    elif not plus and name.isalnum():
        number = int(getattr(signal, f"SIG{name}", 0))
    if not 0 < number <= signal.SIGRTMAX or number == signal.SIGSTOP:  # which ends nothing
        missed.append(f"stop signal {jsonfield.quoted(word)}: there is none; SIGTERM takes its place")
        return signal.SIGTERM
    return number


def _capabilities(
    name: str, given: Isolators, invocation: Invocation, *, own_users: bool, missed: list[str]
) -> int:
    """The bounding set that the isolators ask for."""
    if invocation.disable_capabilities:
        return (1 << capabilities.last() + 1) - 1
    retain, remove = given.get(names.CAPABILITIES_RETAIN), given.get(names.CAPABILITIES_REMOVE)
    if retain is not None and remove is not None:
        raise RktError(f"{name}: cannot use both {names.CAPABILITIES_RETAIN} and {names.CAPABILITIES_REMOVE}")
    try:
        if retain is not None:
            wanted = capabilities.mask(_set(retain))
        else:
            default = [c for c in DEFAULT_CAPABILITIES if own_users or c not in NOT_ON_THE_HOST]
            wanted = capabilities.mask(default)
            if remove is not None:
                wanted &= ~capabilities.mask(_set(remove))
    except ValueError as error:
        raise RktError(f"{name}: {error}") from error
    if not own_users and (lacking := wanted & ~capabilities.read().bounding):
        missed += [f"{capability}: rkt itself does not have it" for capability in capabilities.names(lacking)]
    return wanted


def _set(isolator: names.Isolator) -> tuple[str, ...]:
    return _setting(isolator, names.NameSet).names


def _setting(isolator: names.Isolator, kind: type[_T]) -> _T:
    """What the isolator means, of the type that `appc` promises for its name."""
    if not isinstance(isolator.setting, kind):
        raise TypeError(f"{isolator.name}: {isolator.setting!r} is no {kind.__name__}")
    return isolator.setting


def _filter(
    name: str, given: Isolators, image: ImageManifest, invocation: Invocation, kept: int
) -> tuple[bytes, bool]:
    """The compiled seccomp filter, and whether there is none because the user said so in so many words."""
    if invocation.disable_seccomp:
        return b"", True
    i386 = image.labels.get("arch") == "i386"
    retain, remove = given.get(names.SECCOMP_RETAIN), given.get(names.SECCOMP_REMOVE)
    isolator = retain or remove
    try:
        if isolator is None:
            policy = seccomp.policy(capabilities=kept, socketcall=i386)
        else:
            wanted = _setting(isolator, names.SeccompSet)
            policy = seccomp.policy(
                "retain" if isolator is retain else "remove",
                wanted.names,
                errno=_errno(wanted.errno),
                capabilities=kept,
                socketcall=i386,
            )
        return (b"", True) if policy.off else (seccomp.compile(policy), False)
    except ValueError as error:
        where = isolator.name if isolator is not None else "seccomp"
        raise RktError(f"{name}: {where}: {error}", hint="`rkt help seccomp` lists the groups") from error


def _errno(word: str | None) -> int:
    """The number of errno(3)'s `word`; 0, which kills, for None. ValueError for one that is no errno."""
    if word is None:
        return 0
    number = getattr(errno, word, None)
    if not isinstance(number, int) or not word.startswith("E"):
        raise ValueError(f"{word!r} is no errno")
    return number


def _oom_score(given: Isolators, *, own_users: bool, missed: list[str]) -> int | None:
    isolator = given.get(names.OOM_SCORE_ADJ)
    if isolator is None:
        return None
    score = _setting(isolator, int)
    resource = capabilities.mask(["CAP_SYS_RESOURCE"])
    if score < 0 and (own_users or not capabilities.read().effective & resource):
        missed.append(f"{names.OOM_SCORE_ADJ}: {score} needs CAP_SYS_RESOURCE on the host, 0 is used")
        return 0
    return score


def _label(name: str, given: Isolators, missed: list[str]) -> tuple[str, str] | None:
    """The security module's name for what the app may do, where the kernel has that module."""
    apparmor, selinux = given.get(names.APPARMOR_PROFILE), given.get(names.SELINUX_CONTEXT)
    if selinux is not None:
        if os.path.exists("/sys/fs/selinux/enforce"):
            return "selinux", str(selinux.setting)
        missed.append(f"{names.SELINUX_CONTEXT}: this kernel runs without SELinux")
    if apparmor is not None:
        try:
            with open("/sys/module/apparmor/parameters/enabled", encoding="ascii") as file:
                enabled = file.read().strip() == "Y"
        except OSError:
            enabled = False
        if enabled:
            return "apparmor", str(apparmor.setting)
        missed.append(f"{names.APPARMOR_PROFILE}: this kernel runs without AppArmor")
    return None


def _limits(given: Isolators, missed: list[str]) -> cgroup_limits.Limits:
    """The limits for a control group. Amounts round away from zero; a request alone cannot be enforced."""
    values: dict[str, int] = {}
    for isolator, field in (
        (names.MEMORY, "memory"),
        (names.CPU, "cpu"),
        (names.BLOCK_BANDWIDTH, "block_bandwidth"),
        (names.BLOCK_IOPS, "block_iops"),
    ):
        found = given.get(isolator)
        if found is None:
            continue
        limit = _setting(found, names.Resource).limit
        if limit is None:
            missed.append(f"{isolator}: only a limit can be enforced, not a request")
        else:
            values[field] = limit.milli_value() if field == "cpu" else limit.value()
    shares = given.get(names.CPU_SHARES)
    if shares is not None:
        values["cpu_shares"] = _setting(shares, int)
    return cgroup_limits.Limits(
        memory=values.get("memory"),
        cpu=values.get("cpu"),
        cpu_shares=values.get("cpu_shares"),
        block_bandwidth=values.get("block_bandwidth"),
        block_iops=values.get("block_iops"),
    )


# Stored in the pod, for enter

# What comes from the caller's environment and command line need not be UTF-8, as JSON has to be: stored a
# character a byte.
_OF_BYTES = ("argv", "environment")


def save(pod_dir: str, confinement: Confinement) -> None:
    """Store how the app is confined in its pod's directory: for root alone, it holds the environment."""
    from linux import files

    value = confinement._asdict()
    value["seccomp"] = confinement.seccomp.hex()
    for field in _OF_BYTES:
        value[field] = [os.fsencode(text).decode("latin-1") for text in value[field]]
    files.write_atomically(
        _path(pod_dir, confinement.app), jsonfield.encode(value), mode=0o600, durable=False
    )


def load(pod_dir: str, app: str) -> Confinement:
    """How `app` is confined, as `save` stored it. RktError when the pod has none: it has not been started."""
    try:
        with open(_path(pod_dir, app), "rb") as stream:
            text = stream.read()
    except FileNotFoundError:
        raise RktError(f"{app}: not started yet: its confinement is not written down") from None
    try:
        value: dict[str, Any] = dict(jsonfield.obj(jsonfield.parse(text)))
        for field in _OF_BYTES:
            value[field] = tuple(os.fsdecode(text.encode("latin-1")) for text in value[field])
        limits = cgroup_limits.Limits(*value["limits"])
        if limits.devices is not None:
            limits = limits._replace(devices=tuple(cgroup_limits.Device(*rule) for rule in limits.devices))
        found = Confinement(**value)
        return found._replace(
            supplementary_gids=tuple(found.supplementary_gids),
            seccomp=bytes.fromhex(value["seccomp"]),
            rlimits=tuple(tuple(limit) for limit in value["rlimits"]),
            label=None if found.label is None else (found.label[0], found.label[1]),
            limits=limits,
            not_enforced=tuple(found.not_enforced),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise RktError(f"{app}: its stored confinement is damaged: {error}") from error


def _path(pod_dir: str, app: str) -> str:
    return f"{pod_dir}/appsinfo/{app}/confinement"
