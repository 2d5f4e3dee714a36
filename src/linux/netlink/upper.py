"""Links on top of another link: macvlan, ipvlan, vlan (include/uapi/linux/if_link.h).

The link below is given by its index in the socket's namespace; with `netns` the new one is made in another,
see `link.create`.
"""

from __future__ import annotations

from struct import Struct
from sys import byteorder

from linux.netlink import link, wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from linux.netlink.link import Link

MACVLAN_MODES = {"private": 1, "vepa": 2, "bridge": 4, "passthru": 8}
IPVLAN_MODES = {"l2": 0, "l3": 1, "l3s": 2}
VLAN_HIGHEST = 4094

# IFLA_MACVLAN_*, IFLA_IPVLAN_*, IFLA_VLAN_*
_MACVLAN_MODE, _MACVLAN_QUEUE, _IPVLAN_MODE, _VLAN_ID = 1, 7, 1, 1
_U16 = Struct("=H")


def create_macvlan(
    name: str,
    over: int,
    *,
    mode: str = "bridge",
    broadcast_queue: int = 0,
    netns: int | None = None,
    mac: str | None = None,
    mtu: int = 0,
) -> wire.Request:
    """A macvlan in one of MACVLAN_MODES.

    `broadcast_queue`, in packets, is the length of the queue of all macvlans of the link below (Linux 5.11),
    0 the kernel's own. In mode passthru it has the address of the link below, whatever `mac` says.
    """
    options = wire.u32(_MACVLAN_MODE, _number(MACVLAN_MODES, mode))
    if broadcast_queue:
        options += wire.u32(_MACVLAN_QUEUE, broadcast_queue)
    return link.create(name, "macvlan", over=over, options=options, netns=netns, mac=mac, mtu=mtu)


def create_ipvlan(
    name: str, over: int, *, mode: str = "l2", netns: int | None = None, mtu: int = 0
) -> wire.Request:
    """An ipvlan in one of IPVLAN_MODES. It always has the hardware address of the link below."""
    options = wire.u16(_IPVLAN_MODE, _number(IPVLAN_MODES, mode))
    return link.create(name, "ipvlan", over=over, options=options, netns=netns, mtu=mtu)


def create_vlan(name: str, over: int, vlan: int, *, netns: int | None = None, mtu: int = 0) -> wire.Request:
    """The VLAN `vlan`, 0 to 4094, of the link below (802.1Q)."""
    if not 0 <= vlan <= VLAN_HIGHEST:
        raise ValueError(f"VLAN {vlan} is not between 0 and {VLAN_HIGHEST}")
    options = wire.u16(_VLAN_ID, vlan)
    return link.create(name, "vlan", over=over, options=options, netns=netns, mtu=mtu)


def macvlan_mode(found: Link) -> str:
    """The mode of a macvlan, "" for a link of another kind."""
    return _name(MACVLAN_MODES, found, "macvlan", _MACVLAN_MODE)


def ipvlan_mode(found: Link) -> str:
    """The mode of an ipvlan, "" for a link of another kind."""
    return _name(IPVLAN_MODES, found, "ipvlan", _IPVLAN_MODE)


def vlan_id(found: Link) -> int | None:
    """The number of a VLAN, None for a link of another kind."""
    raw = found.options.get(_VLAN_ID) if found.kind == "vlan" else None
    return None if raw is None else int(_U16.unpack_from(raw)[0])


def _number(modes: dict[str, int], mode: str) -> int:
    if mode not in modes:
        raise ValueError(f"{mode!r} is none of the modes {', '.join(modes)}")
    return modes[mode]


def _name(modes: dict[str, int], found: Link, kind: str, attribute: int) -> str:
    raw = found.options.get(attribute) if found.kind == kind else None
    if raw is None:
        return ""
    number = int.from_bytes(raw, byteorder)
    return next((name for name, value in modes.items() if value == number), str(number))
