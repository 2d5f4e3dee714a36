"""The native stage 1's entry points: run, stop, gc.

Intent before effect: the names of control groups and of the network namespace derive from the pod's UUID and
are written into the pod before they are made, so that `gc` finds them after any crash.
"""

from __future__ import annotations

import os
import signal
import socket
from typing import TYPE_CHECKING

from linux import cgroups, clone, namespaces, process
from rkt.errors import RktError
from rkt.stage1 import confinement
from rkt.stage1.native import detached, files, init, logs, messages, netns, plan
from rkt.stage1.native.supervisor import Supervisor, console_fd, put

if TYPE_CHECKING:
    from collections.abc import Callable

    from rkt.stage1.abi import Invocation
    from rkt.stage1.native.plan import AppPlan

# The group of PID 1 itself, beside those of the apps: version 2 wants processes in leaves only. An app
# cannot have this name, as an AC name has no underscore.
_INIT_GROUP = "_init"


def run(invocation: Invocation, lock_fd: int) -> int:
    """Run the pod to its end; its exit code (rkt's rule: the first app that failed decides)."""
    del lock_fd  # inherited by nobody: the pod dies with this process, so this process's lock is the pod's
    return _Run(invocation, plan.load(invocation)).run()


class _Run:
    """One run of a pod. Whatever it makes is undone at its end, also when the start fails half way."""

    def __init__(self, invocation: Invocation, pod: plan.PodPlan) -> None:
        self.invocation = invocation
        self.pod = pod
        self.not_enforced: list[str] = []
        self.own_network = "host" not in invocation.net
        self.group = cgroups.Hierarchy.detect().cgroup(f"rkt/{invocation.uuid}")
        self.confinements = {app.name: self._confinement(app) for app in pod.apps}

    def run(self) -> int:
        os.umask(0o022)
        try:
            self._make_groups()
            setup, outputs = self._setup()
            ours, theirs = messages.pair()
            pid = self._clone(setup, ours, theirs)
            theirs.close()
            for app in setup.apps:
                _close_unless_standard((*app.stdio, *app.cgroup))
            _close_unless_standard(tuple(setup.cgroup))
            supervisor = Supervisor(self.invocation, pid, ours, console_fd())
            for fd, stream in outputs:
                supervisor.add_stream(fd, stream)
            try:
                self._feed(pid, ours, setup)
            except BaseException as error:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                told = _last_words(ours)
                if told is not None and isinstance(error, OSError):
                    raise told from error
                raise
            return supervisor.run()
        finally:
            self._undo()

    def _make_groups(self) -> None:
        put(f"{self.invocation.pod_dir}/subcgroup", self.group.record())
        self.group.create()
        limits, missed = confinement.pod_limits(self.pod.manifest)
        # Before there is a child: version 1 refuses to narrow the devices of a group that has some.
        self.not_enforced += [*missed, *self.group.apply(limits)]
        self.group.child(_INIT_GROUP).create()
        for app in self.pod.apps:
            plan = self.confinements[app.name]
            child = self.group.child(app.name)
            child.create()
            missed = [*plan.not_enforced, *child.apply(plan.limits)]
            self.not_enforced += [f"{app.name}: {text}" for text in missed]
            confinement.save(self.invocation.pod_dir, plan)

    def _confinement(self, app: AppPlan) -> confinement.Confinement:
        plan = confinement.plan(app.name, app.app, app.image, self.pod.manifest, self.invocation)
        url = metadata_url(self.invocation)
        return plan.with_environment({"AC_METADATA_URL": url}) if url else plan

    # -- what PID 1 inherits

    def _setup(self) -> tuple[init.PodSetup, list[tuple[int, logs.Stream]]]:
        outputs: list[tuple[int, logs.Stream]] = []
        apps = tuple(self._app_setup(app, outputs) for app in self.pod.apps)
        invocation = self.invocation
        setup = init.PodSetup(
            hostname=invocation.hostname or f"rkt-{invocation.uuid}",
            own_user=invocation.private_users is not None,
            host_network=not self.own_network,
            mask=not invocation.disable_paths,
            cgroup=self.group.child(_INIT_GROUP).open_entry(),
            cgroup_names=tuple(self.group.directories),
            apps=apps,
            sysctls=_sysctls(self.pod),
        )
        return setup, outputs

    def _app_setup(self, app: AppPlan, outputs: list[tuple[int, logs.Stream]]) -> init.AppSetup:
        plan = self.confinements[app.name]
        terminal = self.invocation.interactive and os.isatty(0)
        if self.invocation.interactive:
            stdio = (0, 1, 2)
        else:
            null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
            log = logs.LogFile(f"{self.invocation.pod_dir}/logs", app.name)
            stdio = (null, _pipe(app, "stdout", log, outputs), _pipe(app, "stderr", log, outputs))
        return init.AppSetup(
            plan=app,
            programs=confinement.programs(plan, app.app),
            stdio=stdio,
            terminal=terminal,
            cgroup=self.group.child(app.name).open_entry(),
            nosuid=plan.no_new_privileges,
        )

    def _clone(self, setup: init.PodSetup, ours: socket.socket, theirs: socket.socket) -> int:
        flags = clone.NEWNS | clone.NEWPID | clone.NEWUTS
        flags |= 0 if self.invocation.ipc == "parent" else clone.NEWIPC
        flags |= clone.NEWNET if self.own_network else 0
        flags |= clone.NEWUSER if setup.own_user else 0
        pid = clone.clone(flags)
        if pid:
            return pid
        try:
            ours.detach()
            kept = [theirs.fileno(), *setup.cgroup]
            for app in setup.apps:
                kept += [*app.stdio, *app.cgroup]
            process.close_fds_from(3, keep=tuple(kept))
            init.main(setup, theirs)
        finally:
            os._exit(254)

    # -- what PID 1 is given once it exists

    def _feed(self, pid: int, channel: socket.socket, setup: init.PodSetup) -> None:
        """Map the users, hand in the mounts, make the network, and let the pod go."""
        invocation = self.invocation
        pod_dir = invocation.pod_dir
        if invocation.private_users is not None:
            maps = ((0, *invocation.private_users),)
            namespaces.write_id_maps(pid, maps, maps)
        put(f"{pod_dir}/ppid", f"{os.getpid()}\n")
        put(f"{pod_dir}/ppid-start", f"{process.start_time(os.getpid())}\n")
        put(f"{pod_dir}/pid", f"{pid}\n")
        self._send_mounts(pid, channel, setup)
        networks = self._connect(pid)
        etc = files.etc_files(invocation, self.pod, networks, setup.hostname)
        if self.not_enforced:
            put(f"{pod_dir}/not-enforced", "\n".join(self.not_enforced) + "\n")
        messages.send(channel, "go", etc)

    def _send_mounts(self, pid: int, channel: socket.socket, setup: init.PodSetup) -> None:
        userns = shift = None
        if self.invocation.private_users is not None:
            shift, _ = self.invocation.private_users
            userns = os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
        fds: list[int] = []
        try:
            if setup.host_network:
                fds.append(detached.host_sysfs())
            for app in self.pod.apps:
                fds.append(
                    detached.root_of_app(
                        app, self.invocation.pod_dir, layered=self.pod.overlay, userns=userns, shift=shift
                    )
                )
                for mount in app.mounts:
                    if mount.volume.kind == "empty":
                        detached.make_empty(mount.volume)
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

    def _connect(self, pid: int) -> list[object]:
        """Pin the pod's network namespace and join it to its networks; what they told."""
        invocation = self.invocation
        if not self.own_network or invocation.net == ("none",):
            return []  # the loopback link is PID 1's to bring up; nothing of the host's is touched
        put(f"{invocation.pod_dir}/netns", netns.path(invocation.uuid) + "\n")
        netns.pin(invocation.uuid, pid)
        from rkt import network

        return list(
            network.setup(
                invocation.pod_dir,
                invocation.uuid,
                netns.path(invocation.uuid),
                list(invocation.net),
                self.pod.manifest,
                invocation.local_config,
            )
        )

    def _undo(self) -> None:
        """Everything on the host outside the pod's directory, each step for itself."""
        problems = release(self.invocation.pod_dir, self.invocation.uuid, self.group)
        for problem in problems:
            os.write(2, f"run: warning: {problem}\n".encode())


def stop(pod_dir: str, *, force: bool) -> None:
    """SIGTERM to the pod's parent, which ends the apps; with `force` SIGKILL to the pod's PID 1."""
    try:
        with open(f"{pod_dir}/ppid", encoding="ascii") as stream:
            parent = int(stream.read())
        with open(f"{pod_dir}/ppid-start", encoding="ascii") as stream:
            started = int(stream.read())
        with open(f"{pod_dir}/pid", encoding="ascii") as stream:
            init_pid = int(stream.read())
    except (FileNotFoundError, ValueError) as error:
        raise RktError("the pod has not written its process IDs yet", hint="try again in a moment") from error
    with process.Pidfd.open(parent) as pidfd:
        # The parent's lock on the pod was seen, but between that and now its number may have passed on.
        if process.start_time(parent) != started:
            raise RktError("the pod has just ended")
        if not force:
            pidfd.send_signal(signal.SIGTERM)
            return
        with process.Pidfd.open(init_pid) as victim:
            victim.send_signal(signal.SIGKILL)


def gc(pod_dir: str, local_config: str) -> None:
    """Undo what a run left on the host. Raises RktError that names everything that could not be undone."""
    del local_config
    try:
        with open(f"{pod_dir}/subcgroup", encoding="utf-8") as stream:
            group = cgroups.Cgroup.from_record(stream.read())
    except FileNotFoundError:
        return  # it never came to making anything
    except ValueError:
        group = cgroups.Hierarchy.detect().cgroup(f"rkt/{os.path.basename(pod_dir)}")
    problems = release(pod_dir, os.path.basename(pod_dir), group)
    if problems:
        raise RktError("; ".join(problems))


def release(pod_dir: str, uuid: str, group: cgroups.Cgroup) -> list[str]:
    """Kill what is left of the pod, remove its control groups, networks and namespace; the problems met."""
    problems = []
    steps: tuple[Callable[[], None], ...] = (
        group.kill,
        lambda: _disconnect(pod_dir, uuid),
        lambda: netns.unpin(uuid),
        group.remove,
    )
    for step in steps:
        try:
            step()
        except (OSError, RktError) as error:
            problems.append(f"pod {uuid}: {error}")
    return problems


def _disconnect(pod_dir: str, uuid: str) -> None:
    if os.path.exists(f"{pod_dir}/netns"):
        from rkt import network

        network.teardown(pod_dir, uuid)


def reconcile(live: set[str], data_dir: str) -> None:
    """Remove the control groups and pinned namespaces of pods that are in nobody's directory any more."""
    del data_dir
    netns.collect(live)
    for uuid, directories in cgroups.Hierarchy.detect().find("rkt").items():
        if len(uuid) == 36 and uuid not in live:
            group = cgroups.Cgroup({path: path for path in directories}, 2)
            group.kill()
            group.remove()


def metadata_url(invocation: Invocation) -> str:
    """Where the apps reach the metadata service; empty for a pod that is not registered there."""
    if not invocation.mds_token:
        return ""
    with open(f"{invocation.pod_dir}/metadata-url", encoding="ascii") as stream:
        return stream.read().strip()


def _sysctls(pod: plan.PodPlan) -> dict[str, str]:
    isolator = pod.manifest.isolators.get("os/unix/sysctl")
    return dict(isolator.setting) if isolator is not None and isinstance(isolator.setting, dict) else {}


def _pipe(app: AppPlan, name: str, log: logs.LogFile, outputs: list[tuple[int, logs.Stream]]) -> int:
    """A pipe for an output of an app: the end it writes to; the other is added to `outputs`."""
    reading, writing = os.pipe2(os.O_CLOEXEC)
    os.set_blocking(reading, False)
    outputs.append((reading, logs.Stream(app.name, name, log)))
    return writing


def _close_unless_standard(fds: tuple[int, ...]) -> None:
    for fd in fds:
        if fd > 2:
            os.close(fd)


def _last_words(channel: socket.socket) -> RktError | None:
    """What a PID 1 that ended early had to say."""
    channel.settimeout(0.0)
    try:
        while message := messages.receive(channel):
            if message.words[0] == "failed":
                return RktError(message.words[1], hint=message.words[2] or None)
    except OSError:
        return None
    return None
