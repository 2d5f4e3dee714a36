"""Tracked connections: found by port and by answerer, forgotten by choice."""

from __future__ import annotations

import socket as standard
import subprocess
from typing import TYPE_CHECKING

from linux import namespaces
from linux.netlink import conntrack, link
from linux.netlink.batch import Batch
from linux.netlink.socket import NETFILTER, ROUTE, open_in

if TYPE_CHECKING:
    from pathlib import Path

RULES = """\
table inet t {
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
            sender = standard.socket(standard.AF_INET, standard.SOCK_DGRAM)
        with sender:
            for port in (5353, 5354, 5355):
                sender.sendto(b"x", ("127.0.0.9", port))
        assert len(conntrack.flows(filtering, family=2)) == 3
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
