"""The life of pods as their users see it: run, prepare, list, status, logs, stop, restart, export, rm, gc."""

from __future__ import annotations

import json
import re
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


def test_exit_codes_pass_through(rkt: Rkt, make_aci: MakeAci) -> None:
    image = make_aci(["/bin/sh", "-c", "echo out; exit 7"], name="example.com/seven")
    done = rkt(IMAGE, "run", "--net=none", image, code=7)
    assert re.fullmatch(r"\[ *\d+\.\d{6}\] seven\[\d+\]: out\n", done.stdout)
    uuid = json.loads(rkt("list", "--format=json").stdout)[0]["uuid"]
    status = rkt("status", uuid).stdout.splitlines()
    assert "state=exited" in status
    assert "exited=true" in status
    assert "app-seven=7" in status


def test_prepare_then_run_prepared_once(rkt: Rkt, make_aci: MakeAci) -> None:
    image = make_aci(["/bin/false"], name="example.com/three")
    prepared = rkt(IMAGE, "prepare", "--quiet", image, "--exec=/bin/sh", "--", "-c", "exit 3")
    uuid = prepared.stdout.strip()
    assert re.fullmatch(r"[0-9a-f-]{36}", uuid)
    assert "state=prepared" in rkt("status", uuid).stdout.splitlines()
    rkt("run-prepared", "--net=none", uuid[:8], code=3)
    again = rkt("run-prepared", "--net=none", uuid, code=254)
    assert "is not prepared" in again.stderr
    assert "app-three=3" in rkt("status", uuid).stdout


def test_detached_named_stopped_restarted_removed(rkt: Rkt, make_aci: MakeAci) -> None:
    # Without the shell's "Terminated" about its child: two streams have no order.
    loop = "while :; do sleep 0.05; done"
    script = f"exec 2>&-; echo started >> /seen; cat /seen; trap 'echo bye; exit 0' TERM; {loop}"
    image = make_aci(["/bin/sh", "-c", script], name="example.com/web")
    uuid = rkt(IMAGE, "run", "--detach", "--pod-name=web", "--net=none", image).stdout.strip()
    try:
        listed = rkt("list", "--no-legend").stdout
        assert listed.startswith(uuid[:8])
        assert "running" in listed
        again = rkt(IMAGE, "run", "--detach", "--pod-name=web", "--net=none", image, code=254)
        assert "in use" in again.stderr
        assert "hint:" in again.stderr
        running = rkt("rm", "web", code=254)
        assert "running" in running.stderr
        assert rkt("stop", "web").stdout == f'"{uuid}"\n'
        assert "app-web=0" in rkt("status", "web").stdout
        assert rkt("logs", "web").stdout.startswith("started\nbye\n")
        assert rkt("restart", "web").stdout.strip() == uuid
        _await(lambda: rkt("logs", "web").stdout.count("started") == 3)
    finally:
        rkt("stop", "--force", "web", code=None)
    rkt("rm", "web")
    assert "no matches found" in rkt("status", "web", code=254).stderr


def test_first_failing_app_decides_and_ends_the_others(rkt: Rkt, make_aci: MakeAci) -> None:
    good = make_aci(["/bin/sh", "-c", "exit 0"], name="example.com/good")
    bad = make_aci(["/bin/sh", "-c", "sleep 0.3; exit 5"], name="example.com/bad")
    slow = make_aci(["/bin/sh", "-c", "sleep 60; exit 6"], name="example.com/slow")
    rkt(IMAGE, "run", "--net=none", good, bad, slow, code=5)
    uuid = json.loads(rkt("list", "--format=json").stdout)[0]["uuid"]
    codes = {
        app["name"]: app["exit_code"]
        for app in json.loads(rkt("status", "--format=json", uuid).stdout)["apps"]
    }
    assert codes == {"good": 0, "bad": 5, "slow": 0}


def test_standard_input_may_be_a_pipe(rkt: Rkt, make_aci: MakeAci) -> None:
    image = make_aci(["/bin/sh", "-c", "read line; echo got $line"], name="example.com/reader")
    done = rkt(IMAGE, "run", "--net=none", "--interactive", image, stdin=b"Saluton\n")
    assert done.stdout == "got Saluton\n"


def test_what_an_app_wrote_is_exported_and_runs(rkt: Rkt, make_aci: MakeAci, tmp_path: Path) -> None:
    image = make_aci(["/bin/sh", "-c", "echo kept > /note; rm /etc/group"], name="example.com/writer")
    rkt(IMAGE, "run", "--net=none", image)
    uuid = json.loads(rkt("list", "--format=json").stdout)[0]["uuid"]
    assert "extension must be .aci" in rkt("export", uuid, tmp_path / "out.tar", code=254).stderr
    exported = tmp_path / "out.aci"
    rkt("export", uuid, exported)
    assert "exists already" in rkt("export", uuid, exported, code=254).stderr
    done = rkt(
        IMAGE, "run", "--net=none", exported, "--exec=/bin/sh", "--", "-c", "cat /note; ls /etc/group", code=1
    )
    assert "]: kept" in done.stdout


def test_r16_an_export_takes_along_nothing_that_flags_allowed(
    rkt: Rkt, make_aci: MakeAci, tmp_path: Path
) -> None:
    image = make_aci(["/bin/true"], name="example.com/modest")
    wide = (
        "--caps-retain=CAP_SYS_ADMIN",
        "--user=1000",
        "--seccomp=mode=retain,@appc.io/all",
        "--memory=1Gi",
    )
    rkt(IMAGE, "run", "--net=none", "--set-env=SECRET=1", image, *wide)
    uuid = json.loads(rkt("list", "--format=json").stdout)[0]["uuid"]
    rkt("export", uuid, tmp_path / "out.aci")

    def app(aci: Path) -> object:
        image_id = rkt(IMAGE, "fetch", "--full", aci).stdout.split()[-1]
        return json.loads(rkt("image", "cat-manifest", image_id).stdout)["app"]

    assert app(tmp_path / "out.aci") == app(image)


def test_gc_waits_for_the_grace_period(rkt: Rkt, true_aci: Path) -> None:
    rkt(IMAGE, "run", "--net=none", true_aci)
    uuid = json.loads(rkt("list", "--format=json").stdout)[0]["uuid"]
    marked = rkt("gc", "--mark-only")
    assert f'moving pod "{uuid}" to garbage' in marked.stderr
    spared = rkt("gc")
    assert f'pod "{uuid}" not removed: still within grace period (30m0s)' in spared.stderr
    assert rkt("gc", "--grace-period=0s").stdout == f'Garbage collecting pod "{uuid}"\n'
    assert rkt("list", "--no-legend").stdout == ""


def test_an_image_that_cannot_be_executed_says_so(rkt: Rkt, make_aci: MakeAci) -> None:
    image = make_aci(["/bin/nothing"], name="example.com/nothing")
    done = rkt(IMAGE, "run", "--net=none", image, code=None)
    assert done.returncode not in (0, 254)
    assert "/bin/nothing" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_only_one_of_two_run_prepared_wins(rkt: Rkt, make_aci: MakeAci) -> None:
    image = make_aci(["/bin/sleep", "0.5"], name="example.com/once")
    uuid = rkt(IMAGE, "prepare", image).stdout.strip()
    argv = rkt.argv("run-prepared", "--net=none", uuid)
    both = [
        subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(2)
    ]
    assert sorted(process.wait(timeout=30) for process in both) == [0, 254]


def _await(condition: object, seconds: float = 10) -> None:
    assert callable(condition)
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to that in time"
        time.sleep(0.05)


@pytest.mark.needs("namespaces", "overlay", "network-links")
@pytest.mark.parametrize("verb", ["gc --grace-period=0s", "cni gc"])
@pytest.mark.parametrize("net", ["none", "default"])
def test_gc_leaves_pods_of_another_data_directory_at_the_same_path_alone(
    rkt: Rkt, true_aci: Path, tmp_path: Path, net: str, verb: str
) -> None:
    """A chroot has a /var/lib/rkt of its own, and may see the control groups and /run of the host."""
    other = tmp_path / "other"
    (other / "pods/run").mkdir(parents=True)
    command = ("run", "--detach", f"--net={net}", true_aci, "--exec=/bin/sleep", "--", "60")
    uuid = rkt(IMAGE, *command).stdout.strip()
    before = rkt("cni", "list").stdout
    there = f'mount --bind "{other}" "{rkt.directory / "data"}" && exec "$@"'
    collecting = rkt.argv(*verb.split())
    subprocess.run(["unshare", "--mount", "sh", "-c", there, "sh", *collecting], check=True, timeout=60)
    assert "state=running" in rkt("status", uuid).stdout
    assert (uuid in before) == (net == "default")
    assert rkt("cni", "list").stdout == before
    assert rkt("enter", uuid, "/bin/true").stdout == ""
    assert rkt("stop", uuid).stdout == f'"{uuid}"\n'


def test_what_is_named_badly_is_told_in_its_own_words(rkt: Rkt) -> None:
    for verb in ("status", "stop", "rm", "cat-manifest", "enter", "logs", "restart", "run-prepared"):
        assert "UUID cannot be empty" in rkt(verb, "", code=254).stderr, verb
    assert "missing argument: UUID\n" in rkt("enter", code=254).stderr


@pytest.mark.needs("namespaces", "overlay")
@pytest.mark.parametrize("program", ["/nosuch", "/etc/passwd"])
def test_a_detached_pod_whose_program_cannot_be_executed_is_a_failure(
    rkt: Rkt, true_aci: Path, program: str
) -> None:
    failed = rkt(
        IMAGE, "run", "--detach", "--pod-name=p", "--net=none", true_aci, f"--exec={program}", code=254
    )
    assert f'exec: "{program}"' in failed.stderr
    assert rkt("logs", "p").stdout.strip() in failed.stderr
    assert "will not become ready" in rkt("status", "--wait-ready", "p", code=254).stderr
    assert "app-true=12" in rkt("status", "p").stdout
    assert f'exec: "{program}"' in rkt("restart", "p", code=254).stderr


@pytest.mark.needs("namespaces", "overlay")
def test_on_a_full_disk_a_detached_pod_says_why_it_does_not_start(rkt: Rkt, true_aci: Path) -> None:
    data = rkt.directory / "data"
    data.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "small", data], check=True)
    try:
        uuid = rkt(IMAGE, "run", "--detach", "--net=none", true_aci).stdout.strip()
        rkt("status", "--wait", uuid)
        subprocess.run(["dd", "if=/dev/zero", f"of={data}/full"], check=False, capture_output=True)
        failed = rkt("restart", uuid, code=254).stderr
        assert re.match(rf"restart: {data}/pods/run/\S+: No space left on device\nhint: `rkt gc` and", failed)
        assert rkt("list", "--no-legend").stdout.startswith(uuid[:8])
        rkt("rm", uuid)
    finally:
        subprocess.run(["umount", data], check=True)


@pytest.mark.needs("namespaces", "overlay")
def test_damaged_records_of_a_pod_are_told_and_keep_nobody_from_removing_it(rkt: Rkt, true_aci: Path) -> None:
    uuid = rkt(IMAGE, "run", "--detach", "--net=none", true_aci).stdout.strip()
    rkt("status", "--wait", uuid)
    pod = rkt.directory / "data/pods/run" / uuid
    for damage in ("", "5", "{}", '{"net": 5}', "\0"):
        (pod / "runtime-config").write_text(damage)
        assert "runtime-config is damaged\n" in rkt("restart", uuid, code=254).stderr, damage
    (pod / "stage1-flavour").rename(pod / "kept")
    (pod / "stage1-flavour").mkdir()
    told = rkt("gc", "--grace-period=0s", code=254).stderr
    pod = rkt.directory / "data/pods/exited-garbage" / uuid
    assert f'pod "{uuid}" could not be removed: {pod}/stage1-flavour: Is a directory\n' in told
    (pod / "stage1-flavour").rmdir()
    (pod / "kept").rename(pod / "stage1-flavour")
    rkt("gc", "--grace-period=0s")
    assert uuid not in rkt("list", "--full").stdout
