"""Two of a kind at once, and signals at any moment of a start: one wins, nothing is left (S24, S30, S34)."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from conftest import Rkt
    from fixtures.images import MakeAci

pytestmark = [pytest.mark.usefixtures("root")]
IMAGE = "--insecure-options=image"


@pytest.fixture
def sleeper(rkt: Rkt, make_aci: MakeAci) -> Iterator[Path]:
    ports = [{"name": "http", "protocol": "tcp", "port": 80}]
    image = make_aci(["/bin/sleep", "600"], name="example.com/sleeper", app={"ports": ports})
    rkt(IMAGE, "fetch", image)
    yield image
    pods = json.loads(rkt("list", "--format=json").stdout)
    running = [pod["uuid"] for pod in pods if pod["state"] == "running"]
    if running:
        rkt("stop", "--force", *running)
    rkt("gc", "--grace-period=0s", "--expire-prepared=0s")
    for directory in ("/run/netns", "/run/rkt-platform/pods"):
        assert not os.path.exists(directory) or os.listdir(directory) == []


def _start(argv: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--net=none", "--pod-name=same"], "is in use by pod"),
        (["--net=default:IP=172.16.28.77"], "172.16.28.77"),
        (["--net=default", "--port=http:8099"], "host port 8099 is already mapped"),
    ],
    ids=["name", "address", "port"],
)
def test_s24_of_many_at_once_exactly_one_has_it(
    rkt: Rkt, sleeper: Path, flags: list[str], words: str
) -> None:
    """Ten at once (fifty in the sheet): nine are told so, and the one keeps what it has."""
    runs = [_start(rkt.argv(IMAGE, "run", "--detach", *flags, sleeper)) for _ in range(10)]
    results = [(process.communicate(timeout=60)[1], process.returncode) for process in runs]
    assert sorted(code for _, code in results) == [0, *[254] * 9], results
    for errors, code in results:
        assert code == 0 or words in errors
        assert "Traceback" not in errors
        assert "internal error" not in errors
    running = [pod for pod in json.loads(rkt("list", "--format=json").stdout) if pod["state"] == "running"]
    assert len(running) == 1


def test_s30_user_namespaces_of_pods_are_disjoint_and_given_back(rkt: Rkt, sleeper: Path) -> None:
    """rkt picked them at random. A file of one pod is another's and everybody else's no file."""
    runs = [_start(rkt.argv(IMAGE, "run", "--detach", "--net=none", sleeper)) for _ in range(6)]
    uuids = [process.communicate(timeout=60)[0].strip() for process in runs]
    ranges = []
    for uuid in uuids:
        init = (rkt.directory / f"data/pods/run/{uuid}/pid").read_text().strip()
        with open(f"/proc/{init}/uid_map") as file:
            (line,) = file.read().splitlines()
        inside, outside, count = map(int, line.split())
        assert inside == 0
        assert outside >= 1 << 16
        ranges.append((outside, count))
    assert len({start for start, _ in ranges}) == len(ranges)
    for (start, count), (following, _) in zip(sorted(ranges), sorted(ranges)[1:], strict=False):
        assert start + count <= following
    assert len(list((rkt.directory / "data/uid-ranges").iterdir())) == 6
    rkt("stop", "--force", *uuids)
    rkt("gc", "--grace-period=0s")
    assert list((rkt.directory / "data/uid-ranges").iterdir()) == []


@pytest.mark.parametrize("network", ["none", "default"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_s34_a_signal_during_the_start_ends_it(
    rkt: Rkt, sleeper: Path, number: signal.Signals, network: str
) -> None:
    """At six moments of the start; whatever had begun is stopped, and one gc takes the rest away."""
    for delay in (0.02, 0.08, 0.14, 0.2, 0.3, 0.5):
        process = _start(rkt.argv(IMAGE, "run", f"--net={network}", sleeper))
        time.sleep(delay)
        sent = time.monotonic()
        process.send_signal(number)
        _, errors = process.communicate(timeout=20)
        assert time.monotonic() - sent < 10
        assert process.returncode in {0, 254, 128 + number, -number}, errors
        assert "Traceback" not in errors
        assert "internal error" not in errors
    pods = json.loads(rkt("list", "--format=json").stdout)
    assert not [pod for pod in pods if pod["state"] == "running"]


def test_s34_an_app_that_ignores_signals_is_ended_all_the_same(rkt: Rkt, make_aci: MakeAci) -> None:
    image = make_aci(["/bin/sh", "-c", "trap '' TERM HUP INT; echo up; while :; do sleep 1; done"])
    process = _start(rkt.argv(IMAGE, "run", "--net=none", image))
    assert process.stdout is not None
    assert "up" in process.stdout.readline()
    sent = time.monotonic()
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=40)
    assert time.monotonic() - sent < 20
