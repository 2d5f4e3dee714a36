"""dhcp daemon: keeps the leases that the plugin got, until the plugin gives them back.

One thread, one poll. All that matters is in the leases' files: the daemon may be killed and started again at
any time, and no container notices as long as one is back before a lease ends.
"""

from __future__ import annotations

import os
import struct
import sys

from cni.ipam.dhcp import leases, protocol
from cni.ipam.dhcp.client import Settings
from cni.ipam.dhcp.keeper import Keeper
from cni.ipam.dhcp.leases import Locked

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket

_HELP = """\
usage: dhcp daemon [flags]

Keeps the leases of the dhcp IPAM plugin, in the foreground until SIGTERM. It may be restarted at any time:
leases are files below /var/lib/cni/dhcp.

  -socketpath PATH      where the plugin finds it (default: /run/cni/dhcp.sock); ignored when a service
                        manager passes the socket (LISTEN_FDS)
  -pidfile PATH         write the process's number there
  -hostprefix PATH      where the host's root directory is, for a daemon in a container
  -broadcast            servers shall answer to everybody
  -timeout TIME         what a server has to acknowledge what it offered (default: 10s)
  -resendmax TIME       the longest pause between two questions (default: 62s)
  -resendtimeout TIME   when an ADD without an answer fails (default: 208s)

TIME is a number with its unit, such as 500ms, 10s or 1m30s. Flags may have one dash or two.

example:
  dhcp daemon -resendtimeout 30s
"""
_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
_CONNECTIONS = 64
_CONNECTION_DEADLINE = 5.0
_BACKLOG = 128
_LONGEST_WAIT = 3600.0


class Options:
    """The command line."""

    def __init__(self) -> None:
        self.socketpath = protocol.SOCKET
        self.pidfile = ""
        self.hostprefix = ""
        self.settings = Settings()


def main(arguments: list[str]) -> int:
    """``dhcp daemon ...``: the exit status. 2 for a command line that makes no sense."""
    if any(each in ("-h", "-help", "--help", "help") for each in arguments):
        sys.stdout.write(_HELP)
        return 0
    if arguments[:1] != ["daemon"]:
        sys.stderr.write(_HELP)
        return 2
    try:
        options = parse(arguments[1:])
    except ValueError as bad:
        sys.stderr.write(f"dhcp daemon: {bad}\nhint: see `dhcp daemon --help`\n")
        return 2
    try:
        _serve(options)
    except (OSError, ValueError) as failed:
        sys.stderr.write(f"dhcp daemon: {failed}\n")
        return 1
    return 0


def parse(arguments: list[str]) -> Options:
    """The flags, in the manner of Go's: one dash or two, the value behind ``=`` or next. ValueError."""
    options = Options()
    times = {"timeout": 10.0, "resendmax": 62.0, "resendtimeout": 208.0}
    broadcast = False
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        name, equals, value = word.lstrip("-").partition("=")
        if not word.startswith("-") or word.startswith("---"):
            raise ValueError(f"unexpected argument {word!r}")
        if name == "broadcast":
            if equals and value not in ("true", "false", "1", "0"):
                raise ValueError(f"-broadcast: {value!r} is neither true nor false")
            broadcast = value not in ("false", "0")
            continue
        if name not in times and name not in ("socketpath", "pidfile", "hostprefix"):
            raise ValueError(f"there is no flag -{name}")
        if not equals:
            if not rest:
                raise ValueError(f"-{name} needs a value")
            value = rest.pop(0)
        if name in times:
            times[name] = duration(value)
        else:
            setattr(options, name, value)
    if not options.socketpath:
        raise ValueError("-socketpath is empty")
    options.settings = Settings(
        timeout=times["timeout"],
        resend_max=times["resendmax"],
        resend_timeout=times["resendtimeout"],
        broadcast=broadcast,
    )
    return options


def duration(text: str) -> float:
    """Seconds of ``1m30s``, ``500ms``; ValueError for what is none, or not above 0."""
    import re

    if not re.fullmatch(r"([0-9]+(\.[0-9]+)?(h|ms|us|ns|m|s))+", text):
        raise ValueError(f"{text!r} is not a time such as 10s or 1m30s")
    parts = re.findall(r"([0-9.]+)(h|ms|us|ns|m|s)", text)
    seconds = sum(float(number) * _UNITS[unit] for number, unit in parts)
    if not 0.001 <= seconds <= 86400 * 365:
        raise ValueError(f"{text!r} is not between 1ms and a year")
    return seconds


def listen(path: str) -> socket.socket:
    """A listening socket at `path`, for this user alone. One that a dead daemon left is replaced."""
    import socket

    os.makedirs(os.path.dirname(path) or ".", mode=0o700, exist_ok=True)
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o177)
    try:
        try:
            os.unlink(path)  # nobody's: the lock on the leases is ours
        except FileNotFoundError:
            pass
        made.bind(path)
        made.listen(_BACKLOG)
    except BaseException:
        made.close()
        raise
    finally:
        os.umask(mask)
    return made


class Daemon:
    """The daemon on a listening socket, until `stop`."""

    def __init__(self, listener: socket.socket, options: Options) -> None:
        self._listener = listener
        self._settings = options.settings
        self._root = options.hostprefix.rstrip("/")
        self._keepers: dict[str, Keeper] = {}
        self._connections: dict[int, tuple[socket.socket, bytearray, float]] = {}
        self._stopping = False

    def stop(self) -> None:
        self._stopping = True

    def run(self, wake: int) -> None:
        """Serve; `wake` is a descriptor that becomes readable with a signal."""
        import select

        self._listener.setblocking(False)  # noqa: FBT003
        self._start()
        try:
            while not self._stopping:
                poll = select.poll()
                poll.register(wake, select.POLLIN)
                if len(self._connections) < _CONNECTIONS:
                    poll.register(self._listener.fileno(), select.POLLIN)
                for fd in self._connections:
                    poll.register(fd, select.POLLIN)
                heard = {each.fileno(): name for name, each in self._keepers.items() if each.fileno() >= 0}
                for fd in heard:
                    poll.register(fd, select.POLLIN)
                for fd, _ in poll.poll(self._timeout()):
                    if fd == wake:
                        os.read(wake, 64)
                    elif fd == self._listener.fileno():
                        self._accept()
                    elif fd in self._connections:
                        self._read(fd)
                    elif heard[fd] in self._keepers and not self._keepers[heard[fd]].hear():
                        self._drop(heard[fd])
                self._act()
        finally:
            for fd in list(self._connections):
                self._hang_up(fd)
            for name in list(self._keepers):
                self._drop(name)

    def _start(self) -> None:
        """Go on with the leases of the daemon before."""
        from linux.files import collect_temporary

        with Locked(self._root) as held:
            collect_temporary(held.path)
            found = [each for each in held.every() if each.state in (leases.BOUND, leases.LOST)]
        for each in found:
            self._keepers[each.name] = Keeper(each, self._settings, self._root, log)
        log(f"keeping {len(found)} leases")

    def _timeout(self) -> float | None:
        """Milliseconds until something is due."""
        now = leases.now()
        due = [each.due for each in self._keepers.values() if each.due is not None]
        due += [deadline for _, _, deadline in self._connections.values()]
        # poll(2) knows no more than 24 days: a server that says more must not end the daemon.
        return min(max(min(due) - now, 0.0), _LONGEST_WAIT) * 1000 + 1 if due else None

    def _act(self) -> None:
        now = leases.now()
        for name, each in list(self._keepers.items()):
            if each.due is not None and each.due <= now and not each.act():
                self._drop(name)
        for fd, (_, _, deadline) in list(self._connections.items()):
            if deadline <= now:
                self._hang_up(fd)

    def _accept(self) -> None:
        import socket

        try:
            connection, _ = self._listener.accept()
        except OSError:
            return  # it has gone away, or there is no descriptor left: later
        _, uid, _ = struct.unpack("=iII", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        if uid not in (0, os.geteuid()):
            connection.close()
            return
        connection.setblocking(False)  # noqa: FBT003
        self._connections[connection.fileno()] = connection, bytearray(), leases.now() + _CONNECTION_DEADLINE

    def _read(self, fd: int) -> None:
        connection, buffer, _ = self._connections[fd]
        try:
            piece = connection.recv(protocol.LONGEST)
        except BlockingIOError:
            return
        except OSError:
            piece = b""
        buffer += piece
        if buffer and not buffer.startswith(b"{"):
            answer = protocol.answer_other()
        elif buffer.endswith(b"\n"):
            answer = self._answer(bytes(buffer))
        elif piece and len(buffer) <= protocol.LONGEST:
            return
        else:
            answer = b""
        try:
            connection.send(answer)
        except OSError:
            pass  # the plugin has gone away
        self._hang_up(fd)

    def _answer(self, line: bytes) -> bytes:
        try:
            method, name = protocol.read_call(line)
        except ValueError as bad:
            return protocol.answer_error(str(bad))
        if method == protocol.HELLO:
            return protocol.answer_hello(self._settings)
        self._drop(name)
        if method == protocol.KEEP:
            with Locked(self._root) as held:
                lease = held.load(name)
            if lease is None or lease.state != leases.BOUND or lease.name != name:
                return protocol.answer_error(f"there is no lease {name!r} to keep")
            if not lease.netns_lives(self._root):
                return protocol.answer_error(f"the daemon cannot see {self._root}{lease.netns}")
            self._keepers[name] = Keeper(lease, self._settings, self._root, log)
        return protocol.answer_done()

    def _drop(self, name: str) -> None:
        keeper = self._keepers.pop(name, None)
        if keeper is not None:
            keeper.close()

    def _hang_up(self, fd: int) -> None:
        self._connections.pop(fd)[0].close()


def log(text: str) -> None:
    """A line for whoever looks after the daemon. Names in it may come from a configuration: no controls."""
    shown = "".join(each if each.isprintable() else "?" for each in text)
    sys.stderr.write(f"{shown}\n")
    sys.stderr.flush()


def _serve(options: Options) -> None:
    import signal
    import socket

    from linux.files import lock_file
    from linux.systemd.listen import take
    from linux.systemd.notify import Notifier

    root = options.hostprefix.rstrip("/")
    passed = take()
    notifier = Notifier.take()
    os.makedirs(root + leases.DIRECTORY, mode=0o700, exist_ok=True)
    try:
        lock = lock_file(f"{root}{leases.DIRECTORY}/.daemon", exclusive=True, blocking=False)
    except BlockingIOError:
        raise ValueError(f"another daemon keeps the leases in {root}{leases.DIRECTORY}") from None
    listener = socket.socket(fileno=passed[0].fd) if passed else listen(options.socketpath)
    reading, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        daemon = Daemon(listener, options)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: daemon.stop())
        signal.set_wakeup_fd(writing)
        if options.pidfile:
            from cni.volatile import replace

            replace(options.pidfile, b"%d\n" % os.getpid(), 0o644)
        if notifier is not None:
            notifier.send("READY=1")
        daemon.run(reading)
    finally:
        if notifier is not None:
            notifier.send("STOPPING=1")
        listener.close()
        for path in (options.pidfile, "" if passed else options.socketpath):
            if path:
                try:
                    os.unlink(path)
                except FileNotFoundError:
                    pass
        for fd in (reading, writing, lock):
            os.close(fd)
