"""bandwidth: limits how much goes into and out of a container, on the host's end of its interface.

"Ingress" is what enters the container: the host's end sends it, through a token bucket. "Egress" is what the
host's end receives: it is sent through an ifb device first, which has a bucket of its own.
"""

from __future__ import annotations

import errno

from cni import state
from cni.attachment import names, teardown, verify
from cni.attachment.veth import Namespaces
from cni.errors import INVALID_CONFIG, PLUGIN_NOT_AVAILABLE, TRY_AGAIN_LATER, CniError
from cni.fields import Fields
from cni.types import version
from cni.types.address import Cidr
from cni.types.result import Interface, Result
from cni.undo import Undo
from linux.netlink import link, traffic
from linux.netlink.batch import Batch
from linux.netlink.socket import ROUTE, Socket

TYPE_CHECKING = False  # not from typing: a plugin lives too short to import it
if TYPE_CHECKING:
    from collections.abc import Sequence

    from cni.request import Request
    from linux.netlink.link import Link
    from linux.netlink.wire import Request as Message

NAME = "bandwidth"

VERSIONS = version.KNOWN[2:]  # before 0.3.0 a result names no interfaces

_KEYS = ("ingressRate", "ingressBurst", "egressRate", "egressBurst", "unshapedSubnets", "shapedSubnets")
_LATENCY = 25  # milliseconds that a packet may wait where the kernel has no fair queueing
_FRAME = 14  # bytes of an Ethernet header, which count too
_LARGEST_BURST = (1 << 32) - 1
_ROOT, _CLASS, _QUEUE = traffic.handle(1), traffic.handle(1, 1), traffic.handle(2)
_SHAPED = 0x30
_INGRESS = traffic.handle(0xFFFF)
# Of our filter among those of others, where the link had filters already.
_PRIORITY_AMONG_OTHERS = 0xBC00
# The alias of an ifb device of ours: only a record speaks for its deletion.
_MARK = "made by rkt-platform"
_NOT_OURS = ("bridge", "ifb")  # kinds of the host's interfaces that are nobody's end
_SHARING = ("ipvlan", "macvlan", "ipvtap", "macvtap", "vlan")  # kinds that have none of their own on the host
_GONE = (errno.ENOENT, errno.EINVAL, errno.ENODEV)


class Limit:
    """At most `rate` bytes a second, after a first `burst` of bytes."""

    __slots__ = ("burst", "rate")

    def __init__(self, rate: int, burst: int) -> None:
        self.rate = rate
        self.burst = burst

    def at(self, mtu: int) -> Limit:
        """The same limit with a burst that holds a packet: with less, none would ever pass."""
        # The kernel counts by the time that sending takes: two microseconds more, for what is rounded off.
        least = mtu + _FRAME + 2 * (self.rate // 1_000_000 + 1)
        return Limit(self.rate, max(self.burst, least))


class Config:
    """The limits that a request asks for, None for none; ValueError and CniError for what cannot be.

    All of them come from the configuration when it has any of the keys, else all from runtimeConfig.
    """

    __slots__ = ("egress", "ingress", "shaped", "unshaped")

    def __init__(self, request: Request) -> None:
        fields = request.fields
        if all(fields.get(key) is None for key in _KEYS):
            fields = request.runtime_config.mapping("bandwidth")
        self.ingress = _limit(fields, "ingress")
        self.egress = _limit(fields, "egress")
        self.shaped = _networks(fields, "shapedSubnets")
        self.unshaped = _networks(fields, "unshapedSubnets")
        if self.shaped and self.unshaped:
            raise request.refuse("unshapedSubnets and shapedSubnets cannot be both specified")


def add(request: Request) -> Result:
    """Set the limits; the result is that of the plugin before, and the ifb device if one is needed."""
    result = verify.previous(request)
    config = Config(request)
    if config.ingress is None and config.egress is None:
        return result
    if state.load(request, NAME) is not None:
        delete(request)  # of an ADD that was killed
    with Namespaces(request) as namespaces, Undo() as undo:
        host = _host_end(request, namespaces, result)
        made: dict[str, object] = {"host": host.name, "index": host.index}
        if traffic.qdisc(namespaces.host, host.index) is not None and config.ingress is not None:
            raise request.refuse(f"{host.name} has a queueing discipline already", "it is not replaced")
        undo.push(lambda: delete(request))
        if config.ingress is not None:
            made["root"] = True
            state.save(request, NAME, made)
            _shape(namespaces.host, host, config.ingress, config, source=True)
        if config.egress is None:
            return result
        ifb = _make_ifb(request, namespaces.host, host, made)
        _shape(namespaces.host, ifb, config.egress, config, source=False)
        _redirect(request, namespaces.host, host, ifb, made)
    interfaces = [*result.interfaces, Interface(ifb.name, mac=ifb.mac)]
    return Result(
        interfaces=interfaces, ips=result.ips, routes=result.routes, dns=result.dns, version=result.version
    )


def check(request: Request) -> None:
    """The limits are those of the configuration; what leaves the container goes through the ifb device."""
    result = verify.previous(request)
    config = Config(request)
    if config.ingress is None and config.egress is None:
        return
    with Namespaces(request) as namespaces:
        host = _host_end(request, namespaces, result)
        if config.ingress is not None:
            _check_limit(namespaces.host, host, config.ingress, config)
        if config.egress is None:
            return
        record = state.load(request, NAME)
        name = Fields(record).string("ifb") if record is not None else _ifb_name(request)
        ifb = link.get(namespaces.host, name)
        if ifb is None or not ifb.is_up:
            raise verify.damaged(f"the host has no device {name} that is up")
        _check_limit(namespaces.host, ifb, config.egress, config)
        found = traffic.filters(namespaces.host, host.index, parent=traffic.INGRESS_FILTERS)
        if not any(each.redirect == ifb.index for each in found):
            raise verify.damaged(f"what {host.name} receives does not go through {name}")


def delete(request: Request) -> None:
    """Take the limits away, and the ifb device; without a record, the one the reference plugin names so."""
    record = state.load(request, NAME)
    with Socket(ROUTE) as socket:
        if record is None:
            found = link.get(socket, _ifb_name(request))
            # One of ours is that of another interface of the container.
            if found is not None and found.alias != _MARK:
                _delete_ifb(socket, found.name, found.mac)
            return
        made = Fields(record)
        steps = teardown.Steps()
        host = link.get(socket, made.string("host"))
        if host is not None and host.index == made.integer("index"):
            steps.run(lambda: _free(socket, made))
        # After the filter that sends to it: packets would be lost in between.
        steps.run(lambda: _delete_ifb(socket, made.string("ifb"), made.string("mac")))
        steps.finish()
    state.remove(request, NAME)


def _limit(fields: Fields, direction: str) -> Limit | None:
    rate_key, burst_key = f"{direction}Rate", f"{direction}Burst"
    rate, burst = fields.integer(rate_key, low=0), fields.integer(burst_key, low=0)
    if rate and not burst:
        raise ValueError(f"{fields.path(rate_key)}: if rate is set, burst must also be set")
    if burst and not rate:
        raise ValueError(f"{fields.path(burst_key)}: if burst is set, rate must also be set")
    if burst // 8 >= _LARGEST_BURST:
        raise ValueError(f"{fields.path(burst_key)}: burst cannot be more than 4GB")
    if 0 < rate < 8:
        raise ValueError(f"{fields.path(rate_key)}: {rate} bits a second are less than a byte")
    return Limit(rate // 8, burst // 8) if rate else None


def _networks(fields: Fields, key: str) -> list[Cidr]:
    return [Cidr.parse(each).network for each in fields.strings(key)]


def _host_end(request: Request, namespaces: Namespaces, result: Result) -> Link:
    """The host's end of the container's interface: of a veth its peer, else the only one it can be."""
    inside = link.get(namespaces.container, request.ifname)
    if inside is not None and inside.kind in _SHARING:
        raise CniError(
            INVALID_CONFIG, f"{request.ifname} is a {inside.kind}", "the host has no end of it to be limited"
        )
    found = []
    for each in result.interfaces:
        if each.sandbox:
            continue
        candidate = link.get(namespaces.host, each.name)
        if candidate is None or candidate.kind in _NOT_OURS:
            continue
        if inside is not None and inside.kind == "veth":
            if candidate.index == inside.peer:
                return candidate
        else:
            found.append(candidate)
    if not result.interfaces and inside is not None and inside.kind == "veth":
        # Behind a network of before 0.3.0, whose results name no interfaces.
        peer = link.get(namespaces.host, inside.peer)
        if peer is not None and peer.kind == "veth" and peer.peer == inside.index:
            return peer
    if len(found) != 1:
        names_found = ", ".join(each.name for each in found)
        raise CniError(
            INVALID_CONFIG,
            f"cannot tell which interface of the host is the other end of {request.ifname}",
            f"prevResult names {names_found or 'none that could be'}",
        )
    return found[0]


def _ifb_name(request: Request, *, own: bool = False) -> str:
    """As the reference plugin's; or, for a second interface of a container in a network, one of its `own`."""
    what = f"{request.name}{request.container_id}"
    return "bwp" + names.digest(f"{what}{request.ifname}" if own else what, 12)


def _make_ifb(request: Request, socket: Socket, host: Link, made: dict[str, object]) -> Link:
    name = _ifb_name(request)
    if link.get(socket, name) is not None:
        name = _ifb_name(request, own=True)
        # The name has the interface in it, and the record of it is gone: nobody uses that device.
        _delete_ifb(socket, name, "")
    mac = names.mac(request, "ifb")
    made.update(ifb=name, mac=mac)
    state.save(request, NAME, made)
    batch = Batch(socket)
    batch.add(link.create(name, "ifb", mac=mac, mtu=host.mtu))
    batch.add(link.change(name, up=True, alias=_MARK))
    _commit(batch, f"a device of the kind ifb, which {request.name} needs to limit what a container sends")
    found = link.get(socket, name)
    if found is None:
        raise CniError(TRY_AGAIN_LATER, f"{name} went away while it was set up")
    return found


def _redirect(request: Request, socket: Socket, host: Link, ifb: Link, made: dict[str, object]) -> None:
    """Send what the host's end receives to the ifb device, which hands it back behind its bucket."""
    if traffic.qdisc(socket, host.index, at=traffic.INGRESS) is not None:
        # Somebody's ingress or clsact: a filter of our own beside theirs.
        made["filter"] = priority = _PRIORITY_AMONG_OTHERS
        parent = traffic.INGRESS_FILTERS
        state.save(request, NAME, made)
        batch = Batch(socket)
    else:
        made["ingress"] = True
        priority, parent = 1, _INGRESS
        state.save(request, NAME, made)
        batch = Batch(socket)
        batch.add(traffic.add_ingress(host.index))
    batch.add(traffic.add_redirect(host.index, parent=parent, priority=priority, to=ifb.index))
    _commit(batch, "the qdisc ingress, the classifier u32 and the action mirred")


def _shape(socket: Socket, found: Link, limit: Limit, config: Config, *, source: bool) -> None:
    """A bucket for what the link sends: all, or what is from (`source`) or to subnets, or all but that."""
    limit = limit.at(found.mtu)
    batch = Batch(socket)
    subnets = config.shaped or config.unshaped
    if subnets:
        batch.add(*_classes(found, limit, subnets, only=bool(config.shaped), source=source))
        leaf = traffic.handle(1, _SHAPED)
    else:
        room = limit.rate * _LATENCY // 1000 + limit.burst
        batch.add(traffic.add_tbf(found.index, rate=limit.rate, burst=limit.burst, limit=room, named=_ROOT))
        leaf = _CLASS
    _commit(batch, "the qdisc htb and the classifier u32" if subnets else "the qdisc tbf")
    # Short queues for each flow; a kernel without it limits no worse, a big download is felt by the others.
    batch.add(traffic.add_fq_codel(found.index, at=leaf, named=_QUEUE).tolerating(errno.ENOENT))
    batch.commit()


def _classes(
    found: Link, limit: Limit, subnets: Sequence[Cidr], *, only: bool, source: bool
) -> list[Message]:
    """One class with a limit. What is in none is not limited: by default when `only` the subnets are."""
    shaped = traffic.handle(1, _SHAPED)
    flow = shaped if only else _ROOT
    return [
        traffic.add_htb(found.index, default=0 if only else _SHAPED, named=_ROOT),
        traffic.add_htb_class(found.index, parent=_ROOT, named=shaped, rate=limit.rate, burst=limit.burst),
        *(
            traffic.add_classification(
                found.index,
                parent=_ROOT,
                priority=17 if each.v6 else 16,
                network=str(each),
                flow=flow,
                source=source,
            )
            for each in subnets
        ),
    ]


def _commit(batch: Batch, needed: str) -> None:
    try:
        batch.commit()
    except OSError as failed:
        if failed.errno in (errno.ENOENT, errno.EOPNOTSUPP):
            raise CniError(
                PLUGIN_NOT_AVAILABLE,
                "the kernel cannot limit rates",
                f"it lacks {needed} ({failed})",
                hint="load the modules sch_tbf, sch_ingress, cls_u32, act_mirred and ifb",
            ) from None
        raise


def _check_limit(socket: Socket, found: Link, limit: Limit, config: Config) -> None:
    qdisc = traffic.qdisc(socket, found.index)
    if config.shaped or config.unshaped:
        shaped = traffic.handle(1, _SHAPED)
        rates = [each.rate for each in traffic.classes(socket, found.index) if each.handle == shaped]
        if qdisc is None or qdisc.kind != "htb" or rates != [limit.rate]:
            raise verify.damaged(f"{found.name} does not limit subnets to {limit.rate} bytes a second")
        count = len(config.shaped) + len(config.unshaped)
        flows = [each for each in traffic.filters(socket, found.index, parent=_ROOT) if each.flow]
        if len(flows) != count:
            raise verify.damaged(f"{found.name} tells {len(flows)} subnets from others", f"not {count}")
        return
    if qdisc is None or qdisc.kind != "tbf":
        raise verify.damaged(f"{found.name} has no token bucket")
    if qdisc.rate != limit.rate:
        raise verify.damaged(f"{found.name} is limited to {qdisc.rate} bytes a second", f"not {limit.rate}")
    buffers = [traffic.ticks(each.burst, each.rate) for each in (limit, limit.at(found.mtu))]
    if qdisc.buffer not in buffers and max(buffers) <= _LARGEST_BURST:
        raise verify.damaged(f"{found.name} lets another burst pass than {limit.burst} bytes")


def _free(socket: Socket, made: Fields) -> None:
    """Remove what was put on the host's end, which may well live longer than this attachment."""
    index = made.integer("index")
    batch = Batch(socket)
    if made.boolean("ingress"):
        batch.add(traffic.delete_qdisc(index, at=traffic.INGRESS, named=_INGRESS).tolerating(*_GONE))
    elif made.integer("filter"):
        batch.add(
            traffic.delete_filters(
                index, parent=traffic.INGRESS_FILTERS, priority=made.integer("filter")
            ).tolerating(*_GONE)
        )
    if made.boolean("root"):
        batch.add(traffic.delete_qdisc(index, at=traffic.ROOT, named=_ROOT).tolerating(*_GONE))
    batch.commit()


def _delete_ifb(socket: Socket, name: str, mac: str) -> None:
    """Delete that ifb device, if it has the hardware address `mac` ("": any). None there is no error."""
    found = link.get(socket, name) if name else None
    if found is not None and found.kind == "ifb" and mac in ("", found.mac):
        batch = Batch(socket)
        batch.add(link.delete(name).tolerating(errno.ENODEV))
        batch.commit()
