"""The native stage 1: exit codes, the life of apps, signals, output and what the pod directory says."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from linux.mount import info

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import MakePod, TestPod

LINE = re.compile(r"\[ *\d+\.\d{6}\] ([a-z0-9-]+)\[(\d+)\]: (.*)")


def children(pid: int) -> list[int]:
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return [int(word) for word in file.read().split()]


def host_pid(pod: TestPod, app: str = "app") -> int:
    return int((pod.directory / f"apps/{app}/pid").read_text())


def test_an_app_runs_and_its_code_is_the_pods(make_pod: MakePod) -> None:
    pod = make_pod(["sh", "-c", "echo hello; echo oops >&2; exit 7"])
    done = pod.run()
    assert done.stderr == ""
    assert sorted(done.lines) == ["hello", "oops"]
    assert done.code == 7
    assert pod.status() == "7"


def test_console_lines_are_as_in_the_talk(make_pod: MakePod) -> None:
    done = make_pod(apps={"caddy": {"exec": ["sh", "-c", "echo serving; echo $$; printf tail"]}}).run()
    shown = [LINE.fullmatch(line) for line in done.stdout.splitlines()]
    assert all(shown), done.stdout
    assert {match[1] for match in shown if match} == {"caddy"}
    assert [match[3] for match in shown if match] == ["serving", shown[0][2], "tail"]  # type: ignore[index]


def test_the_first_failing_app_ends_the_pod_and_the_others_succeed(make_pod: MakePod) -> None:
    sleeper = {"exec": ["sleep", "600"]}
    pod = make_pod(apps={"one": sleeper, "bad": {"exec": ["sh", "-c", "exit 3"]}, "two": sleeper})
    done = pod.run()
    assert done.code == 3
    assert [pod.status(app) for app in ("one", "bad", "two")] == ["0", "3", "0"]


def test_the_pod_ends_when_the_last_app_does(make_pod: MakePod) -> None:
    pod = make_pod(apps={"short": {"exec": ["true"]}, "long": {"exec": ["sh", "-c", "sleep 0.3; echo last"]}})
    done = pod.run()
    assert (done.code, done.lines) == (0, ["last"])
    assert (pod.status("short"), pod.status("long")) == ("0", "0")


def test_an_app_that_dies_of_a_signal(make_pod: MakePod) -> None:
    pod = make_pod(["sh", "-c", "kill -9 $$"])
    assert pod.run().code == 137
    assert pod.status() == "137"


@pytest.mark.parametrize(
    ("argv", "code", "told"),
    [
        (["/no/such"], 127, "/no/such"),
        (["/etc/passwd"], 126, "/etc/passwd"),
    ],
)
def test_what_cannot_be_executed_is_told(make_pod: MakePod, argv: list[str], code: int, told: str) -> None:
    pod = make_pod(argv)
    done = pod.run()
    assert done.code == code
    assert told in done.stdout
    assert pod.status() == str(code)


def test_handlers_run_before_and_after(make_pod: MakePod) -> None:
    def handler(name: str, text: str) -> dict[str, object]:
        return {"name": name, "exec": ["/bin/sh", "-c", text]}

    events = [handler("pre-start", "echo before"), handler("post-stop", "echo after")]
    pod = make_pod(["sh", "-c", "echo during; exit 4"], app={"eventHandlers": events})
    done = pod.run()
    assert done.lines == ["before", "during", "after"]
    assert done.code == 4
    events = [handler("pre-start", "exit 9"), handler("post-stop", "echo after")]
    pod = make_pod(["echo", "during"], app={"eventHandlers": events})
    done = pod.run()
    assert done.lines == ["after"], "main must not run after a pre-start that failed"
    assert (done.code, pod.status()) == (9, "9")


def test_sigterm_asks_the_apps_to_end_and_post_stop_still_runs(make_pod: MakePod) -> None:
    events = [{"name": "post-stop", "exec": ["/bin/echo", "after"]}]
    trap = 'trap "echo asked; exit 0" TERM; echo up; while :; do sleep 0.05; done'
    pod = make_pod(
        apps={
            "polite": {"exec": ["sh", "-c", trap], "eventHandlers": events},
            "plain": {"exec": ["sleep", "600"]},
        }
    )
    with pod.start() as process:
        pod.await_(lambda: "up" in pod.log("polite"), process)
        process.send_signal(signal.SIGTERM)
        stdout, stderr = process.communicate(timeout=20)
    assert stderr == ""
    assert process.returncode == 0
    lines = [line.partition("]: ")[2] for line in stdout.splitlines()]
    assert [line for line in lines if line != "Terminated"] == ["up", "asked", "after"]
    assert (pod.status("polite"), pod.status("plain")) == ("0", "0")


def test_what_ignores_sigterm_is_killed_after_the_grace(make_pod: MakePod) -> None:
    pod = make_pod(["sh", "-c", 'trap "" TERM; echo up; while :; do sleep 0.05; done'])
    with pod.start(grace=0.5) as process:
        pod.await_(lambda: "up" in pod.log(), process)
        start = time.monotonic()
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=20)
    assert 0.4 < time.monotonic() - start < 5
    assert (process.returncode, pod.status()) == (137, "137")


def test_a_second_signal_kills_at_once(make_pod: MakePod) -> None:
    pod = make_pod(["sh", "-c", 'trap "" TERM; echo up; while :; do sleep 0.05; done'])
    with pod.start() as process:
        pod.await_(lambda: "up" in pod.log(), process)
        process.send_signal(signal.SIGINT)
        time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        start = time.monotonic()
        process.communicate(timeout=20)
        assert time.monotonic() - start < 5
    assert process.returncode == 137


def test_stop_and_forced_stop_by_the_abi(make_pod: MakePod) -> None:
    from rkt.errors import RktError
    from rkt.stage1.native import stage1

    for force, code in ((False, 0), (True, 137)):
        pod = make_pod(["sleep", "600"])
        with pytest.raises(RktError, match="not written"):
            stage1.stop(str(pod.directory), force=force)
        with pod.start() as process:
            pod.await_ready(process)
            stage1.stop(str(pod.directory), force=force)
            process.communicate(timeout=20)
        assert process.returncode == code
        with pytest.raises(RktError, match="ended"):
            stage1.stop(str(pod.directory), force=force)


def test_orphans_are_reaped_and_leftovers_end_with_their_app(make_pod: MakePod) -> None:
    script = "(sleep 0.2 & ) ; (setsid sleep 600 &) ; sleep 0.5; ps -o pid,stat,comm"
    pod = make_pod(apps={"app": {"exec": ["sh", "-c", script]}, "other": {"exec": ["sleep", "1"]}})
    done = pod.run()
    assert done.code == 0
    assert not [line for line in done.lines if " Z" in line], done.stdout


def test_leftovers_of_an_app_are_killed_before_its_post_stop(make_pod: MakePod) -> None:
    events = [{"name": "post-stop", "exec": ["/bin/sh", "-c", "pidof sleep || echo none"]}]
    pod = make_pod(["sh", "-c", "setsid sleep 600 & echo main"], app={"eventHandlers": events})
    assert pod.run().lines == ["main", "none"]


def test_the_pod_dies_with_its_parent(make_pod: MakePod) -> None:
    pod = make_pod(["sleep", "600"])
    with pod.start() as process:
        pod.await_ready(process)
        app = host_pid(pod)
        init = int((pod.directory / "pid").read_text())
        process.kill()
        process.communicate(timeout=20)
    end = time.monotonic() + 10
    while any(os.path.exists(f"/proc/{pid}") for pid in (app, init)) and time.monotonic() < end:
        time.sleep(0.01)
    assert not os.path.exists(f"/proc/{app}")
    assert not os.path.exists(f"/proc/{init}")
    pod.gc()
    pod.gc()  # idempotent


def test_files_that_others_read(make_pod: MakePod) -> None:
    pod = make_pod(["sleep", "600"])
    with pod.start() as process:
        pod.await_ready(process)
        assert int((pod.directory / "ppid").read_text()) == process.pid
        init = int((pod.directory / "pid").read_text())
        assert init in children(process.pid)
        assert "rkt" in (pod.directory / "subcgroup").read_text()
        assert not (pod.directory / "stage1/rootfs/rkt/status/app").exists()
        assert os.readlink(pod.directory / "stage1/rootfs/rkt/supervisor-status") == "ready"
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=20)
    assert pod.status() == "0"


def test_nothing_is_mounted_on_the_host(make_pod: MakePod) -> None:
    before = [entry.target for entry in info.mounts()]
    pod = make_pod(["sleep", "600"])
    with pod.start() as process:
        pod.await_ready(process)
        assert [entry.target for entry in info.mounts()] == before
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=20)
    assert [entry.target for entry in info.mounts()] == before


def test_a_pod_that_runs_long_gets_a_smaller_parent(make_pod: MakePod) -> None:
    """At most 6 MB beside the apps; nothing is lost on the way: output, a cut line, handlers, signals."""
    events = [{"name": "post-stop", "exec": ["/bin/echo", "after"]}]
    script = "printf start; trap 'echo asked; exit 5' INT; while :; do sleep 0.1; done"
    stop = {"name": "appc.io/docker/stopsignal", "value": "SIGINT"}
    pod = make_pod(["sh", "-c", script], app={"eventHandlers": events}, annotations=[stop])
    with pod.start() as process:
        pod.await_ready(process)
        pid = process.pid

        def small() -> bool:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                return b"native.monitor" in file.read()

        pod.await_(small, process)
        time.sleep(0.2)
        init = int((pod.directory / "pid").read_text())
        anonymous = 0
        for number in (pid, init):
            with open(f"/proc/{number}/smaps_rollup") as rollup:
                anonymous += sum(int(line.split()[1]) for line in rollup if line.startswith("Anonymous:"))
        assert anonymous < 4000, f"{anonymous} kB of its own"
        open_files = {os.readlink(f"/proc/{pid}/fd/{name}") for name in os.listdir(f"/proc/{pid}/fd")}
        assert str(pod.directory) in open_files, "the pod's lock is not held any more"
        process.send_signal(signal.SIGTERM)
        stdout, stderr = process.communicate(timeout=20)
    assert stderr == ""
    assert process.returncode == 5
    lines = [line.partition("]: ")[2] for line in stdout.splitlines()]
    assert [line for line in lines if line != "Terminated"] == ["startasked", "after"]
    assert pod.status() == "5"


def test_a_start_that_fails_leaves_nothing(make_pod: MakePod) -> None:
    missing = {"name": "data", "kind": "host", "source": "/no/such/directory"}
    pod = make_pod(["true"], volumes=[missing], runtime={"mounts": [{"volume": "data", "path": "/data"}]})
    done = pod.run()
    assert done.code == 254
    assert "/no/such/directory does not exist" in done.stderr
    assert not groups_of(pod)


def groups_of(pod: TestPod) -> list[str]:
    """The control groups that are still there for a pod."""
    found = subprocess.run(
        ["find", "/sys/fs/cgroup", "-name", pod.uuid], capture_output=True, text=True, check=False
    )
    return found.stdout.split()


def test_control_groups_are_there_before_the_app_and_gone_after_the_pod(make_pod: MakePod) -> None:
    pod = make_pod(["sh", "-c", "cat /proc/self/cgroup; sleep 0.5"])
    with pod.start() as process:
        pod.await_ready(process)
        with open(f"/proc/{host_pid(pod)}/cgroup") as file:
            mine = [line for line in file if pod.uuid in line]
        assert mine, "the app is in no control group of the pod's"
        for directory in groups_of(pod):
            limit = f"{directory}/pids.max"
            if os.path.exists(limit):
                with open(limit) as file:
                    assert file.read().strip() == "2048"
        stdout, _ = process.communicate(timeout=20)
    assert pod.uuid not in stdout, "the app sees where on the host it is"
    assert not groups_of(pod)


def test_two_users_of_the_machine_run_pods_at_once(make_pod: MakePod) -> None:
    pods = [make_pod(["sh", "-c", "sleep 0.2; exit 5"]) for _ in range(8)]
    shift = 0x7000_0000
    running = [pod.start(private_users=[shift + 65536 * n, 65536]) for n, pod in enumerate(pods)]
    for process in running:
        with process:
            _, stderr = process.communicate(timeout=60)
            assert (process.returncode, stderr) == (5, "")


def test_a_pod_without_a_user_namespace(make_pod: MakePod) -> None:
    done = make_pod(["sh", "-c", "cat /proc/self/uid_map; id -u"]).run(private_users=None)
    assert done.lines[0].split() == ["0", "0", "4294967295"]
    assert done.lines[1] == "0"


def test_a_pod_with_a_copied_root(make_pod: MakePod, busybox_rootfs: Path) -> None:
    pod = make_pod(["sh", "-c", "echo x > /new; ls -ln /new"], overlay=False)
    done = pod.run()
    assert done.lines[0].split()[2:4] == ["0", "0"]
    assert (pod.directory / "stage1/rootfs/opt/stage2/app/rootfs/new").stat().st_uid == 0
    assert not (busybox_rootfs / "new").exists()


def test_a_kernel_that_cannot_map_owners_runs_the_pod_and_says_so(make_pod: MakePod) -> None:
    done = make_pod(["sh", "-c", "cat /proc/self/uid_map"]).run(no_idmap=True)
    assert done.code == 0
    assert done.lines[0].split() == ["0", "0", "4294967295"]
