"""Pods that take all they can get: processes, memory, output, files; and the host goes on (S19, R19)."""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Rkt
    from fixtures.images import MakeAci

pytestmark = [pytest.mark.usefixtures("root")]
IMAGE = "--insecure-options=image"
PIDS_MAX = 2048


def _detached(rkt: Rkt, make_aci: MakeAci, script: str, *flags: str) -> str:
    image = make_aci(["/bin/sh", "-c", script], name="example.com/greedy")
    return rkt(IMAGE, "run", "--detach", "--net=none", image, *flags).stdout.strip()


def _processes_of_group(init: int) -> int:
    """How many processes share the PID namespace of a pod's PID 1."""
    space = os.readlink(f"/proc/{init}/ns/pid")
    count = 0
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                count += os.readlink(f"/proc/{name}/ns/pid") == space
            except OSError:
                continue
    return count


def _ends_quickly(rkt: Rkt, uuid: str) -> None:
    start = time.monotonic()
    rkt("stop", "--force", uuid, timeout=30)
    rkt("rm", uuid, timeout=30)
    assert time.monotonic() - start < 30


def test_s19_a_fork_bomb_is_bounded_and_ends(rkt: Rkt, make_aci: MakeAci) -> None:
    # Beside the app's first process: a shell that cannot fork any more ends, and the pod would with it.
    script = "(while :; do sh -c 'while :; do sleep 1000 & done' 2>/dev/null; done) & exec sleep 600"
    uuid = _detached(rkt, make_aci, script)
    time.sleep(2)
    start = time.monotonic()
    pods = json.loads(rkt("list", "--format=json").stdout)
    assert time.monotonic() - start < 5  # 1 s on an idle machine
    assert [pod["state"] for pod in pods] == ["running"]
    init = int((rkt.directory / f"data/pods/run/{uuid}/pid").read_text())
    counted = _processes_of_group(init)
    assert 100 < counted <= PIDS_MAX + 8  # and the few of rkt's own
    rkt("enter", uuid, "/bin/true", code=None, timeout=20)
    _ends_quickly(rkt, uuid)


def test_s19_a_memory_hog_is_killed_and_nobody_else(rkt: Rkt, make_aci: MakeAci) -> None:
    script = "head -c 200m /dev/zero | tail -c 190m >/dev/null; echo survived"
    image = make_aci(["/bin/sh", "-c", script], name="example.com/greedy")
    done = rkt(IMAGE, "run", "--net=none", image, "--memory=48Mi")
    assert "Killed" in done.stdout
    assert "survived" in done.stdout  # the shell, which is small


@pytest.mark.parametrize("what", ["lines", "one line without an end"])
def test_s19_output_is_bounded_on_the_disk(rkt: Rkt, make_aci: MakeAci, what: str) -> None:
    """Ten gigabytes in the sheet, 120 MB here: five files of 10 MiB are kept, and each line once."""
    source = "yes 0123456789012345678901234567890123456789" if what == "lines" else "cat /dev/zero"
    image = make_aci(["/bin/sh", "-c", f"{source} | head -c 120m"], name="example.com/loud")
    argv = rkt.argv(IMAGE, "run", "--net=none", image)
    done = subprocess.run(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=60
    )
    assert done.returncode == 0, done.stderr
    logs = (rkt.directory / "data/pods/run").glob("*/logs/*")
    assert 0 < sum(file.stat().st_size for file in logs) <= (50 << 20) + (1 << 20)


def test_s19_a_hundred_thousand_files_are_removed_in_time(rkt: Rkt, make_aci: MakeAci) -> None:
    """Files and directories whose modes and depth resist removal (30,000 here)."""
    script = (
        "i=0; while [ $i -lt 300 ]; do mkdir /d$i; i=$((i+1)); done;"
        "for d in /d*; do cd $d; touch $(seq 100); cd /; chmod 000 $d; done;"
        "cd /tmp; i=0; while [ $i -lt 500 ]; do mkdir d && cd d || break; i=$((i+1)); done; chmod 0 /tmp/d;"
        "ln -s / /loop; mkfifo /fifo"
    )
    image = make_aci(["/bin/sh", "-c", script], name="example.com/files")
    rkt(IMAGE, "run", "--net=none", image)
    start = time.monotonic()
    rkt("gc", "--grace-period=0s", timeout=30)
    assert time.monotonic() - start < 30
    assert rkt("list", "--no-legend").stdout == ""


@pytest.mark.parametrize("flags", [("--private-users=false",), ("--stage1-name=fly",)])
def test_s19_files_pinned_by_the_app_are_removed_too(
    rkt: Rkt, make_aci: MakeAci, attacks: str, flags: tuple[str, ...]
) -> None:
    """Immutable or append-only, which resists root. It takes a capability of the host's, which images may ask
    for. An overlay has such flags of its own; here the files are a copy.
    """
    every = {"set": ["CAP_LINUX_IMMUTABLE", "CAP_DAC_OVERRIDE"]}
    isolators = [{"name": "os/linux/capabilities-retain-set", "value": every}]
    image = make_aci([attacks, "pin"], app={"isolators": isolators})
    done = rkt(IMAGE, "run", "--no-overlay", "--net=host", *flags, image)
    assert "pinned 6" in done.stdout
    try:
        rkt("gc", "--grace-period=0s")
        assert rkt("list", "--no-legend").stdout == ""
    finally:
        subprocess.run(
            ["chattr", "-R", "-f", "-i", "-a", rkt.directory / "data"], check=False, stderr=subprocess.DEVNULL
        )


def test_r19_what_the_kernel_counts_by_user_is_used_up_for_that_pod_alone(
    rkt: Rkt, make_aci: MakeAci, attacks: str
) -> None:
    """A user namespace that root makes counts against root, whatever IDs it maps: inotify, queued signals."""
    limit = int(Path("/proc/sys/fs/inotify/max_user_instances").read_text())
    if limit > 10000:
        pytest.skip(f"this host allows {limit} inotify instances")
    image = make_aci([attacks, "exhaust"])
    uuids = []
    for _ in range(2):
        uuids.append(rkt(IMAGE, "run", "--detach", "--net=none", image).stdout.strip())
        _await_line(rkt, uuids[-1], f"took {limit} watchers")
    native = ctypes.CDLL(None, use_errno=True)
    fd = native.inotify_init()
    assert fd >= 0, os.strerror(ctypes.get_errno())
    os.close(fd)
    rkt("stop", "--force", *uuids)


def test_r19_the_output_of_a_pod_that_has_ended_is_not_waited_for(
    rkt: Rkt, make_aci: MakeAci, attacks: str, tmp_path: Path
) -> None:
    """Another pod has got its standard output, by a socket in a volume of both, and writes without end."""
    volume = tmp_path / "volume"
    volume.mkdir()
    volume.chmod(0o777)
    flags = (f"--volume=v,kind=host,source={volume}", "--mount=volume=v,target=/vol")
    image = make_aci([attacks])
    other = rkt(IMAGE, "run", "--detach", "--net=none", *flags, image, "--", "keep").stdout.strip()
    _await_line(rkt, other, "waiting")
    rkt(IMAGE, "run", "--net=none", *flags, image, "--", "give", timeout=20)
    rkt("stop", "--force", other)


def _await_line(rkt: Rkt, uuid: str, beginning: str) -> None:
    end = time.monotonic() + 20
    while beginning not in rkt("logs", uuid).stdout:
        assert time.monotonic() < end, rkt("logs", uuid).stdout
        time.sleep(0.05)
