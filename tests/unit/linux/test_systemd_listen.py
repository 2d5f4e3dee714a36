"""Socket activation: what is taken, from whom, and what a passed socket is bound to."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from linux.systemd import listen

SOURCES = Path(listen.__file__).parents[2]
SHOW = """
import os, sys
sys.path.insert(0, {sources!r})
from linux.systemd import listen
taken = listen.take()
print([tuple(one) for one in taken], [tuple(listen.address(one.fd)) for one in taken])
print([os.get_inheritable(one.fd) for one in taken], sorted(n for n in os.environ if n.startswith("LISTEN_")))
"""


def _activated(sockets: list[socket.socket], environment: dict[str, str]) -> list[str]:
    """Run the program above with `sockets` as its descriptors from 3 on, as a service manager does."""

    def pass_on() -> None:
        high = [os.dup(sock.fileno()) for sock in sockets]
        for number, fd in enumerate(high, 3):
            os.dup2(fd, number)
        os.environ["LISTEN_PID"] = str(os.getpid())

    command = "import os,sys; os.environ.setdefault('LISTEN_PID', str(os.getpid()));"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", command + SHOW.format(sources=str(SOURCES))],
        env=environment,
        preexec_fn=pass_on,
        close_fds=False,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()


def test_sockets_are_taken_with_their_names_and_told_apart() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as tcp,
        socket.create_server(("::1", 0), family=socket.AF_INET6) as tcp6,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp,
        socket.socket(socket.AF_UNIX) as unix,
    ):
        udp.bind(("127.0.0.1", 0))
        ports = [one.getsockname()[1] for one in (tcp, tcp6, udp)]
        environment = {"LISTEN_FDS": "4", "LISTEN_FDNAMES": "web:web6:dns:control"}
        first, second = _activated([tcp, tcp6, udp, unix], environment)
        names = [(3, "web"), (4, "web6"), (5, "dns"), (6, "control")]
        where = [("tcp", ports[0]), ("tcp", ports[1]), ("udp", ports[2]), ("unix", 0)]
        assert first == f"{names} {where}"
        assert second == f"{[False] * 4} []"


def test_what_has_no_name_is_called_as_systemd_does() -> None:
    with socket.create_server(("127.0.0.1", 0)) as tcp:
        port = tcp.getsockname()[1]
        assert _activated([tcp], {"LISTEN_FDS": "1"})[0] == f"[(3, 'unknown')] [('tcp', {port})]"


def test_what_is_meant_for_another_process_is_left_alone() -> None:
    environment = {"LISTEN_PID": "1", "LISTEN_FDS": "2", "PATH": "/bin"}
    assert listen.take(environment) == []
    assert environment == {"PATH": "/bin"}
    assert listen.take({}) == []


@pytest.mark.parametrize(
    "damaged",
    [
        {"LISTEN_FDS": "-1"},
        {"LISTEN_FDS": "many"},
        {"LISTEN_FDS": "100000"},
        {"LISTEN_FDS": "1", "LISTEN_FDNAMES": "a:b"},
    ],
)
def test_damaged_variables_are_an_error(damaged: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="LISTEN_FD"):
        listen.take({"LISTEN_PID": str(os.getpid()), **damaged})


def test_what_is_no_socket_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    fd = os.open(tmp_path / "file", os.O_RDONLY)
    with pytest.raises(OSError, match="Socket operation on non-socket"):
        listen.address(fd)
    os.close(fd)


def test_variables_for_the_next_one() -> None:
    assert listen.variables(["a", "b"], 2) == {
        "LISTEN_PID": "2",
        "LISTEN_FDS": "2",
        "LISTEN_FDNAMES": "a:b",
    }
