"""VLANs of bridge ports (802.1Q filtering): which a port is in, and which packets without a tag are of.

Source: include/uapi/linux/if_bridge.h, net/bridge/br_netlink.c. A kernel without CONFIG_BRIDGE_VLAN_FILTERING
answers EOPNOTSUPP.
"""

from __future__ import annotations

from struct import Struct

from linux.netlink import wire
from linux.netlink.link import Link

TYPE_CHECKING = False
if TYPE_CHECKING:
    from linux.netlink.socket import Socket

LOWEST, HIGHEST = 1, 4094

_NEW, _DELETE, _GET, _SET = 16, 17, 18, 19
_AF_BRIDGE = 7
_HEADER = Struct("=BxHiII")
_INFO = Struct("=HH")
_U16 = Struct("=H")
_AF_SPEC, _EXT_MASK, _VLAN_INFO = 26, 29, 2
_WITH_VLANS = 1 << 1  # RTEXT_FILTER_BRVLAN
# Flags of a VLAN: packets without a tag are of it; its packets leave without one.
PVID, UNTAGGED = 0x2, 0x4
_RANGE_BEGIN, _RANGE_END = 0x8, 0x10
# IFLA_BR_*
_FILTERING, _DEFAULT_PVID = 7, 39


def add(port: int, first: int, last: int | None = None, *, native: bool = False) -> wire.Request:
    """Put the port with that index into the VLANs `first` to `last` (default: the first alone).

    `native`: packets without a tag are of this VLAN, and its packets leave the port without one.
    """
    flags = PVID | UNTAGGED if native else 0
    return wire.Request(_SET, 0, _body(port, first, last, flags), f"add VLAN {first} to port {port}")


def remove(port: int, vlan: int) -> wire.Request:
    """Take the port out of a VLAN; ENOENT when it is not in it."""
    return wire.Request(_DELETE, 0, _body(port, vlan, None, 0), f"remove VLAN {vlan} from port {port}")


def of_port(socket: Socket, port: int) -> dict[int, int]:
    """The VLANs of a port, with their flags (PVID, UNTAGGED)."""
    header = _HEADER.pack(_AF_BRIDGE, 0, 0, 0, 0)
    request = wire.Request(_GET, 0, header + wire.u32(_EXT_MASK, _WITH_VLANS), "list VLANs of bridge ports")
    found: dict[int, int] = {}
    for message in socket.dump(request):
        if Link(message.body).index != port:
            continue
        specification = wire.parse(message.body, _HEADER.size).get(_AF_SPEC, b"")
        for kind, raw in wire.attributes(specification):
            if kind == _VLAN_INFO:
                flags, vlan = _INFO.unpack_from(raw)
                found[vlan] = flags
    return found


def is_filtering(bridge: Link) -> bool:
    """Whether the bridge looks at VLANs at all."""
    return bridge.options.get(_FILTERING, b"\0") != b"\0"


def default_of(bridge: Link) -> int:
    """The VLAN that the bridge puts each new port into, 0 for none."""
    raw = bridge.options.get(_DEFAULT_PVID)
    return 1 if raw is None else int(_U16.unpack_from(raw)[0])


def _body(port: int, first: int, last: int | None, flags: int) -> bytes:
    if not LOWEST <= first <= (first if last is None else last) <= HIGHEST:
        raise ValueError(f"VLANs {first} to {last} are not between {LOWEST} and {HIGHEST}")
    if last is None or last == first:
        wanted = wire.attribute(_VLAN_INFO, _INFO.pack(flags, first))
    else:
        wanted = wire.attribute(_VLAN_INFO, _INFO.pack(flags | _RANGE_BEGIN, first))
        wanted += wire.attribute(_VLAN_INFO, _INFO.pack(flags | _RANGE_END, last))
    return wire.pack(_HEADER, _AF_BRIDGE, 0, port, 0, 0) + wire.nested(_AF_SPEC, wanted)
