"""SIGKILL at the k-th system call of a command: the next command works, and one `gc` leaves nothing.

A run that only counts comes first; then one run for each of a sample of the calls. The sample is spread over
the whole command and moves with RKT_FAULT_OFFSET, so that a campaign can visit them all.
"""

from __future__ import annotations

import binascii
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fixtures.striking import positions, traced

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Rkt

SAMPLES = 6
pytestmark = [pytest.mark.usefixtures("root")]


def leftovers(rkt: Rkt) -> list[str]:
    """What pods left outside of the store: nothing may be there when no pod is."""
    data = rkt.directory / "data"
    found = []
    for phase in ("embryo", "prepare", "prepared", "run", "exited-garbage", "garbage"):
        directory = data / "pods" / phase
        found += [str(path) for path in directory.iterdir()] if directory.exists() else []
    for directory in (data / "uid-ranges", data / "tmp", data / "cas/tmp", Path("/run/netns")):
        if directory.exists():
            found += [str(path) for path in directory.iterdir() if not path.name.startswith(".")]
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    found += [line for line in mounts if str(data) in line]
    links = subprocess.run(["ip", "-o", "link"], capture_output=True, text=True, check=True).stdout
    found += [line for line in links.splitlines() if "veth" in line]
    top = f"rkt-{binascii.crc32(os.fsencode(data)):08x}"
    # Not Path.glob, which fails when a group that another test made goes away meanwhile.
    for directory, groups, _ in os.walk("/sys/fs/cgroup"):
        if os.path.basename(directory) == top:
            found += [os.path.join(directory, group) for group in groups]
    return found


def _fetch(rkt: Rkt, image: Path) -> list[str]:
    return rkt.argv("--insecure-options=image", "fetch", image)


def _prepare(rkt: Rkt, image: Path) -> list[str]:
    rkt("--insecure-options=image", "fetch", image)
    return rkt.argv("--insecure-options=image", "prepare", image)


def _run(rkt: Rkt, image: Path) -> list[str]:
    rkt("--insecure-options=image", "fetch", image)
    return rkt.argv("--insecure-options=image", "run", "--net=none", image)


def _run_networked(rkt: Rkt, image: Path) -> list[str]:
    rkt("--insecure-options=image", "fetch", image)
    return rkt.argv("--insecure-options=image", "run", image)


def _run_fly(rkt: Rkt, image: Path) -> list[str]:
    rkt("--insecure-options=image", "fetch", image)
    return rkt.argv("--insecure-options=image", "run", "--stage1-name=fly", image)


def _stop(rkt: Rkt, image: Path) -> list[str]:
    return _stop_of(rkt, image, "--net=default")


def _stop_force(rkt: Rkt, image: Path) -> list[str]:
    return _stop_of(rkt, image, "--net=none", "--force")


def _stop_fly(rkt: Rkt, image: Path) -> list[str]:
    return _stop_of(rkt, image, "--stage1-name=fly")


def _stop_of(rkt: Rkt, image: Path, how: str, *options: str) -> list[str]:
    """A stop of a pod that runs; what is struck is the command, the pod has its own life."""
    program = ("--exec=/bin/sleep", "--", "600")
    uuid = rkt("--insecure-options=image", "run", "--detach", how, image, *program).stdout.strip()
    return rkt.argv("stop", *options, uuid)


def _end_running(rkt: Rkt) -> None:
    """End what a stop that was struck has not ended."""
    pods = json.loads(rkt("list", "--format=json").stdout or "[]")
    for pod in pods:
        if pod["state"] == "running":
            rkt("stop", "--force", pod["name"], code=None)
            rkt("status", "--wait", pod["name"])


def _gc(rkt: Rkt, image: Path) -> list[str]:
    rkt("--insecure-options=image", "run", "--net=none", image)
    return rkt.argv("gc", "--grace-period=0s")


def _image_rm(rkt: Rkt, image: Path) -> list[str]:
    identity = rkt("--insecure-options=image", "fetch", image).stdout.strip()
    return rkt.argv("image", "rm", identity)


OPERATIONS: dict[str, Callable[[Rkt, Path], list[str]]] = {
    "fetch": _fetch,
    "prepare": _prepare,
    "run": _run,
    "run-networked": _run_networked,
    "run-fly": _run_fly,
    "stop": _stop,
    "stop-force": _stop_force,
    "stop-fly": _stop_fly,
    "gc": _gc,
    "image-rm": _image_rm,
}


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("action", ["kill-root", "kill-tree"])
def test_killed_anywhere_then_one_gc_leaves_nothing(
    rkt: Rkt, true_aci: Path, operation: str, action: str
) -> None:
    argv = OPERATIONS[operation](rkt, true_aci)
    count = int(str(traced(argv)["count"]))
    assert count > 20
    _end_running(rkt)
    rkt("gc", "--grace-period=0s")
    samples = SAMPLES // 2 if operation.startswith("stop") else SAMPLES
    for position in positions(count, samples):
        argv = OPERATIONS[operation](rkt, true_aci)
        report = traced(argv, f"--at={position}", f"--action={action}")
        rkt("list")  # the first command after the crash works
        _end_running(rkt)
        rkt("gc", "--grace-period=0s", "--expire-prepared=0s")
        left = leftovers(rkt)
        assert not left, f"struck at {report['struck']}, call {position} of {count}: {left}"
        rkt("--insecure-options=image", "run", "--net=none", true_aci)
        rkt("gc", "--grace-period=0s")
    assert not leftovers(rkt)


@pytest.mark.campaign
@pytest.mark.parametrize("operation", OPERATIONS)
def test_killed_at_every_call(rkt: Rkt, true_aci: Path, operation: str) -> None:
    argv = OPERATIONS[operation](rkt, true_aci)
    count = int(str(traced(argv)["count"]))
    for position in range(1, count + 1):
        argv = OPERATIONS[operation](rkt, true_aci)
        report = traced(argv, f"--at={position}", "--action=kill-tree")
        _end_running(rkt)
        rkt("gc", "--grace-period=0s", "--expire-prepared=0s")
        assert not leftovers(rkt), (position, report)


def test_the_tracer_strikes_where_it_is_told(tmp_path: Path) -> None:
    script = f"mkdir {tmp_path}/a; mkdir {tmp_path}/b; mkdir {tmp_path}/c"
    report = traced(["sh", "-c", script], "--calls=mkdir", "--at=2")
    assert report["struck"] == "mkdir"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert sys.platform == "linux"
