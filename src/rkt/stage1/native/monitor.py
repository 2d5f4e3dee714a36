"""The small supervisor that a pod's parent becomes once the pod has run for a while.

Starting a pod takes manifests, seccomp tables, networks: some 5 MB of Python that are of no use afterwards,
and an interpreter gives no memory back. So the parent executes this module in its own place: process ID,
children, lock and pipes stay, what remains is a bare interpreter with the loop of `supervisor` (2 MB instead
of 7). What the end of a pod takes is loaded when it comes. State is handed over in an anonymous file, in
lines of fields between tabs; texts that could hold such a character are in hexadecimal.
"""

from __future__ import annotations

import os
import sys
import time

from linux.bare import signal

TYPE_CHECKING = False  # see linux.bare
if TYPE_CHECKING:
    from typing import NoReturn

    from rkt.stage1.abi import Invocation
    from rkt.stage1.native.start import Launcher
    from rkt.stage1.native.supervisor import Supervisor

_BLOCKED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGCHLD, signal.SIGWINCH)

# Where the packages are. Imported by name, as a script would be compiled anew each time, and keep that
# memory.
_SOURCES = os.path.abspath(f"{os.path.dirname(__file__)}/../../..")


def take_over(supervisor: Supervisor, launcher: Launcher, invocation: Invocation, lock_fd: int) -> None:
    """Execute the small supervisor in this process's place; on any failure carry on as before."""
    pod = [invocation.uuid, invocation.pod_dir.encode().hex(), supervisor.init, launcher.kinds, lock_fd]
    lines: list[list[object]] = [["pod", *pod, supervisor.code]]
    for app in supervisor.apps:
        lines.append(["app", app.name, app.step, app.pid, app.code, ",".join(app.steps), app.stop_signal])
        lines.append(["stdio", app.name, *launcher.stdio[app.name]])
    if supervisor.journal is not None:
        supervisor.journal.close()
        lines.append(["own-journal", supervisor.journal.hostname.encode().hex()])
    for fd, stream in supervisor.streams.items():
        lines.append(["stream", fd, stream.app, stream.name, stream.pid, stream.rest.hex()])
        if stream.journal is not None:
            lines.append(["journal", fd, stream.journal.fields.hex(), int(stream.journal.instead)])
    lines += [["readiness", fd, app.name] for fd, app in supervisor.readiness.items()]
    if supervisor.notifier is not None:
        address = supervisor.notifier.address.encode(errors="surrogateescape").hex()
        lines.append(["notifier", address, supervisor.notifier.watchdog])
    kept = [lock_fd, *supervisor.streams, *supervisor.readiness]
    kept += [fd for fds in launcher.stdio.values() for fd in fds]
    state = os.memfd_create("rkt-pod")
    try:
        os.write(state, "\n".join("\t".join(map(str, line)) for line in lines).encode())
        for fd in (state, *kept):
            os.set_inheritable(fd, True)  # noqa: FBT003
        # Blocked until the other program handles them: one that comes in between waits.
        signal.pthread_sigmask(signal.SIG_BLOCK, _BLOCKED)
        if supervisor.signals.peek():  # one that came before is only in our own pipe: it comes first
            supervisor.settle_at = time.monotonic() + 1.0
            raise InterruptedError
        command = f"import sys; sys.path.insert(0, {_SOURCES!r}); from {__name__} import main; main()"
        os.execv(sys.executable, [sys.executable, "-I", "-S", "-c", command, str(state), invocation.uuid])
    except OSError:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _BLOCKED)
        for fd in kept:
            os.set_inheritable(fd, fd <= 2)
        os.close(state)


class LateLauncher:
    """What is left to start in a pod that runs: handlers. The modules for them are loaded then."""

    def __init__(self, pod_dir: str, uuid: str, init: int, kinds: int) -> None:
        self._pod_dir = pod_dir
        self._uuid = uuid
        self._init = init
        self._kinds = kinds
        self.stdio: dict[str, tuple[int, int, int]] = {}

    def spawn(self, app: str, step: str) -> tuple[int, int, int]:
        """Start the program of `app` for `step`, confined as it was written down at the start of the pod."""
        from rkt.stage1.native.supervisor import until_executed

        return until_executed(lambda held: self._spawn(app, step, held))

    def _spawn(self, app: str, step: str, held: int) -> tuple[int, int]:
        from rkt.stage1 import confinement
        from rkt.stage1.abi import Invocation
        from rkt.stage1.native import join, plan, release

        pod = plan.load(Invocation(self._uuid, self._pod_dir))
        manifest = next(known.app for known in pod.apps if known.name == app)
        programs = confinement.programs(confinement.load(self._pod_dir, app), manifest)
        group = release.group_of(self._pod_dir)
        entry = [] if group is None else group.child(app).open_entry()
        joiner = join.Joiner(self._init, self._kinds)
        try:
            return joiner.spawn(programs[step], self.stdio[app], entry, held=held)
        finally:
            joiner.close()
            for fd in entry:
                os.close(fd)

    def sweep(self, app: str) -> None:
        """Kill what the app's main program has left behind."""
        from rkt.stage1.native import release, supervisor

        group = release.group_of(self._pod_dir)
        if group is not None:
            supervisor.sweep(self._pod_dir, app, group.child(app))


def _resume(state: int) -> tuple[Supervisor, str]:
    """The supervisor as it was, and the pod's UUID."""
    from rkt.stage1.native import logs, supervisor

    size = os.fstat(state).st_size
    lines = [line.split("\t") for line in os.pread(state, size, 0).decode().split("\n")]
    os.close(state)
    _, uuid, directory, init, kinds, _, code = lines[0]
    pod_dir = bytes.fromhex(directory).decode()
    launcher = LateLauncher(pod_dir, uuid, int(init), int(kinds))
    resumed = supervisor.Supervisor(pod_dir, int(init), supervisor.Signals(), 1, launcher)
    resumed.code = int(code)
    resumed.ready = True
    files: dict[str, logs.LogFile] = {}
    for kind, *fields in lines[1:]:
        if kind == "app":
            name, step, pid, ended, steps, stop_signal = fields
            app = supervisor.App(name, tuple(steps.split(",")), int(stop_signal))
            app.step, app.pid, app.code = step, int(pid), int(ended)
            resumed.apps.append(app)
        elif kind == "stdio":
            app_name, null, out, err = fields
            launcher.stdio[app_name] = (int(null), int(out), int(err))
        elif kind == "stream":
            fd, of, name, pid, rest = fields
            if of not in files:
                files[of] = logs.LogFile(f"{pod_dir}/logs", of)
            stream = logs.Stream(of, name, files[of])
            stream.pid, stream.rest = int(pid), bytes.fromhex(rest)
            stream.host_pid = next(app.pid for app in resumed.apps if app.name == of)
            resumed.streams[int(fd)] = stream
        else:
            _reconnect(resumed, kind, fields)
    for stream in resumed.streams.values():
        stream.tame = logs.wants_tame(len(resumed.apps))
    streams = [*resumed.streams, *resumed.readiness]
    for kept in [*streams, *(fd for fds in launcher.stdio.values() for fd in fds)]:
        os.set_inheritable(kept, kept <= 2)
    return resumed, uuid


def _reconnect(resumed: Supervisor, kind: str, fields: list[str]) -> None:
    """Take up again what the pod has with systemd."""
    if kind == "own-journal":
        from rkt.stage1.native.journal import PodJournal

        resumed.journal = PodJournal(resumed.pod_dir, bytes.fromhex(fields[0]).decode(), resumed.init)
    elif kind == "journal":
        from linux.systemd.journal import Journal
        from rkt.stage1.native.journal import AppJournal

        fd, shared, instead = fields
        resumed.streams[int(fd)].journal = AppJournal(
            Journal(), bytes.fromhex(shared), instead=instead == "1", own=resumed.journal
        )
    elif kind == "readiness":
        fd, name = fields
        resumed.readiness[int(fd)] = next(app for app in resumed.apps if app.name == name)
    elif kind == "notifier":
        from linux.systemd.notify import Notifier

        address, watchdog = fields
        decoded = bytes.fromhex(address).decode(errors="surrogateescape")
        resumed.notifier = Notifier(decoded, float(watchdog))


def main() -> NoReturn:
    """Supervise the pod whose state is in the descriptor that the first argument names."""
    os.umask(0o022)
    resumed, uuid = _resume(int(sys.argv[1]))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _BLOCKED)
    code = 254
    try:
        code = resumed.run()
    finally:
        from rkt.stage1.native.release import release

        for problem in release(resumed.pod_dir, uuid):
            os.write(2, f"run: warning: {problem}\n".encode())
        os._exit(code)
