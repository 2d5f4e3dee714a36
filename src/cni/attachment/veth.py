"""The veth pair of an attachment: one end in the container's network namespace, one in the host's."""

from __future__ import annotations

import errno
import os

from cni.attachment import names, sysctl
from cni.errors import (
    INTERNAL,
    INVALID_CONFIG,
    INVALID_ENVIRONMENT,
    INVALID_NETNS,
    TRY_AGAIN_LATER,
    UNKNOWN_CONTAINER,
    CniError,
)
from linux.netlink import link
from linux.netlink.batch import Batch
from linux.netlink.socket import ROUTE, Socket, open_in

TYPE_CHECKING = False  # not from typing: a plugin lives too short to import it
if TYPE_CHECKING:
    from types import TracebackType

    from cni.request import Request
    from linux.netlink.wire import Request as Message

_ATTEMPTS = 10


class Namespaces:
    """Netlink sockets in both namespaces: `host` and `container`, and the container's namespace as `fd`.

    A context manager. CniError 3 when the container's is gone, 8 when it is none.
    """

    __slots__ = ("container", "fd", "host", "path")

    def __init__(self, request: Request) -> None:
        self.path = request.netns or ""

    def __enter__(self) -> Namespaces:
        try:
            self.fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as failed:
            details = f"{self.path}: {failed.strerror}"
            raise CniError(UNKNOWN_CONTAINER, "the network namespace cannot be opened", details) from None
        try:
            (self.container,) = open_in(self.fd, ROUTE)
        except ValueError:
            os.close(self.fd)
            raise CniError(INVALID_NETNS, "not a network namespace", self.path) from None
        except BaseException:
            os.close(self.fd)
            raise
        try:
            self.host = Socket(ROUTE)
        except BaseException:
            self.container.close()
            os.close(self.fd)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.host.close()
        self.container.close()
        os.close(self.fd)


class Pair:
    """A veth pair by its names and hardware addresses. `index` is the container end's, once it is made."""

    __slots__ = ("container", "container_mac", "host", "host_mac", "index", "mtu")

    def __init__(self, host: str, host_mac: str, container: str, container_mac: str, mtu: int) -> None:
        self.host = host
        self.host_mac = host_mac
        self.container = container
        self.container_mac = container_mac
        self.mtu = mtu
        self.index = 0


def refuse_existing(request: Request, namespaces: Namespaces) -> None:
    """CniError 4 when the container has an interface of that name already."""
    if link.get(namespaces.container, request.ifname) is not None:
        raise CniError(
            INVALID_ENVIRONMENT,
            f"the container has an interface {request.ifname} already",
            f"in {namespaces.path}",
        )


def plan(request: Request, namespaces: Namespaces, *, mac: str = "", mtu: int = 0) -> Pair:
    """Choose names for a pair. CniError 4 when the container has an interface of that name already.

    CniError 7 when the host has one of the name that the configuration wants for its end.
    """
    refuse_existing(request, namespaces)
    host = ""
    for attempt in range(_ATTEMPTS):
        host = names.host_interface(request, attempt)
        if link.get(namespaces.host, host) is None:
            container_mac = mac or names.mac(request, "container")
            return Pair(host, names.mac(request, "host"), request.ifname, container_mac, mtu)
    if request.fields.string("hostInterface"):
        details = "{digits} in hostInterface would give others"
        raise CniError(INVALID_CONFIG, f"the host has an interface {host} already", details)
    raise CniError(INTERNAL, "no free name for the host's interface", f"{_ATTEMPTS} are taken")


def create(namespaces: Namespaces, pair: Pair, *, master: int = 0, port: Message | None = None) -> None:
    """Make the pair, the host's end up and in the bridge `master` with the options `port`.

    The container's end stays down: until then nothing can arrive at the host's, whose ears for router
    advertisements are closed first (CVE-2020-10749).
    """
    batch = Batch(namespaces.host)
    batch.add(
        link.create_veth(
            pair.host,
            pair.container,
            peer_netns=namespaces.fd,
            mac=pair.host_mac,
            peer_mac=pair.container_mac,
            mtu=pair.mtu,
            master=master,
            up=True,
        )
    )
    if port is not None:
        batch.add(port)
    made = link.created(batch.commit()[0])
    sysctl.host_side(pair.host)
    if made is None:
        made = link.get(namespaces.host, pair.host)
    if made is None or not made.peer:
        raise CniError(TRY_AGAIN_LATER, f"{pair.host} went away while it was set up")
    pair.index = made.peer


def delete(host: str, mac: str) -> None:
    """Delete the pair by its host's end, if it is the one with that hardware address.

    Another of the same name is somebody else's. Gone already is no error. The namespace of the container
    need not be there any more.
    """
    with Socket(ROUTE) as socket:
        found = link.get(socket, host)
        if found is not None and found.mac == mac:
            batch = Batch(socket)
            batch.add(link.delete(host).tolerating(errno.ENODEV))
            batch.commit()


def delete_in_container(netns: str, ifname: str, kind: str = "veth") -> None:
    """Delete the container's interface, for an attachment that no record speaks of, if it is of that kind.

    Nothing there is no error.
    """
    try:
        (socket,) = open_in(netns, ROUTE)
    except (FileNotFoundError, ValueError):
        return
    with socket:
        found = link.get(socket, ifname)
        if found is not None and found.kind == kind:
            batch = Batch(socket)
            batch.add(link.delete(ifname).tolerating(errno.ENODEV))
            batch.commit()
