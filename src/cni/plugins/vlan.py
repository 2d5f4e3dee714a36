"""vlan: an interface of the container that is one VLAN (802.1Q) of a link of the host."""

from __future__ import annotations

import errno

from cni.attachment import inner, master, options, verify
from cni.attachment.inner import Inner
from cni.errors import INVALID_CONFIG, CniError
from linux.netlink import upper

TYPE_CHECKING = False  # not from typing: a plugin lives too short to import it
if TYPE_CHECKING:
    from cni.attachment.veth import Namespaces
    from cni.fields import Fields
    from cni.request import Request
    from cni.types.result import Result
    from linux.netlink.link import Link
    from linux.netlink.wire import Request as Message

NAME = KIND = "vlan"


class Config:
    """The configuration of a request, checked."""

    __slots__ = ("in_container", "mtu", "vlan")

    def __init__(self, request: Request) -> None:
        if not request.fields.string("master"):
            raise request.refuse(
                '"master" field is required. It specifies the host interface name to create the VLAN for'
            )
        self.vlan = request.fields.integer("vlanId", low=0, high=upper.VLAN_HIGHEST)
        self.mtu = options.mtu(request)
        self.in_container = master.in_container(request)


def add(request: Request) -> Result:
    """Make the attachment; when that fails nothing of it is left."""
    config = Config(request)
    if not options.has_ipam(request):
        raise request.refuse("no plugin name provided", "vlan needs an IPAM plugin")
    made = Inner(request, NAME, KIND)

    def find(namespaces: Namespaces) -> None:
        found = master.find(request, namespaces)
        if not found.is_up:  # then the kernel refuses to bring up a VLAN of it (ENETDOWN)
            raise request.refuse(f"the master {found.name} is down", f"hint: ip link set {found.name} up")
        made.over = found.index

    def build(name: str, netns: int | None) -> Message:
        return upper.create_vlan(name, made.over, config.vlan, netns=netns, mtu=config.mtu)

    def make(namespaces: Namespaces) -> None:
        try:
            inner.put(namespaces, made, build, in_container=config.in_container)
        except OSError as failed:
            if failed.errno != errno.EEXIST:
                raise
            # The kernel has each VLAN of a link once, in whatever namespace that is.
            raise CniError(
                INVALID_CONFIG,
                f"VLAN {config.vlan} of {request.fields.string('master')} is taken",
                "another interface is it already",
            ) from None

    return inner.add(request, made, make, find=find, has_ipam=True)


def check(request: Request) -> None:
    config = Config(request)

    def look(namespaces: Namespaces, inside: Link, record: Fields) -> None:
        master.check(request, namespaces, inside, record)
        if upper.vlan_id(inside) != config.vlan:
            raise verify.damaged(f"{inside.name} is VLAN {upper.vlan_id(inside)}", f"not {config.vlan}")

    inner.check(request, NAME, KIND, look)


def status(request: Request) -> None:
    """Code 50 when there is no master, or no vlan in the kernel; else what the IPAM plugin says."""
    Config(request)
    master.status(request)
    inner.status(request, KIND)


def delete(request: Request) -> None:
    """Take the interface away and give the addresses back; the master is not needed for that."""
    inner.delete(request, NAME, KIND)
