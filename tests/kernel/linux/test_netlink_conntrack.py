"""Tracked connections: found by port and by answerer, forgotten by choice."""

from __future__ import annotations

import shutil
import socket as standard
import subprocess
from typing import TYPE_CHECKING

import pytest

from linux import namespaces
from linux.netlink import address, conntrack, link
from linux.netlink.batch import Batch
from linux.netlink.socket import NETFILTER, ROUTE, open_in

if TYPE_CHECKING:
    from pathlib import Path

RULES = """\
table inet t {
	chain tracked {
		type filter hook output priority 0
		ct state new accept
	}
	chain out {
		type nat hook output priority -100
		udp dport 5353 dnat ip to 127.0.0.1:53
	}
}
"""


def test_flows_are_found_and_forgotten(netns: Path) -> None:
    routing, filtering = open_in(str(netns), ROUTE, NETFILTER)
    with routing, filtering:
        batch = Batch(routing)
        batch.add(link.change("lo", up=True))
        batch.commit()
        subprocess.run(["nsenter", f"--net={netns}", "nft", "-f", "-"], input=RULES, text=True, check=True)
        with namespaces.inside(netns):
            glance = conntrack.Glance(filtering)
            assert (glance.count, glance.may_lead_to(5353), glance.may_involve("127.0.0.9")) == (
                0,
                False,
                False,
            )
            sender = standard.socket(standard.AF_INET, standard.SOCK_DGRAM)
        with sender:
            for port in (5353, 5354, 5355):
                sender.sendto(b"x", ("127.0.0.9", port))
        with namespaces.inside(netns):
            glance = conntrack.Glance(filtering)
        assert glance.count == len(conntrack.flows(filtering, family=2)) == 3
        (mapped,) = conntrack.flows(filtering, family=2, protocol=17, destination_port=5353)
        assert (mapped.destination, mapped.destination_port) == ("127.0.0.9", 5353)
        assert (mapped.answerer, mapped.answerer_port) == ("127.0.0.1", 53)
        assert conntrack.flows(filtering, family=2, protocol=6, destination_port=5353) == []
        assert conntrack.flows(filtering, family=10) == []
        assert len(conntrack.flows(filtering, family=2, answerer="127.0.0.1")) == 1
        assert len(conntrack.flows(filtering, family=2, answerer="127.0.0.9")) == 2
        conntrack.forget(filtering, [mapped])
        conntrack.forget(filtering, [mapped])  # it ended meanwhile
        left = sorted(each.destination_port for each in conntrack.flows(filtering, family=2))
        assert left == [5354, 5355]


def test_a_glance_rules_out_what_is_not_there(netns: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    routing, filtering = open_in(str(netns), ROUTE, NETFILTER)
    with routing, filtering, namespaces.inside(netns):
        batch = Batch(routing)
        batch.add(link.change("lo", up=True), address.add(1, "fd00::1:0:5/128", flags=address.NODAD))
        batch.commit()
        subprocess.run(["nft", "-f", "-"], input=RULES, text=True, check=True)
        for family, place in ((standard.AF_INET, "127.0.0.9"), (standard.AF_INET6, "fd00::1:0:5")):
            with standard.socket(family, standard.SOCK_DGRAM) as sender:
                sender.sendto(b"x", (place, 5353))
        flows = [each for family in (2, 10) for each in conntrack.flows(filtering, family=family)]
        glance = conntrack.Glance(filtering)
        for port in (53, 535, 3535, 5353, 53535):
            assert glance.may_lead_to(port) == (port == 5353)
        for place in ("127.0.0.9", "127.0.0.1", "fd00::1:0:5"):
            assert glance.may_involve(place)
        for place in ("127.0.0.90", "27.0.0.9", "fd00::1:0:50", "fd00::1"):
            assert not glance.may_involve(place)
        # Too many to be shown quickly, or a kernel that shows none: everything may be there.
        for name, value in (("_FEW", len(flows) - 1), ("_SHOWN", "/proc/nothing")):
            with monkeypatch.context() as patched:
                patched.setattr(conntrack, name, value)
                glance = conntrack.Glance(filtering)
                assert glance.may_lead_to(53535)
                assert glance.may_involve("fd00::2")


# Source and destination; who answers; protocol; ports; what else conntrack(8) wants.
MADE = [
    ("10.0.0.1", "10.0.0.2", "10.9.0.2", "udp", 1000, 53, 5353),
    ("10.0.0.1", "10.0.0.2", "10.0.0.2", "tcp", 1001, 80, 80),
    ("10.0.0.1", "10.0.0.2", "10.9.0.3", "tcp", 1002, 80, 8080),
    ("10.0.0.1", "10.0.0.2", "10.9.0.3", "sctp", 1003, 80, 8080),
    ("fd00::1", "fd00::2", "fd00:9::3", "tcp", 1004, 80, 8080),
    ("fd00::1", "fd00::2", "fd00:9::4", "udp", 1005, 53, 53),
]
STATES = {
    "tcp": ("--state", "ESTABLISHED"),
    "sctp": ("--state", "ESTABLISHED", "--orig-vtag", "1", "--reply-vtag", "2"),
}


@pytest.mark.skipif(shutil.which("conntrack") is None, reason="needs conntrack(8)")
def test_conntrack_agrees(netns: Path) -> None:
    def tool(*words: str) -> str:
        command = ["nsenter", f"--net={netns}", "conntrack", *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    for source, destination, answerer, protocol, port, asked, answering in MADE:
        tool(
            *("-I", "-p", protocol, "-t", "600", "-s", source, "-d", destination),
            *("-r", answerer, "-q", source, *STATES.get(protocol, ())),
            *("--sport", str(port), "--dport", str(asked)),
            *("--reply-port-src", str(answering), "--reply-port-dst", str(port)),
        )
    (filtering,) = open_in(str(netns), NETFILTER)
    with filtering:
        for family, mark in ((2, "."), (10, ":")):
            numbers = {"udp": 17, "tcp": 6, "sctp": 132}
            wanted = {
                (numbers[each[3]], each[1], each[5], each[2], each[6]) for each in MADE if mark in each[0]
            }
            found = conntrack.flows(filtering, family=family)
            assert wanted == {
                (each.protocol, each.destination, each.destination_port, each.answerer, each.answerer_port)
                for each in found
            }
        led = conntrack.flows(filtering, family=2, answerer="10.9.0.3")
        conntrack.forget(filtering, led)
        conntrack.forget(filtering, conntrack.flows(filtering, family=10, protocol=6, destination_port=80))
    listed = [line for family in ("ipv4", "ipv6") for line in tool("-L", "-f", family).splitlines()]
    assert sorted(int(line.split("sport=")[1].split()[0]) for line in listed) == [1000, 1001, 1005]
