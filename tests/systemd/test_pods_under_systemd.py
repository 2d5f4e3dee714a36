"""Pods on a host that systemd manages: units, machines, the journal, readiness, sockets, the end."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fixtures.systemdguest import Guest

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import GuestRkt
    from fixtures.images import MakeAci

    Eventually = Callable[[Callable[[], object]], None]

# One worker boots the guests, and not each of them.
pytestmark = [pytest.mark.usefixtures("root"), pytest.mark.xdist_group("systemd")]

UNTIL_TERM = "trap 'echo bye; exit 0' TERM; while :; do sleep 0.05; done"
NOTIFIES = [{"name": "appc.io/executor/supports-systemd-notify", "value": "true"}]


def _activated_port(name: str, number: int) -> dict[str, object]:
    return {"name": name, "protocol": "tcp", "port": number, "socketActivated": True}


def _ask(guest: Guest, port: int) -> str:
    return guest("sh", "-c", f"echo | busybox nc -w 5 127.0.0.1 {port}").stdout.strip()


def test_systemds_own_tools_show_the_pod_and_end_it(guest_rkt: GuestRkt, make_aci: MakeAci) -> None:
    script = f"echo hello from the pod; echo '<3>trouble' >&2; {UNTIL_TERM}"
    image = guest_rkt.image(make_aci(["/bin/sh", "-c", script], name="example.com/web"))
    guest, uuid_file = guest_rkt.guest, f"{guest_rkt.directory}/uuid"
    guest_rkt.serve("tools", "run", "--net=none", f"--uuid-file-save={uuid_file}", image)
    uuid = guest("cat", uuid_file).stdout.strip()

    status = guest("systemctl", "status", "tools").stdout
    assert "Active: active (running)" in status
    assert 'Status: "running: web"' in status
    assert "rkt-init" in status
    assert re.search(r"web\[\d+\]: hello from the pod", status)

    assert guest_rkt.machines() == [f"rkt-{uuid}"]
    shown = guest("machinectl", "show", f"rkt-{uuid}").stdout.splitlines()
    pid = guest("cat", f"{guest_rkt.directory}/pods/run/{uuid}/pid").stdout.strip()
    for line in ("Class=container", "Service=rkt", "Unit=tools.service", f"Leader={pid}", "State=running"):
        assert line in shown
    assert f"RootDirectory={guest_rkt.directory}/pods/run/{uuid}/stage1/rootfs" in shown

    assert guest_rkt.journal("-t", "web", f"RKT_POD={uuid}") == ["hello from the pod", "trouble"]
    assert guest_rkt.journal("-t", "web", "-u", "tools", "-p", "err") == ["trouble"]
    assert guest_rkt.journal("-u", "tools").count("hello from the pod") == 1, "once, not as rkt's output too"

    guest("systemctl", "stop", "tools")
    assert "bye" in guest_rkt.journal("-t", "web")
    assert guest.property("tools", "Result") == "success"
    assert guest_rkt.machines() == []
    assert "app-web=0" in guest_rkt("status", uuid)


def test_journalctl_shows_a_machine_what_its_apps_print(
    guest_rkt: GuestRkt, make_aci: MakeAci, eventually: Eventually
) -> None:
    gate = f"{guest_rkt.directory}/gate"
    guest_rkt.guest("mkfifo", gate)
    script = (
        "echo one; echo '<3>two'; ls /var/log/journal /proc/1/root/var/log/journal 2>&1;"
        f"read line < /gate; echo $line; {UNTIL_TERM}"
    )
    web = guest_rkt.image(make_aci(["/bin/sh", "-c", script], name="example.com/web"))
    side = guest_rkt.image(make_aci(["/bin/sh", "-c", "echo beside"], name="example.com/side"))
    guest, uuid_file = guest_rkt.guest, f"{guest_rkt.directory}/uuid"
    volume = (f"--volume=gate,kind=host,source={gate}", "--mount=volume=gate,target=/gate")
    run = ("run", "--net=none", "--hostname=shop", f"--uuid-file-save={uuid_file}", *volume, web, side)
    guest_rkt.serve("machine", *run)
    uuid = guest("cat", uuid_file).stdout.strip()
    of_machine = ("-M", f"rkt-{uuid}", "--quiet")

    eventually(lambda: len(guest_rkt.journal(*of_machine)) == 5)
    one, two, *hidden = guest_rkt.journal(*of_machine, "-t", "web")
    assert (one, two) == ("one", "two")
    assert "/var/log/journal: No such file or directory" in hidden[0], "the files are in no app's root"
    assert "/proc/1/root/var/log/journal: Permission denied" in hidden[1]
    assert guest_rkt.journal(*of_machine, "-t", "side") == ["beside"]
    assert guest_rkt.journal(*of_machine, "-p", "err") == ["two"]
    assert guest_rkt.journal(*of_machine, "-b", "RKT_APP=side") == ["beside"]
    entry = json.loads(guest("journalctl", *of_machine, "-t", "web", "-n", "1", "-o", "json").stdout)
    assert (entry["_MACHINE_ID"], entry["_HOSTNAME"]) == (uuid.replace("-", ""), "shop")
    shown = guest("journalctl", *of_machine, "--no-pager", "-t", "web", "-p", "err").stdout
    assert re.search(r" shop web\[\d+\]: two$", shown.strip())

    guest("sleep", "1.5")  # long enough for the small supervisor to have taken over
    follow = guest.inside("journalctl", *of_machine, "-f", "-n", "0", "-o", "cat")
    with subprocess.Popen(follow, stdout=subprocess.PIPE, text=True) as following:
        try:
            assert following.stdout is not None
            eventually(lambda: _waits(following.pid))
            guest("sh", "-c", f"echo come and gone > {gate}")
            assert following.stdout.readline() == "come and gone\n"
        finally:
            following.kill()

    guest("systemctl", "stop", "machine")
    assert guest.property("machine", "Result") == "success"
    files = f"{guest_rkt.directory}/pods/run/{uuid}/journal"
    path = f"{files}/{uuid.replace('-', '')}/system.journal"
    assert "State: OFFLINE" in guest("journalctl", "--header", f"--file={path}").stdout
    guest("journalctl", "--verify", f"--file={path}")
    assert {"come and gone", "bye"} <= set(guest_rkt.journal("--quiet", "-D", files, "-t", "web"))


def _waits(pid: int) -> bool:
    """Whether the journalctl that nsenter has become waits for something to come."""
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split() or [str(pid)]:
        if "poll" not in Path(f"/proc/{child}/wchan").read_text():
            return False
    return True


def test_a_supervisor_that_is_killed_leaves_a_journal_that_can_be_read(
    guest_rkt: GuestRkt, make_aci: MakeAci, eventually: Eventually
) -> None:
    script = f"i=0; while [ $i -lt 300 ]; do echo $i; i=$((i+1)); done; {UNTIL_TERM}"
    image = guest_rkt.image(make_aci(["/bin/sh", "-c", script], name="example.com/counts"))
    guest = guest_rkt.guest
    guest_rkt.serve("killed", "run", "--net=none", image)
    uuid = guest_rkt.running()
    eventually(lambda: len(guest_rkt.journal("-M", f"rkt-{uuid}", "--quiet")) == 300)
    guest("systemctl", "kill", "--signal=KILL", "killed")
    eventually(lambda: guest.property("killed", "ActiveState") == "failed")
    files = f"{guest_rkt.directory}/pods/run/{uuid}/journal"
    assert guest_rkt.journal("--quiet", "-D", files) == [str(number) for number in range(300)]


def test_the_pod_of_a_session_has_a_scope_of_its_own(
    guest_rkt: GuestRkt, make_aci: MakeAci, eventually: Eventually
) -> None:
    image = guest_rkt.image(make_aci(["/bin/sh", "-c", f"echo up; {UNTIL_TERM}"], name="example.com/mine"))
    guest = guest_rkt.guest
    session = ("--scope", "--slice=user-0.slice", "--unit=session-1")
    run = guest_rkt.argv("run", "--detach", "--net=none", image)
    uuid = guest("systemd-run", "--quiet", *session, *run).stdout.strip()
    (machine,) = guest_rkt.machines()
    scope = "machine-" + machine.replace("-", r"\x2d") + ".scope"
    assert guest.property(scope, "Slice") == "machine.slice"
    assert f"Unit={scope}" in guest("machinectl", "show", machine).stdout.splitlines()
    eventually(lambda: guest_rkt.journal("-u", scope, "-t", "mine") == ["up"])

    guest("machinectl", "terminate", machine)
    eventually(lambda: guest_rkt.machines() == [])
    assert "app-mine=0" in guest_rkt("status", "--wait", uuid)
    assert {"up", "bye"} <= set(guest_rkt.journal("-u", scope, "-t", "mine"))


def test_ready_is_when_the_app_says_so(
    guest_rkt: GuestRkt, make_activated_aci: MakeAci, eventually: Eventually
) -> None:
    script = (
        "echo begun; while [ ! -e /gate/go ]; do sleep 0.05; done;"
        f"activated notify READY=1 'STATUS=warm and well'; {UNTIL_TERM}"
    )
    made = make_activated_aci(["/bin/sh", "-c", script], name="example.com/slow", annotations=NOTIFIES)
    plain = guest_rkt.image(make_activated_aci(["/bin/activated", "fds"], name="example.com/plain"))
    image, guest = guest_rkt.image(made), guest_rkt.guest
    gate = f"{guest_rkt.directory}/gate"
    guest("mkdir", gate)
    volume = (f"--volume=gate,kind=host,source={gate}", "--mount=volume=gate,target=/gate")
    run = guest_rkt.argv("run", "--net=none", *volume, image, plain)
    options = ("--unit=ready", "--property=Type=notify", "--property=KillMode=mixed", "--no-block")
    guest("systemd-run", "--quiet", *options, *run)
    eventually(lambda: "begun" in guest_rkt.journal("-t", "slow"))
    eventually(lambda: guest_rkt.journal("-t", "plain"))
    assert guest.property("ready", "ActiveState") == "activating"
    assert "ready" not in guest_rkt("status", guest_rkt.running()).splitlines()

    guest("touch", f"{gate}/go")
    eventually(lambda: guest.property("ready", "ActiveState") == "active")
    eventually(lambda: guest.property("ready", "StatusText") == "slow: warm and well")
    # The other app has no part in it, and no descriptor of anybody's.
    assert guest_rkt.journal("-t", "plain") == ["open: 0 1 2, variables: none"]
    guest("systemctl", "stop", "ready")
    assert guest.property("ready", "Result") == "success"


def test_sockets_reach_the_apps_that_declare_them(
    guest_rkt: GuestRkt, make_activated_aci: MakeAci, eventually: Eventually
) -> None:
    """Matched by getsockname: two apps, three sockets, and a port that --port moves."""
    guest = guest_rkt.guest
    first = make_activated_aci(
        ["/bin/activated", "serve"],
        name="example.com/first",
        app={"ports": [_activated_port("one", 8001), _activated_port("two", 8002)]},
    )
    second = make_activated_aci(
        ["/bin/activated", "serve"], name="example.com/second", app={"ports": [_activated_port("http", 80)]}
    )
    other = make_activated_aci(["/bin/sh", "-c", f"activated fds; {UNTIL_TERM}"], name="example.com/other")
    images = [guest_rkt.image(image) for image in (first, second, other)]
    run = " ".join(guest_rkt.argv("run", "--net=default", "--port=http:8080", *images))
    units = {
        "act.socket": "[Socket]\nListenStream=8002\nListenStream=8080\nListenStream=8001\n",
        "act.service": f"[Service]\nType=notify\nKillMode=mixed\nExecStart={run}\n",
    }
    for name, text in units.items():
        (guest.shared / name).write_text(text)
        guest("cp", f"/srv/{name}", "/run/systemd/system/")
    guest("systemctl", "daemon-reload")
    guest("systemctl", "start", "act.socket")
    assert guest.property("act.service", "ActiveState") == "inactive"

    assert _ask(guest, 8080) == "socket 0 of act.socket, open: 0 1 2 3"
    # An app may answer before the pod as a whole is up.
    eventually(lambda: guest.property("act.service", "ActiveState") == "active")
    assert _ask(guest, 8002) == "socket 0 of act.socket:act.socket, open: 0 1 2 3 4"
    assert _ask(guest, 8001) == "socket 1 of act.socket:act.socket, open: 0 1 2 3 4"
    eventually(lambda: guest_rkt.journal("-t", "other") == ["open: 0 1 2, variables: none"])
    guest("systemctl", "stop", "act.socket", "act.service")


def test_a_socket_that_no_app_declares_is_told(
    guest_rkt: GuestRkt, make_aci: MakeAci, eventually: Eventually
) -> None:
    image = guest_rkt.image(make_aci(["/bin/true"], name="example.com/true"))
    options = ("--socket-property=ListenStream=8100", "--unit=stray", "--quiet")
    guest_rkt.guest("systemd-run", *options, *guest_rkt.argv("run", "--net=none", image))
    guest_rkt.guest("sh", "-c", "busybox nc -w 1 127.0.0.1 8100 </dev/null", code=None)
    warning = 'run: warning: socket "stray.socket" (tcp 8100) belongs to no socketActivated port'
    eventually(lambda: warning in guest_rkt.journal("-u", "stray"))
    guest_rkt.guest("systemctl", "stop", "stray.socket", "stray.service")


def test_the_watchdog_hears_from_a_supervisor_that_lives_and_ends_one_that_hangs(
    guest_rkt: GuestRkt, make_aci: MakeAci, eventually: Eventually
) -> None:
    image = guest_rkt.image(make_aci(["/bin/sleep", "600"], name="example.com/sleep"))
    guest = guest_rkt.guest
    guest_rkt.serve("dog", "run", "--net=none", image, properties=("WatchdogSec=1", "Restart=no"))
    uuid = guest_rkt.running()
    guest("sleep", "2.5")  # long enough for the small supervisor to have taken over
    assert guest.property("dog", "ActiveState") == "active"
    guest("systemctl", "kill", "--kill-whom=main", "--signal=STOP", "dog")
    eventually(lambda: guest.property("dog", "Result") == "watchdog")
    eventually(lambda: guest.property("dog", "ActiveState") == "failed")
    # The pod died with its parent; what it has left is collected.
    assert uuid in guest_rkt("gc", "--grace-period=0s")
    assert guest_rkt.machines() == []


def test_what_an_app_prints_without_end_does_not_drown_the_journal(
    guest_rkt: GuestRkt, make_aci: MakeAci
) -> None:
    image = guest_rkt.image(make_aci(["/bin/seq", "30000"], name="example.com/flood"))
    guest_rkt("run", "--net=none", image)
    entries = guest_rkt.journal("-t", "flood")
    assert 1000 < len(entries) <= 10_000
    logged = guest_rkt("logs", guest_rkt("list", "--full", "--no-legend").split()[0]).split()
    assert logged == [str(number) for number in range(1, 30001)]


@pytest.mark.parametrize("delegated", ["yes", "no"])
def test_control_groups_of_version_2(unified_rkt: GuestRkt, make_aci: MakeAci, delegated: str) -> None:
    """Only a delegated unit is divided; beside another one the pod gets a scope."""
    image = unified_rkt.image(make_aci(["/bin/sh", "-c", f"echo up; {UNTIL_TERM}"], name="example.com/app"))
    guest, unit = unified_rkt.guest, f"v2{delegated}"
    unified_rkt.serve(unit, "run", "--net=none", image, properties=(f"Delegate={delegated}",))
    uuid = unified_rkt.running()
    pod = f"{unified_rkt.directory}/pods/run/{uuid}"
    pid = guest("cat", f"{pod}/apps/app/pid").stdout.strip()
    group = guest("cat", f"/proc/{pid}/cgroup").stdout.splitlines()[-1]
    escaped = f"rkt-{uuid}".replace("-", r"\x2d")
    below = f"system.slice/{unit}.service" if delegated == "yes" else f"machine.slice/machine-{escaped}.scope"
    assert re.fullmatch(rf"0::.*/{re.escape(below)}/rkt[^/]*/{uuid}/app", group)
    assert unified_rkt.machines() == [f"rkt-{uuid}"]
    shown = guest("machinectl", "show", f"rkt-{uuid}", "--property=Unit", "--value").stdout.strip()
    assert shown == below.partition("/")[2]
    # Whatever unit the app is in, its lines are found by the service that a user knows.
    assert unified_rkt.journal("-u", unit, "-t", "app") == ["up"]
    assert guest.property(unit, "MainPID") == guest("cat", f"{pod}/ppid").stdout.strip()
    guest("systemctl", "stop", unit)
    assert guest.property(unit, "Result") == "success"
    assert unified_rkt.machines() == []
    assert "app-app=0" in unified_rkt("status", uuid)
    assert uuid not in guest("systemd-cgls", "--no-pager").stdout
