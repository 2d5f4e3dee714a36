"""Run a command in an app of a running pod, confined as the app is.

rkt's `enter` ran with all capabilities, no filter, outside the app's control group and with descriptors of
the host (CVE-2019-10144, CVE-2019-10145, CVE-2019-10147). Here the command goes the same way as the app's own
program: the confinement that was written down at the pod's start, and `rkt.stage1.confine` as the last step.
Only who asks for `privileged` gets the pod's root without a filter.
"""

from __future__ import annotations

import os
import select

from linux import capabilities, cgroups, files, libc, namespaces, process, tty
from linux.bare import signal
from linux.named_tuple import NamedTuple
from linux.paths import Root
from rkt.errors import RktError
from rkt.stage1 import confine, confinement, flavours

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from rkt.pods.pod import Pod
    from rkt.stage1.confinement import Confinement

SHELLS = ("/bin/bash", "/bin/sh")
COULD_NOT_START = 203
_KINDS = {
    "ipc": namespaces.NEWIPC,
    "mnt": namespaces.NEWNS,
    "net": namespaces.NEWNET,
    "pid": namespaces.NEWPID,
    "user": namespaces.NEWUSER,
    "uts": namespaces.NEWUTS,
}


class Command(NamedTuple):
    """What to run where. An empty `argv` is a shell. `user` and `group` are "" for those of the app.

    `terminal` gives the command a pseudo terminal of the app's, joined to the one at 0 and 1.
    """

    app: str
    argv: tuple[str, ...]
    user: str
    group: str
    privileged: bool
    terminal: bool


class Entered(NamedTuple):
    """A command that runs: its process on the host, and the master of its terminal (-1 without)."""

    pid: int
    master: int


def enter(pod: Pod, command: Command) -> int:
    """Run the command to its end; its exit code, or 128 and the number of the signal that ended it.

    RktError when the pod does not run (any more). The caller is root and has one thread.
    """
    flavour = pod.read_text(flavours.FLAVOUR_FILE) or flavours.DEFAULT
    if flavour == flavours.EXTERNAL:
        _become_entry_point(pod, command)
    bounds = program(pod.path, command)
    signals = _Signals()
    streams = _Streams(as_they_are=command.terminal or flavour == "fly")
    try:
        inside = _Fly(pod) if flavour == "fly" else _Native(pod)
        try:
            entered = inside.spawn(bounds, None if command.terminal else streams.stdio)
        finally:
            inside.close()
            streams.let_go()
        return _attend(entered, signals, streams)
    except (ProcessLookupError, FileNotFoundError) as error:
        raise RktError(f"pod {pod.uuid} has just ended") from error
    finally:
        signals.close()
        streams.close()


def program(pod_dir: str, command: Command) -> Confinement:
    """The app's confinement with the command in it."""
    bounds = confinement.load(pod_dir, command.app)._replace(argv=command.argv)
    if command.terminal:
        bounds = bounds.with_environment({"TERM": os.environ.get("TERM") or "vt100"})
    if command.privileged:
        bounds = bounds._replace(
            user="0",
            group="0",
            home="",
            supplementary_gids=(),
            capabilities=(1 << capabilities.last() + 1) - 1,
            seccomp=b"",
            unfiltered=True,
            no_new_privileges=False,
            label=None,
        )
    if command.user:
        bounds = bounds._replace(user=command.user, home="", supplementary_gids=())
    if command.group:
        bounds = bounds._replace(group=command.group)
    return bounds


def shell(pod: Pod, app: str) -> str:
    """The first of SHELLS that the app's root has; RktError if it has none."""
    for path in SHELLS:
        with _root(pod, app) as root:
            try:
                os.close(root.open_file(path, os.O_PATH))
            except (OSError, ValueError):
                continue
            return path
    raise RktError(
        f"{app}: has neither {' nor '.join(SHELLS)}",
        hint="name a program of the image, as in `rkt enter POD /bin/app`",
    )


def _root(pod: Pod, app: str) -> Root:
    """The app's root, as seen from the host through a process of the pod."""
    pid = _first_process(pod)
    fly = pod.read_text(flavours.FLAVOUR_FILE) == "fly"
    try:
        return Root.open(f"/proc/{pid}/root" if fly else f"/proc/{pid}/root/apps/{app}")
    except FileNotFoundError as error:
        raise RktError(f"pod {pod.uuid} has just ended") from error


def _first_process(pod: Pod) -> int:
    """The pod's first process on the host. Its number may have passed on: its parent must be the pod's."""
    try:
        pid, parent, started = (int(pod.read_text(name) or "") for name in ("pid", "ppid", "ppid-start"))
    except ValueError:
        raise RktError(f"pod {pod.uuid} has not come up yet", hint="try again in a moment") from None
    try:
        if process.start_time(parent) == started and _parent_of(pid) == parent:
            return pid
    except ProcessLookupError:
        pass
    raise RktError(f"pod {pod.uuid} has just ended")


def _parent_of(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return int(file.read().rpartition(b")")[2].split()[1])
    except FileNotFoundError as error:
        raise ProcessLookupError from error


def _app_group(pod_dir: str, app: str, flavour: str) -> list[int]:
    """The entry descriptors of the app's control group; none if the host has none."""
    from rkt.stage1.native.release import group_of

    group = group_of(pod_dir)
    if group is None or not group.exists():
        return []
    return (group if flavour == "fly" else group.child(app)).open_entry()


class _Native:
    """The way into a pod of the native flavour: that of its own programs."""

    def __init__(self, pod: Pod) -> None:
        from rkt.stage1.native.join import Joiner

        init = _first_process(pod)
        kinds = 0
        for name, kind in _KINDS.items():
            if not namespaces.same(f"/proc/{init}/ns/{name}", f"/proc/self/ns/{name}"):
                kinds |= kind
        self._pod_dir = pod.path
        self._joiner = Joiner(init, kinds)

    def spawn(self, bounds: Confinement, stdio: tuple[int, int, int] | None) -> Entered:
        entry = _app_group(self._pod_dir, bounds.app, "native")
        try:
            return Entered(*self._joiner.spawn(bounds, stdio, entry, console=False))
        finally:
            for fd in entry:
                os.close(fd)

    def close(self) -> None:
        self._joiner.close()


class _Fly:
    """The way into a fly pod: the app's mount namespace, and its control group."""

    def __init__(self, pod: Pod) -> None:
        self._pod_dir = pod.path
        self._mounts = namespaces.open_namespace(f"/proc/{_first_process(pod)}/ns/mnt")

    def spawn(self, bounds: Confinement, stdio: tuple[int, int, int] | None) -> Entered:
        # The app sees the host's /dev/pts, so a terminal of the host's is one of its own.
        master, slave = tty.open_pair()[:2] if stdio is None else (-1, -1)
        entry = _app_group(self._pod_dir, bounds.app, "fly")
        pid = os.fork()
        if pid == 0:
            self._become(bounds, entry, slave)
        for fd in (*entry, slave):
            if fd >= 0:
                os.close(fd)
        return Entered(pid, master)

    def _become(self, bounds: Confinement, entry: list[int], slave: int) -> NoReturn:
        code = COULD_NOT_START
        try:
            signal.set_wakeup_fd(-1)
            libc.prctl(libc.PR_SET_DUMPABLE, 0)
            os.setsid()
            if slave >= 0:
                for number in range(3):
                    os.dup2(slave, number)
                tty.make_controlling(0)
            cgroups.enter_through(entry)
            process.close_fds_from(3, keep=(self._mounts,))
            confine.forbid_imports()
            namespaces.setns(self._mounts, namespaces.NEWNS)
            confine.confine_lightly(bounds)
        except Exception as error:  # noqa: BLE001 - whatever it is, nobody else would tell it
            confine.tell_why(bounds.app, error)
            code = getattr(error, "exit_code", COULD_NOT_START)
        finally:
            os._exit(code)

    def close(self) -> None:
        os.close(self._mounts)


# While the command runs


class _Streams:
    """The streams of a command without a terminal of its own: rkt's, but no terminal of the user's.

    What a command leaves behind in the pod could go on reading what the user types there, a password next,
    and write to it. So its output goes through a pipe, and its input is at its end at once: nobody could tell
    whether what is typed is for the command or for the next one in the user's pipeline.
    """

    def __init__(self, *, as_they_are: bool) -> None:
        stdio = [0, 1, 2]
        self.ways: dict[int, int] = {}  # the reading end of a pipe, and the terminal that it leads to
        self._given: list[int] = []
        for fd in () if as_they_are else range(3):
            if not os.isatty(fd):
                continue
            if fd == 0:
                stdio[fd] = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
                self._given.append(stdio[fd])
            elif fd == 2 and self.ways:
                stdio[fd] = stdio[1]  # in the order in which the command writes
            else:
                reading, stdio[fd] = os.pipe2(os.O_CLOEXEC)
                os.set_blocking(reading, False)
                self.ways[reading] = fd
                self._given.append(stdio[fd])
        self.stdio = (stdio[0], stdio[1], stdio[2])

    def let_go(self) -> None:
        """Close what the command has got."""
        while self._given:
            os.close(self._given.pop())

    def pass_on(self, fd: int) -> int:
        """Write what has come through the pipe `fd` to the terminal; how much that was."""
        try:
            data = os.read(fd, 1 << 16)
        except BlockingIOError:
            return 0
        try:
            files.write_all(self.ways[fd], data)
        except OSError:
            data = b""  # the user's terminal is gone
        if not data:
            del self.ways[fd]
            os.close(fd)
        return len(data)

    def drain(self) -> None:
        """Pass on what the command has left in the pipes, whoever goes on writing there."""
        import fcntl

        for fd in tuple(self.ways):
            left = fcntl.fcntl(fd, fcntl.F_GETPIPE_SZ)
            while left > 0 and (count := self.pass_on(fd)):
                left -= count

    def close(self) -> None:
        self.let_go()
        for fd in self.ways:
            os.close(fd)
        self.ways = {}


class _Signals:
    """The signals to hand on, as bytes in a pipe; made before there is a command that could miss one."""

    HANDED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)

    def __init__(self) -> None:
        self.fd, self._writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._old = {}
        for number in (*self.HANDED_ON, signal.SIGCHLD, signal.SIGWINCH):
            self._old[number] = signal.signal(number, lambda *_: None)
        self._old_wakeup = signal.set_wakeup_fd(self._writing, warn_on_full_buffer=False)

    def close(self) -> None:
        signal.set_wakeup_fd(self._old_wakeup)
        for number, handler in self._old.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        os.close(self.fd)
        os.close(self._writing)


def _attend(entered: Entered, signals: _Signals, streams: _Streams) -> int:
    """Hand on signals, and what passes between the terminals, until the command has ended; its exit code."""
    from rkt.stage1.native.terminal import Terminal

    terminal = Terminal(entered.master) if entered.master >= 0 else None
    try:
        while True:
            done, status = os.waitpid(entered.pid, os.WNOHANG)
            if done:
                streams.drain()
                code = os.waitstatus_to_exitcode(status)
                return code if code >= 0 else 128 - code
            _wait(signals, terminal, streams)
            for number in _read(signals.fd):
                if number == signal.SIGWINCH and terminal is not None:
                    terminal.resize()
                elif number in _Signals.HANDED_ON:
                    os.kill(entered.pid, number)
    finally:
        if terminal is not None:
            terminal.close()


def _wait(signals: _Signals, terminal: object, streams: _Streams) -> None:
    """Wait for a signal or for something to pass between the terminals, and pass it."""
    from rkt.stage1.native.terminal import Terminal

    poll = select.poll()
    for fd in (signals.fd, *streams.ways):
        poll.register(fd, select.POLLIN)
    if isinstance(terminal, Terminal):
        for fd, (readable, writable) in terminal.wanted().items():
            events = (select.POLLIN if readable else 0) | (select.POLLOUT if writable else 0)
            if events:
                poll.register(fd, events)
    for fd, event in poll.poll():
        if fd in streams.ways:
            streams.pass_on(fd)
        elif isinstance(terminal, Terminal) and fd != signals.fd:
            gone = bool(event & (select.POLLHUP | select.POLLERR))
            terminal.handle(
                fd, readable=bool(event & select.POLLIN) or gone, writable=bool(event & select.POLLOUT)
            )


def _read(fd: int) -> bytes:
    try:
        return os.read(fd, 64)
    except BlockingIOError:
        return b""


def _become_entry_point(pod: Pod, command: Command) -> NoReturn:
    """Execute the `enter` entry point of a stage 1 image (rkt's ABI): it confines as it sees fit."""
    from rkt.stage1 import external

    external.enter(pod.path, command.app, list(command.argv) or [SHELLS[0]])
