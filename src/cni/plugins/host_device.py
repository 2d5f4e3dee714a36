"""host-device: a device of the host moves into the container, and comes back as it was.

Its old name is in its alias meanwhile, where the Go plugin looks too. Hardware returns to the host by itself
when the container's namespace ends; then DEL gives it its name back.
"""

from __future__ import annotations

import errno
import os
from time import monotonic, sleep

from cni import delegate, state
from cni.attachment import chained, hardware, interface, options, teardown, verify, veth
from cni.attachment.hardware import Wanted
from cni.errors import INVALID_CONFIG, PLUGIN_NOT_AVAILABLE, TRY_AGAIN_LATER, CniError
from cni.fields import Fields
from cni.types.result import Interface, IPConfig, Result
from cni.undo import Undo
from linux.netlink import link
from linux.netlink.batch import commit
from linux.netlink.socket import ROUTE, Socket, open_in

TYPE_CHECKING = False  # not from typing: a plugin lives too short to import it
if TYPE_CHECKING:
    from cni.attachment.veth import Namespaces
    from cni.request import Request
    from linux.netlink.link import Link

NAME = "host-device"

_RETURN_DEADLINE = 1.0  # seconds
_HERE = "/proc/thread-self/ns/net"


class _Moved:
    """The device in the container."""

    __slots__ = ("container", "index", "mac")

    def __init__(self, found: Link) -> None:
        self.container = found.name
        self.index = found.index
        self.mac = found.mac


def add(request: Request) -> Result:
    """Make the attachment; when that fails the device is where it was."""
    has_ipam = options.has_ipam(request)
    with veth.Namespaces(request) as namespaces:
        wanted = Wanted(request)
        if not wanted.driven_by_program:
            veth.refuse_existing(request, namespaces)
        if state.load(request, NAME) is not None:
            # The container has no such interface: the record is of an ADD that was killed.
            delete(request)
        made: dict[str, object] = {"netns": chained.identity(namespaces), "path": namespaces.path}
        device = None
        if not wanted.driven_by_program:
            device = hardware.find(namespaces.host, wanted)
            if device is None:
                raise request.refuse(f"the host has no device {wanted}", _holder(wanted))
            if device.flags & link.LOOPBACK:
                raise request.refuse(f"{device.name} cannot leave the host")
            made.update(_remembered(device))
        with Undo() as undo:
            undo.push(lambda: delete(request))
            state.save(request, NAME, made)
            return _make(request, namespaces, wanted, device, made, has_ipam=has_ipam)


def check(request: Request) -> None:
    result = verify.previous(request)
    record = state.load(request, NAME)
    if delegate.ipam_type(request):
        delegate.check(request)
    made = Fields(record)
    if record is None:
        if Wanted(request).driven_by_program:
            return
    elif not made.string("device"):
        return
    with veth.Namespaces(request) as namespaces:
        recorded = None if record is None else made.strings("ips")
        kind = None if record is None else made.string("kind")
        verify.container(request, namespaces, result, recorded, kind)
        verify.routes(namespaces, result)


def status(request: Request) -> None:
    """Code 50 when the device does not exist, or what the IPAM plugin says.

    One that a container has is no failure: the network is as it should be.
    """
    if hardware.is_named(request):
        wanted = Wanted(request)
        with Socket(ROUTE) as socket:
            there = wanted.driven_by_program or hardware.find(socket, wanted) is not None
        if not there and not _holder(wanted):
            raise CniError(PLUGIN_NOT_AVAILABLE, f"the host has no device {wanted}")
    if delegate.ipam_type(request):
        delegate.status(request)


def delete(request: Request) -> None:
    """Bring the device back under its name and as it was, and give the addresses back."""
    record = state.load(request, NAME)
    steps = teardown.Steps()
    if record is None:
        teardown.in_order(request, steps, lambda: _bring_back_unrecorded(request))
        steps.finish()
        return
    made = Fields(record)
    teardown.in_order(request, steps, lambda: _bring_back(request, made), made)
    steps.finish()
    state.remove(request, NAME)


def _make(
    request: Request,
    namespaces: Namespaces,
    wanted: Wanted,
    device: Link | None,
    made: dict[str, object],
    *,
    has_ipam: bool,
) -> Result:
    given = Result()
    if has_ipam and not delegate.needs_interface(request):
        given = _ask(request, made)
    if device is None:
        own = Interface(request.ifname, sandbox=request.netns or "", pci_id=wanted.pci)
        return Result(interfaces=[own], ips=_own(given), routes=given.routes, dns=options.dns(request, given))
    commit(namespaces.host, link.hand_over(device.index, namespaces.fd, request.ifname, alias=device.name))
    found = link.get(namespaces.container, request.ifname)
    if found is None:
        raise CniError(TRY_AGAIN_LATER, f"{device.name} went away while it was moved")
    moved = _Moved(found)
    if has_ipam and delegate.needs_interface(request):
        interface.bring_up(namespaces, moved)
        given = _ask(request, made)
    ips = _own(given)
    interface.configure(namespaces, moved, ips, interface.routes_of(moved.index, ips, given.routes))
    own = Interface(moved.container, mac=moved.mac, sandbox=request.netns or "", pci_id=wanted.pci)
    return Result(interfaces=[own], ips=ips, routes=given.routes, dns=options.dns(request, given))


def _ask(request: Request, made: dict[str, object]) -> Result:
    given = delegate.add(request)
    if not given.ips:
        raise CniError(INVALID_CONFIG, "IPAM plugin returned missing IP config")
    made["ips"] = [str(each.address) for each in given.ips]
    state.save(request, NAME, made)
    return given


def _own(given: Result) -> list[IPConfig]:
    return [IPConfig(each.address, gateway=each.gateway, interface=0, label=each.label) for each in given.ips]


def _remembered(device: Link) -> dict[str, object]:
    """What has to be as before when the device is back."""
    return {
        "device": device.name,
        "kind": device.kind,
        "mac": device.mac,
        "mtu": device.mtu,
        "alias": device.alias,
        "up": device.is_up,
    }


def _holder(wanted: Wanted) -> str:
    """Which container has the device, by our own records; "" when none has."""
    for plugin, request in state.every():
        if plugin != NAME:
            continue
        made = Fields(state.load(request, NAME))
        if made.string("device") and (
            wanted.device == made.string("device") or wanted.hardware_address == made.string("mac")
        ):
            return f"container {request.container_id} of network {request.name} has it"
    return ""


def _bring_back(request: Request, made: Fields) -> None:
    if not made.string("device"):
        return
    path = chained.place(request, made)
    if path is not None:
        (container,) = open_in(path, ROUTE)
        with container:
            found = _in_container(container, request, made)
            if found is not None:
                _hand_back(container, found, made.string("device"), made.string("device"))
    with Socket(ROUTE) as host:
        returned = _on_host(host, made)
        if returned is None and path is None and not made.string("kind"):
            returned = _await_return(host, made)
        if returned is not None:
            _restore(host, returned, made)


def _in_container(container: Socket, request: Request, made: Fields) -> Link | None:
    """The device, whatever the container calls it now.

    The container may have changed any of name, hardware address and alias, and have made links of its own;
    two of the three must be as they were, so that none of those comes to the host in the device's place.
    """
    device, mac = made.string("device"), made.string("mac")

    def likeness(each: Link) -> int:
        return (each.name in (request.ifname, device)) + (each.mac == mac) + (each.alias == device)

    same = [each for each in link.links(container) if each.kind == made.string("kind")]
    best = max(same, key=likeness, default=None)
    return best if best is not None and likeness(best) >= 2 else None


def _on_host(host: Socket, made: Fields) -> Link | None:
    """The device, if it is on the host: brought back just now, or returned when the namespace ended."""
    device, mac = made.string("device"), made.string("mac")
    same = [each for each in link.links(host) if each.kind == made.string("kind")]
    marked = (each for each in same if each.alias == device)
    return next(marked, None) or next((each for each in same if (each.name, each.mac) == (device, mac)), None)


def _await_return(host: Socket, made: Fields) -> Link | None:
    """Hardware whose namespace is gone: the kernel brings it back a moment after that, in the background.

    None when it does not come: it was taken out of the machine, or somebody keeps the namespace.
    """
    end = monotonic() + _RETURN_DEADLINE
    while True:
        found = _on_host(host, made)
        if found is not None or monotonic() > end:
            return found
        sleep(0.01)


def _restore(host: Socket, found: Link, made: Fields) -> None:
    device, mac = made.string("device"), made.string("mac")
    requests = []
    if found.name != device:
        requests += [link.change(found.name, up=False), link.rename(found.index, device)]
    if found.mac != mac or found.mtu != made.integer("mtu"):
        requests.append(link.change(device, mac=mac or None, mtu=made.integer("mtu")))
    if made.boolean("up"):
        requests.append(link.change(device, up=True))
    if found.alias != made.string("alias"):
        # The last: by its alias it is known to need the others.
        requests.append(link.change(device, alias=made.string("alias")))
    if requests:
        commit(host, *requests)


def _bring_back_unrecorded(request: Request) -> None:
    """For a device that another implementation moved: its name is its alias."""
    if request.netns is None:
        return
    try:
        (container,) = open_in(request.netns, ROUTE)
    except (FileNotFoundError, ValueError):
        return
    with container:
        found = link.get(container, request.ifname)
        if found is not None and found.alias:
            _hand_back(container, found, found.alias, "")


def _hand_back(container: Socket, found: Link, name: str, alias: str) -> None:
    here = os.open(_HERE, os.O_RDONLY | os.O_CLOEXEC)
    try:
        commit(container, link.hand_over(found.index, here, name, alias=alias))
    except OSError as failed:
        if failed.errno != errno.EEXIST:
            raise
        raise CniError(
            TRY_AGAIN_LATER,
            f"{found.name} cannot come back as {name}",
            "the host has another interface of that name",
        ) from None
    finally:
        os.close(here)
