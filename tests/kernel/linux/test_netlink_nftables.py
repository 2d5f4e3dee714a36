"""nftables over nfnetlink: nft(8) reads what we write, we read what it writes, transactions are atomic."""

from __future__ import annotations

import errno
import json
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from linux.netlink.nftables import expressions as x
from linux.netlink.nftables import listing
from linux.netlink.nftables import objects as o
from linux.netlink.nftables.objects import Element, Set
from linux.netlink.nftables.transaction import Transaction
from linux.netlink.socket import NETFILTER, Socket, open_in

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

T = "t"
PORTS4 = Set(o.INET, T, "ports4", ("inet_proto", "inet_service"), ("ipv4_addr", "inet_service"))
PORTS6 = Set(o.INET, T, "ports6", ("inet_proto", "inet_service"), ("ipv6_addr", "inet_service"))
VERDICTS = Set(o.INET, T, "verdicts", ("ipv4_addr",), ("verdict",))
MARKS = Set(o.INET, T, "marks", ("mark", "ifname"))
PAIRS = Set(o.BRIDGE, "m", "pairs", ("ifname", "ether_addr"))

AS_NFT_SAYS_IT = """\
table inet t {
	map ports4 {
		type inet_proto . inet_service : ipv4_addr . inet_service
		elements = { tcp . 80 comment "web" : 10.0.0.2 . 8080 }
	}

	map ports6 {
		type inet_proto . inet_service : ipv6_addr . inet_service
		elements = { udp . 53 : fd00::2 . 53 }
	}

	map verdicts {
		type ipv4_addr : verdict
		elements = { 10.0.0.2 comment "jumps" : jump net }
	}

	set marks {
		type mark . ifname
		elements = { 0x00000005 . "eth0" }
	}

	chain net {
		ip daddr 10.10.0.0/16 return
		ip daddr 224.0.0.0/4 return
		ip6 saddr != fd00::/64 return
		ip daddr 10.1.2.3 accept
		meta l4proto tcp counter packets 0 bytes 0
		masquerade fully-random comment "the last one"
	}

	chain pre {
		type nat hook prerouting priority dstnat; policy accept;
		fib daddr type local meta nfproto ipv4 dnat ip to meta l4proto . th dport map @ports4
		fib daddr type local meta nfproto ipv6 dnat ip6 to meta l4proto . th dport map @ports6
	}

	chain post {
		type nat hook postrouting priority srcnat; policy accept;
		ip saddr vmap @verdicts
		ct status dnat oifname "eth0" goto net
	}

	chain drops {
		type filter hook prerouting priority raw; policy drop;
		iifname != "lo" ip daddr 127.0.0.0/8 drop
	}
}
table bridge m {
	set pairs {
		type ifname . ether_addr
		elements = { "veth0" . 02:00:00:00:00:01 }
	}

	chain pre {
		type filter hook prerouting priority dstnat; policy accept;
		iifname . ether saddr != @pairs drop
	}
}
"""


@pytest.fixture
def kernel(netns: Path) -> Iterator[Socket]:
    (socket,) = open_in(str(netns), NETFILTER)
    with socket:
        yield socket


def nft(netns: Path, *words: str) -> str:
    command = ["nsenter", f"--net={netns}", "nft", *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def ruleset(netns: Path) -> list[Any]:
    listed = json.loads(nft(netns, "-j", "list", "ruleset"))["nftables"]
    return [each for each in listed if "metainfo" not in each]


def everything() -> Transaction:
    family, table = o.INET, T

    def rule(chain: str, *rule: bytes, comment: str = "") -> Any:
        return o.add_rule(family, table, chain, *rule, comment=comment)

    def base(chain: str, kind: str, hook: int, priority: int, *, accept: bool = True) -> Any:
        return o.add_base_chain(family, table, chain, kind=kind, hook=hook, priority=priority, accept=accept)

    leave = x.verdict(x.RETURN)
    ports = [x.load_l4_protocol(), x.load_destination_port(register=1)]
    return Transaction(
        o.add_table(family, table),
        *[o.add_set(each) for each in (PORTS4, PORTS6, VERDICTS, MARKS)],
        o.add_chain(family, table, "net"),
        rule("net", *x.is_family(2), *x.is_destination_in("10.10.0.0/16"), leave),
        rule("net", *x.is_family(2), *x.is_destination_in("224.0.0.0/4"), leave),
        rule("net", *x.is_family(10), *x.is_source_in("fd00::/64", negated=True), leave),
        rule("net", *x.is_family(2), *x.is_destination_in("10.1.2.3"), x.verdict(x.ACCEPT)),
        rule("net", *x.is_protocol(6), x.counter()),
        rule("net", x.masquerade(fully_random=True), comment="the last one"),
        base("pre", "nat", o.PREROUTING, o.DSTNAT),
        rule("pre", *x.is_to_this_host(), *x.is_family(2), *ports, x.from_map("ports4"), x.dnat(2, port=1)),
        rule("pre", *x.is_to_this_host(), *x.is_family(10), *ports, x.from_map("ports6"), x.dnat(10, port=4)),
        base("post", "nat", o.POSTROUTING, o.SRCNAT),
        rule("post", *x.is_family(2), x.load_source(2), x.verdict_from_map("verdicts")),
        rule("post", *x.is_translated_destination(), *x.is_output("eth0"), x.verdict(x.GOTO, "net")),
        base("drops", "filter", o.PREROUTING, o.RAW, accept=False),
        rule(
            "drops",
            *x.is_input("lo", negated=True),
            *x.is_family(2),
            *x.is_destination_in("127.0.0.0/8"),
            x.verdict(x.DROP),
        ),
        o.add_table(o.BRIDGE, "m"),
        o.add_set(PAIRS),
        o.add_base_chain(o.BRIDGE, "m", "pre", kind="filter", hook=o.PREROUTING, priority=-300),
        o.add_rule(
            o.BRIDGE,
            "m",
            "pre",
            x.load_input_name(),
            x.load_source_mac(register=4),
            x.in_set("pairs", negated=True),
            x.verdict(x.DROP),
        ),
        *o.add_elements(PORTS4, [Element(("tcp", 80), ("10.0.0.2", 8080), "web")]),
        *o.add_elements(PORTS6, [Element(("udp", 53), ("fd00::2", 53))]),
        *o.add_elements(VERDICTS, [Element(("10.0.0.2",), (x.JUMP, "net"), "jumps")]),
        *o.add_elements(MARKS, [Element((5, "eth0"))]),
        *o.add_elements(PAIRS, [Element(("veth0", "02:00:00:00:00:01"))]),
    )


def test_nft_reads_what_we_write(netns: Path, kernel: Socket) -> None:
    everything().commit(kernel)
    assert nft(netns, "list", "ruleset") == AS_NFT_SAYS_IT
    # And could write it itself: the two rulesets differ in nothing that nft shows, handles apart.
    ours = ruleset(netns)
    Transaction(o.delete_table(o.INET, T), o.delete_table(o.BRIDGE, "m")).commit(kernel)
    assert ruleset(netns) == []
    subprocess.run(
        ["nsenter", f"--net={netns}", "nft", "-f", "-"], input=AS_NFT_SAYS_IT, text=True, check=True
    )
    assert without_handles(ruleset(netns)) == without_handles(ours)


def without_handles(listed: list[Any]) -> list[Any]:
    for each in listed:
        for value in each.values():
            value.pop("handle", None)
    return listed


def test_we_read_what_nft_writes(netns: Path, kernel: Socket) -> None:
    subprocess.run(
        ["nsenter", f"--net={netns}", "nft", "-f", "-"], input=AS_NFT_SAYS_IT, text=True, check=True
    )
    assert listing.tables(kernel) == [(o.INET, T), (o.BRIDGE, "m")]
    assert listing.chains(kernel, o.INET, T) == ["net", "pre", "post", "drops"]
    assert listing.elements(kernel, PORTS4) == [Element((6, 80), ("10.0.0.2", 8080), "web")]
    assert listing.elements(kernel, PORTS6) == [Element((17, 53), ("fd00::2", 53))]
    assert listing.elements(kernel, VERDICTS) == [Element(("10.0.0.2",), (x.JUMP, "net"), "jumps")]
    assert listing.elements(kernel, MARKS) == [Element((5, "eth0"))]
    assert listing.elements(kernel, PAIRS) == [Element(("veth0", "02:00:00:00:00:01"))]
    assert listing.element(kernel, PORTS4, ("tcp", 80)) == Element((6, 80), ("10.0.0.2", 8080), "web")
    assert listing.element(kernel, PORTS4, ("udp", 80)) is None
    rules = listing.rules(kernel, o.INET, T, "net")
    assert [each.comment for each in rules] == ["", "", "", "", "", "the last one"]
    assert listing.uses(kernel, o.INET, T, "net") == 6 + 2  # its rules, the element, the goto
    assert listing.uses(kernel, o.INET, T) == 4 + 4
    Transaction(o.delete_rule(o.INET, T, "net", rules[-1].handle)).commit(kernel)
    assert "the last one" not in nft(netns, "list", "ruleset")
    with pytest.raises(FileNotFoundError, match="delete rule"):
        Transaction(o.delete_rule(o.INET, T, "net", rules[-1].handle)).commit(kernel)


def test_what_is_not_there_is_empty_or_none(kernel: Socket) -> None:
    assert listing.tables(kernel) == []
    assert not listing.has_table(kernel, o.INET, T)
    assert not listing.has_chain(kernel, o.INET, T, "net")
    assert listing.elements(kernel, PORTS4) == []
    assert listing.element(kernel, PORTS4, ("tcp", 80)) is None
    assert listing.rules(kernel, o.INET, T, "net") == []
    assert listing.chains(kernel, o.INET, T) == []
    assert listing.uses(kernel, o.INET, T) == 0
    Transaction().commit(kernel)


def test_a_transaction_happens_as_a_whole_or_not_at_all(netns: Path, kernel: Socket) -> None:
    everything().commit(kernel)
    before = nft(netns, "list", "ruleset")
    refused = Transaction(
        *o.add_elements(PORTS4, [Element(("tcp", 81), ("10.0.0.3", 80))]),
        *o.add_elements(PORTS4, [Element(("tcp", 80), ("10.0.0.3", 80))]),
        *o.delete_elements(VERDICTS, [Element(("10.9.9.9",))]),
    )
    with pytest.raises(FileExistsError, match=r"add element tcp \. 80 to t ports4"):
        refused.commit(kernel)
    assert nft(netns, "list", "ruleset") == before
    with pytest.raises(OSError, match="delete chain t net") as busy:
        Transaction(o.flush_chain(o.INET, T, "net"), o.delete_chain(o.INET, T, "net")).commit(kernel)
    assert busy.value.errno == errno.EBUSY
    assert nft(netns, "list", "ruleset") == before


def test_a_transaction_over_rules_that_changed_meanwhile_is_refused(netns: Path, kernel: Socket) -> None:
    generation = listing.generation(kernel)
    nft(netns, "add", "table", "inet", "other")
    with pytest.raises(OSError, match="nftables transaction") as refused:
        Transaction(o.add_table(o.INET, T)).commit(kernel, generation=generation)
    assert refused.value.errno == errno.ERESTART
    Transaction(o.add_table(o.INET, T)).commit(kernel, generation=listing.generation(kernel))
    assert listing.has_table(kernel, o.INET, T)


def test_elements_change_their_value_in_one_transaction(kernel: Socket) -> None:
    everything().commit(kernel)
    new = Element((6, 80), ("10.0.0.9", 80), "another")
    Transaction(*o.delete_elements(PORTS4, [new]), *o.add_elements(PORTS4, [new])).commit(kernel)
    assert listing.elements(kernel, PORTS4) == [new]
    Transaction(*o.delete_elements(PORTS4, [new])).commit(kernel)
    assert listing.elements(kernel, PORTS4) == []


def test_thousands_of_elements_at_once(kernel: Socket) -> None:
    everything().commit(kernel)
    many = [
        Element((17, port), ("10.0.0.2", port), f"mapping of port {port} of a container with a long name")
        for port in range(1000, 21000)
    ]
    Transaction(*o.add_elements(PORTS4, many)).commit(kernel)
    found = {each.key: each for each in listing.elements(kernel, PORTS4)}
    assert len(found) == len(many) + 1
    assert found[17, 20999] == many[-1]


def test_names_that_nft_has_no_place_for_are_refused(kernel: Socket) -> None:
    with pytest.raises(OSError, match="add table"):
        Transaction(o.add_table(o.INET, "x" * 300)).commit(kernel)
    with pytest.raises(ValueError, match="NUL"):
        o.add_table(o.INET, "a\0b")


def test_base_chains_and_what_their_policies_do(netns: Path, kernel: Socket) -> None:
    rules = """
table ip a {
	chain FORWARD { type filter hook forward priority 0; policy drop; }
	chain other {
	}
}
table inet b {
	chain in { type filter hook input priority 5; }
}
"""
    subprocess.run(["nsenter", f"--net={netns}", "nft", "-f", "-"], input=rules, text=True, check=True)
    found = {
        (each.family, each.table, each.name, each.hook, each.accepts) for each in listing.base_chains(kernel)
    }
    assert found == {
        (o.IPV4, "a", "FORWARD", o.FORWARD, False),
        (o.INET, "b", "in", o.INPUT, True),
    }
