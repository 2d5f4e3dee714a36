"""portmap: ports of the host lead into the container that the plugins before it made."""

from __future__ import annotations

import errno

from cni import state
from cni.attachment import options, teardown, verify
from cni.errors import INVALID_CONFIG, UNSUPPORTED_FIELD, CniError
from cni.fields import Fields
from cni.nft import foreign, port_maps, tables
from cni.nft.port_maps import Mapping
from cni.request import Request
from cni.types.address import Cidr, format_ip, parse_ip
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
_PROTOCOLS = ("tcp", "udp", "sctp")
_UDP = PROTOCOLS["udp"]
# What a kernel says that cannot list, or does not track, connections.
_NO_CONNTRACK = (errno.EOPNOTSUPP, errno.EPROTONOSUPPORT, errno.ENOPROTOOPT, errno.ECONNREFUSED, errno.EINVAL)


class Config:
    """The configuration of a request, checked. ValueError and CniError for what cannot be."""

    __slots__ = ("mappings", "snat")

    def __init__(self, request: Request) -> None:
        fields = request.fields
        options.backend(request, "backend")
        self.snat = port_maps.SNAT
        if not fields.boolean("snat", default=True):
            self.snat = port_maps.NO_SNAT
        elif fields.boolean("masqAll"):
            self.snat = port_maps.SNAT_ALL
        bit = fields.optional_integer("markMasqBit", low=0, high=31)
        # Both are about marks of iptables; here the source of a packet is changed without one.
        if bit is not None and fields.string("externalSetMarkChain"):
            raise request.refuse("cannot specify externalSetMarkChain and markMasqBit")
        for key in ("conditionsV4", "conditionsV6"):
            if fields.strings(key):
                raise CniError(UNSUPPORTED_FIELD, f"{key} is not supported", f"{fields.strings(key)}")
        self.mappings = _mappings(request)


def add(request: Request) -> Result:
    """Map the ports; the result is that of the plugin before."""
    config = Config(request)
    result = verify.previous(request)
    if not config.mappings:
        return result
    targets = _targets(request, result)
    interface = "" if config.snat == port_maps.NO_SNAT else _interface_to(targets)
    state.save(request, NAME, _record(config, targets, interface))
    try:
        _publish(request, config, targets)
        if config.snat != port_maps.NO_SNAT:
            _reflect(result)
        if interface:
            # The record names it when it is the attachment's alone; else the table does.
            port_maps.open_localnet(interface, lasting=not port_maps.is_pair(interface))
        _forget_strays(config.mappings, targets)
    except BaseException as failure:
        try:
            delete(request)
        except Exception as second:  # noqa: BLE001  told with the failure that led here
            failure.add_note(f"and undoing failed: {second}")
        raise
    return result


def check(request: Request) -> None:
    config = Config(request)
    if not config.mappings:
        return
    targets = _targets(request, verify.previous(request))
    owner = teardown.owner(request)
    if not port_maps.is_complete(config.mappings, targets, owner, snat=config.snat):
        raise verify.damaged("port mappings of the attachment are missing")


def delete(request: Request) -> None:
    """Take the mappings back, as recorded, whatever the runtime remembers of them."""
    record = state.load(request, NAME)
    if record is None:
        _delete_unrecorded(request)
        return
    made = Fields(record)
    mappings = [Mapping.from_json(each) for each in made.mappings("mappings")]
    targets = teardown.recorded_ips(made)
    interface = made.string("interface")
    if interface and port_maps.is_pair(interface):
        port_maps.shut_localnet(interface)
    port_maps.remove(mappings, targets, teardown.owner(request), snat=made.string("snat", port_maps.SNAT))
    _forget_answered(targets)
    state.remove(request, NAME)


def status(request: Request) -> None:
    Config(request)


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


def _record(config: Config, targets: Sequence[Cidr], interface: str) -> dict[str, object]:
    return {
        "mappings": [each.to_json() for each in config.mappings],
        "ips": [str(each) for each in targets],
        "interface": interface,
        "snat": config.snat,
    }


def _publish(request: Request, config: Config, targets: Sequence[Cidr]) -> None:
    try:
        port_maps.add(config.mappings, targets, teardown.owner(request), snat=config.snat, is_stale=_is_gone)
    except tables.Busy as busy:
        if len(busy.key) == 1:
            raise CniError(
                INVALID_CONFIG,
                f"ports are mapped to {busy.key[0]} for another attachment",
                busy.owner,
                hint="`rkt cni gc` collects those whose containers are gone",
            ) from None
        *where, _, port = busy.key
        at = f" at {where[0]}" if where else ""
        raise CniError(
            INVALID_CONFIG,
            f"host port {port}{at} is already mapped",
            f"to {busy.owner}" if busy.owner else "",
            hint="choose another host port, or end the container that has this one",
        ) from None


def _is_gone(owner: str) -> bool:
    """Whether the attachment that a comment names has no record: it died with a reboot, or by force."""
    network, _, rest = owner.partition("/")
    container_id, _, ifname = rest.partition("/")
    if not (network and container_id and ifname):
        return False
    return (
        state.load(Request(config={"name": network}, container_id=container_id, ifname=ifname), NAME) is None
    )


def _interface_to(targets: Sequence[Cidr]) -> str:
    """The host's interface by which the container's IPv4 address is reached, "" for none."""
    for each in targets:
        if not each.v6:
            with Socket(ROUTE) as socket:
                found = link.get(socket, route.lookup(socket, each.address).index)
            return "" if found is None or found.name == "lo" else found.name
    return ""


def _reflect(result: Result) -> None:
    """Let the container's port of a bridge send back what came in by it.

    Where the bridge itself asks the firewall (br_netfilter), a container that calls its own mapped port is
    translated inside the bridge, and its packets have to leave by the port by which they came.
    """
    with Socket(ROUTE) as socket:
        for each in result.interfaces:
            found = None if each.sandbox else link.get(socket, each.name)
            if found is None or not found.master or found.hairpin:
                continue
            bridge = link.get(socket, found.master)
            # A promiscuous bridge would send everything back twice.
            if bridge is not None and bridge.kind == "bridge" and not bridge.flags & link.PROMISCUOUS:
                batch = Batch(socket)
                batch.add(link.set_bridge_port(found.name, hairpin=True))
                batch.commit()


def _forget_strays(mappings: Sequence[Mapping], targets: Sequence[Cidr]) -> None:
    """UDP flows to a mapped port of this host that were tracked before it was mapped."""
    if not any(each.protocol == "udp" for each in mappings):
        return
    with Socket(ROUTE) as socket:
        own = {each.address for each in address.addresses(socket)}
    with Socket(NETFILTER) as socket:
        for target in targets:
            for each in mappings:
                if each.protocol != "udp" or not each.concerns(v6=target.v6):
                    continue
                flows = _flows(socket, target, protocol=_UDP, destination_port=each.host_port)
                places = {each.host_ip} if each.is_specific else own
                strays = [
                    flow for flow in flows if flow.destination in places and flow.answerer != target.address
                ]
                conntrack.forget(socket, strays)


def _forget_answered(targets: Sequence[Cidr]) -> None:
    """Flows that a mapping led to the container: its address may soon be another's."""
    with Socket(NETFILTER) as socket:
        for target in targets:
            flows = _flows(socket, target, answerer=target.address)
            conntrack.forget(socket, [flow for flow in flows if flow.destination != target.address])


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
    steps = teardown.Steps()
    try:
        mappings, result = _mappings(request), request.prev_result
    except (ValueError, CniError):
        mappings, result = [], None
    if mappings and result is not None and result.ips:
        targets = _targets(request, result)
        owner = teardown.owner(request)
        steps.run(lambda: port_maps.remove(mappings, targets, owner, snat=port_maps.SNAT))
    steps.run(lambda: foreign.remove_port_mappings(request.container_id))
    steps.finish()
