"""The pod's PID 1 while it builds the pod: makes the apps' roots, then becomes a program that only idles.

It begins as a fork of rkt in new namespaces, takes the mounts that the parent made, and puts the roots
together. Then it executes the sealed `idle` stub: from then on nothing of the host is in the pod, no
interpreter, no file, no memory. The kernel reaps what the apps leave, as PID 1 ignores SIGCHLD. The apps
themselves are children of the parent on the host (see `join`), which supervises them.
"""

from __future__ import annotations

import encodings.ascii  # noqa: F401 - PID 1 cannot load the codec any more once the host's root is gone
import fcntl
import os

from linux import capabilities, cgroups, libc, loopback, namespaces
from linux.bare import signal
from linux.named_tuple import NamedTuple
from rkt.errors import hint_for, one_line
from rkt.stage1 import confinement
from rkt.stage1.native import messages, rootfs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from socket import socket as Socket
    from typing import NoReturn

    from rkt.stage1.confinement import Confinement
    from rkt.stage1.native.plan import AppPlan

# NOROOT and its lock: executing something as user 0 gives no capability (capabilities(7)).
_ROOT_IS_NOBODY = 0x3


class PodSetup(NamedTuple):
    """What PID 1 needs to build the pod beside the mounts, all inherited at the fork.

    `own_user` is whether the pod has a user namespace of its own; `journal` whether a directory for journal
    files is among the mounts; `cgroup` are the entry descriptors of PID 1's control group; `idle` is the
    stub, a file of the host's root; `cgroup_names` the controllers in the order of the apps' descriptors;
    `nosuid` names the apps whose root shall be mounted so; `users` is who the apps are, by name.
    """

    hostname: str
    own_user: bool
    host_network: bool
    journal: bool
    mask: bool
    cgroup: list[int]
    idle: int
    cgroup_names: tuple[str, ...]
    apps: tuple[AppPlan, ...]
    nosuid: frozenset[str]
    users: dict[str, Confinement]
    sysctls: dict[str, str]


def main(setup: PodSetup, parent: Socket) -> NoReturn:
    """The life of PID 1. Never returns into the stack of the process that forked it."""
    try:
        _build(setup, parent)
        messages.send(parent, "built")
        _idle()
    except Exception as error:  # noqa: BLE001 - whatever it is, the parent tells the user
        messages.send(parent, "failed", one_line(error), hint_for(error))
    finally:
        os._exit(254)


def _build(setup: PodSetup, parent: Socket) -> None:
    signal.set_wakeup_fd(-1)
    libc.prctl(libc.PR_SET_PDEATHSIG, signal.SIGKILL)
    libc.prctl(libc.PR_SET_DUMPABLE, 0)
    cgroups.enter_through(setup.cgroup)
    fds = list(_expect(parent, "mounts").fds)
    if setup.own_user:
        become_root_of_the_pod()
        libc.prctl(libc.PR_SET_PDEATHSIG, signal.SIGKILL)  # a change of user takes it back
    namespaces.unshare(namespaces.NEWCGROUP)
    os.umask(0o022)
    libc.sethostname(setup.hostname)
    if not setup.host_network:
        loopback.bring_up()
    sys_fd = fds.pop(0) if setup.host_network else None
    journal_fd = fds.pop(0) if setup.journal else None
    rootfs.enter_empty_root(sys_fd, journal_fd, mask=setup.mask, sysctls=setup.sysctls)
    roots = []
    for app in setup.apps:
        root = rootfs.AppRoot(app, fds.pop(0))
        volumes = [fds.pop(0) for _ in app.mounts]
        root.build(volumes, {name: fds.pop(0) for name in setup.cgroup_names})
        roots.append(root)
    etc = _expect(parent, "go").words[1]
    for root in roots:
        root.finish(etc, nosuid=root.app.name in setup.nosuid)
        who = confinement.as_found(setup.users[root.app.name], root.root)
        if who is not None:
            messages.send(parent, "is", root.app.name, who.user, who.group, who.home)
    os.dup2(setup.idle, 0)


def become_root_of_the_pod() -> None:
    """Become the pod's root. That resets what the process lets others see of it: see to it again."""
    os.setgroups([])
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    libc.prctl(libc.PR_SET_DUMPABLE, 0)


def _expect(parent: Socket, word: str) -> messages.Message:
    message = messages.receive(parent)
    if message is None or message.words[0] != word:
        os._exit(254)  # the parent gave up: nobody is there to be told
    return message


def _idle() -> NoReturn:
    """Become the stub in descriptor 0: without descriptors, capabilities, or signals that could end it."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # kept over execve, as handlers are not
    libc.prctl(libc.PR_SET_NO_NEW_PRIVS, 1)
    libc.prctl(libc.PR_SET_SECUREBITS, _ROOT_IS_NOBODY)
    capabilities.set_all(0, 0)
    libc.prctl(libc.PR_SET_DUMPABLE, 0)
    libc.close_range(1)
    fcntl.fcntl(0, fcntl.F_SETFD, fcntl.FD_CLOEXEC)
    os.execve("/proc/self/fd/0", ["rkt-init"], {})
