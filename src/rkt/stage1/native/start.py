"""The start of a pod: control groups, namespaces, mounts, network, up to the supervisor's loop."""

from __future__ import annotations

import errno
import os
import stat
import sys

from linux import clone, namespaces, process
from linux.bare import signal
from linux.cgroups.limits import Device
from linux.mount import idmap
from linux.systemd import is_running as is_systemd_running
from rkt.errors import RktError
from rkt.stage1 import confinement, stub
from rkt.stage1.native import build, detached, files, join, logs, messages, netns, plan, systemd
from rkt.stage1.native.release import group_name
from rkt.stage1.native.supervisor import STEPS, App, Signals, Supervisor, put, sweep, until_executed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from socket import socket as Socket

    from rkt.network.netinfo import NetInfo
    from rkt.stage1.abi import Invocation
    from rkt.stage1.native.journal import PodJournal
    from rkt.stage1.native.plan import AppPlan, VolumePlan

# The group of PID 1 itself, beside those of the apps: version 2 wants processes in leaves only. An app
# cannot have this name, as an AC name has no underscore.
_INIT_GROUP = "_init"
# How long a pod runs before its parent makes itself small, in seconds: a short one is never delayed by it.
SETTLE = 1.0


# A kernel without user namespaces, or one that lets rkt make none.
_NO_USERS = (errno.EINVAL, errno.ENOSYS, errno.EPERM)


class NoUserNamespace(Exception):
    """This kernel or a filesystem of the pod cannot do what a user namespace of the pod's own takes."""


class Start:
    """One start of a pod. What it makes on the host is undone by `release`, also when it fails half way."""

    def __init__(self, invocation: Invocation, lock_fd: int, *, may_exec: bool) -> None:
        self.invocation = invocation
        self.lock_fd = lock_fd
        self.may_exec = may_exec
        self.pod, self.receivers = systemd.with_notify_sockets(plan.load(invocation), invocation.pod_dir)
        self.sockets = systemd.Sockets(self.pod)
        self.not_enforced: list[str] = []
        self.own_network = "host" not in invocation.net
        self.registered = False  # with machined
        self.place = systemd.find_place(invocation.uuid, self.not_enforced)
        self.group = self.place.hierarchy.cgroup(group_name(invocation.pod_dir))
        self.confinements: dict[str, confinement.Confinement] = {}
        self._signals: Signals | None = None

    def close(self) -> None:
        """Handle signals as the caller did."""
        if self._signals is not None:
            self._signals.close()

    def begin(self) -> Supervisor:
        """Start everything but the apps, which the returned supervisor starts. RktError or OSError if not."""
        _open_standard_streams()
        for remark in self.sockets.remarks:
            os.write(2, f"run: warning: {remark}\n".encode())
        signals = self._signals = Signals()
        os.umask(0o022)
        self._confine()
        self._make_groups()
        try:
            init, channel = self._boot()
        except NoUserNamespace as reason:
            self.not_enforced.append(f"user namespace: {reason}: the pod runs without one")
            self.invocation = self.invocation._replace(private_users=None)
            self._confine()
            init, channel = self._boot()
        try:
            self._finish(init, channel)
        except BaseException:
            _end(init)
            raise
        finally:
            channel.close()
        self.place.settle()
        self.registered, remark = systemd.register(self.invocation.pod_dir, self.invocation.uuid, init)
        if remark:
            self.not_enforced.append(remark)
            self._write_remarks()
        if signals.ending():
            _end(init)
            raise RktError("the pod was stopped before it began")
        for remark in self.not_enforced:
            os.write(2, f"run: warning: not enforced: {remark}\n".encode())
        return self._supervisor(init, signals)

    # -- what bounds the apps

    def _confine(self) -> None:
        for app in self.pod.apps:
            made = confinement.plan(app.name, app.app, app.image, self.pod.manifest, self.invocation)
            self.confinements[app.name] = made
            confinement.save(self.invocation.pod_dir, self.confinements[app.name])

    def _make_groups(self) -> None:
        """The pod's control group and one for each app; before the first instruction of any (R19)."""
        put(f"{self.invocation.pod_dir}/subcgroup", self.group.record())
        self.group.create()
        limits, missed = confinement.pod_limits(self.pod.manifest, _devices(self.pod))
        # Before there are children: version 1 changes the devices only of a group that has none.
        self.not_enforced += [*missed, *self.group.apply(limits)]
        self.group.child(_INIT_GROUP).create()
        for app in self.pod.apps:
            bounds = self.confinements[app.name]
            child = self.group.child(app.name)
            child.create()
            missed = [*bounds.not_enforced, *child.apply(bounds.limits)]
            self.not_enforced += [f"{app.name}: {text}" for text in missed]

    # -- PID 1

    def _boot(self) -> tuple[int, Socket]:
        """Make PID 1 in new namespaces and hand it the mounts; its process ID and the channel to it."""
        own_user = self.invocation.private_users is not None
        setup = build.PodSetup(
            hostname=self.invocation.hostname or f"rkt-{self.invocation.uuid}",
            own_user=own_user,
            host_network=not self.own_network,
            journal=is_systemd_running(),
            mask=not self.invocation.disable_paths,
            cgroup=self.group.child(_INIT_GROUP).open_entry(),
            idle=stub.sealed("idle"),
            cgroup_names=tuple(self.group.directories),
            apps=self.pod.apps,
            nosuid=frozenset(name for name, bounds in self.confinements.items() if bounds.no_new_privileges),
            sysctls=self._sysctls(),
            users=self.confinements,
        )
        ours, theirs = messages.pair()
        try:
            init = self._clone(setup, ours, theirs)
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
            for fd in (setup.idle, *setup.cgroup):
                os.close(fd)
        try:
            self._map_users(init)
            self._send_mounts(init, ours, setup)
        except BaseException as error:
            _end(init)
            told = _last_words(ours, error)
            ours.close()
            raise told from error
        return init, ours

    def _sysctls(self) -> dict[str, str]:
        """The pod's kernel parameters; RktError for one of a namespace that the pod shares with the host."""
        isolator = self.pod.manifest.isolators.get("os/unix/sysctl")
        if isolator is None or not isinstance(isolator.setting, dict):
            return {}
        shared = [] if self.own_network else ["net."]
        shared += ["kernel.", "fs."] if self.invocation.ipc == "parent" else []
        for key in isolator.setting:
            if key.replace("/", ".").startswith(tuple(shared)):
                raise RktError(f"sysctl {key!r} is the host's, as this pod shares that namespace with it")
        return dict(isolator.setting)

    def kinds(self) -> int:
        """The kinds of namespaces that the pod has of its own."""
        kinds = namespaces.NEWNS | namespaces.NEWPID | namespaces.NEWUTS
        kinds |= 0 if self.invocation.ipc == "parent" else namespaces.NEWIPC
        kinds |= namespaces.NEWNET if self.own_network else 0
        return kinds | (namespaces.NEWUSER if self.invocation.private_users is not None else 0)

    def _clone(self, setup: build.PodSetup, ours: Socket, theirs: Socket) -> int:
        try:
            # What the pod counts against is then its own range's first user, not the host's root.
            pid = clone.clone(self.kinds(), owner=(self.invocation.private_users or (0,))[0])
        except OSError as error:
            if setup.own_user and (error.errno in _NO_USERS or _users_are_forbidden()):
                raise NoUserNamespace(error.strerror) from error
            raise
        if pid:
            return pid
        try:
            ours.detach()
            process.close_fds_from(3, keep=(theirs.fileno(), setup.idle, *setup.cgroup))
            build.main(setup, theirs)
        finally:
            os._exit(254)

    def _map_users(self, init: int) -> None:
        if self.invocation.private_users is not None:
            lines = ((0, *self.invocation.private_users),)
            namespaces.write_id_maps(init, lines, lines)

    def _send_mounts(self, init: int, channel: Socket, setup: build.PodSetup) -> None:
        userns = shift = None
        if self.invocation.private_users is not None:
            shift = self.invocation.private_users[0]
            userns = os.open(f"/proc/{init}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
        fds: list[int] = []
        try:
            if setup.host_network:
                fds.append(detached.host_sysfs())
            if setup.journal:
                fds.append(systemd.journal_directory(self.invocation.pod_dir))
            for app in self.pod.apps:
                fds.append(self._root(app, userns, shift))
                for mount in app.mounts:
                    if mount.volume.kind == "empty":
                        self._check_owner(mount.volume)
                        detached.make_empty(mount.volume, app, mount.path)
                    fd, remark = detached.volume(mount.volume, userns=userns)
                    fds.append(fd)
                    self.not_enforced += [remark] if remark else []
                group = self.group.child(app.name)
                fds += [detached.control_group(group.directories[name]) for name in setup.cgroup_names]
            messages.send(channel, "mounts", fds=tuple(fds))
        finally:
            for fd in fds:
                os.close(fd)
            if userns is not None:
                os.close(userns)

    def _check_owner(self, volume: VolumePlan) -> None:
        """RktError when an empty volume belongs to an ID that nobody in the pod's user namespace has."""
        count = (self.invocation.private_users or (0, 1 << 32))[1]
        for kind, number in (("uid", volume.uid), ("gid", volume.gid)):
            if number >= count:
                raise RktError(
                    f'volume "{volume.name}": {kind} {number} is beyond the {count} IDs of the pod',
                    hint="take a lower one, or `--private-users=false`",
                )

    def _root(self, app: AppPlan, userns: int | None, shift: int | None) -> int:
        pod_dir = self.invocation.pod_dir
        try:
            return detached.root_of_app(app, pod_dir, layered=self.pod.overlay, userns=userns, shift=shift)
        except OSError as error:
            if userns is not None and error.errno in idmap.CANNOT:
                raise NoUserNamespace(f"the filesystem of {pod_dir} cannot map owners") from error
            raise

    def _finish(self, init: int, channel: Socket) -> None:
        """Write down who runs the pod, make its network, and wait until PID 1 has built its roots."""
        pod_dir = self.invocation.pod_dir
        put(f"{pod_dir}/ppid", f"{os.getpid()}\n")
        put(f"{pod_dir}/ppid-start", f"{process.start_time(os.getpid())}\n")
        put(f"{pod_dir}/pid", f"{init}\n")
        networks = self._connect(init)
        if self.invocation.mds_token:
            self._tell_metadata_url(networks)
        etc = files.etc_files(self.invocation, self.pod, networks, self._hostname())
        self._write_remarks()
        try:
            messages.send(channel, "go", etc)
            message = messages.receive(channel)
            while message is not None and message.words[0] == "is":
                self._know_user(*message.words[1:])
                message = messages.receive(channel)
            built = message is not None and message.words[0] == "built"
            if built:
                message = messages.receive(channel)  # None: its end of the channel was closed by the exec
        except OSError as error:
            raise _last_words(channel, error) from error
        if message is not None and message.words[0] == "failed":
            raise RktError(message.words[1], hint=message.words[2] or None)
        if not built:
            raise RktError("the pod's PID 1 ended before it had built the pod")

    def _know_user(self, app: str, user: str, group: str, home: str) -> None:
        """Fix as whom the app's programs run, and who enters it, by numbers."""
        found = self.confinements[app]._replace(user=user, group=group, home=home)
        self.confinements[app] = found
        confinement.save(self.invocation.pod_dir, found)

    def _tell_metadata_url(self, networks: list[NetInfo]) -> None:
        """Give the apps AC_METADATA_URL: only now it is known at which of its addresses they see the host."""
        from rkt.metadata import pods

        invocation = self.invocation
        url = pods.url(invocation.pod_dir, invocation.mds_token, networks, local=not self.own_network)
        for name, made in self.confinements.items():
            self.confinements[name] = made.with_environment({"AC_METADATA_URL": url})
            confinement.save(invocation.pod_dir, self.confinements[name])

    def _write_remarks(self) -> None:
        if self.not_enforced:
            put(f"{self.invocation.pod_dir}/not-enforced", "\n".join(self.not_enforced) + "\n")

    def _hostname(self) -> str:
        return self.invocation.hostname or f"rkt-{self.invocation.uuid}"

    def _connect(self, init: int) -> list[NetInfo]:
        """Pin the pod's network namespace and join it to its networks; what they told."""
        invocation = self.invocation
        if not self.own_network:
            from rkt.network import bandwidth

            if bandwidth.is_wanted(self.pod.manifest):
                self.not_enforced.append("resource/network-bandwidth: the interfaces are the host's own")
            return []
        if invocation.net == ("none",):
            return []  # the loopback link is PID 1's to bring up; nothing of the host's is touched
        put(f"{invocation.pod_dir}/netns", netns.path(invocation.uuid) + "\n")
        netns.pin(invocation.uuid, init)
        from rkt import network

        return list(
            network.setup(
                invocation.pod_dir,
                invocation.uuid,
                netns.path(invocation.uuid),
                list(invocation.net),
                self.sockets.without_activated_ports(self.pod.manifest),
                invocation.local_config,
                self.not_enforced,
            )
        )

    # -- the apps

    def _own_journal(self, init: int) -> PodJournal | None:
        """The journal that `journalctl -M` shows of a pod that machined knows; no pod fails for its lack."""
        from rkt.stage1.native.journal import PodJournal

        try:
            return PodJournal(self.invocation.pod_dir, self._hostname(), init)
        except OSError as error:
            self.not_enforced.append(f"systemd: no journal of the pod's own: {error.strerror}")
            self._write_remarks()
            return None

    def _supervisor(self, init: int, signals: Signals) -> Supervisor:
        import time

        own_journal = self._own_journal(init) if self.registered else None
        launcher = Launcher(self, init, own_journal)
        supervisor = Supervisor(self.invocation.pod_dir, init, signals, 1, launcher)
        supervisor.notifier = systemd.notifier()
        supervisor.journal = own_journal
        for app in self.pod.apps:
            bounds = self.confinements[app.name]
            programs = confinement.programs(bounds, app.app)
            steps = tuple(step for step in STEPS if step in programs)
            supervisor.apps.append(App(app.name, steps, bounds.stop_signal))
            launcher.add(app, programs, supervisor)
            if app.name in self.receivers:
                supervisor.apps[-1].unready = True
                supervisor.readiness[self.receivers[app.name]] = supervisor.apps[-1]
        if self.may_exec and not self.invocation.interactive:
            from rkt.stage1.native import monitor

            supervisor.settle_at = time.monotonic() + SETTLE
            supervisor.on_settled = lambda settled: monitor.take_over(
                settled, launcher, self.invocation, self.lock_fd
            )
        return supervisor


class Launcher:
    """Starts the programs of a pod's apps."""

    def __init__(self, start: Start, init: int, own_journal: PodJournal | None) -> None:
        self._group = start.group
        self.kinds = start.kinds()
        self._joiner = join.Joiner(init, self.kinds)
        self._interactive = start.invocation.interactive
        self._terminal = start.invocation.interactive and os.isatty(0) and os.isatty(1)
        self._pod_dir = start.invocation.pod_dir
        self._sockets = start.sockets
        self._receivers = start.receivers
        self._journals = systemd.Journals(start.invocation.uuid, own_journal)
        self._tame = logs.wants_tame(len(start.pod.apps))
        self._programs: dict[str, dict[str, confinement.Confinement]] = {}
        self.stdio: dict[str, tuple[int, int, int]] = {}

    def add(self, app: AppPlan, programs: dict[str, confinement.Confinement], supervisor: Supervisor) -> None:
        """Make the streams of an app, whose output `supervisor` is to read."""
        self._programs[app.name] = programs
        if self._interactive:
            self.stdio[app.name] = (0, 1, 2)
            return
        log = logs.LogFile(f"{self._pod_dir}/logs", app.name)
        ends = [os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)]
        for name in ("stdout", "stderr"):
            reading, writing = os.pipe2(os.O_CLOEXEC)
            os.set_blocking(reading, False)
            supervisor.streams[reading] = logs.Stream(app.name, name, log)
            supervisor.streams[reading].journal = self._journals.of(app)
            supervisor.streams[reading].tame = self._tame
            ends.append(writing)
        self.stdio[app.name] = (ends[0], ends[1], ends[2])

    def spawn(self, app: str, step: str) -> tuple[int, int, int]:
        """Start the program of `app` for `step`: see `supervisor.Launcher`."""
        return until_executed(lambda held: self._spawn(app, step, held))

    def _spawn(self, app: str, step: str, held: int) -> tuple[int, int]:
        entry = self._group.child(app).open_entry()
        try:
            if step != "main":
                return self._joiner.spawn(self._programs[app][step], self.stdio[app], entry, held=held)
            program = self._programs[app][step].with_environment({
                **self._sockets.variables(app),
                **({"NOTIFY_SOCKET": systemd.NOTIFY_SOCKET} if app in self._receivers else {}),
            })
            stdio = None if self._terminal else self.stdio[app]
            return self._joiner.spawn(program, stdio, entry, kept=self._sockets.fds(app), held=held)
        finally:
            if step == "main":
                self._sockets.close(app)
            for fd in entry:
                os.close(fd)

    def sweep(self, app: str) -> None:
        """Kill what the app's main program has left behind."""
        sweep(self._pod_dir, app, self._group.child(app))


def _users_are_forbidden() -> bool:
    """Whether the host allows no user namespaces at all; that they are used up must not make pods weaker."""
    with open("/proc/sys/user/max_user_namespaces", "rb") as file:
        return int(file.read()) == 0


def _devices(pod: plan.PodPlan) -> tuple[Device, ...]:
    """The devices that the pod's volumes are: its control group allows them, for reading or both."""
    found = []
    for app in pod.apps:
        for mount in app.mounts:
            if mount.volume.kind == "empty":
                continue
            try:
                info = os.stat(mount.volume.source)
            except OSError:
                continue  # the mount itself will tell
            if stat.S_ISCHR(info.st_mode) or stat.S_ISBLK(info.st_mode):
                kind = "c" if stat.S_ISCHR(info.st_mode) else "b"
                access = "r" if mount.read_only else "rw"
                found.append(Device(kind, os.major(info.st_rdev), os.minor(info.st_rdev), access))
    return tuple(found)


def _open_standard_streams() -> None:
    """Have something open as 0, 1 and 2, or the next file opened would be taken for one of them."""
    if sys.stdout is not None:
        sys.stdout.flush()  # what Python still holds back comes before what the apps print
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            os.open("/dev/null", os.O_RDWR)  # takes the lowest free number, which is `fd`


def _end(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def _last_words(channel: Socket, error: BaseException) -> BaseException:
    """What a PID 1 that ended early had to say; `error` itself when it said nothing."""
    if not isinstance(error, OSError):
        return error
    channel.settimeout(0.0)
    try:
        while (message := messages.receive(channel)) is not None and message.words[0] == "is":
            pass
    except OSError:
        return error
    if message is not None and message.words[0] == "failed":
        return RktError(message.words[1], hint=message.words[2] or None)
    return error
