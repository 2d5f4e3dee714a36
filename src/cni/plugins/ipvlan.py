"""ipvlan: an interface of the container with addresses of its own and the hardware address of its master.

In a chain it is made on the interface that the plugin before names, and may take over that one's addresses.
"""

from __future__ import annotations

from cni.attachment import inner, master, options, verify
from cni.attachment.inner import Inner
from linux.netlink import upper

TYPE_CHECKING = False  # not from typing: a plugin lives too short to import it
if TYPE_CHECKING:
    from cni.attachment.veth import Namespaces
    from cni.fields import Fields
    from cni.request import Request
    from cni.types.result import Result
    from linux.netlink.link import Link
    from linux.netlink.wire import Request as Message

NAME = KIND = "ipvlan"

_DEFAULT_MODE = "l2"


class Config:
    """The configuration of a request, checked."""

    __slots__ = ("has_ipam", "in_container", "mode", "mtu")

    def __init__(self, request: Request) -> None:
        self.mode = request.fields.string("mode") or _DEFAULT_MODE
        if self.mode not in upper.IPVLAN_MODES:
            raise request.refuse(f"unknown ipvlan mode: {self.mode!r}")
        self.mtu = options.mtu(request)
        self.in_container = master.in_container(request)
        self.has_ipam = options.has_ipam(request)


def add(request: Request) -> Result:
    """Make the attachment; when that fails nothing of it is left."""
    config = Config(request)
    previous = request.prev_result
    name = request.fields.string("master")
    if not name and previous is not None:
        if len(previous.interfaces) != 1 or not previous.interfaces[0].name:
            raise request.refuse("chained master failure. PrevResult lacks a single named interface")
        name = previous.interfaces[0].name
    given = previous if previous is not None and previous.ips and not config.has_ipam else None
    if given is None and not config.has_ipam:
        raise request.refuse("no plugin name provided", "ipvlan needs an IPAM plugin or prevResult")
    made = Inner(request, NAME, KIND)

    def find(namespaces: Namespaces) -> None:
        made.over = master.find(request, namespaces, name).index

    def build(name: str, netns: int | None) -> Message:
        return upper.create_ipvlan(name, made.over, mode=config.mode, netns=netns, mtu=config.mtu)

    def make(namespaces: Namespaces) -> None:
        inner.put(namespaces, made, build, in_container=config.in_container)

    return inner.add(request, made, make, find=find, has_ipam=config.has_ipam, given=given)


def check(request: Request) -> None:
    config = Config(request)

    def look(namespaces: Namespaces, inside: Link, record: Fields) -> None:
        if request.fields.string("master"):
            master.check(request, namespaces, inside, record)
        if upper.ipvlan_mode(inside) != config.mode:
            raise verify.damaged(
                f"{inside.name} is in mode {upper.ipvlan_mode(inside)}", f"not {config.mode}"
            )

    inner.check(request, NAME, KIND, look)


def status(request: Request) -> None:
    """Code 50 when there is no master, or no ipvlan in the kernel; else what the IPAM plugin says.

    In a chain the master is what a plugin before makes: only one that is named can be looked for.
    """
    Config(request)
    if request.fields.string("master"):
        master.status(request)
    inner.status(request, KIND)


def delete(request: Request) -> None:
    """Take the interface away and give the addresses back; the master is not needed for that."""
    inner.delete(request, NAME, KIND)
