"""Readiness and sockets under a supervisor that is not systemd: only the two protocols count."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from conftest import Rkt
    from fixtures.images import MakeAci

pytestmark = [pytest.mark.usefixtures("root")]

IMAGE = "--insecure-options=image"
UNTIL_TERM = "trap 'exit 0' TERM; while :; do sleep 0.05; done"


@contextmanager
def _running(argv: list[str], **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a pod, and see that SIGTERM ends it well."""
    with subprocess.Popen(
        argv,
        env={"PATH": os.environ["PATH"], **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    ) as process:
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            _, said = process.communicate(timeout=20)
    assert process.returncode == 0, said


def test_a_supervisor_hears_of_the_beginning_and_the_end(rkt: Rkt, make_aci: MakeAci) -> None:
    name = f"rkt-tests-{os.getpid()}"
    image = make_aci(["/bin/sh", "-c", UNTIL_TERM], name="example.com/app")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as supervisor:
        supervisor.bind("\0" + name)
        supervisor.settimeout(20)
        with _running(rkt.argv(IMAGE, "run", "--net=none", image), NOTIFY_SOCKET="@" + name) as process:
            told = supervisor.recv(4096).decode().split("\n")
            assert told == [f"MAINPID={process.pid}", "READY=1", "STATUS=running: app"]
        assert supervisor.recv(4096) == b"STOPPING=1"


@pytest.mark.parametrize("lives", [True, False])
def test_an_app_that_never_says_ready(rkt: Rkt, make_aci: MakeAci, tmp_path: Path, lives: bool) -> None:
    """While it lives the pod is not ready; when it has ended without a word the pod has ended too."""
    script = UNTIL_TERM if lives else "exit 0"
    annotations = [{"name": "appc.io/executor/supports-systemd-notify", "value": "true"}]
    image = make_aci(["/bin/sh", "-c", script], name="example.com/mute", annotations=annotations)
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as supervisor:
        supervisor.bind(str(path))
        with _running(rkt.argv(IMAGE, "run", "--net=none", image), NOTIFY_SOCKET=str(path)) as process:
            if lives:
                time.sleep(1.5)
            else:
                process.wait(20)
            supervisor.setblocking(False)
            with pytest.raises(BlockingIOError):
                supervisor.recv(4096)


def _activated(rkt: Rkt, listen: str, name: str, image: Path) -> list[str]:
    program = shutil.which("systemd-socket-activate")
    if program is None:
        pytest.skip("needs systemd-socket-activate (Debian: systemd)")
    return [program, f"--listen={listen}", f"--fdname={name}", *rkt.argv(IMAGE, "run", "--net=none", image)]


def _answer(connect: socket.socket, address: str | tuple[str, int]) -> bytes:
    deadline = time.monotonic() + 10
    while True:
        try:
            connect.connect(address)
        except (FileNotFoundError, ConnectionRefusedError):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        else:
            connect.settimeout(20)
            return connect.recv(200)


def test_a_unix_socket_goes_to_the_port_of_its_name(
    rkt: Rkt, make_activated_aci: MakeAci, tmp_path: Path
) -> None:
    ports = [
        {"name": "other", "protocol": "tcp", "port": 9, "socketActivated": True},
        {"name": "control", "protocol": "unix", "port": 1, "socketActivated": True},
    ]
    image = make_activated_aci(["/bin/activated", "serve"], name="example.com/served", app={"ports": ports})
    path = str(tmp_path / "s")
    with _running(_activated(rkt, path, "control", image)), socket.socket(socket.AF_UNIX) as client:
        assert _answer(client, path) == b"socket 0 of control, open: 0 1 2 3\n"


def test_a_tcp_socket_goes_to_the_port_whose_range_it_is_in(rkt: Rkt, make_activated_aci: MakeAci) -> None:
    ports = [{"name": "many", "protocol": "tcp", "port": 7000, "count": 3, "socketActivated": True}]
    image = make_activated_aci(["/bin/activated", "serve"], name="example.com/served", app={"ports": ports})
    with _running(_activated(rkt, "127.0.0.1:7002", "x", image)), socket.socket() as client:
        assert _answer(client, ("127.0.0.1", 7002)) == b"socket 0 of x, open: 0 1 2 3\n"


def test_nothing_of_the_supervisors_reaches_an_app(rkt: Rkt, make_activated_aci: MakeAci) -> None:
    """Also not with --inherit-env, nor when LISTEN_PID is another process's."""
    image = make_activated_aci(["/bin/activated", "fds"], name="example.com/plain")
    told = {"NOTIFY_SOCKET": "/nobody", "LISTEN_FDS": "1", "LISTEN_PID": "1", "WATCHDOG_USEC": "1000000"}
    done = rkt(IMAGE, "run", "--net=none", "--inherit-env", image, environment=told)
    assert "open: 0 1 2, variables: none" in done.stdout


def test_a_host_without_systemd_pays_nothing_for_its_journal(rkt: Rkt, make_aci: MakeAci) -> None:
    if os.path.exists("/run/systemd/system"):
        pytest.skip("this host runs systemd")
    image = make_aci(["/bin/echo", "hello"], name="example.com/app")
    run = (IMAGE, "run", "--net=none", f"--uuid-file-save={rkt.directory}/uuid", image)
    rkt(*run)
    pod = rkt.directory / "data/pods/run" / (rkt.directory / "uuid").read_text().strip()
    assert (pod / "logs/app").exists()
    assert not (pod / "journal").exists()
    argv = [*rkt.argv(), *map(str, run)]
    traced = ["/usr/bin/python3", "-I", "-S", "-X", "importtime", argv[0], *argv[1:]]
    told = subprocess.run(traced, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True).stderr
    assert "rkt.stage1.native.supervisor" in told, "the trace is of the process that ran the pod"
    assert "linux.systemd.journal_file" not in told
