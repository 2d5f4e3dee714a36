"""Whether somebody on the network has an address already: ARP probes, RFC 5227.

Only when a configuration asks for it, as it takes the better part of a second. The RFC's own times add up to
several; they are for networks that are slower than any that containers are on.
"""

from __future__ import annotations

import struct
from time import monotonic

from cni.ipam.dhcp.frames import EVERYBODY, NOBODY
from linux.bare import socket
from linux.namespaces import inside

_ARP = 0x0806
_FORM = struct.Struct("!6s6sHHHBBH6s4s6s4s")
_ETHERNET, _IPV4 = 1, 0x0800
_ASKS = 1
_PROBES = 3
_PAUSE = 0.25  # seconds to wait for an answer to each


def owner(netns: str, index: int, mac: bytes, address: bytes) -> bytes:
    """The hardware address of somebody else who has, or is about to take, the address; b"" for nobody.

    Asked on the interface `index` of the namespace at the path `netns`, whose hardware address is `mac`.
    """
    import select

    with inside(netns):
        channel = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
        try:
            channel.setblocking(False)  # noqa: FBT003
            channel.bind((socket.if_indextoname(index), _ARP))
        except BaseException:
            channel.close()
            raise
    try:
        poll = select.poll()
        poll.register(channel.fileno(), select.POLLIN)
        for _ in range(_PROBES):
            channel.send(probe(mac, address))
            end = monotonic() + _PAUSE
            while (left := end - monotonic()) > 0:
                if poll.poll(left * 1000):
                    found = claim(channel.recv(_FORM.size), mac, address)
                    if found:
                        return found
    finally:
        channel.close()
    return b""


def probe(mac: bytes, address: bytes) -> bytes:
    """The question who has the address, from somebody who has none."""
    return _FORM.pack(EVERYBODY, mac, _ARP, _ETHERNET, _IPV4, 6, 4, _ASKS, mac, NOBODY, bytes(6), address)


def claim(frame: bytes, mac: bytes, address: bytes) -> bytes:
    """Who claims the address in this frame, b"" for nobody: its user, or another one who probes for it."""
    if len(frame) < _FORM.size:
        return b""
    _, _, kind, hardware, protocol, long, short, _, sender, source, _, target = _FORM.unpack_from(frame)
    if (kind, hardware, protocol, long, short) != (_ARP, _ETHERNET, _IPV4, 6, 4) or sender == mac:
        return b""
    if source == address or (source == NOBODY and target == address):
        return bytes(sender)
    return b""
