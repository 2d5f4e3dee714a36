"""The units that are shipped, and the one that the documentation shows, on a booted systemd."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fixtures.systemdguest import RKT

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import GuestRkt
    from fixtures.images import MakeAci
    from fixtures.systemdguest import Guest

    Eventually = Callable[[Callable[[], object]], None]

pytestmark = [pytest.mark.usefixtures("root"), pytest.mark.xdist_group("systemd")]

CHECKOUT = Path(__file__).parent.parent.parent
UNTIL_TERM = "trap 'exit 0' TERM; while :; do sleep 0.05; done"


@pytest.fixture
def installed(systemd_guest: Guest) -> Guest:
    """The guest with /usr/bin/rkt and the shipped files in their places."""
    for program in ("rkt", "acserver"):
        systemd_guest("ln", "-sf", f"{RKT}/bin/{program}", f"/usr/bin/{program}")
    systemd_guest(
        "sh", "-c", f"mkdir -p /usr/lib/rkt/plugins/net && ln -sf {RKT}/lib/cni/* /usr/lib/rkt/plugins/net/"
    )
    systemd_guest("sh", "-c", f"cp {RKT}/dist/systemd/* /etc/systemd/system/")
    systemd_guest("sh", "-c", f"cp {RKT}/dist/tmpfiles.d/* /etc/tmpfiles.d/")
    systemd_guest("sh", "-c", f"mkdir -p /etc/sysusers.d && cp {RKT}/dist/sysusers.d/* /etc/sysusers.d/")
    systemd_guest("systemd-sysusers", "acserver.conf")
    systemd_guest("systemd-tmpfiles", "--create", "rkt.conf")
    systemd_guest("systemctl", "daemon-reload")
    return systemd_guest


def test_shipped_units_are_sound(installed: Guest) -> None:
    units = sorted(path.name for path in (CHECKOUT / "dist/systemd").iterdir())
    said = installed("systemd-analyze", "verify", "--man=no", *units)
    assert said.stdout + said.stderr == ""
    assert installed("stat", "-c", "%a %U", "/var/lib/rkt").stdout == "700 root\n"


def test_collection_by_the_timer(installed: Guest, eventually: Eventually) -> None:
    installed("systemctl", "start", "rkt-gc.timer")
    eventually(
        lambda: installed.property("rkt-gc.service", "ExecMainExitTimestampMonotonic") not in {"", "0"}
    )
    assert installed.property("rkt-gc.service", "Result") == "success"
    assert installed.property("rkt-gc.timer", "NextElapseUSecMonotonic") != "infinity"
    installed("systemctl", "stop", "rkt-gc.timer")


def test_the_metadata_service_and_its_socket(installed: Guest) -> None:
    installed("systemctl", "start", "rkt-metadata.service")
    assert installed.property("rkt-metadata.service", "ActiveState") == "active"
    answer = installed("busybox", "nc", "127.0.0.1", "18112", code=None)
    assert answer.returncode == 0
    assert installed("stat", "-c", "%a %F", "/run/rkt/metadata-svc.sock").stdout == "600 socket\n"
    installed("systemctl", "stop", "rkt-metadata.service", "rkt-metadata.socket")
    assert installed.property("rkt-metadata.service", "Result") == "success"


def test_the_dhcp_daemon_is_started_by_its_socket(installed: Guest) -> None:
    status = (
        """echo '{"cniVersion": "1.1.0", "name": "lan", "ipam": {"type": "dhcp"}}' |"""
        " CNI_COMMAND=STATUS CNI_PATH=/usr/lib/rkt/plugins/net /usr/lib/rkt/plugins/net/dhcp"
    )
    without = installed("sh", "-c", status, code=None)
    assert (without.returncode, "systemctl start rkt-dhcp.socket" in without.stdout) == (1, True)
    installed("systemctl", "start", "rkt-dhcp.socket")
    assert installed.property("rkt-dhcp.service", "ActiveState") == "inactive"
    assert installed("stat", "-c", "%a %F", "/run/cni/dhcp.sock").stdout == "600 socket\n"
    assert installed("sh", "-c", status).stdout == ""
    assert installed.property("rkt-dhcp.service", "ActiveState") == "active"
    installed("systemctl", "kill", "--signal=KILL", "--kill-who=main", "rkt-dhcp.service")
    installed("sh", "-c", status)
    installed("systemctl", "stop", "rkt-dhcp.service", "rkt-dhcp.socket")
    assert installed.property("rkt-dhcp.service", "Result") == "success"


def test_acserver_is_started_by_its_socket_without_rights(installed: Guest) -> None:
    settings = '{"api": {"username": "u", "password": "p"}, "storage": {"rootPath": "/var/lib/acserver"}}'
    installed("sh", "-c", f"umask 077; echo '{settings}' >/etc/acserver.yml")
    installed("systemctl", "start", "acserver.socket")
    assert installed.property("acserver.service", "ActiveState") == "inactive"
    page = installed("busybox", "wget", "-q", "-O-", "http://127.0.0.1:3000/").stdout
    assert "ac-push-discovery" in page
    main = installed.property("acserver.service", "MainPID")
    assert installed("stat", "-c", "%U", f"/proc/{main}").stdout == "acserver\n"
    assert installed("stat", "-c", "%U %a", "/var/lib/acserver").stdout == "acserver 755\n"
    installed("systemctl", "kill", "--signal=KILL", "--kill-who=main", "acserver.service")
    assert "ac-discovery" in installed("busybox", "wget", "-q", "-O-", "http://127.0.0.1:3000/").stdout
    installed("systemctl", "stop", "acserver.service", "acserver.socket")
    assert installed.property("acserver.service", "Result") == "success"


def test_the_unit_of_the_documentation(installed: Guest, guest_rkt: GuestRkt, make_aci: MakeAci) -> None:
    page = (CHECKOUT / "docs/howto/use-systemd.md").read_text()
    shown = re.search(r"(?m)^    # /etc/systemd/system/web.service\n((?:    .*\n|\n)+)", page)
    assert shown is not None
    text = re.sub(r"(?m)^    ", "", shown[1])
    ports = [{"name": "http", "protocol": "tcp", "port": 80}]
    script = f"echo '<3>up' >&2; {UNTIL_TERM}"
    image = make_aci(["/bin/sh", "-c", script], name="example.com/web", app={"ports": ports})
    command = " ".join(guest_rkt.argv())
    text = text.replace("/usr/bin/rkt", command).replace("example.com/web:1.0", guest_rkt.image(image))
    (installed.shared / "web.service").write_text(text)
    installed("cp", "/srv/web.service", "/run/systemd/system/")
    installed("systemctl", "daemon-reload")
    installed("systemctl", "start", "web.service")
    uuid = guest_rkt.running()
    assert guest_rkt.machines() == [f"rkt-{uuid}"]
    assert guest_rkt.journal("-u", "web", "-t", "web", "-p", "err", f"RKT_POD={uuid}") == ["up"]
    assert installed.property("web.service", "Slice") == "machine.slice"
    installed("systemctl", "stop", "web.service")
    assert installed.property("web.service", "Result") == "success"
    assert "exited" in guest_rkt("list", "--no-legend")
