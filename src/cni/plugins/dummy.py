"""dummy: an interface that leads nowhere, to have addresses on."""

from __future__ import annotations

from cni.attachment import inner, names, options
from cni.attachment.inner import Inner
from cni.errors import PLUGIN_NOT_AVAILABLE, CniError
from linux.netlink import link

TYPE_CHECKING = False  # not from typing: a plugin lives too short to import it
if TYPE_CHECKING:
    from cni.attachment.veth import Namespaces
    from cni.fields import Fields
    from cni.request import Request
    from cni.types.result import Result
    from linux.netlink.link import Link
    from linux.netlink.wire import Request as Message

NAME = KIND = "dummy"

_NEEDS_IPAM = "dummy interface requires an IPAM configuration"


def add(request: Request) -> Result:
    """Make the attachment; when that fails nothing of it is left."""
    if not options.has_ipam(request):
        raise request.refuse(_NEEDS_IPAM)
    made = Inner(request, NAME, KIND, mac=names.mac(request, "container"))

    def build(name: str, netns: int | None) -> Message:
        return link.create(name, KIND, mac=made.mac, netns=netns)

    def make(namespaces: Namespaces) -> None:
        inner.put(namespaces, made, build, in_container=True)

    return inner.add(request, made, make, has_ipam=True)


def check(request: Request) -> None:
    inner.check(request, NAME, KIND, _look)


def status(request: Request) -> None:
    """Code 50 when the kernel has no dummies, or what the IPAM plugin says."""
    if not options.has_ipam(request):
        raise CniError(PLUGIN_NOT_AVAILABLE, _NEEDS_IPAM)
    inner.status(request, KIND)


def delete(request: Request) -> None:
    """Take the interface away and give the addresses back."""
    inner.delete(request, NAME, KIND)


def _look(namespaces: Namespaces, inside: Link, record: Fields) -> None:
    """There is nothing about a dummy that the addresses do not say."""
