"""portmap: ports of the host lead into the container that the plugins before it made."""

from __future__ import annotations

import errno

from cni import state
from cni.attachment import options, teardown, verify
from cni.errors import INVALID_CONFIG, UNSUPPORTED_FIELD, CniError
from cni.fields import Fields
from cni.iptables import presence
from cni.lock import Lock
from cni.nft import port_maps
from cni.request import Request
from cni.types.address import Cidr, format_ip, parse_ip
from cni.types.mapping import NO_SNAT, SNAT, SNAT_ALL, Busy, Mapping, Plan
from cni.undo import Undo
from linux.netlink import address, conntrack, link, route
from linux.netlink.batch import Batch
from linux.netlink.nftables.types import PROTOCOLS
from linux.netlink.socket import NETFILTER, ROUTE, Socket

TYPE_CHECKING = False  # not from typing: a plugin lives too short to import it
if TYPE_CHECKING:
    from collections.abc import Sequence

    from cni.types.result import Result

NAME = "portmap"

_HIGHEST_PORT = 65535
_MARK = 13  # the bit that the reference uses
_PROTOCOLS = ("tcp", "udp", "sctp")
_UDP = PROTOCOLS["udp"]
_NO_PORT = (errno.ENODEV, errno.EINVAL, errno.EOPNOTSUPP)
# So many connections are read in the time of one question for those to one port.
_FEW_FOR_A_QUESTION = 500
# What a kernel says that cannot list, or does not track, connections.
_NO_CONNTRACK = (errno.EOPNOTSUPP, errno.EPROTONOSUPPORT, errno.ENOPROTOOPT, errno.ECONNREFUSED, errno.EINVAL)


class Config:
    """The configuration of a request, checked. ValueError and CniError for what cannot be."""

    __slots__ = ("backend", "plan")

    def __init__(self, request: Request) -> None:
        fields = request.fields
        snat = SNAT
        if not fields.boolean("snat", default=True):
            snat = NO_SNAT
        elif fields.boolean("masqAll"):
            snat = SNAT_ALL
        bit = fields.optional_integer("markMasqBit", low=0, high=31)
        mark_chain = fields.string("externalSetMarkChain")
        if bit is not None and mark_chain:
            raise request.refuse("cannot specify externalSetMarkChain and markMasqBit")
        conditions = {False: fields.strings("conditionsV4"), True: fields.strings("conditionsV6")}
        self.backend = _backend(request, conditions, mark_chain)
        self.plan = Plan(
            _mappings(request),
            snat,
            {v6: words for v6, words in conditions.items() if words},
            mark=_MARK if bit is None else bit,
            mark_chain=mark_chain,
        )


def add(request: Request) -> Result:
    """Map the ports; the result is that of the plugin before."""
    config = Config(request)
    result = verify.previous(request)
    plan = config.plan
    if state.load(request, NAME) is not None:
        # An ADD that was killed, or is done again: what it made for other ports would stay.
        delete(request)
    if not plan.mappings:
        return result
    targets = plan.concerned(_targets(request, result))
    if not targets:
        return result
    interface, reflecting = ("", []) if plan.snat == NO_SNAT else _host_side(result, targets)
    made: dict[str, object] = {
        **plan.to_json(),
        "backend": config.backend,
        "ips": [str(each) for each in targets],
        "interface": interface,
        "reflecting": reflecting,
    }
    state.save(request, NAME, made)
    with Undo() as undo:
        undo.push(lambda: delete(request))
        _publish(request, Fields(made))
        _reflect(Fields(made).strings("reflecting"), reflecting=True)
        _forget_strays(plan.mappings, targets)
    return result


def check(request: Request) -> None:
    config = Config(request)
    result = verify.previous(request)
    if not config.plan.mappings:
        return
    targets = config.plan.concerned(_targets(request, result))
    if targets and not _is_complete(request, config.backend, config.plan, targets):
        raise verify.damaged("port mappings of the attachment are missing")


def delete(request: Request) -> None:
    """Take the mappings back, as recorded, whatever the runtime remembers of them."""
    record = state.load(request, NAME)
    if record is None:
        _delete_unrecorded(request)
        return
    made = Fields(record)
    targets = teardown.recorded_ips(made)
    interface = made.string("interface")
    if interface and port_maps.is_pair(interface):
        port_maps.shut_localnet(interface)
    if made.string("backend") == "iptables":
        from cni.iptables import port_maps as by_iptables

        by_iptables.remove_all(request.name, request.container_id)
    else:
        port_maps.remove(Plan.from_json(made), targets, teardown.owner(request))
    _reflect(made.strings("reflecting"), reflecting=False)
    _forget_answered(targets)
    state.remove(request, NAME)


def reload(request: Request) -> list[str]:
    """Put back what is missing of a recorded attachment, and say what that was."""
    record = state.load(request, NAME)
    if record is None:
        return []
    made = Fields(record)
    targets = teardown.recorded_ips(made)
    if _is_complete(request, made.string("backend"), Plan.from_json(made), targets):
        return []
    _publish(request, made)
    if state.load(request, NAME) is None:
        # A DEL came in between: what was put back is nobody's.
        state.save(request, NAME, record)
        delete(request)
    elif not _is_complete(request, made.string("backend"), Plan.from_json(made), targets):
        raise verify.damaged("the port mappings cannot be put back")
    return ["port mappings"]


def _publish(request: Request, made: Fields) -> None:
    """Make what a record says; CniError 7 when a port is somebody else's."""
    plan, targets = Plan.from_json(made), teardown.recorded_ips(made)
    interface = made.string("interface")
    try:
        # The backends do not see each other's changes: between a look at the other and an own one is nobody.
        with Lock("portmap"):
            if made.string("backend") == "iptables":
                _publish_by_iptables(request, plan, targets, interface)
            else:
                _refuse_what_iptables_has(plan, targets)
                port_maps.add(plan, targets, teardown.owner(request), is_stale=_is_gone)
                if interface:
                    # The record names it when it is the attachment's alone; else the table does.
                    port_maps.open_localnet(interface, lasting=not port_maps.is_pair(interface))
    except Busy as busy:
        raise CniError(
            INVALID_CONFIG,
            f"{busy.where} is already mapped",
            f"to {busy.owner}" if busy.owner else "",
            hint="choose another host port, or end the container that has this one",
        ) from None


def status(request: Request) -> None:
    """Code 50 when iptables is wanted and is not there."""
    if Config(request).backend == "iptables":
        from cni.iptables import rules

        rules.read(v6=False)


def _mappings(request: Request) -> list[Mapping]:
    found: list[Mapping] = []
    seen: set[tuple[str, str, int]] = set()
    for each in request.runtime_config.mappings("portMappings"):
        protocol = (each.string("protocol") or "tcp").lower()
        if protocol not in _PROTOCOLS:
            raise ValueError(f"{each.path('protocol')}: {protocol!r} is none of {', '.join(_PROTOCOLS)}")
        host_ip = each.string("hostIP")
        if host_ip:
            host_ip = format_ip(parse_ip(host_ip))
        mapping = Mapping(
            protocol,
            host_ip,
            each.integer("hostPort", low=1, high=_HIGHEST_PORT),
            each.integer("containerPort", low=1, high=_HIGHEST_PORT),
        )
        if mapping.host_port == 0 or mapping.container_port == 0:
            raise ValueError(f"{each.path('hostPort')}: a mapping needs hostPort and containerPort")
        key = (protocol, host_ip, mapping.host_port)
        if key in seen:
            raise ValueError(f"{each.path('hostPort')}: {protocol} {mapping.host_port} is mapped twice")
        seen.add(key)
        found.append(mapping)
    return found


def _targets(request: Request, result: Result) -> list[Cidr]:
    """The first address of each family that is the container's."""
    found: dict[bool, Cidr] = {}
    for each in result.ips:
        place = each.interface
        known = place is not None and 0 <= place < len(result.interfaces)
        if known and not result.interfaces[place or 0].sandbox:
            continue
        found.setdefault(each.address.v6, each.address)
    if not found:
        raise CniError(INVALID_CONFIG, "the container has no address to map ports to", request.container_id)
    return list(found.values())


def _refuse_what_iptables_has(plan: Plan, targets: Sequence[Cidr]) -> None:
    used = [each for each in targets if presence.is_used("nat", presence.DNAT_CHAIN, v6=each.v6)]
    if used:
        from cni.iptables import port_maps as by_iptables

        by_iptables.refuse_taken(plan, used)


def _publish_by_iptables(request: Request, plan: Plan, targets: Sequence[Cidr], interface: str) -> None:
    from cni.iptables import port_maps as by_iptables

    for other in state.stale(NAME, request.name, {(request.container_id, request.ifname)}):
        made = state.load(other, NAME) if other.container_id == request.container_id else None
        if made is not None and made.get("backend") == "iptables":
            # The reference's name of the chain has no room for a second interface.
            raise request.refuse(
                "the container has port mappings by iptables on this network", f"by {other.ifname}"
            )
    port_maps.refuse_taken(plan, targets, _is_gone)
    by_iptables.add(plan, targets, request.name, request.container_id)
    if interface:
        port_maps.answer_localnet(interface)


def _is_complete(request: Request, backend: str, plan: Plan, targets: Sequence[Cidr]) -> bool:
    if backend == "iptables":
        from cni.iptables import port_maps as by_iptables

        # The reference plugin, whose attachment it may be, makes no guard.
        guarded = state.load(request, NAME) is not None
        return by_iptables.is_complete(plan, targets, request.name, request.container_id, guarded=guarded)
    return port_maps.is_complete(plan, targets, teardown.owner(request))


def _backend(request: Request, conditions: dict[bool, tuple[str, ...]], mark_chain: str) -> str:
    """The backend that is asked for, or the one that some options are of.

    Words of iptables begin with a dash or an exclamation mark; those of nft never do.
    """
    wanted = options.backend(request, "backend") if request.fields.string("backend") else ""
    for v6, words in conditions.items():
        key = f"conditionsV{'6' if v6 else '4'}"
        if not words:
            continue
        needed = "iptables" if words[0][:1] in ("-", "!") else "nftables"
        if wanted and wanted != needed:
            raise request.refuse(f"{key} is written for {needed}, the backend is {wanted}", " ".join(words))
        wanted = needed
        if needed == "nftables":
            from cni.nft import raw

            raw.check(words, key)
        elif "-j" in words or "--jump" in words or not all(word.isprintable() for word in words):
            raise ValueError(f"{key}: only the matches of a rule can stand here")
    if mark_chain:
        if wanted == "nftables":
            raise CniError(
                UNSUPPORTED_FIELD,
                "externalSetMarkChain is a chain of iptables",
                mark_chain,
                hint="leave it out: nftables changes sources without a mark; or set backend to iptables",
            )
        wanted = "iptables"
    return wanted or options.DEFAULT_BACKEND


def _is_gone(owner: str) -> bool:
    """Whether the attachment that a comment names has no record: it died with a reboot, or by force."""
    network, _, rest = owner.partition("/")
    container_id, _, ifname = rest.partition("/")
    if not (network and container_id and ifname):
        return False
    return (
        state.load(Request(config={"name": network}, container_id=container_id, ifname=ifname), NAME) is None
    )


def _host_side(result: Result, targets: Sequence[Cidr]) -> tuple[str, list[str]]:
    """The host's interface to the container, and its ports that are to send back what came in by them."""
    with Socket(ROUTE) as socket:
        return _interface_to(socket, targets), _to_reflect(socket, result)


def _interface_to(socket: Socket, targets: Sequence[Cidr]) -> str:
    """The host's interface by which the container's IPv4 address is reached, "" for none."""
    for each in targets:
        if not each.v6:
            found = link.get(socket, route.lookup(socket, each.address).index)
            return "" if found is None or found.name == "lo" else found.name
    return ""


def _to_reflect(socket: Socket, result: Result) -> list[str]:
    """The container's ports of a bridge that do not send back yet what came in by them.

    Where the bridge itself asks the firewall (br_netfilter), a container that calls its own mapped port is
    translated inside the bridge, and its packets have to leave by the port by which they came.
    """
    ports = []
    for each in result.interfaces:
        found = None if each.sandbox else link.get(socket, each.name)
        if found is None or not found.master or found.hairpin:
            continue
        bridge = link.get(socket, found.master)
        # A promiscuous bridge would send everything back twice.
        if bridge is not None and bridge.kind == "bridge" and not bridge.flags & link.PROMISCUOUS:
            ports.append(found.name)
    return ports


def _reflect(ports: Sequence[str], *, reflecting: bool) -> None:
    if not ports:
        return
    with Socket(ROUTE) as socket:
        batch = Batch(socket)
        for each in ports:
            request = link.set_bridge_port(each, hairpin=reflecting)
            # On the way back the port may be gone, or a port no more.
            batch.add(request if reflecting else request.tolerating(*_NO_PORT))
        batch.commit()


def _forget_strays(mappings: Sequence[Mapping], targets: Sequence[Cidr]) -> None:
    """Flows to a mapped port of this host that were tracked before it was mapped.

    Of connections only those that a mapping of before led elsewhere: those to this host itself go on.
    """
    with Socket(NETFILTER) as socket:
        glance = _glance(socket)
        if glance is None:
            return
        for target in targets:
            conntrack.forget(socket, _strays(socket, glance, mappings, target))


def _strays(
    socket: Socket, glance: conntrack.Glance, mappings: Sequence[Mapping], target: Cidr
) -> list[conntrack.Flow]:
    """Those of one family."""
    places: dict[tuple[int, int], set[str]] = {}  # addresses of this host, "" for all of them
    for each in mappings:
        if each.concerns(v6=target.v6) and glance.may_lead_to(each.host_port):
            port = PROTOCOLS[each.protocol], each.host_port
            places.setdefault(port, set()).add(each.host_ip if each.is_specific else "")
    # Each question takes the kernel through its whole table: of a few connections all are asked for at once.
    one_by_one = glance.count > _FEW_FOR_A_QUESTION * (len(places) - 1)
    found = [
        flow
        for protocol, number in (places if one_by_one else [(0, 0)])
        for flow in _flows(socket, target, protocol=protocol, destination_port=number)
        if (flow.protocol, flow.destination_port) in places
        and flow.answerer != target.address
        and (flow.protocol == _UDP or flow.answerer != flow.destination)
    ]
    if not found:
        return []
    with Socket(ROUTE) as route_socket:
        own = {each.address for each in address.addresses(route_socket)}
    return [
        flow
        for flow in found
        for at in [places[flow.protocol, flow.destination_port]]
        if flow.destination in at or ("" in at and flow.destination in own)
    ]


def _forget_answered(targets: Sequence[Cidr]) -> None:
    """Flows that a mapping led to the container: its address may soon be another's."""
    with Socket(NETFILTER) as socket:
        glance = _glance(socket)
        if glance is None:
            return
        for target in targets:
            if glance.may_involve(target.address):
                flows = _flows(socket, target, answerer=target.address)
                conntrack.forget(socket, [flow for flow in flows if flow.destination != target.address])


def _glance(socket: Socket) -> conntrack.Glance | None:
    """None when the kernel does not track connections."""
    try:
        return conntrack.Glance(socket)
    except OSError as failed:
        if failed.errno in _NO_CONNTRACK:
            return None
        raise


def _flows(
    socket: Socket, target: Cidr, *, protocol: int = 0, destination_port: int = 0, answerer: str = ""
) -> list[conntrack.Flow]:
    try:
        return conntrack.flows(
            socket,
            family=10 if target.v6 else 2,
            protocol=protocol,
            destination_port=destination_port,
            answerer=answerer,
        )
    except OSError as failed:
        if failed.errno in _NO_CONNTRACK:
            return []
        raise


def _delete_unrecorded(request: Request) -> None:
    """DEL of what this plugin has no record of: made by the reference plugin, or never."""
    from cni.nft import foreign

    steps = teardown.Steps()
    try:
        mappings, result = _mappings(request), request.prev_result
        targets = _targets(request, result) if result is not None and result.ips else []
    except (ValueError, CniError):
        mappings, targets = [], []
    if mappings and targets:
        owner = teardown.owner(request)
        steps.run(lambda: port_maps.remove(Plan(mappings), targets, owner))
        steps.run(lambda: _forget_answered(targets))
    steps.run(lambda: foreign.remove_port_mappings(request.container_id))
    steps.run(lambda: _remove_from_iptables(request))
    steps.finish()


def _remove_from_iptables(request: Request) -> None:
    from cni.iptables import port_maps as by_iptables

    by_iptables.remove_all(request.name, request.container_id)
