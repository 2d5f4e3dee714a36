"""macvlan: an interface of the container with a hardware address of its own on a link of the host."""

from __future__ import annotations

from cni.attachment import inner, master, names, options, verify
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

NAME = KIND = "macvlan"

_DEFAULT_MODE = "bridge"
_PASSTHRU = "passthru"
_QUEUE_HIGHEST = (1 << 32) - 1


class Config:
    """The configuration of a request, checked."""

    __slots__ = ("has_ipam", "in_container", "mac", "mode", "mtu", "queue")

    def __init__(self, request: Request) -> None:
        fields = request.fields
        self.mode = fields.string("mode") or _DEFAULT_MODE
        if self.mode not in upper.MACVLAN_MODES:
            raise request.refuse(f"unknown macvlan mode: {self.mode!r}")
        self.mtu = options.mtu(request)
        self.queue = fields.integer("bcqueuelen", low=0, high=_QUEUE_HIGHEST)
        self.in_container = master.in_container(request)
        self.has_ipam = options.has_ipam(request)
        self.mac = options.own_mac(request)
        if self.mode == _PASSTHRU:
            if self.mac:
                raise request.refuse(
                    f"mac {self.mac} cannot be had in mode passthru", "it has the master's address"
                )
        else:
            self.mac = self.mac or names.mac(request, "container")


def add(request: Request) -> Result:
    """Make the attachment; when that fails nothing of it is left."""
    config = Config(request)
    made = Inner(request, NAME, KIND, mac=config.mac, announce=True)

    def find(namespaces: Namespaces) -> None:
        made.over = master.find(request, namespaces).index

    def build(name: str, netns: int | None) -> Message:
        return upper.create_macvlan(
            name,
            made.over,
            mode=config.mode,
            broadcast_queue=config.queue,
            netns=netns,
            mac=config.mac or None,
            mtu=config.mtu,
        )

    def make(namespaces: Namespaces) -> None:
        inner.put(namespaces, made, build, in_container=config.in_container)

    return inner.add(request, made, make, find=find, has_ipam=config.has_ipam)


def check(request: Request) -> None:
    config = Config(request)

    def look(namespaces: Namespaces, inside: Link, record: Fields) -> None:
        master.check(request, namespaces, inside, record)
        if upper.macvlan_mode(inside) != config.mode:
            raise verify.damaged(
                f"{inside.name} is in mode {upper.macvlan_mode(inside)}", f"not {config.mode}"
            )

    inner.check(request, NAME, KIND, look)


def status(request: Request) -> None:
    """Code 50 when there is no master, or no macvlan in the kernel; else what the IPAM plugin says."""
    Config(request)
    master.status(request)
    inner.status(request, KIND)


def delete(request: Request) -> None:
    """Take the interface away and give the addresses back; the master is not needed for that."""
    inner.delete(request, NAME, KIND)
