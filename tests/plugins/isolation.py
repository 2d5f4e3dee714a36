"""Give every test process namespaces of its own: what a test does wrong stays away from the host.

As root, each process that runs tests (pytest itself, or each worker of pytest-xdist) moves its main
thread into a private mount and network namespace before the first test, with an empty /run and a layer
over /var/lib that takes what is written there. So tests can run in parallel, "the host" that a test sees
is the worker's own, and the leak check can say who left something.
RKT_TESTS_ON_HOST=1 turns this off. Without root nothing is done.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

_ISOLATED: list[bool] = []
_HOST_NETWORK: list[int] = []  # a descriptor of the network namespace that this process came from
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 1


def is_controller(config: pytest.Config) -> bool:
    """Whether this process only hands tests to workers."""
    return not hasattr(config, "workerinput") and bool(config.getoption("numprocesses", default=None))


def is_isolated() -> bool:
    """Whether this process has namespaces of its own."""
    return bool(_ISOLATED)


def on_the_hosts_network(*command: str) -> list[str]:
    """The command line that runs `command` on the network that the host really has (for package indexes)."""
    if not _HOST_NETWORK:
        return list(command)
    return ["nsenter", f"--net=/proc/{os.getpid()}/fd/{_HOST_NETWORK[0]}", "--", *command]


def enter(config: pytest.Config) -> None:
    """Set up this process; called once, from pytest_configure."""
    directory = tempfile.mkdtemp(prefix="rkt-tests-", dir=_base(config))
    os.chmod(directory, 0o755)  # pods with a user namespace walk through it
    os.environ["TMPDIR"] = tempfile.tempdir = directory
    if not config.option.basetemp:
        config.option.basetemp = f"{directory}/t"  # short, as the path of a unix socket has 108 bytes
    os.environ.pop("RKT_NO_PROGRESS", None)
    if os.geteuid() == 0 and not is_controller(config) and not os.environ.get("RKT_TESTS_ON_HOST"):
        _unshare()


def leave() -> list[str]:
    """Remove this process's temporary directory; the lines say what could not be removed."""
    directory = os.environ["TMPDIR"]
    failures: list[str] = []

    def failed(_function: object, path: str, error: object) -> None:
        failures.append(f"{path}: cannot be removed: {error[1] if isinstance(error, tuple) else error}")

    shutil.rmtree(directory, onerror=failed)
    return failures


def _base(config: pytest.Config) -> str | None:
    """The controller's directory for a worker, so that all is removed even if a worker is killed."""
    if hasattr(config, "workerinput"):
        return os.environ.get("TMPDIR")
    return None


def _unshare() -> None:
    from linux import namespaces
    from linux.mount import api, ownroot

    _HOST_NETWORK.append(os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC))
    directory = os.getcwd()
    try:
        ownroot.enter(namespaces.NEWNET)
    except PermissionError:
        return  # a container that may not: the tests then skip or fail on their own account
    os.chdir(directory)
    api.mount("tmpfs", "/run", "tmpfs", api.MountFlag.NOSUID | api.MountFlag.NODEV, "mode=755")
    _cover("/var/lib")
    for directory, mode in (("lock", 0o1777), ("user", 0o755), ("user/0", 0o700)):  # gpg's sockets
        os.mkdir(f"/run/{directory}")
        os.chmod(f"/run/{directory}", mode)
    _ISOLATED.append(True)
    _set_up_loopback()


def _cover(directory: str) -> None:
    """Lay a layer in memory over a directory: leases and caches of networks stay in this worker."""
    from linux.mount import api

    upper, work = f"/run/cover{directory}/upper", f"/run/cover{directory}/work"
    os.makedirs(upper)
    os.makedirs(work)
    try:
        layers = f"lowerdir={directory},upperdir={upper},workdir={work}"
        api.mount("cover", directory, "overlay", 0, layers)
    except OSError:
        api.mount("cover", directory, "tmpfs", 0, "mode=755")


def _set_up_loopback() -> None:
    import fcntl
    import socket
    import struct

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        request = struct.pack("16sH14x", b"lo", 0)
        flags = struct.unpack_from("16sH", fcntl.ioctl(control, _SIOCGIFFLAGS, request))[1]
        fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", flags | _IFF_UP))
