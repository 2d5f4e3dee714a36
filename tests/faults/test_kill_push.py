"""SIGKILL in the middle of a push, of acserver or of acpush: nothing or all is shown; the next one works."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fixtures.acserver import PASSWORD, USER, Acserver
from fixtures.publisher import MACHINE, small_aci
from fixtures.striking import TRACER, positions, traced

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import SigningKey

CHECKOUT = Path(__file__).parent.parent.parent
SAMPLES = 5
PLACE = f"localhost/app/app-1.0-linux-{MACHINE}.aci"
pytestmark = [
    pytest.mark.usefixtures("root"),
    pytest.mark.parametrize(
        "samples", [SAMPLES, pytest.param(10_000, marks=pytest.mark.campaign)], ids=["sample", "every-call"]
    ),
]


@pytest.fixture
def images(tmp_path: Path, signing_key: SigningKey) -> dict[bytes, bytes]:
    """Two editions of the image, each with its signature; the files are 0.aci and 1.aci."""
    found = {}
    for number in range(2):
        path = tmp_path / f"{number}.aci"
        small_aci(path, "localhost/app", labels={"version": "1.0"}, content=os.urandom(200_000))
        signing_key.sign(path)
        found[path.read_bytes()] = path.with_name(path.name + ".asc").read_bytes()
    return found


def argv(tmp_path: Path, number: int) -> list[str]:
    password = tmp_path / "password"
    password.write_text(PASSWORD + "\n")
    image = tmp_path / f"{number}.aci"
    flags = ["--system-conf=/nonexistent", "--local-conf=/nonexistent", f"--username={USER}"]
    words = [str(image), f"{image}.asc", "localhost/app"]
    return [str(CHECKOUT / "bin/acpush"), *flags, f"--password-file={password}", *words]


def push(tmp_path: Path, number: int) -> None:
    done = subprocess.run(argv(tmp_path, number), capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr


def check_shown(server: Acserver, images: dict[bytes, bytes], report: object) -> None:
    """What is shown is whole, and signed as it was pushed."""
    shown = server.root / PLACE
    if shown.exists():
        assert images[shown.read_bytes()] == shown.with_name(shown.name + ".asc").read_bytes(), report


class Struck:
    """``with Struck(server, …) as struck``: the server under the tracer, which strikes, or only counts."""

    def __init__(self, server: Acserver, *options: str) -> None:
        self._reading, writing = os.pipe()
        address = str(server.directory / "ready")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready:
            ready.bind(address)
            try:
                self._tracer = subprocess.Popen(
                    [
                        *("/usr/bin/python3", "-I", str(TRACER), *options, "--"),
                        *(str(CHECKOUT / "bin/acserver"), str(server.directory / "acserver.yml")),
                    ],
                    stderr=subprocess.DEVNULL,
                    env={"PATH": os.environ["PATH"], "NOTIFY_SOCKET": address},
                    preexec_fn=lambda: os.dup2(writing, 3),
                    pass_fds=(3,),
                )
                os.close(writing)
                # it answers, or was struck on the way there
                assert select.select([ready, self._reading], [], [], 60)[0]
            finally:
                os.unlink(address)

    def __enter__(self) -> Struck:
        return self

    def __exit__(self, *_: object) -> None:
        self._tracer.wait(timeout=60)
        os.close(self._reading)

    def push(self, tmp_path: Path, number: int) -> None:
        """Push until that is done or the server is struck."""
        with subprocess.Popen(argv(tmp_path, number), stderr=subprocess.DEVNULL) as process:
            pidfd = os.pidfd_open(process.pid)
            try:
                assert select.select([pidfd, self._reading], [], [], 60)[0]
            finally:
                os.close(pidfd)
                process.kill()

    def report(self) -> dict[str, object]:
        """End the server if it lives still; what the tracer says."""
        children = f"/proc/{self._tracer.pid}/task/{self._tracer.pid}/children"
        for pid in Path(children).read_text(encoding="ascii").split():
            os.kill(int(pid), signal.SIGTERM)
        text = b""
        while part := os.read(self._reading, 4096):
            text += part
        return json.loads(text)  # type: ignore[no-any-return]


@pytest.fixture
def server(acserver: Acserver) -> Iterator[Acserver]:
    """A server that is down."""
    assert acserver.stop() == 0
    return acserver


def test_a_killed_server_shows_old_or_new_and_takes_the_next_push(
    server: Acserver, images: dict[bytes, bytes], tmp_path: Path, samples: int
) -> None:
    with Struck(server) as struck:
        start = int(str(struck.report()["count"]))
    with Struck(server) as struck:
        struck.push(tmp_path, 0)
        count = int(str(struck.report()["count"]))
    assert count > start + 40
    for number, place in enumerate(positions(count, samples)):
        with Struck(server, f"--at={place}", "--action=kill-tree") as struck:
            struck.push(tmp_path, number % 2)
            report = struck.report()
        check_shown(server, images, report)
        server.start()
        push(tmp_path, number % 2)
        assert (server.root / PLACE).read_bytes() == (tmp_path / f"{number % 2}.aci").read_bytes(), report
        check_shown(server, images, report)
        assert not list(server.root.rglob(".tmp-*")), report
        assert len(os.listdir((server.root / PLACE).parent / ".releases")) == 3, report
        assert server.stop() == 0


def test_a_killed_acpush_leaves_nothing_or_all_and_the_next_one_works(
    acserver: Acserver, images: dict[bytes, bytes], tmp_path: Path, samples: int
) -> None:
    count = int(str(traced(argv(tmp_path, 0))["count"]))
    assert acserver.images() == [PLACE]
    for number, place in enumerate(positions(count, samples)):
        report = traced(argv(tmp_path, number % 2), f"--at={place}", "--action=kill-tree")
        check_shown(acserver, images, report)
        push(tmp_path, number % 2)
        assert (acserver.root / PLACE).read_bytes() == (tmp_path / f"{number % 2}.aci").read_bytes(), report
        check_shown(acserver, images, report)
