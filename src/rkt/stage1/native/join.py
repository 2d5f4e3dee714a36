"""The way of a program into the pod: a fork of the parent joins namespaces, control group and root, and
confines.

The parent forks it, so it is the parent's child whatever its PID namespace: its end is told to the parent by
the kernel, with nobody in between who would have to be trusted. Until it is confined it has the host's memory
in it: it cannot be dumped or traced, and has no descriptor of the host.
"""

from __future__ import annotations

import errno
import fcntl
import os

from linux import capabilities, cgroups, libc, namespaces, process, tty
from linux.bare import signal
from linux.mount.idmap import acting_as
from rkt.stage1 import confine
from rkt.stage1.native import messages, rootfs
from rkt.stage1.native.build import become_root_of_the_pod

TYPE_CHECKING = False
if TYPE_CHECKING:
    from socket import socket as Socket
    from typing import NoReturn

    from rkt.stage1.confinement import Confinement

# What systemd says when the program of an app could not be executed, for any reason that has no better code.
COULD_NOT_START = 203
# How long a program may take to open its terminal, in seconds: the pod's root can stop any process in it.
_PATIENCE = 30.0

# What the parent may have a handler for.
_HANDLED = (
    *(signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT),
    *(signal.SIGWINCH, signal.SIGCHLD, signal.SIGPIPE),
)


class Joiner:
    """Starts programs in the pod whose PID 1 is `init`, in the namespaces that the flags in `kinds` name."""

    def __init__(self, init: int, kinds: int) -> None:
        self.kinds = kinds
        self._pid = init
        self._init = os.pidfd_open(init)
        self._own = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)

    def close(self) -> None:
        """Close the descriptors that hold on to the pod."""
        os.close(self._init)
        os.close(self._own)

    def spawn(
        self,
        program: Confinement,
        stdio: tuple[int, int, int] | None,
        cgroup: list[int],
        *,
        kept: tuple[int, ...] = (),
        held: int = -1,
        console: bool = True,
    ) -> tuple[int, int]:
        """Start `program`; its process ID on the host, and the master side of its terminal or -1.

        `stdio` are its streams; None gives it a pseudo terminal of its own, which with `console` becomes
        the app's /dev/console. `cgroup` are the entry descriptors of its control group. `kept` become its
        descriptors from 3 on. `held`, close-on-exec, stays open in the child until it executes the program:
        the end of a pipe tells so when that is; a byte comes before if it cannot. What goes wrong in the
        child is written to its standard error, and its exit code says so.
        """
        ours, theirs = messages.pair() if stdio is None else (None, None)
        # Children are born in the pod's PID namespace as long as this is set. PID 1 gone: ESRCH or ENOMEM.
        namespaces.setns(self._init, namespaces.NEWPID)
        # Blocked until the child has its own handling: our handler in it would write into our own pipe.
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, _HANDLED)
        try:
            # A flag may be for one app alone, and all of the pod can look.
            with process.hidden_command_line():
                pid = os.fork()
                if pid == 0:
                    self._become(program, stdio, cgroup, theirs, kept, held=held, console=console)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
            namespaces.setns(self._own, namespaces.NEWPID)
        if ours is None or theirs is None:
            return pid, -1
        theirs.close()
        ours.settimeout(_PATIENCE)
        try:
            message = messages.receive(ours)
        except TimeoutError:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise TimeoutError(errno.ETIMEDOUT, f"{program.app}: the pod lets no program begin") from None
        finally:
            ours.close()
        return pid, -1 if message is None else message.fds[0]

    def _become(
        self,
        program: Confinement,
        stdio: tuple[int, int, int] | None,
        cgroup: list[int],
        channel: Socket | None,
        kept: tuple[int, ...],
        *,
        held: int,
        console: bool,
    ) -> NoReturn:
        code = COULD_NOT_START
        pipe_fd: tuple[int, ...] = ()
        try:
            for handled in _HANDLED:
                signal.signal(handled, signal.SIG_DFL)
            signal.set_wakeup_fd(-1)
            signal.pthread_sigmask(signal.SIG_SETMASK, ())
            libc.prctl(libc.PR_SET_DUMPABLE, 0)
            os.setsid()
            if stdio is not None:
                for number, fd in enumerate(stdio):
                    os.dup2(fd, number)
                confine.let_open_again()
            cgroups.enter_through(cgroup)
            confine.set_oom_score(program.oom_score_adjust)  # cannot be done inside
            owner = (0, 0) if channel is None else _owner(self._pid)
            socket_fd = () if channel is None else (channel.fileno(),)
            pipe_fd = () if held < 0 else (fcntl.fcntl(held, fcntl.F_DUPFD_CLOEXEC, 3 + len(kept)),)
            process.close_fds_from(3, keep=(self._init, *socket_fd, *kept, *pipe_fd))
            confine.forbid_imports()
            may_mount = bool(program.capabilities & 1 << capabilities.SYS_ADMIN)
            self._join(program.app, channel, owner, console=console, mounts=may_mount)
            # Out of the way first: a number that one shall have may be another's now.
            high = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3 + len(kept)) for fd in kept]
            for number, fd in enumerate(high, start=3):
                os.dup2(fd, number)
            if kept:
                program = program.with_environment({"LISTEN_PID": str(os.getpid())})
            confine.confine(program, kept_fds=len(kept))
        except Exception as error:  # noqa: BLE001 - whatever it is, nobody else would tell it
            confine.tell_why(program.app, error)
            for fd in pipe_fd:
                os.write(fd, b"!")
            code = getattr(error, "exit_code", COULD_NOT_START)
        finally:
            os._exit(code)

    def _join(
        self, app: str, channel: Socket | None, owner: tuple[int, int], *, console: bool, mounts: bool
    ) -> None:
        """Into the namespaces, and the root of the app. `owner` is the pod's root as the host numbers it.

        The mount namespace is made while the process is still the host's, so it belongs to the host: nothing
        in the pod can change what is mounted there, as a volume that is read-only, whatever capabilities the
        image asks for. With `mounts`, for who has CAP_SYS_ADMIN, it is copied into one of the pod's: there
        the app may mount, but what came with the copy is locked (mount_namespaces(7)).
        """
        users = self.kinds & namespaces.NEWUSER
        namespaces.setns(self._init, self.kinds & ~(namespaces.NEWPID | users))
        if channel is not None:
            with acting_as(*owner):
                master, slave = rootfs.open_terminal(app, console=console)
            tty.copy_window_size(0, master)  # 0 is still the user's; before the app can ask
            messages.send(channel, "terminal", fds=(master,))
            for number in range(3):
                os.dup2(slave, number)
            tty.make_controlling(0)
        rootfs.become(app, locked=bool(users))
        if users:
            namespaces.setns(self._init, users)
            become_root_of_the_pod()
        namespaces.unshare(namespaces.NEWCGROUP | (namespaces.NEWNS if users and mounts else 0))


def _owner(init: int) -> tuple[int, int]:
    """User and group on the host of the root of the pod whose PID 1 is `init`."""
    found = []
    for name in ("uid_map", "gid_map"):
        with open(f"/proc/{init}/{name}", "rb") as file:
            found.append(int(file.read().split()[1]))
    return found[0], found[1]
