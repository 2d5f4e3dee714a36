"""The parent of a pod while it runs: output, the life of each app, signals, and the pod's end.

It stays on the host and keeps the pod's lock; when it dies, the pod dies with it. Only what the loop itself
needs is imported here: this is all that stays in memory of rkt while a pod runs (see `monitor`).
"""

from __future__ import annotations

import os
import select
import time

from linux.bare import signal
from rkt.stage1.native import logs

TYPE_CHECKING = False  # see linux.bare
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    from linux.cgroups import Cgroup
    from linux.systemd.notify import Notifier
    from rkt.stage1.native.journal import PodJournal
    from rkt.stage1.native.terminal import Terminal

    class Launcher(Protocol):
        """Starts programs in the pod."""

        def spawn(self, app: str, step: str) -> tuple[int, int, int]:
            """Start the program of `app` for `step`.

            Gives its process ID on the host, its terminal or -1, and a pipe that ends when the program is
            executed, or its process ends before that.
            """

        def sweep(self, app: str) -> None:
            """Kill what the app's main program has left behind."""


GRACE = 10.0  # seconds between an app's stop signal and SIGKILL
COULD_NOT_START = 203

_IN, _OUT, _GONE = select.POLLIN, select.POLLOUT, select.POLLHUP | select.POLLERR | select.POLLNVAL
# A second request to end kills: so did rkt's, and so does every shell user's second ^C.
_ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
_HANDLED = (*_ENDING, signal.SIGWINCH, signal.SIGCHLD)
STEPS = ("pre-start", "main", "post-stop")


def until_executed(spawn: Callable[[int], tuple[int, int]]) -> tuple[int, int, int]:
    """Call `spawn` with the end of a pipe that the new process holds until it executes its program.

    Gives what `spawn` gives, and the other end: at end of file the program runs, or never will.
    """
    begun, held = os.pipe2(os.O_CLOEXEC)
    try:
        return (*spawn(held), begun)
    except BaseException:
        os.close(begun)
        raise
    finally:
        os.close(held)


class Signals:
    """The signals that a supervisor handles, as bytes in a pipe: nothing is done in a handler."""

    def __init__(self) -> None:
        self.fd, self._writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._old = {number: signal.getsignal(number) for number in (*_HANDLED, signal.SIGPIPE)}
        self._old_wakeup = signal.set_wakeup_fd(self._writing, warn_on_full_buffer=False)
        for number in _HANDLED:
            signal.signal(number, _nothing)
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)

    def read(self) -> bytes:
        """The numbers that have come, a byte each."""
        try:
            return os.read(self.fd, 512)
        except BlockingIOError:
            return b""

    def peek(self) -> bytes:
        """What has come; it stays to be read."""
        come = self.read()
        if come:
            os.write(self._writing, come)
        return come

    def ending(self) -> bool:
        """Whether the user wants the pod to end already."""
        return any(number in _ENDING for number in self.peek())

    def close(self) -> None:
        """Handle signals as before."""
        for number, handler in self._old.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        signal.set_wakeup_fd(self._old_wakeup)
        os.close(self.fd)
        os.close(self._writing)


def _nothing(number: int, frame: object) -> None:
    """A signal that has only to wake the loop up."""


class App:
    """An app: where it is in its life, and the process that is its present step.

    `step` is empty before its first, one of STEPS, or `done`. `steps` are those that it has a program for.
    `stop_signal` asks its main program to end. `unready` is whether it has still to say itself that it is
    ready, by sd_notify.
    """

    __slots__ = ("code", "name", "pid", "step", "steps", "stop_signal", "unready")

    def __init__(self, name: str, steps: tuple[str, ...], stop_signal: int) -> None:
        self.name = name
        self.steps = steps
        self.stop_signal = stop_signal
        self.step = ""
        self.pid = 0
        self.code = 0
        self.unready = False


class Supervisor:
    """The loop over everything that happens to a running pod."""

    def __init__(self, pod_dir: str, init: int, signals: Signals, console: int, launcher: Launcher) -> None:
        self.pod_dir = pod_dir
        self.init = init
        self.signals = signals
        self.launcher = launcher
        self.console = logs.Console(console)
        self.apps: list[App] = []
        self.streams: dict[int, logs.Stream] = {}
        self.readiness: dict[int, App] = {}  # sockets on which apps notify
        self.beginning: set[int] = set()  # pipes of programs that are not executed yet
        self.notifier: Notifier | None = None  # who supervises this process
        self.journal: PodJournal | None = None  # the pod's own
        self.terminal: Terminal | None = None
        self.code = 0
        self.stopping_since = 0.0
        self.on_ready: Callable[[], None] | None = None
        # Called once the pod has run for a while: it may replace the process by one that needs less memory.
        self.on_settled: Callable[[Supervisor], None] | None = None
        self.settle_at = 0.0
        self.ready = False
        self._console_fd = console
        self._poll = select.poll()
        self._polled: dict[int, int] = {}
        self._ends = 0
        self._killed = False
        self._failed = False
        self._next_status = 0.0

    def run(self) -> int:
        """Start all apps that have not begun, supervise until they have ended; the pod's exit code."""
        for app in self.apps:
            if not app.step:
                self._advance(app)
        self._reap()
        while any(app.step != "done" for app in self.apps):
            self._tell_ready()
            self._turn()
        for begun in tuple(self.beginning):
            self._begun(begun)
        self._end_init()
        self._drain()
        if self.journal is not None:
            self.journal.close()
        if self.terminal is not None:
            self.terminal.close()
        return self.code

    def _turn(self) -> None:
        """Wait for something to happen, and deal with it."""
        if self.notifier is not None:
            self.notifier.ping()
        self._register()
        for fd, event in self._poll.poll(self._patience()):
            readable, writable = bool(event & (_IN | _GONE)), bool(event & (_OUT | _GONE))
            if fd == self.signals.fd:
                for number in self.signals.read():
                    self._signalled(number)
            elif fd in self.streams:
                self._read(fd)
            elif fd in self.beginning:
                self._begun(fd)
            elif fd in self.readiness:
                self._notified(fd)
            elif self.terminal is not None and fd in self.terminal.wanted():
                self.terminal.handle(fd, readable=readable, writable=writable)
            elif fd == self._console_fd:
                self.console.flush()
        now = time.monotonic()
        held = self.console.hold_until()
        if held and now >= held:
            self.console.give_up()
        if self.stopping_since and not self._killed and now >= self.stopping_since + GRACE:
            self._kill()
        if self.settle_at and now >= self.settle_at:
            self.settle_at = 0.0 if self._is_settled() else now + 1.0
            if not self.settle_at and self.on_settled is not None:
                self.on_settled(self)

    def _patience(self) -> int | None:
        """Milliseconds until the clock alone makes something happen; None for never."""
        ping = self.notifier.next_ping() if self.notifier is not None else 0.0
        times = [at for at in (self.console.hold_until(), self.settle_at, ping) if at]
        if self.stopping_since and not self._killed:
            times.append(self.stopping_since + GRACE)
        if not times:
            return None
        return max(0, int((min(times) - time.monotonic()) * 1000) + 1)

    def _register(self) -> None:
        """Tell poll(2) what is waited for now; only changes cost anything."""
        held = bool(self.console.hold_until())
        wanted = dict.fromkeys([self.signals.fd, *self.readiness, *self.beginning], _IN)
        if not held:
            wanted |= dict.fromkeys(self.streams, _IN)
        if self.console.waiting:
            wanted[self._console_fd] = _OUT
        if self.terminal is not None:
            for fd, (readable, writable) in self.terminal.wanted().items():
                if readable or writable:
                    wanted[fd] = (_IN if readable else 0) | (_OUT if writable else 0)
        if wanted == self._polled:
            return
        for fd in self._polled.keys() - wanted.keys():
            self._poll.unregister(fd)
        for fd, events in wanted.items():
            if self._polled.get(fd) != events:
                self._poll.register(fd, events)
        self._polled = wanted

    # -- output

    def _read(self, fd: int) -> None:
        try:
            data = os.read(fd, logs.CHUNK)
        except BlockingIOError:
            return
        stream = self.streams[fd]
        if data:
            self.console.put(stream.feed(data))
            return
        self.console.put(stream.finish())
        del self.streams[fd]
        self._polled.pop(fd)
        self._poll.unregister(fd)
        os.close(fd)

    def _drain(self) -> None:
        """Everything that the apps have still left in the pipes, and no more: an app may have handed its end
        of one to another pod, which writes there for ever.
        """
        import fcntl

        for fd, stream in self.streams.items():
            left = fcntl.fcntl(fd, fcntl.F_GETPIPE_SZ)
            while left > 0:
                try:
                    data = os.read(fd, logs.CHUNK)
                except BlockingIOError:
                    break
                if not data:
                    break
                left -= len(data)
                self.console.put(stream.feed(data))
                self._flush(until=self.console.hold_until(), leave=logs.Console.LIMIT // 2)
            self.console.put(stream.finish())
            os.close(fd)
        self.streams.clear()
        self._flush(until=time.monotonic() + logs.Console.PATIENCE)

    def _flush(self, *, until: float, leave: int = 0) -> None:
        """Write to the console until only `leave` bytes wait, or `until` has come; not at all for 0."""
        writable = select.poll()
        writable.register(self._console_fd, _OUT)
        while until and self.console.waiting > leave:
            left = until - time.monotonic()
            if left <= 0:
                self.console.give_up()
                return
            if writable.poll(int(left * 1000) + 1):
                self.console.flush()

    # -- the life of the apps

    def _tell_ready(self) -> None:
        if (
            not self.ready
            and not self._failed
            and not self.beginning
            and all(
                (app.step == "main" and not app.unready) or app.step in {"post-stop", "done"}
                for app in self.apps
            )
        ):
            self.ready = True
            self._say("ready")
            if self.on_ready is not None:
                self.on_ready()
            if self.notifier is not None:
                names = ", ".join(app.name for app in self.apps if app.step != "done")
                self.notifier.send(f"MAINPID={os.getpid()}", "READY=1", f"STATUS=running: {names}")

    def _say(self, word: str) -> None:
        from rkt.stage1.abi import SUPERVISOR_STATUS

        try:
            os.symlink(word, f"{self.pod_dir}/{SUPERVISOR_STATUS}")
        except FileExistsError:
            pass

    def _begun(self, fd: int) -> None:
        """A program is executed now: an app counts as running only from here on, confined and in its
        group. Or it could not be, which the byte in the pipe says: then the pod is not ready, and never will.
        """
        self.beginning.remove(fd)
        if self._polled.pop(fd, 0):
            self._poll.unregister(fd)
        if os.read(fd, 1) and not self.ready and not self._failed:
            self._failed = True
            self._say("failed")
        os.close(fd)

    def _notified(self, fd: int) -> None:
        """Take what an app tells about itself, which only that app can: nobody else has its socket."""
        from linux.systemd import notify

        app = self.readiness[fd]
        told = notify.receive(fd) or {}
        if told.get("READY") == "1":
            app.unready = False
        now = time.monotonic()
        # Each status wakes the host's PID 1 up, so an app gets one a second.
        if self.notifier is not None and "STATUS" in told and now >= self._next_status:
            self._next_status = now + 1.0
            self.notifier.send(f"STATUS={app.name}: {told['STATUS']}")

    def _reap(self) -> None:
        for app in self.apps:
            if app.pid:
                pid, status = os.waitpid(app.pid, os.WNOHANG)
                if pid:
                    self._ended(app, os.waitstatus_to_exitcode(status))

    def _ended(self, app: App, code: int) -> None:
        """The process of the app's present step has ended; a negative code is a signal's number."""
        app.pid = 0
        if code < 0:
            # Ended by the signal that it was sent for a stop: that is what was asked for, so a success.
            code = 0 if self.stopping_since and code == -_stop_signal(app) else 128 - code
        if app.step == "main":
            app.code = code
        elif app.step == "pre-start" and (code != 0 or self.stopping_since):
            app.code = code
            app.step = "main"  # it never began; its post-stop handler still runs
        if app.step == "main":
            self.launcher.sweep(app.name)
        self._advance(app)

    def _advance(self, app: App) -> None:
        """Start the next step of the app's life that it has a program for."""
        following = STEPS[STEPS.index(app.step) + 1 :] if app.step else STEPS
        for step in following:
            if step in app.steps and not (step == "post-stop" and self._killed):
                app.step = step
                if self._start(app, step):
                    return
                app.code = app.code or COULD_NOT_START
        app.step = "done"
        put(f"{self.pod_dir}/stage1/rootfs/rkt/status/{app.name}", f"{app.code}\n")
        if app.code != 0:
            self.code = self.code or app.code
            self._stop()

    def _start(self, app: App, step: str) -> bool:
        """Start the program of a step; False when the kernel cannot, as the pod's PID 1 is gone."""
        try:
            app.pid, master, begun = self.launcher.spawn(app.name, step)
        except OSError as error:
            os.write(2, f"{app.name}: {step}: {error}\n".encode())
            return False
        self.beginning.add(begun)
        if master >= 0:
            from rkt.stage1.native.terminal import Terminal

            self.terminal = Terminal(master)
        inner = pid_in_pod(app.pid)
        for stream in self.streams.values():
            if stream.app == app.name:
                stream.pid, stream.host_pid = inner, app.pid
        if step == "main":
            os.makedirs(f"{self.pod_dir}/apps/{app.name}", mode=0o755, exist_ok=True)
            put(f"{self.pod_dir}/apps/{app.name}/pid", f"{app.pid}\n")
        return True

    # -- its end

    def _signalled(self, number: int) -> None:
        if number == signal.SIGCHLD:
            self._reap()
        elif number == signal.SIGWINCH:
            if self.terminal is not None:
                self.terminal.resize()
        elif number in _ENDING:
            self._ends += 1
            if self._ends == 1:
                self._stop()
            else:
                self._kill()

    def _stop(self) -> None:
        """Ask all apps to end: the pod ends when its last app does, or as soon as one fails."""
        if not self.stopping_since:
            self.stopping_since = time.monotonic()
            if self.notifier is not None:
                self.notifier.send("STOPPING=1")
            for app in self.apps:
                if app.step != "post-stop":
                    self._signal(app, _stop_signal(app))

    def _kill(self) -> None:
        self._killed = True
        for app in self.apps:
            self._signal(app, signal.SIGKILL)

    def _signal(self, app: App, number: int) -> None:
        """Signal the present step of an app, with all processes of its group."""
        if app.pid:
            try:
                os.killpg(app.pid, number)  # it leads a group from its birth on, and is not reaped yet
            except (ProcessLookupError, PermissionError):
                os.kill(app.pid, number)

    def _end_init(self) -> None:
        """End PID 1, and so by the kernel's hand everything else in the pod."""
        os.kill(self.init, signal.SIGKILL)
        os.waitpid(self.init, 0)

    def _is_settled(self) -> bool:
        """Whether nothing is under way: all apps run, no terminal, no output that waits."""
        return (
            self.ready
            and self.terminal is None
            and not self.stopping_since
            and not self.console.waiting
            and all(app.step in {"main", "done"} for app in self.apps)
        )


def _stop_signal(app: App) -> int:
    """What asks the app's present step to end: handlers know of no signal of the main program's."""
    return app.stop_signal if app.step == "main" else signal.SIGTERM


def pid_in_pod(pid: int) -> int:
    """The number of the process `pid` in the innermost PID namespace that it is in; 0 when it is gone."""
    try:
        with open(f"/proc/{pid}/status", "rb") as file:
            for line in file:
                if line.startswith(b"NSpid:"):
                    return int(line.split()[-1])
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return 0


def sweep(pod_dir: str, app: str, group: Cgroup) -> None:
    """Kill what the app's main program has left behind, as systemd does (KillMode=control-group).

    That the kernel killed some for lack of memory is said, and written down: the group is gone with the pod.
    """
    if group.processes():
        group.kill()
    if group.killed_for_memory():
        with open(f"{pod_dir}/out-of-memory", "a", encoding="ascii") as told:
            told.write(f"{app}\n")
        os.write(2, f"run: warning: app {app}: the kernel killed processes for lack of memory\n".encode())


def put(path: str, text: str) -> None:
    """Write a small file of the pod in one step: a reader sees all of it or none."""
    temporary = f"{path}.new"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)
    os.rename(temporary, path)
