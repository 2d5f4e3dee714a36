"""An attachment that is one interface in the container: its life, of which a plugin says how it is made."""

from __future__ import annotations

import errno

from cni import delegate, state
from cni.attachment import chained, interface, names, options, teardown, verify, veth
from cni.errors import INVALID_CONFIG, PLUGIN_NOT_AVAILABLE, TRY_AGAIN_LATER, CniError
from cni.fields import Fields
from cni.types.result import Interface, IPConfig, Result
from cni.undo import Undo
from linux.netlink import link
from linux.netlink.batch import commit
from linux.netlink.socket import ROUTE, Socket, open_in

TYPE_CHECKING = False  # not from typing: a plugin lives too short to import it
if TYPE_CHECKING:
    from collections.abc import Callable

    from cni.attachment.veth import Namespaces
    from cni.request import Request
    from linux.netlink.link import Link
    from linux.netlink.wire import Request as Message

_MODULES = {"vlan": "8021q"}  # where it is not the kind's own name


class Inner:
    """The interface: `plugin` and `kind`, its name in the container, and what is known of it once it is made.

    `mac` is the address it shall have, "" for whatever the kernel gives; then the one it has. `passing` is a
    name under which it may be in the container before it has its own. `over` is the index of the link below
    it, 0 for none. `announce`: see `interface.configure`.
    """

    __slots__ = ("announce", "container", "index", "kind", "mac", "over", "passing", "plugin")

    def __init__(
        self, request: Request, plugin: str, kind: str, *, mac: str = "", announce: bool = False
    ) -> None:
        self.plugin = plugin
        self.kind = kind
        self.container = request.ifname
        self.passing = names.passing(request)
        self.mac = mac
        self.announce = announce
        self.index = 0
        self.over = 0


def add(
    request: Request,
    inner: Inner,
    make: Callable[[Namespaces], None],
    *,
    find: Callable[[Namespaces], object] | None = None,
    has_ipam: bool,
    given: Result | None = None,
) -> Result:
    """Make the attachment; when that fails nothing of it is left.

    `find` looks for what is needed before anything is done, such as the link below; `make` makes the
    interface and says its index. `given` are addresses from elsewhere than an IPAM plugin.
    """
    options.dns(request, None)  # refuses one that makes no sense, before anything is done
    with veth.Namespaces(request) as namespaces:
        veth.refuse_existing(request, namespaces)
        if find is not None:
            find(namespaces)
        if state.load(request, inner.plugin) is not None:
            # The container has no such interface: the record is of an ADD that was killed.
            delete(request, inner.plugin)
        made: dict[str, object] = {
            "kind": inner.kind,
            "passing": inner.passing,
            "over": inner.over,
            "netns": chained.identity(namespaces),
            "path": namespaces.path,
            "ips": [str(each.address) for each in given.ips] if given is not None else [],
        }
        with Undo() as undo:
            undo.push(lambda: delete(request, inner.plugin))
            state.save(request, inner.plugin, made)
            if has_ipam and not delegate.needs_interface(request):
                given = _ask(request, inner, made)
            make(namespaces)
            if has_ipam and delegate.needs_interface(request):
                interface.bring_up(namespaces, inner)
                given = _ask(request, inner, made)
            return _configure(request, namespaces, inner, given)


def check(request: Request, plugin: str, kind: str, look: Callable[[Namespaces, Link, Fields], None]) -> None:
    """CHECK: the interface is as it was made; `look` sees to what only the plugin knows.

    It is given the interface, and the record (empty when another implementation made the attachment).
    """
    result = verify.previous(request)
    found = state.load(request, plugin)
    made = Fields(found)
    if delegate.ipam_type(request):
        delegate.check(request)
    with veth.Namespaces(request) as namespaces:
        recorded = None if found is None else made.strings("ips")
        inside = verify.container(request, namespaces, result, recorded, kind)
        verify.routes(namespaces, result)
        if made.integer("over") and inside.peer != made.integer("over"):
            raise verify.damaged(f"{inside.name} is on top of another link than it was")
        look(namespaces, inside, made)


def delete(request: Request, plugin: str, kind: str = "") -> None:
    """DEL. Without a record the container's interface goes if it is of that `kind`."""
    record = state.load(request, plugin)
    steps = teardown.Steps()
    if record is None:
        teardown.unrecorded_interface(request, steps, kind)
        steps.finish()
        return
    made = Fields(record)
    teardown.in_order(request, steps, lambda: _delete_interface(request, made), made)
    steps.finish()
    state.remove(request, plugin)


def status(request: Request, kind: str = "") -> None:
    """STATUS: CniError 50 when the kernel has no links of that `kind`, or what the IPAM plugin says."""
    if kind:
        with Socket(ROUTE) as socket:
            if not link.supports(socket, kind):
                raise unsupported(kind)
    if delegate.ipam_type(request):
        delegate.status(request)


def put(
    namespaces: Namespaces,
    inner: Inner,
    build: Callable[[str, int | None], Message],
    *,
    in_container: bool,
) -> None:
    """Make the interface by the request that `build` makes of a name and a descriptor of its namespace.

    It is sent from the host's namespace, where the link below it is, unless `in_container`.
    """
    try:
        if in_container:
            commit(namespaces.container, build(inner.container, None))
            found = link.get(namespaces.container, inner.container)
        else:
            commit(namespaces.host, build(inner.passing, namespaces.fd))
            found = link.get(namespaces.container, inner.passing)
            if found is not None:
                commit(namespaces.container, link.rename(found.index, inner.container))
    except OSError as failed:
        if failed.errno == errno.EOPNOTSUPP:
            raise unsupported(inner.kind, str(failed)) from None
        raise
    if found is None:
        raise CniError(TRY_AGAIN_LATER, f"{inner.container} went away while it was set up")
    inner.index, inner.mac = found.index, found.mac


def unsupported(kind: str, details: str = "") -> CniError:
    """The error for a kernel that cannot make links of that kind."""
    hint = f"modprobe {_MODULES.get(kind, kind)}"
    details = f"{details}; hint: {hint}" if details else f"hint: {hint}"
    return CniError(PLUGIN_NOT_AVAILABLE, f"this kernel has no {kind} links", details, hint=hint)


def _ask(request: Request, inner: Inner, made: dict[str, object]) -> Result:
    given = delegate.add(request)
    if not given.ips:
        raise CniError(INVALID_CONFIG, "IPAM plugin returned missing IP config")
    made["ips"] = [str(each.address) for each in given.ips]
    state.save(request, inner.plugin, made)
    return given


def _configure(request: Request, namespaces: Namespaces, inner: Inner, given: Result | None) -> Result:
    given = given or Result()
    ips = [IPConfig(each.address, gateway=each.gateway, interface=0, label=each.label) for each in given.ips]
    interface.configure(
        namespaces, inner, ips, interface.routes_of(inner.index, ips, given.routes), announce=inner.announce
    )
    return Result(
        interfaces=[Interface(inner.container, mac=inner.mac, sandbox=request.netns or "")],
        ips=ips,
        routes=given.routes,
        dns=options.dns(request, given),
    )


def _delete_interface(request: Request, made: Fields) -> None:
    """Delete the interface in its namespace, if that is still there, under either of its names."""
    path = chained.place(request, made)
    if path is None:
        return
    (socket,) = open_in(path, ROUTE)
    with socket:
        for name in (made.string("passing"), request.ifname):
            found = link.get(socket, name)
            # Whatever its hardware address is: the container may have changed that.
            if found is not None and found.kind == made.string("kind"):
                commit(socket, link.delete(name).tolerating(errno.ENODEV))
