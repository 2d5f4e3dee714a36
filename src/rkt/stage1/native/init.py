"""The pod's PID 1: makes the apps' roots, starts the apps, reaps, passes signals on, and ends the pod.

It is a fork of rkt, that is a host interpreter inside the pod. So it keeps nothing of the host: its root is
an empty tmpfs, its descriptors are counted, it is not dumpable (its /proc entries belong to the host's root,
so that no app can read or write its memory, its root or its executable), and it dies with its parent.
"""

from __future__ import annotations

import fcntl
import os
import select
import signal
import socket
import struct
import termios
import time
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from linux import cgroups, libc
from rkt.errors import RktError
from rkt.stage1.native import messages, rootfs

if TYPE_CHECKING:
    from rkt.stage1.confinement import Confinement
    from rkt.stage1.native.plan import AppPlan

_SIOCSIFFLAGS, _IFF_UP = 0x8914, 1
GRACE = 10.0  # seconds between SIGTERM and SIGKILL
_NEWCGROUP = 0x02000000
# What a shell and systemd say when the program of an app could not be executed.
COULD_NOT_START = 203


class AppSetup(NamedTuple):
    """What PID 1 needs for one app beside the mounts, all inherited at the fork.

    `programs` maps `pre-start`, `main` and `post-stop` to what to execute. `stdio` are three descriptors;
    `terminal` gives the app a pseudo terminal instead. `cgroup` are the app's entry descriptors.
    """

    plan: AppPlan
    programs: dict[str, Confinement]
    stdio: tuple[int, int, int]
    terminal: bool
    cgroup: list[int]
    nosuid: bool


class PodSetup(NamedTuple):
    """What PID 1 needs for the pod. `own_user` is whether the pod has a user namespace of its own."""

    hostname: str
    own_user: bool
    host_network: bool
    mask: bool
    cgroup: list[int]
    cgroup_names: tuple[str, ...]
    apps: tuple[AppSetup, ...]
    sysctls: dict[str, str]


def main(setup: PodSetup, parent: socket.socket) -> NoReturn:
    """The life of PID 1. Never returns into the stack of the process that forked it."""
    code = 254
    try:
        code = _Init(setup, parent).run()
    except (RktError, OSError, ValueError) as error:
        try:
            messages.send(parent, "failed", str(error), getattr(error, "hint", None) or "")
        except OSError:
            code = 254
    finally:
        os._exit(code)


def hide_command_line() -> None:
    """Overwrite the process's arguments, which every process of the pod could read in /proc/1/cmdline.

    They are those of the `rkt run` that forked this process, environment values for other apps included.
    The place is told by proc(5), /proc/PID/stat, fields 48 (arg_start) and 49 (arg_end).
    """
    import ctypes

    with open("/proc/self/stat", "rb") as stream:
        fields = stream.read().rpartition(b")")[2].split()
    start, end = int(fields[45]), int(fields[46])
    if 0 < start < end:
        title = b"rkt: init of the pod"[: end - start - 1]
        ctypes.memset(start, 0, end - start)
        ctypes.memmove(start, title, len(title))


class _App:
    """An app as PID 1 sees it: where it is in its life, and the process that is its present step."""

    __slots__ = ("code", "pid", "root", "setup", "step")

    def __init__(self, setup: AppSetup, root: rootfs.AppRoot) -> None:
        self.setup = setup
        self.root = root
        self.step = ""
        self.pid = 0
        self.code = 0

    @property
    def name(self) -> str:
        return self.setup.plan.name


class _Init:
    def __init__(self, setup: PodSetup, parent: socket.socket) -> None:
        self.setup = setup
        self.parent = parent
        self.apps: list[_App] = []
        self.stopping_since: float | None = None
        self.code = 0
        self.told_ready = False

    def run(self) -> int:
        wake = self._take_signals()
        hide_command_line()
        libc.prctl(libc.PR_SET_PDEATHSIG, signal.SIGKILL)
        libc.prctl(libc.PR_SET_DUMPABLE, 0)
        cgroups.enter_through(self.setup.cgroup)
        mounts = self._expect("mounts")
        if self.setup.own_user:
            os.setgroups([])
            os.setresgid(0, 0, 0)
            os.setresuid(0, 0, 0)
            # Changing the user makes a process dumpable again, or rather: resets it to the host's default.
            libc.prctl(libc.PR_SET_DUMPABLE, 0)
            libc.prctl(libc.PR_SET_PDEATHSIG, signal.SIGKILL)
        libc.syscall("unshare", _NEWCGROUP)
        os.umask(0o022)
        libc.sethostname(self.setup.hostname)
        if not self.setup.host_network:
            _bring_up_loopback()
        self._build_roots(mounts.fds)
        go = self._expect("go")
        for app in self.apps:
            app.root.finish(go.words[1], nosuid=app.setup.nosuid)
        for app in self.apps:
            self._advance(app)
        return self._loop(wake)

    def _expect(self, word: str) -> messages.Message:
        message = messages.receive(self.parent)
        if message is None or message.words[0] != word:
            os._exit(254)  # the parent gave up: nobody is there to be told
        return message

    @staticmethod
    def _take_signals() -> int:
        """Have SIGCHLD and SIGTERM write to a pipe; every other handler of rkt's is dropped."""
        reading, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        for number in (signal.SIGCHLD, signal.SIGTERM):
            signal.signal(number, lambda *_: None)
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGWINCH):
            signal.signal(number, signal.SIG_IGN)
        return reading

    def _build_roots(self, fds: list[int]) -> None:
        """Take the descriptors in the order in which `supervisor` sends them."""
        fds = list(fds)
        sys_fd = fds.pop(0) if self.setup.host_network else None
        rootfs.enter_empty_root(sys_fd, mask=self.setup.mask, sysctls=self.setup.sysctls)
        for setup in self.setup.apps:
            root = rootfs.AppRoot(setup.plan, fds.pop(0))
            volumes = [fds.pop(0) for _ in setup.plan.mounts]
            groups = {name: fds.pop(0) for name in self.setup.cgroup_names}
            root.build(volumes, groups)
            self.apps.append(_App(setup, root))

    # -- the life of the apps

    def _loop(self, wake: int) -> int:
        poll = select.poll()
        poll.register(wake, select.POLLIN)
        poll.register(self.parent, select.POLLIN)
        while any(app.step != "done" for app in self.apps):
            self._tell_ready()
            for fd, _ in poll.poll(self._patience()):
                if fd == wake:
                    os.read(wake, 512)
                else:
                    self._obey(messages.receive(self.parent))
            self._reap()
            if self.stopping_since is not None and time.monotonic() - self.stopping_since >= GRACE:
                self._signal_all(signal.SIGKILL)
        return self.code

    def _patience(self) -> float | None:
        if self.stopping_since is None:
            return None
        return max(0.0, self.stopping_since + GRACE - time.monotonic()) * 1000 + 1

    def _obey(self, message: messages.Message | None) -> None:
        if message is None:
            os._exit(254)  # the parent is gone: the pod goes with it
        if message.words[0] == "stop":
            self._stop()
        elif message.words[0] == "kill":
            self._signal_all(signal.SIGKILL)

    def _tell_ready(self) -> None:
        if not self.told_ready and all(app.step in ("main", "post-stop", "done") for app in self.apps):
            self.told_ready = True
            messages.send(self.parent, "ready")

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            for app in self.apps:
                if app.pid == pid:
                    self._ended(app, os.waitstatus_to_exitcode(status))

    def _ended(self, app: _App, code: int) -> None:
        """The process of the app's present step has ended; a negative code is a signal's number."""
        app.pid = 0
        if code < 0:
            # Ended by the SIGTERM that it was sent for a stop: that is what was asked for, so a success.
            code = 0 if self.stopping_since is not None and code == -signal.SIGTERM else 128 - code
        if app.step == "pre-start" and (code != 0 or self.stopping_since is not None):
            app.step = "main"  # it failed before it began; its post-stop handler still runs
        if app.step == "main":
            app.code = code
        self._advance(app)

    def _advance(self, app: _App) -> None:
        """Start the next step of the app's life that it has a program for."""
        steps = ["pre-start", "main", "post-stop"]
        following = steps[steps.index(app.step) + 1 :] if app.step else steps
        for step in following:
            if step in app.setup.programs:
                app.step = step
                app.pid = self._spawn(app, step)
                return
        app.step = "done"
        messages.send(self.parent, "exited", app.name, app.code)
        if app.code != 0:
            self.code = self.code or app.code
            self._stop()

    def _stop(self) -> None:
        """Ask all apps to end: the pod ends when its last app does, or as soon as one fails."""
        if self.stopping_since is None:
            self.stopping_since = time.monotonic()
            self._signal_all(signal.SIGTERM)

    def _signal_all(self, number: int) -> None:
        for app in self.apps:
            if app.pid and (app.step != "post-stop" or number == signal.SIGKILL):
                for target in (-app.pid, app.pid):
                    try:
                        os.kill(target, number)
                    except ProcessLookupError:
                        continue
                    break

    def _spawn(self, app: _App, step: str) -> int:
        pid = os.fork()
        if pid:
            return pid
        code = COULD_NOT_START
        try:
            self._become(app, step)
        except (RktError, OSError, ValueError) as error:
            os.write(2, f"{app.name}: {error}\n".encode())
            code = getattr(error, "exit_code", COULD_NOT_START)
        finally:
            os._exit(code)

    def _become(self, app: _App, step: str) -> NoReturn:
        """The forked child's way into the app: group, namespaces, root, streams, and the last step."""
        from rkt.stage1 import confine

        setup = app.setup
        signal.set_wakeup_fd(-1)
        os.setsid()
        terminal = app.root.open_terminal() if setup.terminal else None
        if terminal is not None:
            master, slave = terminal
            messages.send(self.parent, "terminal", app.name, fds=(master,))
            stdio = (slave, slave, slave)
        else:
            stdio = setup.stdio
        for number, fd in enumerate(stdio):
            os.dup2(fd, number)
        if terminal is not None:
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        cgroups.enter_through(setup.cgroup)
        libc.syscall("unshare", _NEWCGROUP)
        if step == "main":
            messages.send(self.parent, "started", app.name, os.getpid())
        app.root.become()
        confine.confine(setup.programs[step])


def _bring_up_loopback() -> None:
    """Set `lo` of the pod's network namespace up: by ioctl, as netlink would be one more module to load."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as control:
        fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", _IFF_UP))
