"""The parent of a pod: it stays on the host, keeps the pod's lock, and does what only the host's root may.

It makes the control groups, the mounts with mapped owners and the network, reads what the apps print, writes
the statuses, and passes signals on. When it dies, the pod dies with it.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import termios
import time
from typing import TYPE_CHECKING

from rkt.errors import RktError
from rkt.stage1.native import logs, messages

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from rkt.stage1.abi import Invocation

_IN, _OUT, _GONE = select.POLLIN, select.POLLOUT, select.POLLHUP | select.POLLERR | select.POLLNVAL
# A second request to end kills: so did rkt's, and so does every shell user's second ^C.
_ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)


class Supervisor:
    """The loop over everything that a running pod sends: output, messages of PID 1, signals."""

    def __init__(self, invocation: Invocation, init: int, channel: socket.socket, console: int) -> None:
        self.pod_dir = invocation.pod_dir
        self.init = init
        self.channel = channel
        self.console = logs.Console(console)
        self.streams: dict[int, logs.Stream] = {}
        self.failure: RktError | None = None
        self.on_ready: Callable[[], None] | None = None
        self._console_fd = console
        self._poll = select.poll()
        self._wake = -1
        self._ends = 0
        self._terminal: Terminal | None = None

    def add_stream(self, fd: int, stream: logs.Stream) -> None:
        """Read the app output `stream` from the pipe `fd`, which is closed at its end."""
        self.streams[fd] = stream

    def run(self) -> int:
        """Supervise until PID 1 has ended; its exit code. Raises the RktError that PID 1 told, if any."""
        self._wake = _signal_pipe()
        self._poll.register(self._wake, _IN)
        self._poll.register(self.channel, _IN)
        for fd in self.streams:
            self._poll.register(fd, _IN)
        throttled = False
        while self.channel.fileno() >= 0:
            if self.console.full != throttled:
                throttled = not throttled
                for fd in self.streams:
                    self._poll.modify(fd, 0 if throttled else _IN)
            self._want_console()
            for fd, event in self._poll.poll(200 if throttled else None):
                self._handle(fd, event)
        status = os.waitpid(self.init, 0)[1]
        self._drain()
        if self._terminal is not None:
            self._terminal.restore()
        if self.failure is not None:
            raise self.failure
        code = os.waitstatus_to_exitcode(status)
        return code if code >= 0 else 128 - code

    def _handle(self, fd: int, event: int) -> None:
        if fd in self.streams:
            self._read(fd)
        elif fd == self.channel.fileno():
            self._message(messages.receive(self.channel))
        elif fd == self._wake:
            for number in os.read(fd, 64):
                self._signalled(number)
        elif fd == self._console_fd and event & (_OUT | _GONE):
            self.console.flush()
        elif self._terminal is not None and not self._terminal.relay(fd):
            self._poll.unregister(fd)

    def _want_console(self) -> None:
        if self.console.waiting:
            self._poll.register(self._console_fd, _OUT)
        else:
            try:
                self._poll.unregister(self._console_fd)
            except KeyError:
                return

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
        self._poll.unregister(fd)
        del self.streams[fd]
        os.close(fd)

    def _drain(self) -> None:
        """Everything that the apps have still left in the pipes; nobody writes there any more."""
        for fd, stream in self.streams.items():
            while True:
                try:
                    data = os.read(fd, logs.CHUNK)
                except BlockingIOError:
                    break
                if not data:
                    break
                self.console.put(stream.feed(data))
            self.console.put(stream.finish())
            os.close(fd)
        self.streams.clear()
        end = time.monotonic() + 1.0
        writable = select.poll()
        writable.register(self._console_fd, _OUT)
        while self.console.waiting and time.monotonic() < end:
            if writable.poll(100):
                self.console.flush()

    # -- what PID 1 says

    def _message(self, message: messages.Message | None) -> None:
        if message is None:
            self._poll.unregister(self.channel)
            self.channel.close()
            return
        word, *rest = message.words
        if word == "started":
            self._started(rest[0], message.pid, int(rest[1]))
        elif word == "exited":
            put(f"{self.pod_dir}/stage1/rootfs/rkt/status/{rest[0]}", f"{rest[1]}\n")
        elif word == "ready":
            os.symlink("ready", f"{self.pod_dir}/stage1/rootfs/rkt/supervisor-status")
            if self.on_ready is not None:
                self.on_ready()
        elif word == "failed":
            self.failure = RktError(rest[0], hint=rest[1] or None)
        elif word == "terminal":
            self._terminal = Terminal(message.fds[0])
            for fd in self._terminal.fds:
                self._poll.register(fd, _IN)

    def _started(self, app: str, host_pid: int, pod_pid: int) -> None:
        os.makedirs(f"{self.pod_dir}/apps/{app}", mode=0o755, exist_ok=True)
        put(f"{self.pod_dir}/apps/{app}/pid", f"{host_pid}\n")
        for stream in self.streams.values():
            if stream.app == app:
                stream.pid = pod_pid

    # -- signals

    def _signalled(self, number: int) -> None:
        if number == signal.SIGWINCH:
            if self._terminal is not None:
                self._terminal.resize()
        elif number in _ENDING:
            self._ends += 1
            try:
                messages.send(self.channel, "stop" if self._ends == 1 else "kill")
            except OSError:
                return


class Terminal:
    """The user's terminal joined to the pseudo terminal of an app."""

    def __init__(self, master: int) -> None:
        self._master = master
        self.fds = (master, 0)
        self._saved = termios.tcgetattr(0)
        import tty

        tty.setraw(0)
        self.resize()

    def resize(self) -> None:
        """Give the app's terminal the size of the user's."""
        import fcntl

        try:
            size = fcntl.ioctl(0, termios.TIOCGWINSZ, b"\0" * 8)
            fcntl.ioctl(self._master, termios.TIOCSWINSZ, size)
        except OSError:
            return

    def relay(self, fd: int) -> bool:
        """Move what there is at `fd` to the other side; False when that side has ended."""
        try:
            data = os.read(fd, 4096)
        except OSError:
            data = b""  # EIO: the last process that held the app's side has ended
        target = self._master if fd == 0 else 1
        while data:
            try:
                data = data[os.write(target, data) :]
            except OSError:
                return False
            if not data:
                return True
        return False

    def restore(self) -> None:
        """Relay the rest, and set the user's terminal back."""
        while select.select([self._master], [], [], 0)[0] and self.relay(self._master):
            continue
        termios.tcsetattr(0, termios.TCSADRAIN, self._saved)
        os.close(self._master)


def _signal_pipe() -> int:
    reading, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    for number in (*_ENDING, signal.SIGWINCH):
        signal.signal(number, lambda *_: None)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    return reading


def put(path: str, text: str) -> None:
    """Write a small file of the pod in one step: a reader sees all of it or none."""
    temporary = f"{path}.new"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)
    os.rename(temporary, path)


def console_fd() -> int:
    """Where console lines go: rkt's standard output, after what Python still holds back."""
    sys.stdout.flush()
    return 1
