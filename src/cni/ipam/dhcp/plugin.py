"""dhcp: a lease of the network's DHCP server for each attachment.

The plugin asks for the lease through the container's interface, which it finds there, and gives it back the
same way. In between the daemon renews it (`dhcp daemon`): without one there is no ADD, but a DEL needs none.
"""

from __future__ import annotations

import os
from time import monotonic, sleep

from cni.attachment import sysctl
from cni.errors import (
    INVALID_ENVIRONMENT,
    PLUGIN_NOT_AVAILABLE,
    TRY_AGAIN_LATER,
    UNKNOWN_CONTAINER,
    CniError,
)
from cni.ipam.dhcp import client, leases, options, protocol
from cni.ipam.dhcp.frames import Channel
from cni.ipam.dhcp.leases import Lease, Locked
from cni.types.address import format_ip
from linux.namespaces import inside
from linux.netlink import link
from linux.netlink.batch import Batch
from linux.netlink.socket import ROUTE, open_in
from linux.netlink.wire import pack_mac, read_mac

TYPE_CHECKING = False  # not from typing: a plugin lives too short to import it
if TYPE_CHECKING:
    from cni.ipam.dhcp.client import Settings
    from cni.request import Request
    from cni.types.result import Result
    from linux.netlink.link import Link

NAME = "dhcp"
NO_LEASE = 100  # CHECK: the attachment has no lease that is good now
_HINT = "start the daemon: systemctl start rkt-dhcp.socket, or run `dhcp daemon`"
_MOST_CONFLICTS = 5
_LINK_DEADLINE = 1.0  # seconds for the interface to say that it is up


def command(arguments: list[str]) -> int:
    """What the executable does when it is given arguments: ``dhcp daemon``."""
    from cni.ipam.dhcp import daemon

    return daemon.main(arguments)


def add(request: Request) -> Result:
    """Get a lease, and have the daemon keep it."""
    wishes, probing = options.read(request), request.ipam.boolean("arpProbe")
    path = request.ipam.string("daemonSocketPath") or protocol.SOCKET
    settings = _settings(path)
    delete(request)  # of an ADD that was killed: its runtime wants a new one
    netns = request.netns or ""
    found = _raise_link(request)
    lease = Lease(request.name, request.container_id, request.ifname, mac=pack_mac(found.mac), wishes=wishes)
    lease.netns, lease.inode, lease.socket = netns, os.stat(netns).st_ino, path
    _save(lease)
    try:
        with Channel(netns, found.index, lease.mac, lease.mac) as channel:
            client.acquire(lease, channel, settings, lambda: _save(lease))
            if probing:
                _refuse_conflicts(lease, channel, found, settings)
        given = options.result(lease.message, lease.priority)
        _lower_mtu(lease, found)
        _save(lease)
        _have_it_kept(lease)
    except BaseException:
        _give_back(lease, request)
        raise
    return given


def check(request: Request) -> None:
    with Locked() as held:
        lease = held.load(leases.file_name(request.name, request.container_id, request.ifname))
    attachment = f"{request.container_id} {request.ifname}"
    if lease is None or lease.state in (leases.ASKING, leases.RELEASING):
        raise CniError(NO_LEASE, "there is no DHCP lease", attachment)
    if lease.state == leases.LOST or (lease.expires is not None and lease.expires <= leases.now()):
        raise CniError(NO_LEASE, "the DHCP lease has expired", attachment)


def delete(request: Request) -> None:
    """Give the lease back, whether the daemon is there or not. A namespace that is gone is no error."""
    with Locked() as held:
        lease = held.load(leases.file_name(request.name, request.container_id, request.ifname))
    if lease is not None:
        _give_back(lease, request)


def collect(request: Request) -> None:
    """Give back the leases of the network's attachments that are not valid; files of other boots go."""
    valid = request.valid_attachments
    with Locked() as held:
        from linux.files import collect_temporary

        collect_temporary(held.path)
        stale = [
            each
            for each in held.every()
            if each.network == request.name and (each.container_id, each.ifname) not in valid
        ]
    for each in stale:
        _give_back(each, request)


def status(request: Request) -> None:
    """Code 50 when the daemon is away: an ADD would fail."""
    options.read(request)
    path = request.ipam.string("daemonSocketPath") or protocol.SOCKET
    try:
        protocol.hello(path)
    except (protocol.DaemonAway, protocol.OtherDaemon) as away:
        raise CniError(PLUGIN_NOT_AVAILABLE, "the dhcp daemon does not answer", f"{away}; {_HINT}") from None


def _settings(path: str) -> Settings:
    try:
        return protocol.hello(path)
    except protocol.DaemonAway as away:
        raise CniError(
            TRY_AGAIN_LATER, "the dhcp daemon does not answer", f"{away}; {_HINT}", hint=_HINT
        ) from None
    except protocol.OtherDaemon as other:
        raise CniError(PLUGIN_NOT_AVAILABLE, "there is another dhcp daemon", str(other), hint=_HINT) from None


def _have_it_kept(lease: Lease) -> None:
    try:
        protocol.call(lease.socket, protocol.KEEP, lease.name)
    except protocol.DaemonAway:
        pass  # gone since it was asked; the one that comes reads the file
    except protocol.OtherDaemon as refused:
        raise CniError(
            PLUGIN_NOT_AVAILABLE, "the dhcp daemon does not keep the lease", str(refused)
        ) from None


def _raise_link(request: Request) -> Link:
    """The container's interface, up and with a carrier, and deaf to routers that advertise themselves."""
    netns = request.netns or ""
    try:
        (socket,) = open_in(netns, ROUTE)
    except FileNotFoundError:
        raise CniError(UNKNOWN_CONTAINER, "the network namespace cannot be opened", netns) from None
    with socket:
        found = link.get(socket, request.ifname)
        if found is None:
            raise CniError(
                INVALID_ENVIRONMENT,
                f"the container has no interface {request.ifname}",
                "dhcp asks through it, so the plugin that makes it has to do so first (ptp does not)",
            )
        if not found.is_up:
            with inside(netns):
                sysctl.of_interface("ipv6", request.ifname, "accept_ra", 0)
            batch = Batch(socket)
            batch.add(link.change(request.ifname, up=True))
            batch.commit()
        end = monotonic() + _LINK_DEADLINE
        pause = 0.0005
        while found.operstate not in ("up", "unknown"):
            if monotonic() > end:
                break  # the kernel may be late to say it: what is sent shows whether it is up
            sleep(pause)
            pause = min(pause * 2, 0.05)
            again = link.get(socket, found.index)
            if again is None:
                raise CniError(TRY_AGAIN_LATER, f"{request.ifname} went away")
            found = again
    return found


def _lower_mtu(lease: Lease, found: Link) -> None:
    """The server's MTU, when it is below the interface's: it knows of a narrow place beyond this host."""
    wanted = options.mtu(lease.message)
    if not wanted or wanted >= found.mtu:
        return
    (socket,) = open_in(lease.netns, ROUTE)
    with socket:
        batch = Batch(socket)
        batch.add(link.change(found.name, mtu=wanted))
        batch.commit()


def _save(lease: Lease) -> None:
    with Locked(create=True) as held:
        held.save(lease)


def _refuse_conflicts(lease: Lease, channel: Channel, found: Link, settings: Settings) -> None:
    """Decline addresses that somebody else uses, as often as the server has others (RFC 2131 3.1.5)."""
    from cni.ipam.dhcp import probe

    tried: set[bytes] = set()
    while other := probe.owner(lease.netns, found.index, pack_mac(found.mac), lease.address):
        taken = lease.address
        channel.send(client.decline(lease))
        lease.state, lease.address = leases.ASKING, b""
        if taken in tried or len(tried) == _MOST_CONFLICTS:
            raise CniError(
                TRY_AGAIN_LATER,
                f"{format_ip(taken)}, which the DHCP server gives, is in use",
                f"by {read_mac(other)}",
            )
        tried.add(taken)
        client.acquire(lease, channel, settings, lambda: _save(lease))


def _give_back(lease: Lease, request: Request) -> None:
    """Release the lease and forget it; the daemon first stops to renew it."""
    lease.state = leases.RELEASING
    _save(lease)
    try:
        protocol.call(lease.socket, protocol.FORGET, lease.name)
    except (protocol.DaemonAway, protocol.OtherDaemon):
        pass  # the next one reads what the file says
    if lease.address and lease.server:
        try:
            _release(lease, request)
        except (OSError, ValueError):
            pass  # the interface is gone or down: the server takes the address back when the lease ends
    with Locked() as held:
        held.remove(lease.name)


def _release(lease: Lease, request: Request) -> None:
    """From the leased address to the server's, both in IP and on the wire: servers listen to nothing else.

    When the container is gone, in its name from the bridge or the master of its interface; that does not
    reach a server on this very host.
    """
    netns, name = lease.netns, lease.ifname
    if not lease.netns_lives():
        netns = "/proc/thread-self/ns/net"
        name = request.fields.string("bridge") or request.fields.string("master")
    (socket,) = open_in(netns, ROUTE)
    with socket:
        found = link.get(socket, name) if name else None
    if found is None:
        return
    mac = pack_mac(found.mac) if netns == lease.netns else lease.mac
    with Channel(netns, found.index, mac, lease.mac) as channel:
        channel.send(client.release(lease), to=lease.server_mac, source=lease.address, target=lease.server)
