"""Network links: make, change, move, list and delete them; options of bridge ports.

Source: include/uapi/linux/if_link.h, rtnetlink(7). Links are named by their name or, where the kernel insists
on it, by their index; MTUs are in bytes.
"""

from __future__ import annotations

import errno
from struct import Struct

from linux.netlink import wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from linux.netlink.socket import Socket

UP = 0x1
BROADCAST = 0x2
LOOPBACK = 0x8
PROMISCUOUS = 0x100
MULTICAST_ALL = 0x200

_NEW, _DELETE, _GET, _SET = 16, 17, 18, 19
_HEADER = Struct("=BxHiII")

# IFLA_*
_ADDRESS, _IFNAME, _MTU, _LINK, _MASTER, _TXQLEN, _OPERSTATE = 1, 3, 4, 5, 10, 13, 16
_LINKINFO, _ALIAS, _STATS64, _AF_SPEC, _NET_NS_FD = 18, 20, 23, 26, 28
_EXT_MASK = 29
_INFO_KIND, _INFO_DATA, _INFO_SLAVE_KIND, _INFO_SLAVE_DATA = 1, 2, 4, 5
_VETH_PEER = 1
_VRF_TABLE = 1
_AF_INET, _AF_BRIDGE, _AF_INET6 = 2, 7, 10
_INET_CONF = 1
_INET6_ADDR_GEN_MODE = 8
_SKIP_STATS = 1 << 3
# IFLA_BRPORT_*
_PORT_STATE, _PORT_HAIRPIN, _PORT_LEARNING, _PORT_ISOLATED = 1, 4, 8, 33
# IFLA_BR_*
_BRIDGE_VLAN_FILTERING, _BRIDGE_FORWARD_DELAY = 7, 1
_OPERSTATES = ("unknown", "notpresent", "down", "lowerlayerdown", "testing", "dormant", "up")
NAME_LONGEST = 15
_STATISTICS = (
    "rx_packets", "tx_packets", "rx_bytes", "tx_bytes", "rx_errors", "tx_errors", "rx_dropped", "tx_dropped",
)  # fmt: skip


class Link:
    """What the kernel told about one link; attributes are decoded when they are asked for."""

    __slots__ = ("_attributes", "_info", "flags", "index")

    def __init__(self, body: bytes) -> None:
        _, _, self.index, self.flags, _ = _HEADER.unpack_from(body)
        self._attributes = wire.parse(body, _HEADER.size)
        self._info: dict[int, bytes] | None = None

    @property
    def name(self) -> str:
        return wire.read_text(self._attributes[_IFNAME])

    @property
    def mac(self) -> str:
        """The hardware address, or "" for a link without one."""
        return wire.read_mac(self._attributes.get(_ADDRESS, b""))

    @property
    def mtu(self) -> int:
        return self._u32(_MTU)

    @property
    def kind(self) -> str:
        """The driver's name ("veth", "bridge"), or "" for hardware and lo."""
        return wire.read_text(self._linkinfo().get(_INFO_KIND, b""))

    @property
    def options(self) -> dict[int, bytes]:
        """The kind's own attributes (IFLA_INFO_DATA), such as a macvlan's mode."""
        return wire.parse(self._linkinfo().get(_INFO_DATA, b""))

    @property
    def is_up(self) -> bool:
        """Whether it is set up by its administrator; whether it works is `operstate`."""
        return bool(self.flags & UP)

    @property
    def operstate(self) -> str:
        """One of RFC 2863's states in lower case: "up", "down", "lowerlayerdown", "unknown"."""
        return _OPERSTATES[self._attributes.get(_OPERSTATE, b"\0")[0]]

    @property
    def master(self) -> int:
        """The index of the bridge or bond it belongs to, or 0."""
        return self._u32(_MASTER)

    @property
    def peer(self) -> int:
        """The index of a veth's other end or a macvlan's master, maybe in another namespace, or 0."""
        return self._u32(_LINK)

    @property
    def vrf_table(self) -> int:
        """The routing table of a vrf."""
        raw = wire.parse(self._linkinfo().get(_INFO_DATA, b"")).get(_VRF_TABLE)
        return 0 if raw is None else wire.read_u32(raw)

    @property
    def alias(self) -> str:
        return wire.read_text(self._attributes.get(_ALIAS, b""))

    @property
    def transmit_queue(self) -> int:
        return self._u32(_TXQLEN)

    @property
    def statistics(self) -> dict[str, int]:
        """Packets and bytes in both directions; empty unless asked for with `statistics`."""
        raw = self._attributes.get(_STATS64, b"")
        if not raw:
            return {}
        return {name: wire.read_u64(raw[8 * at : 8 * at + 8]) for at, name in enumerate(_STATISTICS)}

    @property
    def hairpin(self) -> bool:
        return self._port(_PORT_HAIRPIN)

    @property
    def isolated(self) -> bool:
        return self._port(_PORT_ISOLATED)

    @property
    def learning(self) -> bool:
        return self._port(_PORT_LEARNING)

    @property
    def is_forwarding(self) -> bool:
        """Whether the bridge it is a port of passes its packets (state 3 of 802.1D)."""
        raw = self._port_attributes().get(_PORT_STATE, b"\0")
        return raw[0] == 3

    def _u32(self, kind: int) -> int:
        raw = self._attributes.get(kind)
        return 0 if raw is None else wire.read_u32(raw)

    def _linkinfo(self) -> dict[int, bytes]:
        if self._info is None:
            self._info = wire.parse(self._attributes.get(_LINKINFO, b""))
        return self._info

    def _port_attributes(self) -> dict[int, bytes]:
        info = self._linkinfo()
        if wire.read_text(info.get(_INFO_SLAVE_KIND, b"")) != "bridge":
            return {}
        return wire.parse(info.get(_INFO_SLAVE_DATA, b""))

    def _port(self, kind: int) -> bool:
        return self._port_attributes().get(kind, b"\0") != b"\0"


def check_name(name: str) -> str:
    """`name` when the kernel would take it for a link, else ValueError (dev_valid_name in net/core/dev.c)."""
    raw = name.encode(errors="surrogateescape")
    if (
        not 0 < len(raw) <= NAME_LONGEST
        or name in (".", "..")
        or any(c in "/:\0" or c.isspace() for c in name)
    ):
        raise ValueError(f"{name!r} is not a name for a network interface")
    return name


def create_veth(
    name: str,
    peer: str,
    *,
    peer_netns: int | None = None,
    mac: str | None = None,
    peer_mac: str | None = None,
    mtu: int = 0,
    master: int = 0,
    up: bool = False,
) -> wire.Request:
    """A veth pair: `name` here, `peer` here or in the namespace behind the descriptor `peer_netns`.

    `mtu` (0: the kernel's) is for both ends, `master` (a bridge's index) and `up` for this one. The answer of
    this request, if the kernel echoes it (Linux 6.2), is the link: `peer` of it is the other end's index.
    """
    ends = _identity(peer, peer_mac, mtu)
    if peer_netns is not None:
        ends += wire.u32(_NET_NS_FD, peer_netns)
    data = wire.attribute(_VETH_PEER | wire.NESTED, _header() + ends)
    body = _header(flags=UP if up else 0, change=UP if up else 0) + _identity(name, mac, mtu)
    if master:
        body += wire.u32(_MASTER, master)
    body += _kind("veth", data)
    return _creation(body, f"create veth {name}")


def create_bridge(
    name: str, *, mac: str | None = None, mtu: int = 0, vlan_filtering: bool = False, up: bool = False
) -> wire.Request:
    """A bridge; without `mac` it takes over the lowest address of its ports, and changes it with them."""
    options = wire.u8(_BRIDGE_VLAN_FILTERING, 1) if vlan_filtering else b""
    body = _header(flags=UP if up else 0, change=UP if up else 0) + _identity(name, mac, mtu)
    return _creation(body + _kind("bridge", options), f"create bridge {name}")


def filter_vlans(name: str) -> wire.Request:
    """Let the bridge `name` look at VLANs, see `linux.netlink.bridgevlan`."""
    body = _header() + wire.text(_IFNAME, name) + _kind("bridge", wire.u8(_BRIDGE_VLAN_FILTERING, 1))
    return wire.Request(_NEW, 0, body, f"filter VLANs on bridge {name}")


def create_vrf(name: str, table: int, *, up: bool = False) -> wire.Request:
    """A virtual routing domain: the routes of its ports are in `table`, and nowhere else."""
    body = _header(flags=UP if up else 0, change=UP if up else 0) + _identity(name, None, 0)
    return _creation(body + _kind("vrf", wire.u32(_VRF_TABLE, table)), f"create vrf {name}")


def create(
    name: str,
    kind: str,
    *,
    mac: str | None = None,
    mtu: int = 0,
    options: bytes = b"",
    over: int = 0,
    netns: int | None = None,
) -> wire.Request:
    """A link of any kind, such as "dummy" or "ifb"; for those with `options` see `linux.netlink.upper`.

    `over` is the index of the link below it, in this namespace. With the descriptor `netns` it is made in
    that namespace, yet the kernel refuses a name that a link of this one has (EEXIST): make it under a name
    that nobody has, and rename it there.
    """
    body = _header() + _identity(name, mac, mtu) + (wire.u32(_LINK, over) if over else b"")
    if netns is not None:
        body += wire.u32(_NET_NS_FD, netns)
    request = _creation(body + _kind(kind, options), f"create {kind} {name}")
    if netns is not None:
        # The kernel would look for us in the other namespace, and find another socket of ours.
        request.flags &= ~wire.ECHO
    return request


def supports(socket: Socket, kind: str) -> bool:
    """Whether this kernel can make links of `kind`, loading its module if that is what it takes.

    Asked by a request that no kind of Ethernet link can meet: a group's hardware address, and no link below.
    """
    name = f"probe{socket.fileno()}"
    try:
        socket.request(create(name, kind, mac="01:00:00:00:00:00"))
    except OSError as failed:
        return failed.errno != errno.EOPNOTSUPP
    socket.request(delete(name))
    return True


def change(
    name: str,
    *,
    up: bool | None = None,
    master: int | None = None,
    mtu: int = 0,
    mac: str | None = None,
    alias: str | None = None,
    transmit_queue: int | None = None,
    promiscuous: bool | None = None,
    multicast_all: bool | None = None,
) -> wire.Request:
    """Change what is given of the link `name`; `master` 0 takes it out of its bridge."""
    flags = mask = 0
    for bit, wanted in ((UP, up), (PROMISCUOUS, promiscuous), (MULTICAST_ALL, multicast_all)):
        if wanted is not None:
            mask |= bit
            flags |= bit if wanted else 0
    body = _header(flags=flags, change=mask) + _identity(name, mac, mtu)
    if master is not None:
        body += wire.u32(_MASTER, master)
    if alias is not None:
        body += wire.text(_ALIAS, alias)
    if transmit_queue is not None:
        body += wire.u32(_TXQLEN, transmit_queue)
    return wire.Request(_SET, 0, body, f"change link {name}")


def set_bridge_port(
    name: str, *, hairpin: bool | None = None, isolated: bool | None = None, learning: bool | None = None
) -> wire.Request:
    """Options of the bridge port `name`; EINVAL or EOPNOTSUPP when it is in no bridge."""
    options = (_PORT_HAIRPIN, hairpin), (_PORT_ISOLATED, isolated), (_PORT_LEARNING, learning)
    data = [wire.u8(kind, int(value)) for kind, value in options if value is not None]
    slave = wire.text(_INFO_SLAVE_KIND, "bridge") + wire.nested(_INFO_SLAVE_DATA, *data)
    body = _header() + wire.text(_IFNAME, name) + wire.nested(_LINKINFO, slave)
    # RTM_NEWLINK without CREATE: the one message that reaches a port by its name.
    return wire.Request(_NEW, 0, body, f"set bridge port {name}")


def set_addressing(
    name: str, *, link_local: bool | None = None, ipv4: dict[int, int] | None = None
) -> wire.Request:
    """IPv6 link-local addresses on or off, and IPv4 settings (IPV4_DEVCONF_* to value) of the link `name`."""
    families = []
    if link_local is not None:
        families.append(wire.nested(_AF_INET6, wire.u8(_INET6_ADDR_GEN_MODE, 0 if link_local else 1)))
    if ipv4:
        settings = [wire.u32(kind, value) for kind, value in ipv4.items()]
        families.append(wire.nested(_AF_INET, wire.nested(_INET_CONF, *settings)))
    body = _header() + wire.text(_IFNAME, name) + wire.nested(_AF_SPEC, *families)
    return wire.Request(_SET, 0, body, f"set addressing of link {name}")


def rename(index: int, name: str) -> wire.Request:
    """Give the link `index` another name; before Linux 6.3 it must be down (EBUSY)."""
    body = _header(index) + wire.text(_IFNAME, check_name(name))
    return wire.Request(_SET, 0, body, f"rename link {index} to {name}")


def hand_over(index: int, netns: int, name: str, *, alias: str) -> wire.Request:
    """Move the link `index` to the namespace behind the descriptor `netns`, down, as `name`, with an alias.

    In one message: it is never there under its old name if that is taken. EEXIST when `name` is.
    """
    body = _header(index, change=UP) + wire.text(_IFNAME, check_name(name)) + wire.text(_ALIAS, alias)
    return wire.Request(_SET, 0, body + wire.u32(_NET_NS_FD, netns), f"move link {index} as {name}")


def move(name: str, netns: int) -> wire.Request:
    """Move the link `name` to the namespace behind the descriptor `netns`; it loses its addresses."""
    return wire.Request(
        _SET, 0, _header() + wire.text(_IFNAME, name) + wire.u32(_NET_NS_FD, netns), f"move link {name}"
    )


def delete(name: str) -> wire.Request:
    """Delete the link `name`, a veth with its other end; ENODEV when there is none."""
    return wire.Request(_DELETE, 0, _header() + wire.text(_IFNAME, name), f"delete link {name}")


def get(socket: Socket, name: str | int, *, statistics: bool = False) -> Link | None:
    """The link of that name or index in the socket's namespace, or None."""
    body = _header(name) if isinstance(name, int) else _header() + wire.text(_IFNAME, name)
    if not statistics:
        body += wire.u32(_EXT_MASK, _SKIP_STATS)
    answer = socket.ask(wire.Request(_GET, 0, body, f"get link {name}", (errno.ENODEV,)))
    return None if answer is None else Link(answer.body)


def links(socket: Socket, *, master: int = 0, statistics: bool = False) -> list[Link]:
    """All links of the socket's namespace, or the ports of `master` alone."""
    body = _header()
    if master:
        body += wire.u32(_MASTER, master)
    if not statistics:
        body += wire.u32(_EXT_MASK, _SKIP_STATS)
    return [Link(message.body) for message in socket.dump(wire.Request(_GET, 0, body, "list links"))]


def created(answer: wire.Message | None) -> Link | None:
    """The link in the answer to a creation; None where the kernel does not echo it (before Linux 6.2)."""
    return Link(answer.body) if answer is not None and answer.kind == _NEW else None


def _header(index: int = 0, *, flags: int = 0, change: int = 0) -> bytes:
    return wire.pack(_HEADER, 0, 0, index, flags, change)


def _identity(name: str, mac: str | None, mtu: int) -> bytes:
    body = wire.text(_IFNAME, check_name(name))
    if mac is not None:
        body += wire.attribute(_ADDRESS, wire.pack_mac(mac))
    return body + wire.u32(_MTU, mtu) if mtu else body


def _kind(kind: str, data: bytes = b"") -> bytes:
    return wire.nested(_LINKINFO, wire.text(_INFO_KIND, kind), wire.nested(_INFO_DATA, data) if data else b"")


def _creation(body: bytes, what: str) -> wire.Request:
    return wire.Request(_NEW, wire.CREATE | wire.EXCLUSIVE | wire.ECHO, body, what)
