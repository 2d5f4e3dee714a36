"""VLANs of a bridge's ports: what a configuration asks for, and the interface that is the gateway in one."""

from __future__ import annotations

import errno

from cni.attachment import names, sysctl, verify
from cni.errors import INVALID_CONFIG, PLUGIN_NOT_AVAILABLE, TRY_AGAIN_LATER, CniError
from linux.netlink import bridgevlan, link
from linux.netlink.batch import commit
from linux.netlink.bridgevlan import HIGHEST, LOWEST

TYPE_CHECKING = False  # not from typing: a plugin lives too short to import it
if TYPE_CHECKING:
    from cni.attachment.veth import Namespaces
    from cni.fields import Fields
    from linux.netlink.link import Link
    from linux.netlink.wire import Request as Message

_NATIVE_OF_TRUNK = 1  # where a trunk has no `vlan` of its own


class Vlans:
    """`vlan`, `vlanTrunk` and `preserveDefaultVlan`. False when there are no VLANs.

    `native` is the VLAN of packets without a tag, 0 for none; `trunk` are (first, last) of those with one.
    """

    __slots__ = ("keeps_default", "native", "own", "trunk")

    def __init__(self, own: int, trunk: list[tuple[int, int]], *, keeps_default: bool) -> None:
        self.own = own
        self.trunk = trunk
        self.keeps_default = keeps_default
        self.native = own or (_NATIVE_OF_TRUNK if trunk else 0)

    @classmethod
    def of(cls, fields: Fields) -> Vlans:
        """ValueError for numbers that are none of a VLAN, and for ranges that make no sense."""
        return cls(
            fields.integer("vlan", low=0, high=HIGHEST),
            [each for entry in fields.mappings("vlanTrunk") for each in _ranges(entry)],
            keeps_default=fields.boolean("preserveDefaultVlan"),
        )

    def __bool__(self) -> bool:
        return bool(self.native)


def filtering(namespaces: Namespaces, bridge: Link, *, ours: bool) -> None:
    """See to it that the bridge looks at VLANs; CniError 7 for somebody else's that does not."""
    if bridgevlan.is_filtering(bridge):
        return
    if not ours:
        raise CniError(
            INVALID_CONFIG,
            f"{bridge.name} does not look at VLANs",
            f"hint: ip link set {bridge.name} type bridge vlan_filtering 1",
        )
    try:
        commit(namespaces.host, link.filter_vlans(bridge.name))
    except OSError as failed:
        raise unsupported(failed) from None


def unsupported(failed: OSError) -> Exception:
    """The CniError for a kernel without VLANs on bridges; any other failure as it is."""
    if failed.errno != errno.EOPNOTSUPP:
        return failed
    return CniError(
        PLUGIN_NOT_AVAILABLE,
        "the bridges of this kernel do not look at VLANs",
        f"{failed}; hint: it needs CONFIG_BRIDGE_VLAN_FILTERING",
    )


def join(namespaces: Namespaces, bridge: Link, port: str, vlans: Vlans) -> None:
    """Put the port into its VLANs, and out of the bridge's default one unless it is to stay."""
    found = link.get(namespaces.host, port)
    if found is None:
        raise CniError(TRY_AGAIN_LATER, f"{port} went away while it was set up")
    requests: list[Message] = []
    default = bridgevlan.default_of(bridge)
    if default and not vlans.keeps_default:
        requests.append(bridgevlan.remove(found.index, default).tolerating(errno.ENOENT))
    requests += [bridgevlan.add(found.index, first, last) for first, last in vlans.trunk]
    # The last, as it may be one of the trunk's too.
    requests.append(bridgevlan.add(found.index, vlans.native, native=True))
    commit(namespaces.host, *requests)


def check(namespaces: Namespaces, bridge: Link, port: Link, vlans: Vlans) -> None:
    """CniError 101 when the port is not in its VLANs, or in the default one although it should not be."""
    if not bridgevlan.is_filtering(bridge):
        raise verify.damaged(f"{bridge.name} does not look at VLANs")
    present = bridgevlan.of_port(namespaces.host, port.index)
    native = bridgevlan.PVID | bridgevlan.UNTAGGED
    if present.get(vlans.native, 0) & native != native:
        raise verify.damaged(f"{port.name} has lost VLAN {vlans.native}")
    for first, last in vlans.trunk:
        missing = [each for each in range(first, last + 1) if each not in present]
        if missing:
            raise verify.damaged(f"{port.name} has lost VLAN {missing[0]} of its trunk")


def gateway_name(bridge: str, vlan: int) -> str:
    """The interface of the host that is in a VLAN of the bridge, as the reference plugin calls it."""
    return link.check_name(f"{bridge}.{vlan}")


def ensure_gateway(namespaces: Namespaces, bridge: Link, vlans: Vlans, alias: str) -> Link:
    """That interface, made or found: one end of a pair, of which the other is a port of the bridge.

    Both get the `alias`, by which they are known to be made here.
    """
    name = gateway_name(bridge.name, vlans.own)
    found = link.get(namespaces.host, name)
    if found is None:
        port = gateway_port(name)
        mac, port_mac = names.bridge_mac(name, bridge.mac), names.bridge_mac(port, bridge.mac)
        commit(
            namespaces.host,
            link.create_veth(port, name, mac=port_mac, peer_mac=mac, mtu=bridge.mtu, master=bridge.index),
            link.change(port, alias=alias),
            link.change(name, alias=alias),
        )
        for each in (port, name):
            sysctl.host_side(each)
        join(namespaces, bridge, port, Vlans(vlans.own, [], keeps_default=vlans.keeps_default))
        commit(namespaces.host, link.change(port, up=True), link.change(name, up=True))
        found = link.get(namespaces.host, name)
    if found is None:
        raise CniError(TRY_AGAIN_LATER, f"{name} went away while it was set up")
    if not found.is_up:
        commit(namespaces.host, link.change(name, up=True))
    return found


def gateway_port(name: str) -> str:
    """The other end of a gateway's pair."""
    return "veth" + names.digest(f"gateway/{name}", 8)


def _ranges(entry: Fields) -> list[tuple[int, int]]:
    """(first, last) of an entry of `vlanTrunk`, which may have both `id` and a range."""
    low = entry.optional_integer("minID", low=LOWEST, high=HIGHEST)
    high = entry.optional_integer("maxID", low=LOWEST, high=HIGHEST)
    single = entry.optional_integer("id", low=LOWEST, high=HIGHEST)
    if (low is None) != (high is None):
        raise ValueError("vlanTrunk: minID and maxID go together")
    found = []
    if low is not None and high is not None:
        if low > high:
            raise ValueError(f"vlanTrunk: minID {low} is above maxID {high}")
        found.append((low, high))
    if single is not None:
        found.append((single, single))
    if not found:
        raise ValueError("vlanTrunk: an entry has neither id nor minID and maxID")
    return found
