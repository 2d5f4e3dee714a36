"""The plugin `sql`: one transaction of the database for each call.

The database is the record of who has which address; nothing is remembered beside it. A row names network,
node, container and interface, so DEL and GC need no result of an ADD, and an ADD that was killed after its
transaction was committed is undone by them. One killed before that never was.
"""

from __future__ import annotations

from cni.errors import INVALID_CONFIG, PLUGIN_NOT_AVAILABLE, TRY_AGAIN_LATER, CniError
from cni.ipam import allocated, configured, deadline, netnsmark
from cni.ipam.sql.settings import settings as read_settings
from cni.types.address import Cidr, format_ip, parse_ip
from cni.types.result import DNS, IPConfig, Result, Route

TYPE_CHECKING = False  # not from typing: a plugin lives too short to import it
if TYPE_CHECKING:
    from collections.abc import Callable

    from cni.ipam.ranges import Range, RangeSet
    from cni.ipam.sql.leases import Holder, Leases
    from cni.ipam.sql.settings import Settings
    from cni.request import Request

_POD = ("K8S_POD_NAMESPACE", "K8S_POD_NAME")
_ARGS = ("IP", "MAC", *_POD, "K8S_POD_INFRA_CONTAINER_ID", "K8S_POD_UID")


def add(request: Request) -> Result:
    """One address of each range set, all of them or none."""
    settings = read_settings(request)
    sets = configured.range_sets(request)
    requested = configured.requested_addresses(request, _ARGS)
    routes = [Route.from_json(each) for each in request.ipam.mappings("routes")]
    dns = DNS.from_json(request.ipam.mapping("dns")) or configured.dns(request)
    sticky_key = _sticky_key(request, settings)

    def work(leases: Leases, holder: Holder, unsure: bool) -> object:  # noqa: FBT001  it is a callback
        leases.lock()
        held = leases.held(holder)
        if held and not unsure:
            raise CniError(
                INVALID_CONFIG,
                f"{', '.join(format_ip(each) for each in held)} has been allocated to"
                f" {request.container_id}, duplicate allocation is not allowed",
            )
        if held:  # by the attempt whose commit nobody confirmed
            return [format_ip(each) for each in held]
        wishes = list(requested)
        given = [_allocate(leases, position, each, holder, wishes) for position, each in enumerate(sets)]
        if wishes:
            wanted = ", ".join(format_ip(each) for each in wishes)
            raise request.refuse("failed to allocate all requested IPs", wanted)
        return [format_ip(address) for address in given]

    addresses = _converse(request, settings, work, create=True, sticky_key=sticky_key)
    ips = [_ip(sets, parse_ip(str(each))) for each in addresses]
    return Result(ips=ips, routes=routes, dns=dns)


def check(request: Request) -> None:
    """Code 100 when the attachment has no address, or not those of prevResult that are of our ranges."""
    found = _converse(
        request,
        read_settings(request),
        lambda leases, holder, _unsure: [format_ip(each) for each in leases.held(holder)],
    )
    allocated.check(request, found)


def delete(request: Request) -> None:
    """Give back what the attachment has. A configuration with bad ranges is no reason to keep it."""

    def work(leases: Leases, holder: Holder, _unsure: bool) -> object:  # noqa: FBT001  it is a callback
        leases.lock()
        leases.release(holder)
        return []

    _converse(request, read_settings(request), work, enter=False)


def collect(request: Request) -> None:
    """Give back the addresses of every attachment of this node that is not valid."""
    valid = request.valid_attachments

    def work(leases: Leases, _holder: Holder, _unsure: bool) -> object:  # noqa: FBT001  it is a callback
        leases.lock()
        leases.collect(valid)
        return []

    _converse(request, read_settings(request), work)


def status(request: Request) -> None:
    """Code 50 when the database is away, or a set has no address left."""
    sets = configured.range_sets(request)

    def work(leases: Leases, _holder: Holder, _unsure: bool) -> object:  # noqa: FBT001  it is a callback
        for each in sets:
            if leases.next(each) is None:
                raise CniError(PLUGIN_NOT_AVAILABLE, f"no IP addresses available in range set: {each}")
        return []

    try:
        _converse(request, read_settings(request), work)
    except CniError as failed:
        if failed.code != TRY_AGAIN_LATER:
            raise
        raise CniError(PLUGIN_NOT_AVAILABLE, failed.msg, failed.details) from None


def _converse(
    request: Request,
    settings: Settings,
    work: Callable[[Leases, Holder, bool], object],
    *,
    create: bool = False,
    enter: bool = True,
    sticky_key: str = "",
) -> list[object]:
    """What `work` returns (a list), done in a transaction of this node, in a child with a deadline.

    `create`: make the tables when there are none; else there are no leases. `enter`: say that we live, and
    refuse to take part under another machine's name; a DEL takes nothing from anybody.
    """

    def talk() -> object:
        from cni.ipam.sql import transaction
        from cni.ipam.sql.leases import Holder, Leases

        holder = Holder(
            request.container_id,
            request.ifname,
            netns=netnsmark.mark(request.netns or "") if create else "",
            pod=_pod(request) if create else "",
            sticky_key=sticky_key,
        )

        def whole(given: transaction.Transaction) -> object:
            leases = Leases(given, settings, request.name)
            if enter:
                leases.enter()
            return work(leases, holder, given.unsure)

        return transaction.perform(settings, whole, create=create)

    answer = deadline.within(settings.timeout, talk, f"the {settings.database}")
    return answer if isinstance(answer, list) else []


def _allocate(
    leases: Leases, position: int, given: RangeSet, holder: Holder, requested: list[bytes]
) -> bytes:
    """An address of one set: the requested one if there is one for it (taken off the list), else its own
    of last time, else the next.
    """
    wanted = next((each for each in requested if given.range_of(each)), None)
    if wanted is not None:
        requested.remove(wanted)
        place = given.range_of(wanted)
        if place is None or place.gateway == wanted:
            raise CniError(
                INVALID_CONFIG,
                f"failed to allocate for range {position}: requested IP {format_ip(wanted)} is the gateway",
            )
        if not leases.take(wanted, holder):
            raise CniError(
                INVALID_CONFIG,
                f"failed to allocate for range {position}: requested IP address {format_ip(wanted)}"
                f" is not available in range set {given}",
            )
        return wanted
    own = leases.sticky(given, holder)
    if own is not None and leases.take(own[1], holder):
        return own[1]
    found = leases.next(given)
    if found is None or not leases.take(found[1], holder):
        raise CniError(
            TRY_AGAIN_LATER,
            f"failed to allocate for range {position}: no IP addresses available in range set: {given}",
        )
    leases.note_given(*found)
    return found[1]


def _ip(sets: tuple[RangeSet, ...], address: bytes) -> IPConfig:
    for each in sets:
        place: Range | None = each.range_of(address)
        if place is not None:
            return IPConfig(Cidr(address, place.subnet.length), gateway=place.gateway)
    raise CniError(INVALID_CONFIG, f"{format_ip(address)} is in no range")


def _pod(request: Request) -> str:
    given = request.cni_args(_ARGS)
    return "/".join(given[key] for key in _POD if given.get(key))


def _sticky_key(request: Request, settings: Settings) -> str:
    """What an address is kept for; container IDs may be the same on two nodes (cnitool makes them so)."""
    name = configured.sticky_name(request, _ARGS)
    return f"{settings.node} {name}" if name.startswith("container ") else name
