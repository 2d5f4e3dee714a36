"""Traffic control: queueing disciplines, classes and filters, as far as limiting the rate of a link needs.

Source: include/uapi/linux/pkt_sched.h and pkt_cls.h, tc(8), tc-tbf(8), tc-htb(8), tc-u32(8). Links are named
by their index, rates are in bytes per second, bursts and limits in bytes. A kernel is built with or without
each discipline, classifier and action: ENOENT is what it says of one that it does not have.
"""

from __future__ import annotations

import errno
import sys
from struct import Struct

from linux.netlink import wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from linux.netlink.socket import Socket

# Where a discipline or filter is attached (TC_H_*); others are handles of disciplines and classes.
ROOT = 0xFFFFFFFF
INGRESS = 0xFFFFFFF1
# The filters of a link's received packets, under whichever discipline is there (ingress or clsact).
INGRESS_FILTERS = 0xFFFFFFF2

_NEW_QDISC, _DELETE_QDISC, _GET_QDISC = 36, 37, 38
_NEW_CLASS, _GET_CLASS = 40, 42
_NEW_FILTER, _DELETE_FILTER, _GET_FILTER = 44, 45, 46

_HEADER = Struct("=BxxxiIII")
_KIND, _OPTIONS = 1, 2
# struct tc_ratespec: cell_log, linklayer, overhead, cell_align, mpu, rate
_RATE = Struct("=BBHhHI")
_ETHERNET = 1
_TBF_NUMBERS = Struct("=III")
_TBF_PARAMETERS, _TBF_RATE64, _TBF_BURST = 1, 4, 6
_HTB_GLOBAL = Struct("=IIIII")
_HTB_CLASS_NUMBERS = Struct("=IIIII")
_HTB_PARAMETERS, _HTB_INIT, _HTB_DIRECT_QUEUE, _HTB_RATE64, _HTB_CEIL64 = 1, 2, 5, 6, 7
_HTB_VERSION, _HTB_RATE_TO_QUANTUM = 3, 10
_U32_CLASS, _U32_SELECTOR, _U32_ACTION = 1, 5, 7
_SELECTOR = Struct("=BBBxHHhhI")
_KEY = Struct("!II")
_KEY_OFFSET = Struct("=ii")
_TERMINAL = 1
_ACTION_KIND, _ACTION_OPTIONS = 1, 2
_MIRRED = Struct("=IIiiiiI")
_MIRRED_PARAMETERS = 2
_REDIRECT, _STOLEN = 1, 4

_ALL, _IPV4, _IPV6 = 0x0003, 0x0800, 0x86DD
_LARGEST = (1 << 32) - 1
_DIRECT_PACKETS = 1000
_QUANTUM = (1514, 60_000)  # bytes that a class may send at a time, at least and at most


class Qdisc:
    """One queueing discipline; `rate`, `buffer` (ticks of 64 ns) and `limit` are those of a tbf, else 0."""

    __slots__ = ("buffer", "handle", "index", "kind", "limit", "parent", "rate")

    def __init__(self, body: bytes) -> None:
        _, self.index, self.handle, self.parent, _ = _HEADER.unpack_from(body)
        found = wire.parse(body, _HEADER.size)
        self.kind = wire.read_text(found[_KIND])
        self.rate = self.limit = self.buffer = 0
        if self.kind == "tbf":
            options = wire.parse(found[_OPTIONS])
            parameters = options[_TBF_PARAMETERS]
            self.rate = _RATE.unpack_from(parameters)[-1]
            self.limit, self.buffer, _ = _TBF_NUMBERS.unpack_from(parameters, 2 * _RATE.size)
            if _TBF_RATE64 in options:
                self.rate = wire.read_u64(options[_TBF_RATE64])


class Class:
    """One class; `rate` is what a htb lets it have, else 0."""

    __slots__ = ("handle", "rate")

    def __init__(self, body: bytes) -> None:
        _, _, self.handle, _, _ = _HEADER.unpack_from(body)
        found = wire.parse(body, _HEADER.size)
        options = wire.parse(found.get(_OPTIONS, b"")) if wire.read_text(found[_KIND]) == "htb" else {}
        parameters = options.get(_HTB_PARAMETERS)
        self.rate = 0 if parameters is None else _RATE.unpack_from(parameters)[-1]
        if _HTB_RATE64 in options:
            self.rate = wire.read_u64(options[_HTB_RATE64])


class Filter:
    """One filter. `redirect` is the link it sends packets to, `flow` the class it puts them in, or 0."""

    __slots__ = ("flow", "kind", "parent", "priority", "redirect")

    def __init__(self, body: bytes) -> None:
        _, _, _, self.parent, info = _HEADER.unpack_from(body)
        self.priority = info >> 16
        found = wire.parse(body, _HEADER.size)
        self.kind = wire.read_text(found[_KIND])
        options = wire.parse(found.get(_OPTIONS, b"")) if self.kind == "u32" else {}
        self.flow = wire.read_u32(options[_U32_CLASS]) if _U32_CLASS in options else 0
        self.redirect = 0
        for _, action in wire.attributes(options.get(_U32_ACTION, b"")):
            parts = wire.parse(action)
            if wire.read_text(parts[_ACTION_KIND]) == "mirred":
                inner = wire.parse(parts[_ACTION_OPTIONS])
                *_, self.redirect = _MIRRED.unpack_from(inner[_MIRRED_PARAMETERS])


def handle(major: int, minor: int = 0) -> int:
    """``1:2`` of tc(8) as a number; a discipline's has the minor 0."""
    return major << 16 | minor


def ticks(burst: int, rate: int) -> int:
    """How long `burst` bytes last at `rate`, in the kernel's ticks of 64 ns, by way of whole microseconds.

    That is how others count, who may compare it with what they find.
    """
    return burst * 1_000_000 // rate * 1000 // 64


def add_tbf(index: int, *, rate: int, burst: int, limit: int, at: int = ROOT, named: int = 0) -> wire.Request:
    """A token bucket: `rate` bytes a second, `burst` at once, `limit` waiting; then packets are dropped.

    `named` is its handle. EEXIST when somebody has put another discipline there. Packets longer than the
    burst are dropped, if they cannot be cut: it has to hold at least one.
    """
    buffer = ticks(burst, rate)
    numbers = wire.pack(_TBF_NUMBERS, min(limit, _LARGEST), min(buffer, _LARGEST), 0)
    options = [wire.attribute(_TBF_PARAMETERS, _rate(rate) + _rate(0) + numbers)]
    if buffer > _LARGEST:
        options.append(wire.u32(_TBF_BURST, burst))
    if rate > _LARGEST:
        options.append(wire.u64(_TBF_RATE64, rate))
    return _new_qdisc(index, "tbf", at, named, options)


def add_htb(index: int, *, default: int, at: int = ROOT, named: int = 0) -> wire.Request:
    """A discipline with classes: what no filter puts into one goes to 1:`default`; 0 is: unlimited."""
    numbers = wire.pack(_HTB_GLOBAL, _HTB_VERSION, _HTB_RATE_TO_QUANTUM, default, 0, 0)
    options = [wire.attribute(_HTB_INIT, numbers), wire.u32(_HTB_DIRECT_QUEUE, _DIRECT_PACKETS)]
    return _new_qdisc(index, "htb", at, named, options)


def add_htb_class(index: int, *, parent: int, named: int, rate: int, burst: int) -> wire.Request:
    """A class of a htb that gets no more than `rate`, after a first `burst`."""
    buffer = min(ticks(burst, rate), _LARGEST)
    quantum = min(max(rate // _HTB_RATE_TO_QUANTUM, _QUANTUM[0]), _QUANTUM[1])
    numbers = wire.pack(_HTB_CLASS_NUMBERS, buffer, buffer, quantum, 0, 0)
    options = [wire.attribute(_HTB_PARAMETERS, _rate(rate) * 2 + numbers)]
    if rate > _LARGEST:
        options += [wire.u64(_HTB_RATE64, rate), wire.u64(_HTB_CEIL64, rate)]
    body = _HEADER.pack(0, index, named, parent, 0) + wire.text(_KIND, "htb")
    body += wire.nested(_OPTIONS, *options)
    return wire.Request(_NEW_CLASS, wire.CREATE | wire.EXCLUSIVE, body, f"add class to link {index}")


def classes(socket: Socket, index: int) -> list[Class]:
    body = _HEADER.pack(0, index, 0, 0, 0)
    request = wire.Request(_GET_CLASS, 0, body, f"list classes of link {index}")
    return [Class(message.body) for message in socket.dump(request)]


def add_fq_codel(index: int, *, at: int, named: int = 0) -> wire.Request:
    """Fair queueing with short queues, in the class `at` of another discipline."""
    return _new_qdisc(index, "fq_codel", at, named, ())


def add_ingress(index: int) -> wire.Request:
    """Filters for what the link receives, as the handle ffff:. EEXIST when it has them already."""
    return _new_qdisc(index, "ingress", INGRESS, handle(0xFFFF), ())


def delete_qdisc(index: int, *, at: int, named: int = 0) -> wire.Request:
    """Remove what is attached at `at`, with all below it.

    ENOENT or EINVAL when nothing is there, or another than `named`.
    """
    body = _HEADER.pack(0, index, named, at, 0)
    return wire.Request(_DELETE_QDISC, 0, body, f"delete qdisc of link {index}")


def qdisc(socket: Socket, index: int, *, at: int = ROOT) -> Qdisc | None:
    """The discipline attached at ROOT or INGRESS; None when the link has no other than its default one."""
    body = _HEADER.pack(0, index, 0, at, 0)
    # The answer goes to whoever listens to changes; with ECHO also to the one who asks.
    request = wire.Request(_GET_QDISC, wire.ECHO, body, f"get qdisc of link {index}")
    try:
        answers = socket.request(request)
    except OSError as error:
        if error.errno == errno.ENOENT:
            return None
        raise
    found = Qdisc(answers[0].body) if answers else None
    return found if found is not None and found.handle else None


def add_redirect(index: int, *, parent: int, priority: int, to: int) -> wire.Request:
    """Every packet that comes to `parent` is sent out of the link `to` instead. Low priorities come first."""
    parameters = _MIRRED.pack(0, 0, _STOLEN, 0, 0, _REDIRECT, to)
    action = wire.text(_ACTION_KIND, "mirred") + wire.nested(
        _ACTION_OPTIONS, wire.attribute(_MIRRED_PARAMETERS, parameters)
    )
    selector = _SELECTOR.pack(_TERMINAL, 0, 1, 0, 0, 0, 0, 0) + _key(0, 0, 0)
    options = [
        wire.u32(_U32_CLASS, handle(1, 1)),
        wire.attribute(_U32_SELECTOR, selector),
        wire.nested(_U32_ACTION, wire.nested(1, action)),
    ]
    return _new_filter(index, parent, priority, _ALL, options)


def add_classification(
    index: int, *, parent: int, priority: int, network: str, flow: int, source: bool
) -> wire.Request:
    """Put packets to (or, with `source`, from) ``10.0.0.0/8`` into the class `flow`.

    One priority is for one family of addresses only.
    """
    family, raw, length = wire.pack_network(network)
    bits = len(raw) * 8
    mask = ((1 << bits) - (1 << bits - length)).to_bytes(len(raw), "big")
    start = (12 if source else 16) if family == 2 else (8 if source else 24)
    keys = b""
    count = 0
    for at in range(0, len(raw), 4):
        part = int.from_bytes(mask[at : at + 4], "big")
        if part or at == 0:
            keys += _key(part, int.from_bytes(raw[at : at + 4], "big") & part, start + at)
            count += 1
    options = [
        wire.u32(_U32_CLASS, flow),
        wire.attribute(_U32_SELECTOR, _SELECTOR.pack(_TERMINAL, 0, count, 0, 0, 0, 0, 0) + keys),
    ]
    return _new_filter(index, parent, priority, _IPV4 if family == 2 else _IPV6, options)


def delete_filters(index: int, *, parent: int, priority: int) -> wire.Request:
    """Remove all filters for any protocol of one priority; ENOENT when there are none."""
    body = _HEADER.pack(0, index, 0, parent, _info(priority, _ALL))
    return wire.Request(_DELETE_FILTER, 0, body, f"delete filters of link {index}")


def filters(socket: Socket, index: int, *, parent: int) -> list[Filter]:
    body = _HEADER.pack(0, index, 0, parent, 0)
    request = wire.Request(_GET_FILTER, 0, body, f"list filters of link {index}")
    return [Filter(message.body) for message in socket.dump(request)]


def _new_qdisc(index: int, kind: str, at: int, named: int, options: list[bytes] | tuple[()]) -> wire.Request:
    body = _HEADER.pack(0, index, named, at, 0) + wire.text(_KIND, kind)
    if options:
        body += wire.nested(_OPTIONS, *options)
    return wire.Request(_NEW_QDISC, wire.CREATE | wire.EXCLUSIVE, body, f"add {kind} to link {index}")


def _new_filter(index: int, parent: int, priority: int, protocol: int, options: list[bytes]) -> wire.Request:
    body = _HEADER.pack(0, index, 0, parent, _info(priority, protocol)) + wire.text(_KIND, "u32")
    body += wire.nested(_OPTIONS, *options)
    return wire.Request(_NEW_FILTER, wire.CREATE | wire.EXCLUSIVE, body, f"add filter to link {index}")


def _info(priority: int, protocol: int) -> int:
    # The protocol is in network order there.
    return priority << 16 | int.from_bytes(protocol.to_bytes(2, "big"), sys.byteorder)


def _key(mask: int, value: int, offset: int) -> bytes:
    return _KEY.pack(mask, value) + _KEY_OFFSET.pack(offset, 0)


def _rate(rate: int) -> bytes:
    return wire.pack(_RATE, 0, _ETHERNET if rate else 0, 0, 0, 0, min(rate, _LARGEST))
