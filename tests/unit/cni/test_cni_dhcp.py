"""dhcp without a network: messages and options as the RFCs write them, leases' files, times, flags."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from cni.errors import INVALID_CONFIG, CniError
from cni.ipam.dhcp import client, daemon, frames, leases, message, options, protocol
from cni.ipam.dhcp.leases import Lease, Locked
from cni.ipam.dhcp.message import Message
from cni.request import Request

MAC = bytes.fromhex("020000000001")
HERE = bytes((10, 0, 0, 2))


def request(args: str = "", **ipam: Any) -> Request:
    config: dict[str, object] = {"cniVersion": "1.1.0", "name": "net1", "ipam": {"type": "dhcp", **ipam}}
    return Request("ADD", config, container_id="c1", ifname="eth0", args=args)


def answer(**more: str) -> Message:
    """An acknowledgement with options o<number>=hexadecimal."""
    values = {int(key[1:]): bytes.fromhex(value) for key, value in more.items()}
    return Message(
        1, MAC, {1: bytes((255, 255, 255, 0)), 51: b"\0\0\x0e\x10", **values}, reply=True, yiaddr=HERE
    )


def routes(**more: str) -> list[tuple[str, str, int]]:
    return [
        (str(each.dst), ".".join(map(str, each.gw or b"")), each.scope or 0)
        for each in options.result(answer(**more), 7).routes
    ]


def test_a_message_as_it_is_on_the_wire() -> None:
    sent = Message(0x01020304, MAC, {61: b"\0x", 53: b"\1"}, secs=3, broadcast=True).encode()
    assert sent[:12].hex() == "010106000102030400038000"
    assert sent[28:44] == MAC + bytes(10)
    assert sent[236:249].hex() == "63825363" + "350101" + "3d020078" + "ff00"
    assert len(sent) == 300


def test_option_overload_and_long_options() -> None:
    body = bytearray(Message(1, MAC, {}, reply=True).encode()[:240])
    body[108 : 108 + 5] = b"\x0f\x02ab\xff"  # file
    body[44 : 44 + 8] = b"\x0f\x02cd\x34\x01\x03\xff"  # sname, which says overload again
    read = Message.decode(bytes(body) + b"\x34\x01\x03\x0f\x01_\xff")
    assert read.options == {15: b"_abcd"}
    long = Message(1, MAC, {43: b"z" * 600})
    assert Message.decode(long.encode()).options == {43: b"z" * 600}
    with pytest.raises(ValueError, match="at most 1472"):
        Message(1, MAC, {43: b"z" * 1400}).encode()


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:239],
        lambda data: data[:236] + b"abcd" + data[240:],
        lambda data: b"\3" + data[1:],
        lambda data: data[:2] + b"\x10" + data[3:],
        lambda data: data[:240] + b"\x35",
        lambda data: data[:240] + b"\x35\x09\x05",
    ],
)
def test_what_is_no_message(damage: Any) -> None:
    with pytest.raises(ValueError, match="DHCP message"):
        Message.decode(damage(Message(1, MAC, {53: b"\5"}, reply=True).encode()))


def test_the_default_wishes_and_the_reference_s_client_id() -> None:
    wishes = options.read(request())
    assert wishes.provided == {61: b"\0c1/net1/eth0"}
    assert wishes.requested[:2] == (message.SUBNET_MASK, message.CLASSLESS_ROUTE)
    assert wishes.priority == 0
    assert len(options.client_id("c" * 300, "n", "eth0")) == 255


def test_names_numbers_and_arguments_as_options() -> None:
    provide = [
        {"option": "host-name", "value": "a", "fromArg": "K8S_POD_NAME"},
        {"option": "user-class", "value": "u"},
        {"option": "251", "fromArg": "NOBODY"},
    ]
    wishes = options.read(request("K8S_POD_NAME=web", provide=provide, request=[{"option": "42"}]))
    assert wishes.provided == {61: b"\0c1/net1/eth0", 12: b"web", 77: b"u"}
    assert wishes.requested[0] == 42
    assert message.ROUTER in wishes.requested
    only = options.read(request(request=[{"option": "routers", "skipDefault": True}]))
    assert only.requested == (3, 51, 54, 58, 59)


@pytest.mark.parametrize(
    ("ipam", "said"),
    [
        ({"provide": [{"option": "colour", "value": "x"}]}, "neither a number"),
        ({"provide": [{"option": "256", "value": "x"}]}, "neither a number"),
        ({"provide": [{"option": "12", "value": "x" * 256}]}, "too long"),
        ({"provide": [{"option": "53", "value": "x"}]}, "cannot be provided"),
        ({"request": ["routers"]}, "not a JSON object"),
        ({"priority": -1}, "not between"),
    ],
)
def test_wishes_that_cannot_be(ipam: dict[str, Any], said: str) -> None:
    with pytest.raises((CniError, ValueError), match=said):
        options.read(request(**ipam))


def test_routes_classless_before_classful_before_the_router() -> None:
    router, classful = "0a000001", "0a5901010a000009c0a801010a000009000000000a000009"
    assert routes(o3=router) == [("0.0.0.0/0", "10.0.0.1", 0)]
    assert routes(o3=router, o33=classful) == [
        ("10.0.0.0/8", "10.0.0.9", 0),
        ("192.168.1.0/24", "10.0.0.9", 0),
        ("0.0.0.0/0", "10.0.0.1", 0),
    ]
    classless = "100a580a000009000a00000120c0a8010100000000"
    expected = [("10.88.0.0/16", "10.0.0.9", 0), ("0.0.0.0/0", "10.0.0.1", 0), ("192.168.1.1/32", "", 253)]
    assert routes(o3=router, o33=classful, o121=classless) == expected
    assert routes(o249=classless) == expected
    for damaged in ("210a0000010a000001", "180a0000", "18"):
        with pytest.raises(CniError, match="damaged"):
            routes(o121=damaged)
    assert options.result(answer(o3=router), 7).routes[0].priority == 7


def test_a_gateway_and_servers_that_are_no_hosts_are_left_out() -> None:
    given = options.result(answer(o3="7f000001", o6="000000000a000005e0000001"), 0)
    assert given.ips[0].gateway is None
    assert given.routes == ()
    assert given.dns.nameservers == ("10.0.0.5",)


@pytest.mark.parametrize(("mask", "said"), [("", "Subnet Mask not found"), ("ff00ff00", "no subnet mask")])
def test_a_mask_is_needed(mask: str, said: str) -> None:
    with pytest.raises(CniError, match=said) as refused:
        options.result(answer(o1=mask), 0)
    assert refused.value.code == INVALID_CONFIG


def test_names_of_a_server_cannot_write_other_lines_of_resolv_conf() -> None:
    given = options.result(answer(o15=b"a.example\nnameserver 6.6.6.6".hex()), 0)
    assert given.dns.domain == ""
    search = b"\1a\7example\0\1b\xc0\2\3\n.x\0\xc0\x0b"
    assert options.names(search) == [b"a.example", b"b.example", b"b.example"]
    assert options.names(b"\xc0\0") == []
    assert options.names(b"\1a\xc0\2") == []


def test_an_mtu_that_no_network_has_is_passed_over() -> None:
    assert options.mtu(answer(o26="0578")) == 1400
    assert [options.mtu(answer(o26=value)) for value in ("0044", "00", "", "000578")] == [0, 0, 0, 0]


def lease(**times: int) -> Lease:
    made = Lease("net1", "c1", "eth0", mac=MAC, wishes=options.read(request()))
    made.netns, made.inode, made.socket = "/proc/self/ns/net", os.stat("/proc/self/ns/net").st_ino, "/run/s"
    made.address = HERE
    values = {
        f"o{code}": f"{times[key]:08x}"
        for code, key in ((51, "lease"), (58, "t1"), (59, "t2"))
        if key in times
    }
    reply = answer(o54="0a000001", **values)
    made.answer = reply.encode()
    client.bind(made, reply, MAC, 1000.0)
    return made


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ({"lease": 800}, (1400, 1700, 1800)),
        ({"lease": 800, "t1": 100, "t2": 200}, (1100, 1200, 1800)),
        ({"lease": 800, "t1": 900, "t2": 200}, (1200, 1200, 1800)),  # nonsense: not after the next
        ({"lease": 800, "t1": 0, "t2": 9999}, (1400, 1700, 1800)),
        ({"lease": 1}, (1000, 1000, 1001)),
    ],
)
def test_times_of_a_lease(times: dict[str, int], expected: tuple[int, int, int]) -> None:
    made = lease(**times)
    assert (made.renew_at, made.rebind_at, made.expires) == expected


def test_a_lease_without_end() -> None:
    assert lease(lease=leases.FOREVER).expires is None


def test_only_the_answer_to_the_question_is_believed() -> None:
    made = lease()
    good: dict[str, Any] = {"xid": 5, "mac": MAC, "options": {53: b"\5", 54: bytes((10, 0, 0, 1))}}

    def believed(**change: Any) -> bool:
        values = {**good, "reply": True, **change}
        return client.is_answer(Message(**values), made, 5)

    assert believed()
    assert believed(options={**good["options"], 61: b"\0c1/net1/eth0"})
    for change in (
        {"xid": 6},
        {"mac": bytes(6)},
        {"reply": False},
        {"options": {53: b"\5"}},
        {"options": {53: b"\1", 54: bytes(4)}},
        {"options": {**good["options"], 61: b"another"}},
    ):
        assert not believed(**change)


def test_offers_that_are_no_use() -> None:
    assert client.unusable(answer()) == ""
    assert "lease time" in client.unusable(answer(o51="00000000"))
    assert "not an address for a host" in client.unusable(Message(1, MAC, {}, yiaddr=bytes((224, 0, 0, 1))))


def test_a_lease_is_a_durable_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "DIRECTORY", str(tmp_path / "dhcp"))
    made = lease(lease=800)
    made.routes = [{"destination": "0.0.0.0/0", "gateway": "10.0.0.1"}]
    with Locked() as held:
        assert held.load(made.name) is None
        assert list(held.every()) == []
    with Locked(create=True) as held:
        held.save(made)
        again = held.load(made.name)
        assert again is not None
        assert again.encode() == made.encode()
        assert again.netns_lives()
        assert held.load("../x") is None
    assert (tmp_path / "dhcp").stat().st_mode & 0o777 == 0o700
    (tmp_path / "dhcp/empty:c:eth0.json").write_text("")
    from cni import state

    other = tmp_path / "boot"
    other.write_text("another")
    monkeypatch.setattr(state, "BOOT_ID", str(other))
    with Locked() as held:
        assert held.load(made.name) is None
        assert list(held.every()) == []
    assert os.listdir(tmp_path / "dhcp") == []


def test_names_of_files_do_not_run_together() -> None:
    assert leases.file_name("a-b", "c", "eth0") != leases.file_name("a", "b-c", "eth0")
    assert len(leases.file_name("n" * 200, "c" * 200, "e" * 15)) < 200


def test_pauses_double_up_to_the_longest_and_differ() -> None:
    found = client.pauses(3.0, 1.0)
    for expected in (1, 2, 3, 3):
        assert expected * 0.79 <= next(found) <= expected * 1.21
    assert len({client.jitter(1.0) for _ in range(50)}) > 10


def test_the_flags_of_the_daemon() -> None:
    given = [
        "-socketpath",
        "/s",
        "--pidfile=/p",
        "-hostprefix=/host",
        "-timeout",
        "500ms",
        "-resendmax=1m30s",
    ]
    parsed = daemon.parse([*given, "-broadcast", "-resendtimeout", "1.5h"])
    assert (parsed.socketpath, parsed.pidfile, parsed.hostprefix) == ("/s", "/p", "/host")
    settings = parsed.settings
    assert (settings.timeout, settings.resend_max, settings.resend_timeout) == (0.5, 90, 5400)
    assert settings.broadcast
    assert not daemon.parse(["-broadcast=false"]).settings.broadcast
    default = daemon.parse([]).settings
    assert (default.timeout, default.resend_max, default.resend_timeout) == (10, 62, 208)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["-colour"], "no flag -colour"),
        (["x"], "unexpected argument"),
        (["-timeout"], "needs a value"),
        (["-timeout", "10"], "not a time"),
        (["-timeout", "0s"], "between"),
        (["-broadcast=maybe"], "neither true nor false"),
        (["-socketpath="], "is empty"),
    ],
)
def test_a_command_line_that_makes_no_sense(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert daemon.main(["daemon", *arguments]) == 2
    shown = capsys.readouterr().err
    assert said in shown
    assert "--help" in shown


def test_help_is_asked_for_or_given(capsys: pytest.CaptureFixture[str]) -> None:
    assert daemon.main(["daemon", "--help"]) == 0
    assert "example:" in capsys.readouterr().out
    assert daemon.main([]) == 2


@pytest.mark.parametrize(
    "line", [b"", b"{}", b"[]", b'{"version":1,"method":"x"}', b'{"version":2}', b"\xff"]
)
def test_questions_that_the_daemon_does_not_know(line: bytes) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        protocol.read_call(line)


def test_frames_go_from_and_to_whom_they_say() -> None:
    frame = frames.encode(b"hello", MAC, b"\4" * 6, HERE, bytes((10, 0, 0, 1)))
    assert frame[:14] == b"\4" * 6 + MAC + b"\x08\x00"
    assert frame[26:34] == HERE + bytes((10, 0, 0, 1))
    assert frame[34:38].hex() == "00440043"
    with pytest.raises(ValueError, match="from a DHCP server"):
        frames.decode(frame)  # from a client to a server: not for us
