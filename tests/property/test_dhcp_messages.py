"""DHCP from the network: any bytes are a message or a ValueError; what was encoded is read back the same."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from cni.errors import CniError
from cni.ipam.dhcp import client, frames, message, options
from cni.ipam.dhcp.message import Message

MAC = bytes.fromhex("020000000001")
codes = st.integers(1, 254).filter(lambda code: code != message.OVERLOAD)
contents = st.dictionaries(codes, st.binary(max_size=290), max_size=4)
addresses = st.binary(min_size=4, max_size=4)


def understand(read: Message) -> None:
    """All that is done with a message from the network; CniError is the only way out but the end."""
    assert isinstance(read.type, int)
    client.unusable(read)
    options.mtu(read)
    assert options.complaint(read).isprintable() or not options.complaint(read)
    try:
        result = options.result(read, 0)
    except CniError:
        return
    shown = result.to_json("1.1.0")
    for name in (*result.dns.nameservers, *result.dns.search, result.dns.domain):
        assert not set(name) & set(" \t\n\r\0;#"), shown


@given(st.binary(max_size=600))
def test_any_bytes_are_a_message_or_a_value_error(data: bytes) -> None:
    for text in (data, HEADER + data):
        try:
            read = Message.decode(text)
        except ValueError:
            continue
        understand(read)


HEADER = Message(1, MAC, {}, reply=True, yiaddr=bytes((10, 0, 0, 2))).encode()[:240]


@given(
    st.integers(0, 0xFFFFFFFF),
    contents,
    addresses,
    addresses,
    addresses,
    st.booleans(),
    st.integers(0, 99999),
)
def test_what_is_encoded_is_read_back(
    xid: int,
    values: dict[int, bytes],
    ciaddr: bytes,
    yiaddr: bytes,
    giaddr: bytes,
    flag: bool,
    secs: int,
) -> None:
    sent = Message(
        xid, MAC, values, reply=flag, broadcast=flag, ciaddr=ciaddr, yiaddr=yiaddr, giaddr=giaddr, secs=secs
    )
    read = Message.decode(sent.encode())
    assert read.options == values
    assert (read.xid, read.mac, read.ciaddr, read.yiaddr, read.giaddr) == (xid, MAC, ciaddr, yiaddr, giaddr)
    assert (read.reply, read.broadcast, read.secs) == (flag, flag, min(secs, 0xFFFF))


@given(contents, st.data())
def test_a_message_that_is_cut_or_changed_hurts_nobody(values: dict[int, bytes], data: st.DataObject) -> None:
    given = {**values, 1: bytes((255, 255, 255, 0)), 51: bytes(4), 53: b"\5", 54: bytes((10, 0, 0, 1))}
    try:
        whole = bytearray(Message(7, MAC, given, reply=True, yiaddr=bytes((10, 0, 0, 2))).encode())
    except ValueError:
        assume(False)
        raise
    for _ in range(data.draw(st.integers(0, 8))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    try:
        understand(Message.decode(bytes(whole[: data.draw(st.integers(0, len(whole)))])))
    except ValueError:
        pass


@given(st.binary(max_size=200), st.sampled_from([3, 6, 15, 33, 119, 121, 249, 26]))
def test_any_value_of_an_option_is_understood_or_refused(value: bytes, code: int) -> None:
    understand(
        Message(
            1, MAC, {1: bytes((255, 255, 0, 0)), 51: b"\0\0\1\0", code: value}, yiaddr=bytes((10, 0, 0, 2))
        )
    )


@given(st.binary(max_size=100))
def test_a_search_list_ends_whatever_it_says(data: bytes) -> None:
    for name in options.names(data):
        assert 0 < len(name) <= 253


@given(st.binary(max_size=120), st.booleans())
def test_any_frame_is_a_datagram_or_a_value_error(data: bytes, checked: bool) -> None:
    for frame in (data, ANSWER[: len(data)] + data, data[:14] + ANSWER[14:]):
        try:
            frames.decode(frame, checked=checked)
        except ValueError:
            continue


# From a server to a client: ports as the client sends them, the other way round.
_SENT = frames.encode(b"payload", MAC, frames.EVERYBODY, bytes((10, 0, 0, 1)), frames.BROADCAST)
ANSWER = _SENT[:34] + _SENT[36:38] + _SENT[34:36] + _SENT[38:]


@given(st.binary(max_size=300), addresses, addresses)
def test_frames_have_right_checksums_and_a_changed_bit_is_seen(
    payload: bytes, source: bytes, target: bytes
) -> None:
    sent = bytearray(frames.encode(payload, MAC, frames.EVERYBODY, source, target))
    sent[34:38] = sent[36:38] + sent[34:36]  # an answer: swapping the ports changes no checksum
    received = frames.decode(bytes(sent) + b"padding")
    assert (received.payload, received.mac) == (payload, MAC)
    if payload:
        sent[-1] ^= 1
        if sent[40:42] != b"\0\0":
            with pytest.raises(ValueError, match="checksum"):
                frames.decode(bytes(sent))
        assert frames.decode(bytes(sent), checked=False).payload != payload
