"""bridge: a veth pair whose host's end is a port of a bridge, which is made when it is missing."""

from __future__ import annotations

import errno

from cni import delegate, state
from cni.attachment import interface, names, options, sysctl, veth
from cni.errors import INVALID_CONFIG, TRY_AGAIN_LATER, CniError
from cni.fields import Fields
from cni.lock import Lock
from cni.types.address import Cidr
from cni.types.result import Interface, IPConfig, Result, Route
from cni.undo import Undo
from linux.netlink import address, link
from linux.netlink.batch import Batch, commit
from linux.netlink.socket import ROUTE, Socket

TYPE_CHECKING = False  # not from typing: a plugin lives too short to import it
if TYPE_CHECKING:
    from collections.abc import Sequence

    from cni.attachment.portvlans import Vlans
    from cni.attachment.veth import Namespaces, Pair
    from cni.request import Request
    from linux.netlink.link import Link
    from linux.netlink.wire import Request as Message

NAME = "bridge"

_DEFAULT_BRIDGE = "cni0"
_ALIAS = "made by rkt-platform's bridge plugin"
_UP_DEADLINE = 2.5  # seconds until the port must pass packets
_DEFAULT_ROUTES = {False: Cidr(bytes(4), 0), True: Cidr(bytes(16), 0)}


class Config:
    """The configuration of a request, checked. ValueError and CniError for what cannot be."""

    __slots__ = (
        "bridge", "container_up", "detect_duplicates", "force_address", "guard", "guard_addresses", "hairpin",
        "has_ipam", "ipam_needs_interface", "is_default_gateway", "is_gateway", "isolated", "mac",
        "masquerade", "mtu", "promiscuous", "vlans",
    )  # fmt: skip

    def __init__(self, request: Request) -> None:
        fields = request.fields
        self.bridge = link.check_name(fields.string("bridge") or _DEFAULT_BRIDGE)
        self.is_default_gateway = fields.boolean("isDefaultGateway")
        self.is_gateway = fields.boolean("isGateway") or self.is_default_gateway
        self.force_address = fields.boolean("forceAddress")
        self.masquerade = options.masquerade(request)
        self.mtu = options.mtu(request)
        self.hairpin = fields.boolean("hairpinMode")
        self.promiscuous = fields.boolean("promiscMode")
        self.guard = fields.boolean("macspoofchk")
        self.guard_addresses = fields.boolean("arpspoofchk")
        self.detect_duplicates = fields.boolean("enabledad")
        self.isolated = fields.boolean("portIsolation")
        self.container_up = not fields.boolean("disableContainerInterface")
        self.mac = options.mac(request)
        self.has_ipam = options.has_ipam(request)
        self.ipam_needs_interface = delegate.needs_interface(request)
        if self.hairpin and self.promiscuous:
            raise request.refuse("cannot set hairpin mode and promiscuous mode at the same time")
        if not self.container_up and self.has_ipam:
            raise request.refuse("cannot use IPAM when disableContainerInterface is set")
        if self.guard_addresses and (not self.has_ipam or self.ipam_needs_interface):
            raise request.refuse(
                "arpspoofchk needs to know the addresses", "of an IPAM plugin that gives them for good"
            )
        self.vlans = _vlans(fields)
        if self.vlans is not None and self.vlans.own and self.is_gateway:
            from cni.attachment import portvlans

            portvlans.gateway_name(self.bridge, self.vlans.own)  # refuses one that is too long


def _vlans(fields: Fields) -> Vlans | None:
    """The VLANs of the port, None for none."""
    if all(fields.get(key) is None for key in ("vlan", "vlanTrunk", "preserveDefaultVlan")):
        return None
    from cni.attachment.portvlans import Vlans

    return Vlans.of(fields) or None


def add(request: Request) -> Result:
    """Make the attachment; when that fails nothing of it is left."""
    config = Config(request)
    with veth.Namespaces(request) as namespaces:
        pair = veth.plan(request, namespaces, mac=config.mac, mtu=config.mtu)
        if state.load(request, NAME) is not None:
            # The container has no such interface: the record is of an ADD that was killed.
            delete(request)
        made: dict[str, object] = {
            "veth": pair.host,
            "mac": pair.host_mac,
            "containerMAC": pair.container_mac,
            "bridge": config.bridge,
        }
        with Undo() as undo:
            undo.push(lambda: delete(request))
            state.save(request, NAME, made)
            result = _make(request, config, namespaces, pair, made)
            state.save(request, NAME, {**made, "complete": True})
    return result


def check(request: Request) -> None:
    from cni.attachment import verify

    config = Config(request)
    result = verify.previous(request)
    record = state.load(request, NAME)
    made = None if record is None else Fields(record)
    if config.has_ipam:
        delegate.check(request)
    with veth.Namespaces(request) as namespaces:
        inside = verify.container(request, namespaces, result, None if made is None else made.strings("ips"))
        verify.routes(namespaces, result)
        bridge = link.get(namespaces.host, config.bridge)
        if bridge is None or bridge.kind != "bridge":
            raise verify.damaged(f"the bridge {config.bridge} is missing")
        name = made.string("veth") if made is not None else _port_of(namespaces, bridge, inside)
        port = verify.host_end(namespaces, name, inside)
        if port.master != bridge.index:
            raise verify.damaged(f"{port.name} is not a port of {config.bridge}")
        # A port map behind this plugin may have turned it on.
        if config.hairpin and not port.hairpin:
            raise verify.damaged(f"hairpin mode of {port.name} is off")
        if config.isolated and not port.isolated:
            raise verify.damaged(f"{port.name} is not isolated from other ports")
        if config.promiscuous and not bridge.flags & link.PROMISCUOUS:
            raise verify.damaged(f"{bridge.name} is not promiscuous")
        if config.vlans is not None:
            from cni.attachment import portvlans

            portvlans.check(namespaces, bridge, port, config.vlans)
    if made is not None:
        _check_rules(request, made)


def delete(request: Request) -> None:
    """Take everything of the attachment away; the bridge stays, unless an ADD that failed had made it."""
    from cni.attachment import masquerading, teardown

    record = state.load(request, NAME)
    if record is None:
        teardown.unrecorded(request)
        return
    made = Fields(record)
    steps = teardown.Steps()
    steps.run(lambda: masquerading.remove(request, made, steps.later))
    if made.boolean("guarded") or made.boolean("guardedAddresses"):
        from cni.attachment import guards

        steps.run(lambda: guards.remove(request, made))
    teardown.link_and_address(request, made, steps)
    if not made.boolean("complete"):
        steps.run(lambda: _undo_bridge(request, made))
    steps.finish()
    state.remove(request, NAME)


def collect(request: Request) -> None:
    """Delete every attachment that is not valid; and the bridge, once it is ours and has no port."""
    from cni.attachment import portvlans, teardown

    steps = teardown.Steps()
    valid = request.valid_attachments
    for each in list(state.stale(NAME, request.name, valid)):
        steps.run(lambda each=each: delete(each))  # type: ignore[misc]
    if delegate.ipam_type(request):
        steps.run(lambda: delegate.collect(request))
    bridge = request.fields.string("bridge") or _DEFAULT_BRIDGE
    if not valid:
        vlan = request.fields.integer("vlan")
        if vlan:
            steps.run(lambda: _remove_gateway(request, portvlans.gateway_name(bridge, vlan)))
        steps.run(lambda: _remove_bridge(bridge))
    steps.finish()


def _make(
    request: Request, config: Config, namespaces: Namespaces, pair: Pair, made: dict[str, object]
) -> Result:
    given: Result | None = None
    if config.has_ipam and not config.ipam_needs_interface:
        given = delegate.add(request)
        made["ips"] = [str(each.address) for each in _addresses(config, given)]
        made["masquerade"] = config.masquerade
    made["guarded"], made["guardedAddresses"] = config.guard, config.guard_addresses
    with Lock("bridge"):
        # Known before it is made: an ADD that is killed in between leaves a bridge that is found again.
        found = link.get(namespaces.host, config.bridge)
        made["madeBridge"] = found is None
        state.save(request, NAME, made)
        bridge = _ensure_bridge(namespaces, config, found)
        veth.create(namespaces, pair, master=bridge.index, port=_port_options(pair, config))
        if config.vlans is not None:
            from cni.attachment import portvlans

            portvlans.join(namespaces, bridge, pair.host, config.vlans)
        if bridge.alias != _ALIAS:
            # Somebody else's, which may have taken over the hardware address of its new port.
            bridge = link.get(namespaces.host, config.bridge) or bridge
        gateway = bridge
        if config.vlans is not None and config.vlans.own and config.is_gateway:
            gateway = _ensure_gateway(request, config.vlans, namespaces, bridge, made)
    if config.has_ipam and config.ipam_needs_interface:
        interface.bring_up(namespaces, pair)
        interface.wait_until_forwarding(namespaces, pair.host, _UP_DEADLINE)
        given = delegate.add(request)
        made["ips"] = [str(each.address) for each in _addresses(config, given)]
        made["masquerade"] = config.masquerade
        state.save(request, NAME, made)
    ips = _addresses(config, given)
    routes = _routes(config, given, ips)
    if config.container_up:
        interface.configure(
            namespaces,
            pair,
            ips,
            interface.routes_of(pair.index, ips, routes),
            detect_duplicates=config.detect_duplicates,
        )
    if config.is_gateway and ips:
        _make_gateway(request, config, namespaces, bridge, gateway, ips, made)
    if made.get("masquerade"):
        from cni.attachment import masquerading

        masquerading.add(request, config.masquerade, [each.address for each in ips])
    if config.guard or config.guard_addresses:
        from cni.attachment import guards

        guards.add(request, Fields(made))
    if config.container_up:
        interface.wait_until_forwarding(namespaces, pair.host, _UP_DEADLINE)
    own = [
        Interface(bridge.name, mac=bridge.mac),
        Interface(pair.host, mac=pair.host_mac),
        Interface(pair.container, mac=pair.container_mac, sandbox=request.netns or ""),
    ]
    if gateway.index != bridge.index:
        own.append(Interface(gateway.name, mac=gateway.mac))
    return Result(
        interfaces=own,
        ips=ips,
        routes=routes,
        dns=options.dns(request, given),
    )


def _addresses(config: Config, given: Result | None) -> list[IPConfig]:
    """The addresses of the IPAM plugin, of the container's interface and with their gateways."""
    if given is None:
        return []
    if not given.ips:
        raise CniError(INVALID_CONFIG, "IPAM plugin returned missing IP config")
    return [
        IPConfig(
            each.address,
            gateway=each.gateway or (interface.first_address(each.address) if config.is_gateway else None),
            interface=2,
            label=each.label,
        )
        for each in given.ips
    ]


def _routes(config: Config, given: Result | None, ips: Sequence[IPConfig]) -> list[Route]:
    """The IPAM plugin's routes, and a default one through the bridge unless it gives one itself."""
    routes = list(given.routes) if given is not None else []
    if config.is_default_gateway:
        for each in ips:
            default = _DEFAULT_ROUTES[each.address.v6]
            if each.gateway and not any(known.dst.network == default for known in routes):
                routes.append(Route(default, gw=each.gateway))
    return routes


def _ensure_bridge(namespaces: Namespaces, config: Config, found: Link | None) -> Link:
    """The bridge, made or found, up, and deaf to router advertisements (CVE-2020-10749)."""
    batch = Batch(namespaces.host)
    if found is None:
        mac = names.bridge_mac(config.bridge, state.boot_id())
        request = link.create_bridge(
            config.bridge, mac=mac, mtu=config.mtu, vlan_filtering=config.vlans is not None
        )
        batch.add(request.tolerating(errno.EEXIST), link.change(config.bridge, alias=_ALIAS))
        try:
            batch.commit()
        except OSError as failed:
            if config.vlans is None:
                raise
            from cni.attachment import portvlans

            raise portvlans.unsupported(failed) from None
        found = link.get(namespaces.host, config.bridge)
    if found is None:
        raise CniError(TRY_AGAIN_LATER, f"the bridge {config.bridge} went away while it was set up")
    if found.kind != "bridge":
        raise CniError(
            INVALID_CONFIG, f"{config.bridge} is not a bridge", f"but {found.kind or 'hardware or lo'}"
        )
    if config.vlans is not None:
        from cni.attachment import portvlans

        portvlans.filtering(namespaces, found, ours=found.alias == _ALIAS)
    sysctl.host_side(config.bridge)
    if config.promiscuous and not found.flags & link.PROMISCUOUS:
        batch.add(link.change(config.bridge, promiscuous=True))
    if not found.is_up:
        batch.add(link.change(config.bridge, up=True))
    if len(batch):
        batch.commit()
    return found


def _port_options(pair: Pair, config: Config) -> Message | None:
    if not (config.hairpin or config.isolated):
        return None
    return link.set_bridge_port(pair.host, hairpin=config.hairpin or None, isolated=config.isolated or None)


def _ensure_gateway(
    request: Request, vlans: Vlans, namespaces: Namespaces, bridge: Link, made: dict[str, object]
) -> Link:
    """The host's interface in the VLAN, of which the record says whether this ADD makes it."""
    from cni.attachment import portvlans

    name = portvlans.gateway_name(bridge.name, vlans.own)
    made["gateway"], made["madeGateway"] = name, link.get(namespaces.host, name) is None
    state.save(request, NAME, made)
    return portvlans.ensure_gateway(namespaces, bridge, vlans, _ALIAS)


def _make_gateway(
    request: Request,
    config: Config,
    namespaces: Namespaces,
    bridge: Link,
    gateway: Link,
    ips: Sequence[IPConfig],
    made: dict[str, object],
) -> None:
    """Give `gateway`, which is the bridge or in one of its VLANs, the containers' gateway addresses.

    And let the host forward.
    """
    wanted = [Cidr(each.gateway, each.address.length) for each in ips if each.gateway]
    present = [Cidr.parse(str(each)) for each in address.addresses(namespaces.host, gateway.index)]
    missing = [each for each in dict.fromkeys(wanted) if each not in present]
    made["gateways"] = [str(each) for each in wanted]
    made["newGateways"] = [str(each) for each in missing]
    batch = Batch(namespaces.host)
    if missing:
        for each in _conflicts(request, made, present, wanted):
            if not config.force_address:
                raise CniError(
                    INVALID_CONFIG,
                    f"{gateway.name} already has an IP address different from {missing[0]}",
                    f"it has {each}",
                    hint="set forceAddress to replace it",
                )
            batch.add(address.delete(gateway.index, str(each)).tolerating(errno.EADDRNOTAVAIL))
        state.save(request, NAME, made)
        if any(each.v6 for each in missing):
            sysctl.of_interface("ipv6", gateway.name, "disable_ipv6", 0)
        for each in missing:
            # Somebody else's first ADD may have been faster.
            flags = address.NODAD if each.v6 else 0
            batch.add(address.add(gateway.index, str(each), flags=flags).tolerating(errno.EEXIST))
    if bridge.alias != _ALIAS:
        # Perhaps not pinned: set to what it is, its hardware address no longer follows that of its ports.
        batch.add(link.change(config.bridge, mac=bridge.mac))
    batch.commit()
    interface.wait_until_local(namespaces.host, missing)
    for v6 in {each.v6 for each in wanted}:
        sysctl.enable_forwarding(v6=v6)


def _conflicts(
    request: Request, made: dict[str, object], present: Sequence[Cidr], wanted: Sequence[Cidr]
) -> list[Cidr]:
    """Addresses of the gateway's interface that do not go with `wanted`.

    That is any other one of IPv4, and overlapping ones of IPv6. The gateways of the network's other
    attachments do: it may have several ranges.
    """
    families = {each.v6 for each in wanted}
    suspects = [
        each
        for each in present
        if each not in wanted
        and each.v6 in families
        and (not each.v6 or any(each.contains(new.packed) or new.contains(each.packed) for new in wanted))
    ]
    if not suspects:
        return []
    known: set[str] = set()
    for other in state.stale(NAME, request.name, ()):
        record = state.load(other, NAME)
        theirs = Fields(record)
        if all(theirs.get(key) == made.get(key) for key in ("bridge", "gateway")):
            known.update(theirs.strings("gateways"))
    return [each for each in suspects if str(each) not in known]


def _check_rules(request: Request, made: Fields) -> None:
    from cni.attachment import guards, masquerading, verify

    if not masquerading.is_complete(request, made):
        raise verify.damaged("the masquerade rules of the attachment are missing")
    missing = guards.missing(request, made)
    if missing:
        raise verify.damaged(f"the rules against {missing} are missing")


def _port_of(namespaces: Namespaces, bridge: Link, inside: Link) -> str:
    """The port of the bridge that is the other end of the container's interface."""
    for each in link.links(namespaces.host, master=bridge.index):
        if each.index == inside.peer and each.peer == inside.index:
            return each.name
    from cni.attachment import verify

    raise verify.damaged(f"no port of {bridge.name} leads to {inside.name}")


def _undo_bridge(request: Request, made: Fields) -> None:
    """Of an ADD that did not end: the bridge if it made it, else the addresses that it gave it."""
    name, gateway = made.string("bridge"), made.string("gateway")
    if made.boolean("madeBridge"):
        _remove_bridge(name)
        return
    if gateway and made.boolean("madeGateway"):
        _remove_gateway(request, gateway)
    with Lock("bridge"), Socket(ROUTE) as socket:
        found = link.get(socket, gateway or name)
        if found is None:
            return
        if _is_used(request, gateway) if gateway else link.links(socket, master=found.index):
            return
        batch = Batch(socket)
        for each in made.strings("newGateways"):
            batch.add(address.delete(found.index, each).tolerating(errno.EADDRNOTAVAIL))
        if len(batch):
            batch.commit()


def _is_used(request: Request, gateway: str) -> bool:
    """Whether another attachment than that of `request` has this gateway, of whatever network."""
    own = (request.name, request.container_id, request.ifname)
    return any(
        plugin == NAME
        and (each.name, each.container_id, each.ifname) != own
        and Fields(state.load(each, NAME)).string("gateway") == gateway
        for plugin, each in state.every()
    )


def _remove_gateway(request: Request, name: str) -> None:
    """Delete the host's interface in a VLAN, if it was made here and no other attachment needs it."""
    with Lock("bridge"), Socket(ROUTE) as socket:
        found = link.get(socket, name)
        if found is not None and found.alias == _ALIAS and not _is_used(request, name):
            commit(socket, link.delete(name).tolerating(errno.ENODEV))


def _remove_bridge(name: str) -> None:
    """Delete a bridge that this plugin made, when it has no port but those of its own gateways."""
    with Lock("bridge"), Socket(ROUTE) as socket:
        found = link.get(socket, name)
        if found is None or found.kind != "bridge" or found.alias not in ("", _ALIAS):
            return
        if found.alias != _ALIAS and found.mac != names.bridge_mac(name, state.boot_id()):
            return
        ports = link.links(socket, master=found.index)
        if all(each.alias == _ALIAS for each in ports):
            doomed = [each.name for each in ports] + [name]
            commit(socket, *[link.delete(each).tolerating(errno.ENODEV) for each in doomed])
