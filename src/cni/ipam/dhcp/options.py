"""Options: what a configuration has the client say and ask for, and what a server's answer means here."""

from __future__ import annotations

from cni.errors import INVALID_CONFIG, INVALID_ENVIRONMENT, CniError
from cni.ipam.dhcp import message
from cni.types.address import Cidr, format_ip
from cni.types.result import DNS, IPConfig, Result, Route

TYPE_CHECKING = False  # not from typing: a plugin lives too short to import it
if TYPE_CHECKING:
    from cni.fields import Fields
    from cni.ipam.dhcp.message import Message
    from cni.request import Request

# The names that configurations use, those of dhclient's options.
NAMES = {
    "dhcp-client-identifier": message.CLIENT_ID,
    "subnet-mask": message.SUBNET_MASK,
    "routers": message.ROUTER,
    "host-name": message.HOST_NAME,
    "user-class": message.USER_CLASS,
    "vendor-class-identifier": message.VENDOR_CLASS,
}
# RFC 3442: who asks for 121 asks for it before 3 and 33, and does not use these if it gets it.
DEFAULT_REQUEST = (
    message.SUBNET_MASK,
    message.CLASSLESS_ROUTE,
    message.CLASSLESS_ROUTE_MICROSOFT,
    message.STATIC_ROUTE,
    message.ROUTER,
    message.DOMAIN_SERVER,
    message.DOMAIN_NAME,
    message.DOMAIN_SEARCH,
    message.INTERFACE_MTU,
)
# Asked for in any case: without these a lease cannot be kept.
_ALWAYS = (message.LEASE_TIME, message.SERVER_ID, message.RENEWAL_TIME, message.REBINDING_TIME)
# What the protocol itself sets, in each message as it must be.
_PROTOCOL = (
    message.REQUESTED_ADDRESS, message.OVERLOAD, message.MESSAGE_TYPE, message.SERVER_ID,
    message.PARAMETER_LIST, message.LARGEST_MESSAGE, 0, 255,
)  # fmt: skip
_LONGEST_CLIENT_ID = 254
_SMALLEST_MTU = 576  # RFC 791; less than any link has is an attack, not a setting
_SCOPE_LINK = 253
_MOST_NAMES = 32
_NAME_CHARACTERS = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.")


class Wishes:
    """What is said to the server in every message (`provided`), what is asked for, and the routes' metric."""

    __slots__ = ("priority", "provided", "requested")

    def __init__(self, provided: dict[int, bytes], requested: tuple[int, ...], priority: int) -> None:
        self.provided = provided
        self.requested = requested
        self.priority = priority


def read(request: Request) -> Wishes:
    """The wishes of a request's `ipam`: `provide`, `request`, `priority`. CniError and ValueError."""
    ipam = request.ipam
    provided = {message.CLIENT_ID: client_id(request.container_id, request.name, request.ifname)}
    arguments = _arguments(request.args)
    for each in ipam.mappings("provide"):
        code = _code(each)
        if code in _PROTOCOL:
            raise CniError(INVALID_CONFIG, f"option {code} cannot be provided", "the protocol sets it")
        value = arguments.get(each.string("fromArg")) or each.string("value")
        raw = value.encode()
        if len(raw) > 255:
            raise CniError(INVALID_CONFIG, f"the value of option {code} is too long", f"{len(raw)} bytes")
        if raw:
            provided[code] = raw
    asked = ipam.mappings("request")
    wanted = [_code(each) for each in asked]
    if not any(each.boolean("skipDefault") for each in asked):
        wanted += DEFAULT_REQUEST
    requested = tuple(dict.fromkeys((*wanted, *_ALWAYS)))
    return Wishes(provided, requested, ipam.integer("priority", low=0, high=(1 << 32) - 1))


def client_id(container_id: str, network: str, ifname: str) -> bytes:
    """Who this client is, the same for every interface that is made for the attachment.

    Type 0 (not a hardware address) and the text that the reference plugin uses.
    """
    return b"\0" + f"{container_id}/{network}/{ifname}".encode()[:_LONGEST_CLIENT_ID]


def result(given: Message, priority: int) -> Result:
    """The addresses, routes and DNS of a server's answer; CniError when it makes no usable address."""
    address = Cidr(given.yiaddr, prefix_length(given))
    router = given.address(message.ROUTER)
    return Result(
        ips=[IPConfig(address, gateway=router if is_usable(router) else None)],
        routes=_routes(given, priority),
        dns=_dns(given),
    )


def prefix_length(given: Message) -> int:
    """From the subnet mask; CniError without one, or with one that has holes."""
    mask = given.options.get(message.SUBNET_MASK, b"")
    if len(mask) != 4:
        raise CniError(INVALID_CONFIG, "DHCP option Subnet Mask not found in DHCPACK")
    number = int.from_bytes(mask, "big")
    ones = f"{number:032b}"
    if "01" in ones:
        raise CniError(INVALID_CONFIG, "the DHCP server gives no subnet mask", format_ip(mask))
    return ones.count("1")


def mtu(given: Message) -> int:
    """The MTU that the server asks for, 0 when it asks for none or for one that no network has."""
    found = given.number(message.INTERFACE_MTU)
    return found if found is not None and found >= _SMALLEST_MTU else 0


def complaint(given: Message) -> str:
    """What the server says about it (option 56), in characters that a terminal can bear."""
    text = given.options.get(message.MESSAGE, b"").decode("ascii", "replace")
    return "".join(each if each.isprintable() else "?" for each in text)


def _code(fields: Fields) -> int:
    name = fields.string("option")
    if name in NAMES:
        return NAMES[name]
    if name.isascii() and name.isdigit() and len(name) <= 3 and int(name) <= 255:
        return int(name)
    known = ", ".join(sorted(NAMES))
    raise ValueError(
        f"{fields.path('option')}: {name!r} is neither a number from 0 to 255 nor one of {known}"
    )


def _arguments(text: str) -> dict[str, str]:
    """All of CNI_ARGS: `fromArg` may name any of it."""
    found = {}
    for pair in text.split(";") if text else ():
        key, equals, value = pair.partition("=")
        if not equals:
            raise CniError(INVALID_ENVIRONMENT, "invalid CNI_ARGS pair", repr(pair))
        found[key] = value
    return found


def _routes(given: Message, priority: int) -> list[Route]:
    for option in (message.CLASSLESS_ROUTE, message.CLASSLESS_ROUTE_MICROSOFT):
        if option in given.options:
            return _classless(given.options[option], priority)
    routes = _classful(given.options.get(message.STATIC_ROUTE, b""), priority)
    router = given.address(message.ROUTER)
    if is_usable(router):
        routes.append(Route(Cidr(bytes(4), 0), gw=router, priority=priority))
    return routes


def _classless(data: bytes, priority: int) -> list[Route]:
    """RFC 3442: length, as many bytes of the destination as it needs, router. 0.0.0.0 is "on the link"."""
    routes = []
    position = 0
    while position < len(data):
        length = data[position]
        end = position + 1 + (length + 7) // 8
        if length > 32 or end + 4 > len(data):
            raise CniError(INVALID_CONFIG, "the DHCP server's classless routes are damaged", data.hex())
        destination = Cidr(data[position + 1 : end].ljust(4, b"\0"), length).network
        router = data[end : end + 4]
        if router == message.NOWHERE:
            routes.append(Route(destination, scope=_SCOPE_LINK, priority=priority))
        else:
            routes.append(Route(destination, gw=router, priority=priority))
        position = end + 4
    return routes


def _classful(data: bytes, priority: int) -> list[Route]:
    """RFC 2132 5.8: pairs of destination and router; the destination's class is its mask."""
    routes = []
    for position in range(0, len(data) - 7, 8):
        destination, router = data[position : position + 4], data[position + 4 : position + 8]
        first = destination[0]
        length = 8 if first < 128 else 16 if first < 192 else 24
        # The RFC allows no default route here, and class D and E are no destinations.
        if first < 224 and destination != message.NOWHERE and is_usable(router):
            routes.append(Route(Cidr(destination, length).network, gw=router, priority=priority))
    return routes


def _dns(given: Message) -> DNS:
    servers = given.options.get(message.DOMAIN_SERVER, b"")
    addresses = [servers[start : start + 4] for start in range(0, len(servers) - 3, 4)]
    domain = given.options.get(message.DOMAIN_NAME, b"").rstrip(b"\0")
    return DNS(
        nameservers=[format_ip(each) for each in addresses if is_usable(each)],
        domain=domain.decode() if _is_name(domain) else "",
        search=[each.decode() for each in names(given.options.get(message.DOMAIN_SEARCH, b""))],
    )


def names(data: bytes) -> list[bytes]:
    """The domain names of a search list (RFC 3397): DNS's encoding, in which a name may end in another.

    What is damaged ends the list; names that could mean something else in resolv.conf are left out.
    """
    found: list[bytes] = []
    position = 0
    while position < len(data) and len(found) < _MOST_NAMES:
        labels: list[bytes] = []
        at, back, limit = position, -1, position
        while True:
            if at >= len(data):
                return found
            length = data[at]
            if length == 0:
                at += 1
                break
            if length & 0xC0 == 0xC0:
                target = int.from_bytes(data[at : at + 2], "big") & 0x3FFF
                # Only to before where this part began: so it ends.
                if at + 2 > len(data) or target >= limit:
                    return found
                if back < 0:
                    back = at + 2
                at = limit = target
                continue
            label = data[at + 1 : at + 1 + length]
            if length & 0xC0 or len(label) != length:
                return found
            labels.append(label)
            at += 1 + length
        position = at if back < 0 else back
        name = b".".join(labels)
        if _is_name(name):
            found.append(name)
    return found


def _is_name(name: bytes) -> bool:
    """Whether it can stand in resolv.conf as one word, and as no other line."""
    return 0 < len(name) <= 253 and _NAME_CHARACTERS.issuperset(name)


def is_usable(address: bytes) -> bool:
    """Whether it is the address of one host: not 0.0.0.0/8, loopback, multicast or above."""
    return len(address) == 4 and 0 < address[0] < 224 and address[0] != 127
