"""The client's side of DHCP, RFC 2131: which message to send when, and which answers to believe.

Everything goes over packet sockets: a lease is asked for before there is an address, and given back when the
interface may have lost it.
"""

from __future__ import annotations

import os
from time import monotonic, sleep

from cni.errors import TRY_AGAIN_LATER, CniError
from cni.ipam.dhcp import leases, message, options
from cni.ipam.dhcp.message import Message
from cni.types.address import format_ip

TYPE_CHECKING = False  # not from typing: a plugin lives too short to import it
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Final

    from cni.ipam.dhcp.frames import Channel, Received
    from cni.ipam.dhcp.leases import Lease

_FIRST_PAUSE = 0.25  # seconds; the RFC's 4 are meant for networks of a hundred hosts that boot at once
_LARGEST_MESSAGE = 1472  # bytes of UDP payload that are read, told to the server
_JITTER = 0.2


class Settings:
    """How patient a client is, in seconds.

    `timeout`: what a server has to acknowledge what it offered; `resend_max`: the longest pause between two
    transmissions; `resend_timeout`: when asking for a lease is given up. `broadcast`: servers shall answer
    to everybody, for networks that do not deliver to a host that has no address.
    """

    __slots__ = ("broadcast", "resend_max", "resend_timeout", "timeout")

    def __init__(
        self,
        *,
        timeout: float = 10.0,
        resend_max: float = 62.0,
        resend_timeout: float = 208.0,
        broadcast: bool = False,
    ) -> None:
        self.timeout: Final = timeout
        self.resend_max: Final = resend_max
        self.resend_timeout: Final = resend_timeout
        self.broadcast: Final = broadcast


def acquire(lease: Lease, channel: Channel, settings: Settings, save: Callable[[], object]) -> None:
    """Ask for a lease until there is one: `lease` is then bound.

    `save` is called before a server is asked to commit itself. CniError 11 when none did in time.
    """
    started = monotonic()
    give_up = started + settings.resend_timeout
    told = "no DHCP server answered"
    for pause in pauses(settings.resend_max):
        xid = new_xid()

        def offers(reply: Message, xid: int = xid) -> bool:
            nonlocal told
            if not is_answer(reply, lease, xid) or reply.type != message.OFFER:
                return False
            problem = unusable(reply)
            if problem:
                told = f"the offer of the DHCP server {_server(reply)} is no use: {problem}"
            return not problem

        def discover(secs: int, xid: int = xid) -> bytes:
            return _compose(lease, message.DISCOVER, xid, secs, settings).encode()

        found = _exchange(channel, discover, offers, started, give_up, settings)
        if found is None:
            break
        offer, sender = found
        lease.address = offer.yiaddr
        lease.server = offer.address(message.SERVER_ID)
        lease.server_mac = sender
        save()
        told = _commit(lease, channel, settings, xid, started)
        if not told:
            return
        lease.address = b""
        if monotonic() + pause > give_up:
            break
        sleep(pause)
    raise CniError(
        TRY_AGAIN_LATER, f"cannot get a lease for {lease.ifname}", f"{told}, in {monotonic() - started:.0f} s"
    )


def _commit(lease: Lease, channel: Channel, settings: Settings, xid: int, started: float) -> str:
    """Ask for the offered address: "" when the lease is bound, else what went wrong."""
    asked_at = leases.now()

    def verdict(reply: Message) -> bool:
        if not is_answer(reply, lease, xid) or reply.address(message.SERVER_ID) != lease.server:
            return False
        return reply.type == message.NAK or (
            reply.type == message.ACK and reply.yiaddr == lease.address and not unusable(reply)
        )

    def request(secs: int) -> bytes:
        nonlocal asked_at
        asked_at = leases.now()
        extra = {message.REQUESTED_ADDRESS: lease.address, message.SERVER_ID: lease.server}
        return _compose(lease, message.REQUEST, xid, secs, settings, extra).encode()

    found = _exchange(channel, request, verdict, started, monotonic() + settings.timeout, settings)
    if found is None:
        return f"the DHCP server {format_ip(lease.server)} did not acknowledge its offer"
    reply, sender = found
    if reply.type == message.NAK:
        return f"the DHCP server {format_ip(lease.server)} refused: {options.complaint(reply) or 'no reason'}"
    lease.answer = reply.encode()
    bind(lease, reply, sender, asked_at)
    return ""


def bind(lease: Lease, reply: Message, sender: bytes, asked_at: float) -> None:
    """Take over the times of an acknowledgement; they count from when it was asked for (RFC 2131 4.4.1)."""
    lease.state = leases.BOUND
    lease.server = reply.address(message.SERVER_ID)
    lease.server_mac = sender
    duration = reply.number(message.LEASE_TIME) or 0
    if duration == leases.FOREVER:
        lease.expires = None
        lease.renew_at = lease.rebind_at = asked_at
        return
    renew = reply.number(message.RENEWAL_TIME) or 0
    rebind = reply.number(message.REBINDING_TIME) or 0
    if not 0 < rebind < duration:
        rebind = duration * 7 // 8
    if not 0 < renew < rebind:
        renew = min(duration // 2, rebind)
    lease.renew_at = asked_at + renew
    lease.rebind_at = asked_at + rebind
    lease.expires = asked_at + duration


def renewal(lease: Lease, xid: int, secs: int, settings: Settings) -> bytes:
    """RENEWING and REBINDING: the same message, to the server or to everybody."""
    return _compose(lease, message.REQUEST, xid, secs, settings, ciaddr=lease.address).encode()


def reboot(lease: Lease, xid: int, secs: int, settings: Settings) -> bytes:
    """INIT-REBOOT: whether the address that was lost may be used again."""
    extra = {message.REQUESTED_ADDRESS: lease.address}
    return _compose(lease, message.REQUEST, xid, secs, settings, extra).encode()


def release(lease: Lease) -> bytes:
    """Give the address back. Nobody answers that."""
    options = {
        message.MESSAGE_TYPE: bytes((message.RELEASE,)),
        message.SERVER_ID: lease.server,
        message.CLIENT_ID: lease.provided.get(message.CLIENT_ID, b""),
    }
    return Message(new_xid(), lease.mac, options, ciaddr=lease.address).encode()


def decline(lease: Lease) -> bytes:
    """Tell the server that somebody else has the address."""
    options = {
        message.MESSAGE_TYPE: bytes((message.DECLINE,)),
        message.SERVER_ID: lease.server,
        message.REQUESTED_ADDRESS: lease.address,
        message.CLIENT_ID: lease.provided.get(message.CLIENT_ID, b""),
        message.MESSAGE: b"the address is in use",
    }
    return Message(new_xid(), lease.mac, options).encode()


def is_answer(reply: Message, lease: Lease, xid: int) -> bool:
    """Whether a message is a server's answer to this very question of this client."""
    return (
        reply.reply
        and reply.xid == xid
        and reply.mac == lease.mac
        and reply.type in (message.OFFER, message.ACK, message.NAK)
        and len(reply.options.get(message.SERVER_ID, b"")) == 4
        and reply.options.get(message.CLIENT_ID, lease.provided.get(message.CLIENT_ID))
        == lease.provided.get(message.CLIENT_ID)
    )


def unusable(reply: Message) -> str:
    """Why an offer or an acknowledgement cannot be used; "" when it can."""
    address = reply.yiaddr
    if not options.is_usable(address):
        return f"{format_ip(address)} is not an address for a host"
    if not reply.number(message.LEASE_TIME):
        return "it has no lease time"
    try:
        options.result(reply, 0)
    except CniError as bad:
        return str(bad)
    return ""


def read(received: Received) -> Message | None:
    """The message in a frame; None when it is none."""
    try:
        return Message.decode(received.payload)
    except ValueError:
        return None


def pauses(longest: float, first: float = _FIRST_PAUSE) -> Iterator[float]:
    """Seconds between transmissions, doubling, each a little off so that clients do not keep step."""
    pause = first
    while True:
        yield jitter(min(pause, longest))
        pause = min(pause * 2, longest)


def jitter(seconds: float) -> float:
    """`seconds`, at most a fifth more or less."""
    return seconds * (1 - _JITTER + 2 * _JITTER * int.from_bytes(os.urandom(2), "big") / 0xFFFF)


def new_xid() -> int:
    """A transaction that nobody can guess who does not hear the question."""
    return int.from_bytes(os.urandom(4), "big")


def _exchange(
    channel: Channel,
    question: Callable[[int], bytes],
    wanted: Callable[[Message], bool],
    started: float,
    deadline: float,
    settings: Settings,
) -> tuple[Message, bytes] | None:
    """Ask until there is an answer that is wanted, and whose hardware address; None when there was none."""
    for pause in pauses(settings.resend_max):
        channel.send(question(int(monotonic() - started)))
        until = min(monotonic() + pause, deadline)
        while (received := channel.receive(until)) is not None:
            reply = read(received)
            if reply is not None and wanted(reply):
                return reply, received.mac
        if monotonic() >= deadline:
            return None
    return None


def _compose(
    lease: Lease,
    kind: int,
    xid: int,
    secs: int,
    settings: Settings,
    extra: dict[int, bytes] | None = None,
    *,
    ciaddr: bytes = message.NOWHERE,
) -> Message:
    said = {
        **lease.provided,
        **(extra or {}),
        message.MESSAGE_TYPE: bytes((kind,)),
        message.LARGEST_MESSAGE: _LARGEST_MESSAGE.to_bytes(2, "big"),
        message.PARAMETER_LIST: bytes(_fitting(lease.requested)),
    }
    broadcast = settings.broadcast and ciaddr == message.NOWHERE
    return Message(xid, lease.mac, said, secs=secs, ciaddr=ciaddr, broadcast=broadcast)


def _fitting(requested: Sequence[int]) -> list[int]:
    return [code for code in requested if 0 < code < 255]


def _server(reply: Message) -> str:
    return format_ip(reply.address(message.SERVER_ID))
