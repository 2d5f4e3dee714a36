"""host-local: gives each attachment addresses of ranges, remembered in files of this host.

The files are those of the reference plugin (`cni.ipam.leases`); beside them the attachment's record in
`cni.state` names its addresses, so that DEL and CHECK need not read every lease there is.
"""

from __future__ import annotations

from cni import state
from cni.errors import INVALID_CONFIG, PLUGIN_NOT_AVAILABLE, TRY_AGAIN_LATER, CniError
from cni.fields import Fields
from cni.ipam import configured
from cni.ipam.leases import Leases
from cni.types.address import Cidr, format_ip, parse_ip
from cni.types.result import IPConfig, Result, Route

TYPE_CHECKING = False  # not from typing: a plugin lives too short to import it
if TYPE_CHECKING:
    from cni.ipam.leases import NewLease
    from cni.ipam.ranges import Range, RangeSet
    from cni.request import Request

NAME = "host-local"
# A kubelet names the pod, and MAC is for the plugin before; without `IgnoreUnknown` other keys are refused.
_ARGUMENTS = ("IP", "MAC", "K8S_POD_NAME", "K8S_POD_NAMESPACE")
NOT_ALLOCATED = 100  # CHECK: the attachment has no address


def add(request: Request) -> Result:
    """One address of each range set, all of them or none."""
    sets = configured.range_sets(request)
    requested = configured.requested_addresses(request, _ARGUMENTS)
    outside = request.ipam.boolean("allowOutsideRange")
    name = configured.sticky_name(request, _ARGUMENTS)
    routes = [Route.from_json(each) for each in request.ipam.mappings("routes")]
    dns = configured.dns(request)
    with Leases(request.name, _directory(request), create=True) as leases:
        _refuse_second(request, leases)
        state.save(request, NAME, {"addresses": []})
        try:
            with leases.new(request.container_id, request.ifname, request.netns or "") as lease:
                given = []
                for position, each in enumerate(sets):
                    wanted = _wanted(each, requested, outside=outside)
                    last = None
                    if name and wanted is None:
                        from cni.ipam import sticky

                        last = sticky.recall(leases.path, name, position)
                    if last is not None and (place := each.range_of(last)) and lease.take(last):
                        given.append((place, last))
                    else:
                        given.append(_allocate(leases, lease, position, each, wanted))
                if requested:
                    left = ", ".join(format_ip(each) for each in requested)
                    raise request.refuse("failed to allocate all requested IPs", left)
                state.save(request, NAME, {"addresses": [format_ip(each) for each in lease.addresses]})
        except BaseException:
            state.remove(request, NAME)
            raise
        if name:
            from cni.ipam import sticky

            for position, (_, address) in enumerate(given):
                sticky.remember(leases.path, name, position, address)
    ips = [IPConfig(Cidr(address, place.subnet.length), gateway=place.gateway) for place, address in given]
    return Result(ips=ips, routes=routes, dns=dns)


def check(request: Request) -> None:
    with Leases(request.name, _directory(request)) as leases:
        if not _held(request, leases):
            raise CniError(
                NOT_ALLOCATED, "no address is allocated", f"{request.container_id} {request.ifname}"
            )


def delete(request: Request) -> None:
    """Give back what the attachment has. A configuration with bad ranges is no reason to keep it."""
    with Leases(request.name, _directory(request)) as leases:
        for address in _held(request, leases):
            leases.release(address, request.container_id, request.ifname)
        state.remove(request, NAME)


def collect(request: Request) -> None:
    """Give back the addresses of every attachment of the network that is not valid."""
    valid = request.valid_attachments
    containers = {container_id for container_id, _ in valid}
    with Leases(request.name, _directory(request)) as leases:
        leases.collect(
            lambda container_id, ifname: (
                (container_id, ifname) in valid if ifname else container_id in containers
            )
        )
        for each in state.stale(NAME, request.name, valid):
            state.remove(each, NAME)


def status(request: Request) -> None:
    """Code 50 when a set has no address left."""
    sets = configured.range_sets(request)
    with Leases(request.name, _directory(request)) as leases:
        for each in sets:
            if leases.free(each) <= 0:
                raise CniError(PLUGIN_NOT_AVAILABLE, f"no IP addresses available in range set: {each}")


def _wanted(given: RangeSet, requested: list[bytes], *, outside: bool) -> tuple[Range, bytes] | None:
    """The requested address that a set has, taken off the list; `outside`: or that its subnets have."""
    for address in requested:
        place = given.range_of(address) or (given.near(address) if outside else None)
        if place is not None:
            requested.remove(address)
            return place, address
    return None


def _allocate(
    leases: Leases, lease: NewLease, position: int, given: RangeSet, wanted: tuple[Range, bytes] | None
) -> tuple[Range, bytes]:
    """An address of one set: the one that is wanted, else the next free one."""
    failed = f"failed to allocate for range {position}"
    if wanted is None:
        found = lease.take_next(given, leases.last(position))
        if found is None:
            raise CniError(TRY_AGAIN_LATER, f"{failed}: no IP addresses available in range set: {given}")
        leases.set_last(position, found[1])
        return found
    place, address = wanted
    text = format_ip(address)
    if place.gateway == address:
        raise CniError(INVALID_CONFIG, f"{failed}: requested IP {text} is the gateway")
    if not lease.take(address, abandoned=True):
        raise CniError(
            INVALID_CONFIG, f"{failed}: requested IP address {text} is not available in range set {given}"
        )
    if place.holds(address):
        leases.set_last(position, address)
    return wanted


def _refuse_second(request: Request, leases: Leases) -> None:
    """An attachment that has an address already gets no other: its runtime has forgotten a DEL."""
    if state.load(request, NAME) is None:
        return
    held = _held(request, leases)
    if held:
        raise CniError(
            INVALID_CONFIG,
            f"{', '.join(format_ip(each) for each in held)} has been allocated to {request.container_id}, "
            "duplicate allocation is not allowed",
        )


def _held(request: Request, leases: Leases) -> list[bytes]:
    """The attachment's addresses: those of its record or result, else (nobody knows) by reading all."""
    record = state.load(request, NAME)
    try:
        if record is not None:
            noted = [parse_ip(each) for each in Fields(record).strings("addresses")]
        else:
            result = request.prev_result
            noted = [each.address.packed for each in result.ips] if result is not None else []
    except (ValueError, CniError):
        noted = []
    key = (request.container_id, request.ifname)
    if noted and all(leases.holder(each) == key for each in noted):
        return noted
    return leases.find(request.container_id, request.ifname)


def _directory(request: Request) -> str:
    return request.ipam.string("dataDir")
