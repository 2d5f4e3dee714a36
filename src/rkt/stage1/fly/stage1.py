"""The fly stage 1's entry points: run, stop, gc.

The app is a child of the process that holds the pod's lock, because an app must hold no descriptor of ours,
and because somebody has to see how it ends. That process executes away into a waiter of some hundred bytes of
machine code (`rkt.stage1.stub`), so that no interpreter stays: it hands signals on, writes the app's status
and ends with the app's exit code. Only an app with a post-stop handler keeps the interpreter waiting.
"""

from __future__ import annotations

import os
import sys

from appc import jsonfield
from linux import cgroups, libc, namespaces, process
from linux.bare import signal
from linux.paths import Root
from rkt.errors import RktError, hint_for, one_line
from rkt.stage1 import confine, confinement, stub
from rkt.stage1.abi import SUPERVISOR_STATUS
from rkt.stage1.fly import output, rootfs
from rkt.stage1.native import files, plan
from rkt.stage1.native import stage1 as native
from rkt.stage1.native.release import group_name
from rkt.stage1.native.supervisor import put

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from rkt.stage1.abi import Invocation
    from rkt.stage1.confinement import Confinement

COULD_NOT_START = 203
_READY = b"r"
_NEWNS = 0x00020000
# Isolators, by the beginnings of their names, for which the app would need namespaces of its own.
_NEEDING_NAMESPACES = (
    "os/linux/capabilities-",
    "os/linux/seccomp-",
    "os/unix/sysctl",
    "resource/network-bandwidth",
)


def run(invocation: Invocation, lock_fd: int) -> int:
    """Run the pod's one app to its end; its exit code. Without a post-stop handler this does not return."""
    pod = plan.load(invocation)
    if len(pod.apps) != 1:
        names = ", ".join(app.name for app in pod.apps)
        raise RktError(
            f"the fly stage1 runs one app, this pod has {len(pod.apps)}: {names}",
            hint="use the native stage1",
        )
    return _Run(invocation, pod, lock_fd).run()


def stop(pod_dir: str, *, force: bool) -> None:
    """The app's stop signal by way of its parent, which hands on all; with `force` SIGKILL to the app."""
    number = signal.SIGTERM if force else _stop_signal(pod_dir)
    native.stop(pod_dir, force=force or number == signal.SIGKILL, number=number)


def _stop_signal(pod_dir: str) -> int:
    (app,) = os.listdir(f"{pod_dir}/appsinfo")
    return confinement.load(pod_dir, app).stop_signal


def gc(pod_dir: str, local_config: str) -> None:
    """Kill what the app left running and remove its control group: nothing else is on the host."""
    native.gc(pod_dir, local_config)


class _Run:
    def __init__(self, invocation: Invocation, pod: plan.PodPlan, lock_fd: int) -> None:
        self.invocation = invocation._replace(private_users=None)
        self.pod = pod
        self.app = pod.apps[0]
        self.lock_fd = lock_fd
        self.group = cgroups.Hierarchy.detect().cgroup(group_name(invocation.pod_dir))
        self.programs: dict[str, Confinement] = {}

    def run(self) -> int:
        pod_dir = self.invocation.pod_dir
        put(f"{pod_dir}/subcgroup", self.group.record())
        self.group.create()
        try:
            self._plan()
            child = self._start()
        except BaseException:
            self.group.kill()
            self.group.remove()
            raise
        if "post-stop" not in self.programs:
            self._become_waiter(child.pid)
        return self._wait_and_clean_up(child)

    def _plan(self) -> None:
        """The app's confinement, and what of the user's wishes a fly pod does not fulfil."""
        found = confinement.plan(
            self.app.name, self.app.app, self.app.image, self.pod.manifest, self.invocation
        )
        if self.invocation.mds_token:
            from rkt.metadata import pods

            url = pods.url(self.invocation.pod_dir, self.invocation.mds_token, (), local=True)
            found = found.with_environment({"AC_METADATA_URL": url})
        missed = [*found.not_enforced, *self.group.apply(found.limits)]
        for isolators in (self.app.app.isolators, self.pod.manifest.isolators):
            missed += [
                f"{isolator.name}: the fly stage1 isolates nothing"
                for isolator in isolators
                if isolator.name.startswith(_NEEDING_NAMESPACES)
            ]
        if output.is_discarded(1) and not os.path.exists(output.JOURNAL):
            missed.append("output: it is discarded, as the pod is detached and this host has no journal")
        if missed:
            put(f"{self.invocation.pod_dir}/not-enforced", "\n".join(missed) + "\n")
            for remark in missed:
                os.write(2, f"run: warning: not enforced: {remark}\n".encode())
        confinement.save(self.invocation.pod_dir, found)
        self.programs = confinement.programs(found, self.app.app)

    def _start(self) -> _Child:
        """Start the app: returns when its program has been executed, or raises what kept it from that."""
        pod_dir = self.invocation.pod_dir
        sys.stdout.flush()
        # A signal that comes before there is somebody to hand it on must not be lost, nor end us alone.
        signal.pthread_sigmask(signal.SIG_SETMASK, signal.valid_signals())
        told, tell = os.pipe2(os.O_CLOEXEC)
        wait, go = os.pipe2(os.O_CLOEXEC)
        pid = os.fork()
        if pid == 0:
            os.close(go)
            self._become_app(tell, wait)
        os.close(tell)
        os.close(wait)
        try:
            put(f"{pod_dir}/ppid", f"{os.getpid()}\n")
            put(f"{pod_dir}/ppid-start", f"{process.start_time(os.getpid())}\n")
            put(f"{pod_dir}/pid", f"{pid}\n")
            os.makedirs(f"{pod_dir}/apps/{self.app.name}", mode=0o755, exist_ok=True)
            put(f"{pod_dir}/apps/{self.app.name}/pid", f"{pid}\n")
            os.write(go, b"g")
            return self._await_exec(pid, told, go)
        except BaseException:
            signal.pthread_sigmask(signal.SIG_SETMASK, ())
            raise
        finally:
            os.close(told)

    def _await_exec(self, pid: int, told: int, go: int) -> _Child:
        """Let the child go on once its root is made; returns when it executes the program."""
        space = -1
        text = os.read(told, 1 << 16)
        if text.startswith(_READY):
            if text != _READY:
                self._know_user(text[len(_READY) :])
            space = namespaces.open_namespace(f"/proc/{pid}/ns/mnt")
            text = b""
        os.close(go)
        while data := os.read(told, 1 << 16):
            text += data
        if text:
            os.waitpid(pid, 0)
            message, _, hint = text.decode("utf-8", "replace").partition("\0")
            raise RktError(message, hint=hint or None)
        os.symlink("ready", f"{self.invocation.pod_dir}/{SUPERVISOR_STATUS}")
        return _Child(pid, space)

    def _know_user(self, text: bytes) -> None:
        """Fix as whom the app's programs run, and who enters it, by numbers."""
        user, group, home = jsonfield.listed(jsonfield.string)(jsonfield.parse(text))
        self._set_user(user, group, home)
        confinement.save(self.invocation.pod_dir, self.programs["main"])

    def _set_user(self, user: str, group: str, home: str) -> None:
        for step, program in self.programs.items():
            self.programs[step] = program._replace(user=user, group=group, home=home)

    # -- in the child

    def _become_app(self, tell: int, wait: int) -> NoReturn:
        try:
            process.set_parent_death_signal(os.getppid())
            self.group.join()
            self._direct_output()
            os.read(wait, 1)
            rootfs.build(
                self.app,
                self.invocation.pod_dir,
                layered=self.pod.overlay,
                recursive=self._recursive_volumes(),
                files=self._etc(),
            )
            confine.forbid_imports()
            with Root.open("/") as root:
                who = confinement.as_found(self.programs["main"], root)
            if who is not None:
                self._set_user(who.user, who.group, who.home)
            os.write(tell, _READY + (jsonfield.encode([who.user, who.group, who.home]) if who else b""))
            os.read(wait, 1)
            if "pre-start" in self.programs:
                self._pre_start()
            confine.confine_lightly(self.programs["main"])
        except Exception as error:  # noqa: BLE001 - whatever it is, nobody else would tell it
            os.write(tell, f"{one_line(error)}\0{hint_for(error)}".encode("utf-8", "replace"))
        finally:
            os._exit(254)

    def _direct_output(self) -> None:
        if output.is_discarded(1) and output.is_discarded(2):
            journal = output.to_journal(self.app.name)
            for fd in (1, 2) if journal >= 0 else ():
                os.dup2(journal, fd)

    def _pre_start(self) -> None:
        """Run the pre-start handler to its end, before the app (spec/aci.md, eventHandlers)."""
        code = _run_program(self.programs["pre-start"])
        if code:
            raise RktError(f"{self.app.name}: its pre-start handler ended with status {code}")

    def _recursive_volumes(self) -> frozenset[str]:
        volumes = [*self.pod.manifest.volumes]
        for runtime in self.pod.manifest.apps:
            volumes += [mount.app_volume for mount in runtime.mounts if mount.app_volume is not None]
        return frozenset(str(volume.name) for volume in volumes if volume.recursive is True)

    def _etc(self) -> list[dict[str, object]]:
        """The app shares the host's network: it gets the host's resolv.conf and hosts where it has none."""
        given = self.invocation
        filled = given._replace(
            dns_mode="host" if given.dns_mode == "default" else given.dns_mode,
            hosts_mode="host" if given.hosts_mode == "default" else given.hosts_mode,
        )
        found = files.etc_files(filled, self.pod, [], os.uname().nodename)
        modes = {
            "/etc/resolv.conf": given.dns_mode,
            "/etc/hosts": given.hosts_mode,
            "/etc/hostname": "default",
        }
        return [{**file, "if_missing": modes.get(str(file["path"])) == "default"} for file in found]

    # -- in the parent, once the app runs

    def _become_waiter(self, pid: int) -> NoReturn:
        """Execute the waiter: descriptor 3 is the status file, 4 the pod's lock, all others close."""
        temporary, final = self._status_paths()
        status = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        waiter = stub.sealed("wait")
        # Out of the way first: 3 and 4 may be taken by any of them.
        status, lock, waiter = (_above(fd) for fd in (status, self.lock_fd, waiter))
        os.dup2(status, 3)
        os.dup2(lock, 4)
        libc.close_range(5, flags=libc.CLOSE_RANGE_CLOEXEC)
        os.chdir("/")
        argv = ["rkt", str(pid), temporary, final]
        os.execve(f"/proc/self/fd/{waiter}", argv, {})

    def _wait_and_clean_up(self, child: _Child) -> int:
        """What the waiter does, and then the post-stop handler in the app's own mount namespace."""
        code = _wait_forwarding(child.pid)
        temporary, final = self._status_paths()
        put(temporary, f"{code}\n")
        os.rename(temporary, final)
        handler = os.fork()
        if handler == 0:
            try:
                self.group.join()
                namespaces.setns(child.mounts, _NEWNS)
                confine.forbid_imports()
                confine.confine_lightly(self.programs["post-stop"])
            except Exception as error:  # noqa: BLE001 - whatever it is, nobody else would tell it
                os.write(2, f"{self.app.name}: {one_line(error)}\n".encode())
            finally:
                os._exit(COULD_NOT_START)
        os.waitpid(handler, 0)
        return code

    def _status_paths(self) -> tuple[str, str]:
        directory = f"{self.invocation.pod_dir}/stage1/rootfs/rkt/status"
        return f"{directory}/.{self.app.name}", f"{directory}/{self.app.name}"


class _Child:
    """The app: its process and its mount namespace."""

    __slots__ = ("mounts", "pid")

    def __init__(self, pid: int, mounts: int) -> None:
        self.pid = pid
        self.mounts = mounts


def _run_program(program: Confinement) -> int:
    """Run `program` confined, from the app's root; its exit code, 128 and the signal's number if killed."""
    pid = os.fork()
    if pid == 0:
        code = COULD_NOT_START
        try:
            confine.confine_lightly(program)
        except Exception as error:  # noqa: BLE001 - whatever it is, nobody else would tell it
            os.write(2, f"{program.app}: {str(error) or type(error).__name__}\n".encode())
            code = getattr(error, "exit_code", COULD_NOT_START)
        finally:
            os._exit(code)
    return _as_shells(os.waitpid(pid, 0)[1])


def _wait_forwarding(pid: int) -> int:
    """Wait for `pid`, handing on the signals that reach us; all are blocked, so none is lost."""
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return _as_shells(status)
        info = signal.sigwaitinfo(signal.valid_signals())
        # What the terminal sent (si_code > 0) has reached the app as well.
        if info.si_signo != signal.SIGCHLD and info.si_code <= 0:
            os.kill(pid, info.si_signo)


def _as_shells(status: int) -> int:
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def _above(fd: int) -> int:
    import fcntl

    return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 10)
