"""Netlink's wire format: what is built is what the kernel's header says, and bad input is refused."""

from __future__ import annotations

import struct
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from linux.netlink import link, wire
from linux.netlink.nftables import objects, types

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def test_attributes_are_padded_and_come_back() -> None:
    data = wire.text(3, "br0") + wire.u8(5, 7) + wire.nested(9, wire.u32(1, 42), wire.be16(2, 80))
    assert len(data) % 4 == 0
    assert data[:12] == struct.pack("=HH", 8, 3) + b"br0\0" + struct.pack("=HH", 5, 5)
    found = wire.parse(data)
    assert wire.read_text(found[3]) == "br0"
    assert found[5] == b"\7"
    inner = wire.parse(found[9])
    assert (wire.read_u32(inner[1]), wire.read_be16(inner[2])) == (42, 80)


def test_cve_2021_43784_a_length_that_does_not_fit_is_an_error_and_not_cut() -> None:
    assert len(wire.attribute(1, bytes(0xFFFF - 4))) == 0x10000
    with pytest.raises(ValueError, match="too long"):
        wire.attribute(1, bytes(0xFFFF - 3))
    with pytest.raises(ValueError, match="too long"):
        wire.nested(1, *[wire.attribute(1, bytes(40000))] * 2)


def test_a_nul_in_a_string_and_numbers_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="NUL"):
        wire.text(3, "eth0\0rest")
    for build, number in ((wire.u8, 256), (wire.u32, -1), (wire.be16, 65536), (wire.be64, 1 << 64)):
        with pytest.raises(ValueError, match="does not fit"):
            build(1, number)


@pytest.mark.parametrize(
    "data",
    [
        struct.pack("=HH", 3, 1) + b"\0\0\0\0",  # shorter than its own header
        struct.pack("=HH", 64, 1) + b"\0\0\0\0",  # longer than what is there
    ],
)
def test_attributes_with_an_impossible_length_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="attribute of"):
        wire.parse(data)


@pytest.mark.parametrize("length", [0, 15, 17, 1 << 31])
def test_messages_with_an_impossible_length_are_refused(length: int) -> None:
    with pytest.raises(ValueError, match="message of"):
        list(wire.messages(struct.pack("=IHHII", length, 16, 0, 1, 0)))


def test_several_messages_of_one_datagram() -> None:
    one = wire.encode(wire.Request(16, 0, b"abcde", "one"), 7, wire.ACK)
    two = wire.encode(wire.Request(20, wire.CREATE, b"", "two"), 8)
    assert len(one) == 24
    found = list(wire.messages(one + two))
    assert [(each.kind, each.sequence, each.body) for each in found] == [(16, 7, b"abcde"), (20, 8, b"")]
    assert found[0].flags == wire.REQUEST | wire.ACK


@pytest.mark.parametrize(
    "text", ["", "10.0.0.0/33", "10.0.0.0/-1", "10.0.0.0/٣", "10.0.0.0/", "::/129", "ten", "1.2.3/8"]
)
def test_what_is_no_network_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not"):
        wire.pack_network(text)


def test_networks() -> None:
    assert wire.pack_network("10.1.2.3/16") == (2, bytes([10, 1, 2, 3]), 16)
    assert wire.pack_network("fd00::1") == (10, bytes.fromhex("fd000000000000000000000000000001"), 128)


@pytest.mark.parametrize(
    "text", ["", "02:00:00:00:00", "2:0:0:0:0:1", "02:00:00:00:00:0g", "020000000001", "02:00:00:00:00:01:02"]
)
def test_what_is_no_mac_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a MAC address"):
        wire.pack_mac(text)
    assert wire.read_mac(wire.pack_mac("02:00:00:00:00:FF")) == "02:00:00:00:00:ff"


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a:b", "a b", "a\0", "sixteen-bytes-xx", "é" * 8])
def test_what_cannot_name_a_link_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="is not a name"):
        link.check_name(name)
    assert link.check_name("fifteen-bytes-x") == "fifteen-bytes-x"


@pytest.mark.parametrize(
    ("fields", "values"),
    [
        (["ipv4_addr"], ["fd00::1"]),
        (["ipv6_addr"], ["10.0.0.1"]),
        (["inet_service"], [65536]),
        (["inet_service"], ["http"]),
        (["inet_proto"], ["nonsense"]),
        (["ifname"], ["sixteen-bytes-xx"]),
        (["ether_addr"], ["10.0.0.1"]),
        (["ipv4_addr", "inet_service"], ["10.0.0.1"]),
    ],
)
def test_a_value_that_is_not_of_its_sets_type_is_refused(
    fields: Sequence[str], values: Sequence[str | int]
) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  the messages differ, the kind is what counts
        types.pack(fields, values)


def test_concatenated_keys_fill_whole_registers() -> None:
    fields = ("inet_proto", "inet_service", "ipv4_addr", "ether_addr", "ifname")
    raw = types.pack(fields, ("tcp", 80, "10.0.0.2", "02:00:00:00:00:01", "eth0"))
    assert len(raw) == types.length(fields) == 4 + 4 + 4 + 8 + 16
    assert raw[:12] == bytes([6, 0, 0, 0, 0, 80, 0, 0, 10, 0, 0, 2])
    assert types.unpack(fields, raw) == (6, 80, "10.0.0.2", "02:00:00:00:00:01", "eth0")


def test_comments_have_the_limits_of_nft() -> None:
    assert objects.read_comment(objects.pack_comment("x" * 127)) == "x" * 127
    for comment in ("x" * 128, "a\0b"):
        with pytest.raises(ValueError, match="comment"):
            objects.pack_comment(comment)
    assert objects.read_comment(b"\5\2ab" + objects.pack_comment("after another")) == "after another"
    assert objects.read_comment(b"") == ""


def test_nothing_heavy_is_imported(checkout: Path) -> None:
    """A CNI plugin pays for each of these at every call."""
    modules = ["wire", "socket", "batch", "link", "address", "route", "rule", "neighbour", "conntrack"]
    names = [f"linux.netlink.{each}" for each in modules]
    names += [
        f"linux.netlink.nftables.{each}" for each in ("objects", "expressions", "listing", "transaction")
    ]
    program = f"import sys; sys.path.insert(0, {str(checkout / 'src')!r})\n"
    program += "".join(f"import {name}\n" for name in names)
    program += "print(*sys.modules)"
    answer = subprocess.run(
        [sys.executable, "-I", "-S", "-c", program], check=True, capture_output=True, text=True
    )
    heavy = {"socket", "ctypes", "typing", "enum", "re", "json", "ipaddress", "subprocess", "collections"}
    assert heavy & set(answer.stdout.split()) == set()
