"""The fly flavour: host namespaces, a root of its own; nothing of ours stays, nothing of the host goes."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from linux.cgroups import Hierarchy
from rkt.stage1.fly import output
from rkt.stage1.native.release import group_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fixtures.images import MakeAci

pytestmark = pytest.mark.usefixtures("root")
FLY = ("--insecure-options=image", "run", "--stage1-name=fly")


def mount_table() -> list[str]:
    """The host's mounts with their propagation, without the numbers that a peer group gets."""
    return Path("/proc/self/mountinfo").read_text().splitlines()


@pytest.fixture(autouse=True)
def _mounts_of_the_host_stay() -> Iterator[None]:
    before = mount_table()
    yield
    assert mount_table() == before


def wait_for(condition: Callable[[], Any], what: str) -> Any:
    for _ in range(500):
        found = condition()
        if found:
            return found
        time.sleep(0.01)
    raise AssertionError(f"{what} has not come about")


def detached(rkt: Any, aci: Path, *words: str) -> tuple[str, Path]:
    """A pod that runs in the background: its UUID and directory."""
    uuid = rkt(*FLY, "--detach", aci, *words).stdout.strip()
    return uuid, rkt.directory / "data/pods/run" / uuid


def the_pod(rkt: Any) -> str:
    return str(rkt("list", "--full", "--no-legend").stdout.split()[0])


def number(path: Path) -> int:
    return int(path.read_text())


# -- what the app is


def test_s8_descriptors_keyring_and_privileges(rkt: Any, make_probe_aci: Any) -> None:
    aci = make_probe_aci()
    with open("/etc/passwd") as one:
        os.set_inheritable(one.fileno(), True)
        argv = rkt.argv(*FLY, aci)
        done = subprocess.run(argv, pass_fds=(one.fileno(),), capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()

    assert "fds: 0 1 2" in lines
    status = {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "0")
    assert int(status["CapInh"], 16) == int(status["CapAmb"], 16) == 0
    assert rkt(*FLY, aci, "--", "keyring").stdout == "keyring: 0 keys\n"


def test_it_is_in_the_hosts_namespaces_but_for_mounts(rkt: Any, make_probe_aci: Any) -> None:
    lines = rkt(*FLY, make_probe_aci()).stdout.splitlines()
    for kind in ("ipc", "net", "pid", "user", "uts", "cgroup"):
        assert f"namespace {kind}: {os.readlink(f'/proc/self/ns/{kind}')}" in lines
    assert f"namespace mnt: {os.readlink('/proc/self/ns/mnt')}" not in lines


@pytest.mark.parametrize("code", [0, 7, 255])
def test_exit_code_and_status(rkt: Any, make_probe_aci: Any, code: int) -> None:
    rkt(*FLY, make_probe_aci(), "--", "exit", str(code), code=code)
    shown = rkt("status", the_pod(rkt)).stdout
    assert "state=exited" in shown
    assert f"app-probe={code}\n" in shown


def test_a_signal_is_told_as_shells_do(rkt: Any, make_probe_aci: Any) -> None:
    rkt(*FLY, make_probe_aci("/bin/sh", "-c", "kill -9 $$"), code=137)
    assert "app-probe=137\n" in rkt("status", the_pod(rkt)).stdout


def test_user_and_working_directory(rkt: Any, make_probe_aci: Any) -> None:
    app = {"user": "user", "group": "users", "supplementaryGIDs": [7], "workingDirectory": "/work"}
    lines = rkt(*FLY, make_probe_aci(app=app)).stdout.splitlines()
    assert lines[0] == "cwd: /work"
    assert "Uid:\t1000\t1000\t1000\t1000" in lines
    assert "Groups:\t7 " in lines


def test_a_user_s_app_opens_its_output_by_name(rkt: Any, make_aci: MakeAci) -> None:
    script = "echo out >/dev/stdout; true </dev/stdout || echo unreadable"
    aci = make_aci(["/bin/sh", "-c", script], app={"user": "1000", "group": "1000"})
    assert rkt(*FLY, aci).stdout == "out\nunreadable\n"


def test_errors_before_the_exec_are_rkts_own(rkt: Any, make_probe_aci: Any) -> None:
    for words, message in (
        (("--exec=/nope",), 'exec: "/nope" not found'),
        (("--user=nobody-here",), 'invalid user "nobody-here"'),
        (("--working-dir=/nowhere",), 'working directory "/nowhere" does not exist'),
    ):
        done = rkt(*FLY, make_probe_aci(), *words, code=254)
        assert message in done.stderr
        assert "Traceback" not in done.stderr


def test_only_one_app(rkt: Any, make_probe_aci: Any) -> None:
    one, two = make_probe_aci(name="example.com/a"), make_probe_aci(name="example.com/b")
    done = rkt(*FLY, one, two, code=254)
    assert "the fly stage1 runs one app, this pod has 2: a, b" in done.stderr


def test_network_files_come_from_the_host_unless_the_image_has_them(
    rkt: Any, make_probe_aci: Any, probe_rootfs: Path
) -> None:
    (probe_rootfs / "etc/hosts").write_text("1.2.3.4 image\n")
    aci = make_probe_aci("/bin/cat", "/etc/hosts", "/etc/resolv.conf")
    assert rkt(*FLY, aci).stdout == "1.2.3.4 image\n" + Path("/etc/resolv.conf").read_text()


def test_limits_are_enforced_and_the_rest_is_told(rkt: Any, make_probe_aci: Any) -> None:
    app = {
        "isolators": [
            {"name": "resource/memory", "value": {"limit": "32Mi"}},
            {"name": "os/linux/capabilities-retain-set", "value": {"set": ["CAP_KILL"]}},
        ]
    }
    hog = "busybox dd if=/dev/zero of=/dev/null bs=200M count=1 2>/dev/null; echo $?"
    done = rkt(*FLY, make_probe_aci("/bin/sh", "-c", hog, app=app))
    if "memory" in Hierarchy.detect().bases:
        assert done.stdout != "0\n"
    pod = rkt.directory / "data/pods/run" / the_pod(rkt)
    told = (pod / "not-enforced").read_text()
    assert "os/linux/capabilities-retain-set: the fly stage1 isolates nothing" in told
    assert "resource/memory" not in told


# -- volumes


def test_volumes(rkt: Any, make_probe_aci: Any, tmp_path: Path) -> None:
    source = tmp_path / "volume"
    source.mkdir()
    (source / "file").write_text("of the host\n")
    aci = make_probe_aci("/bin/sh", "-c", "cat /a/b/file; echo x > /a/b/new && echo written")
    volume = f"--volume=v,kind=host,source={source}"
    mount = "--mount=volume=v,target=/a/b"
    assert rkt(*FLY, volume, mount, aci).stdout == "of the host\nwritten\n"
    assert (source / "new").read_text() == "x\n"
    read_only = rkt(*FLY, volume + ",readOnly=true", mount, aci, code=None)
    assert read_only.stdout == "of the host\n"
    assert "Read-only file system" in read_only.stderr


def test_volumes_are_not_recursive_unless_they_say_so(rkt: Any, make_probe_aci: Any, tmp_path: Path) -> None:
    source = tmp_path / "volume"
    (source / "inner").mkdir(parents=True)
    script = "cat /v/inner/file 2>/dev/null || echo no"
    aci = make_probe_aci("/bin/sh", "-c", script)
    subprocess.run(["mount", "-t", "tmpfs", "none", source / "inner"], check=True)
    try:
        (source / "inner/file").write_text("inner\n")
        mount = "--mount=volume=v,target=/v"
        for option, expected in (("", "no\n"), (",recursive=false", "no\n"), (",recursive=true", "inner\n")):
            volume = f"--volume=v,kind=host,source={source}{option}"
            assert rkt(*FLY, volume, mount, aci).stdout == expected
    finally:
        subprocess.run(["umount", source / "inner"], check=True)


def test_a_missing_source_is_an_error(rkt: Any, make_probe_aci: Any, tmp_path: Path) -> None:
    volume = f"--volume=v,kind=host,source={tmp_path}/nowhere"
    done = rkt(*FLY, volume, "--mount=volume=v,target=/v", make_probe_aci(), code=254)
    assert "does not exist" in done.stderr


# -- S3, S4: images that attack the set-up


@pytest.fixture
def canary(tmp_path: Path) -> Iterator[Path]:
    directory = tmp_path / "canary"
    directory.mkdir()
    (directory / "keep").write_text("as it was\n")
    (directory / "ptmx").write_text("as it was\n")
    yield directory
    assert sorted(os.listdir(directory)) == ["keep", "ptmx"]
    assert {path.read_text() for path in directory.iterdir()} == {"as it was\n"}


@pytest.mark.parametrize("name", ["dev", "proc", "sys"])
@pytest.mark.parametrize("way", ["absolute", "relative"])
def test_cve_2019_19921_links_in_place_of_system_directories(
    rkt: Any, make_probe_aci: Any, probe_rootfs: Path, canary: Path, name: str, way: str
) -> None:
    (probe_rootfs / name).rmdir()
    target = str(canary) if way == "absolute" else "../" * 20 + str(canary).lstrip("/")
    (probe_rootfs / name).symlink_to(target)
    done = rkt(*FLY, make_probe_aci("/probe", "print", "x"), code=254)
    assert f"/{name} of the image is not a directory: refused" in done.stderr
    rkt("gc", "--grace-period=0s")


def test_s3_etc_as_a_link_to_the_host(
    rkt: Any, make_probe_aci: Any, probe_rootfs: Path, canary: Path
) -> None:
    for file in (probe_rootfs / "etc").iterdir():
        file.unlink()
    (probe_rootfs / "etc").rmdir()
    (probe_rootfs / "etc").symlink_to(canary)
    done = rkt(*FLY, make_probe_aci("/probe", "print", "x"), code=None)
    assert (done.returncode, done.stdout) in {(0, "x\n"), (254, "")}
    rkt("gc", "--grace-period=0s")


def test_tmp_as_a_link_to_the_host(rkt: Any, make_probe_aci: Any, probe_rootfs: Path, canary: Path) -> None:
    (probe_rootfs / "tmp").rmdir()
    (probe_rootfs / "tmp").symlink_to(canary)
    aci = make_probe_aci("/bin/sh", "-c", "echo x > /tmp/x; ls /tmp")
    assert rkt(*FLY, aci, code=None).stdout in {"x\n", ""}


def test_cve_2024_21626_working_directory_on_a_descriptor(rkt: Any, make_probe_aci: Any) -> None:
    for number_ in (3, 4, 5, 6, 7, 8):
        aci = make_probe_aci(app={"workingDirectory": f"/proc/self/fd/{number_}"})
        done = rkt(*FLY, aci, code=254)
        assert "working directory" in done.stderr


# -- life


def test_no_interpreter_stays(rkt: Any, make_probe_aci: Any) -> None:
    uuid, pod = detached(rkt, make_probe_aci("/probe", "sleep"))
    parent = number(pod / "ppid")
    wait_for(lambda: "memfd:rkt-wait" in os.readlink(f"/proc/{parent}/exe"), "the waiter")
    rollup = Path(f"/proc/{parent}/smaps_rollup").read_text()
    pss = int(rollup.split("\nPss:")[1].split()[0])
    assert pss < 256, f"{pss} kB"
    fds = sorted(int(name) for name in os.listdir(f"/proc/{parent}/fd"))
    assert fds == [0, 1, 2, 3, 4]
    assert f'"{uuid}"' in rkt("stop", uuid).stdout


def test_stop_asks_and_force_kills(rkt: Any, make_probe_aci: Any) -> None:
    aci = make_probe_aci("/bin/sh", "-c", "trap 'exit 3' TERM; while :; do sleep 0.05; done")
    uuid, _ = detached(rkt, aci)
    time.sleep(0.3)
    rkt("stop", uuid)
    assert "app-probe=3\n" in rkt("status", uuid).stdout

    stubborn = make_probe_aci("/bin/sh", "-c", "trap '' TERM; while :; do sleep 0.05; done")
    uuid, _ = detached(rkt, stubborn)
    rkt("stop", "--force", uuid)
    assert "app-probe=137\n" in rkt("status", uuid).stdout


@pytest.mark.parametrize("with_handler", [False, True])
def test_signals_to_the_foreground_command_reach_the_app(
    rkt: Any, make_probe_aci: Any, *, with_handler: bool
) -> None:
    handlers = [{"name": "post-stop", "exec": ["/probe", "print", "stopped"]}] if with_handler else []
    script = "trap 'echo got; exit 9' USR1; echo ready; while :; do sleep 0.05; done"
    aci = make_probe_aci("/bin/sh", "-c", script, app={"eventHandlers": handlers})
    with subprocess.Popen(rkt.argv(*FLY, aci), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.2)
        process.send_signal(signal.SIGUSR1)
        rest = process.stdout.read()
        assert process.wait(timeout=20) == 9
    assert rest == ("got\nstopped\n" if with_handler else "got\n")
    assert "app-probe=9\n" in rkt("status", the_pod(rkt)).stdout


def test_event_handlers_run_around_the_app(rkt: Any, make_probe_aci: Any) -> None:
    handlers = [
        {"name": "pre-start", "exec": ["/bin/sh", "-c", "echo before; echo made > /made"]},
        {"name": "post-stop", "exec": ["/bin/sh", "-c", "echo after; cat /made"]},
    ]
    aci = make_probe_aci("/bin/sh", "-c", "cat /made; exit 4", app={"eventHandlers": handlers})
    assert rkt(*FLY, aci, code=4).stdout == "before\nmade\nafter\nmade\n"


def test_a_failed_pre_start_handler_keeps_the_app_from_running(rkt: Any, make_probe_aci: Any) -> None:
    handlers = [{"name": "pre-start", "exec": ["/probe", "exit", "5"]}]
    done = rkt(*FLY, make_probe_aci("/probe", "print", "x", app={"eventHandlers": handlers}), code=254)
    assert done.stdout == ""
    assert "pre-start handler ended with status 5" in done.stderr


def test_the_app_dies_with_whoever_holds_the_pod(rkt: Any, make_probe_aci: Any) -> None:
    uuid, pod = detached(rkt, make_probe_aci("/probe", "sleep"))
    child, parent = number(pod / "pid"), number(pod / "ppid")
    wait_for(lambda: "memfd:rkt-wait" in os.readlink(f"/proc/{parent}/exe"), "the waiter")
    os.kill(parent, signal.SIGKILL)
    wait_for(lambda: not os.path.exists(f"/proc/{child}/exe"), "the end of the app")
    assert "state=exited" in rkt("status", uuid).stdout
    rkt("gc", "--grace-period=0s")
    assert uuid not in rkt("list", "--full").stdout


def test_what_an_app_leaves_running_is_collected(rkt: Any, make_probe_aci: Any) -> None:
    aci = make_probe_aci("/bin/sh", "-c", "busybox setsid sleep 1000 >/dev/null 2>&1 & echo $!; sleep 0.2")
    rkt(*FLY, aci)
    uuid = the_pod(rkt)
    group = group_of(str(rkt.directory / "data/pods/run" / uuid))
    assert group is not None
    left = group.processes()
    assert len(left) == 1
    rkt("gc", "--grace-period=0s")
    assert not os.path.exists(f"/proc/{left[0]}/exe")  # gone, or dead and not yet reaped
    assert not group.exists()


def test_mounts_of_the_app_are_its_own(rkt: Any, make_probe_aci: Any) -> None:
    aci = make_probe_aci(
        "/bin/sh", "-c", "busybox mount -t tmpfs none /work && busybox umount /proc/sys || echo mounted"
    )
    assert rkt(*FLY, aci).returncode == 0  # the table of the host is compared by the fixture


# -- output


def test_output_of_a_detached_pod_goes_to_the_journal(tmp_path: Path) -> None:
    """The header that journald expects of a stream, and what follows; journald itself is a socket here."""
    path = str(tmp_path / "stdout")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as journal:
        journal.bind(path)
        journal.listen()
        fd = output.to_journal("agent", path)
        with journal.accept()[0] as stream:
            os.write(fd, b"a line\n")
            os.close(fd)
            received = b"".join(iter(lambda: stream.recv(4096), b""))
    assert received == b"agent\n\n6\n0\n0\n0\n0\na line\n"
    assert output.to_journal("agent", str(tmp_path / "nowhere")) == -1


def test_without_a_journal_it_is_said_that_output_is_lost(rkt: Any, make_probe_aci: Any) -> None:
    if os.path.exists(output.JOURNAL):
        pytest.skip("this host has a journal")
    uuid, _ = detached(rkt, make_probe_aci("/probe", "sleep"))
    assert "output: it is discarded" in rkt("status", uuid).stdout
    rkt("stop", "--force", uuid)
