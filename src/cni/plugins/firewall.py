"""firewall: what may be forwarded to and from the container that the plugins before it made."""

from __future__ import annotations

import errno

from cni import state
from cni.attachment import teardown, verify
from cni.errors import INVALID_CONFIG, LIMITED_CONNECTIVITY, PLUGIN_NOT_AVAILABLE, CniError
from cni.fields import Fields
from cni.iptables import presence
from cni.nft import firewall
from cni.nft.firewall import ISOLATED, OPEN, SAME_BRIDGE
from cni.types import version
from cni.undo import Undo
from linux.netlink import link
from linux.netlink.batch import Batch
from linux.netlink.socket import ROUTE, Socket

TYPE_CHECKING = False  # not from typing: a plugin lives too short to import it
if TYPE_CHECKING:
    from cni.request import Request
    from cni.types.result import Result

NAME = "firewall"
VERSIONS = version.KNOWN[version.KNOWN.index("0.4.0") :]

_BACKENDS = ("nftables", "iptables", "firewalld")
_POLICIES = (OPEN, SAME_BRIDGE, ISOLATED)
_ADMIN = "CNI-ADMIN"
_CHAIN_LONGEST = 28  # of iptables
_ZONE = "trusted"


class Config:
    """The configuration of a request, checked. ValueError and CniError for what cannot be."""

    __slots__ = ("admin", "backend", "policy", "zone")

    def __init__(self, request: Request) -> None:
        fields = request.fields
        self.backend = fields.string("backend")
        if self.backend and self.backend not in _BACKENDS:
            raise request.refuse("unknown backend", f"{self.backend!r} is none of {', '.join(_BACKENDS)}")
        self.policy = fields.string("ingressPolicy") or OPEN
        if self.policy not in _POLICIES:
            raise request.refuse(
                "unknown ingressPolicy", f"{self.policy!r} is none of {', '.join(_POLICIES)}"
            )
        self.zone = fields.string("firewalldZone") or _ZONE
        self.admin = fields.string("iptablesAdminChainName") or _ADMIN
        if len(self.admin) > _CHAIN_LONGEST or not self.admin.isprintable() or self.admin[:1] in "-!":
            raise ValueError(f"iptablesAdminChainName: {self.admin!r} cannot be the name of a chain")


def add(request: Request) -> Result:
    """Make the rules; the result is that of the plugin before."""
    config = Config(request)
    result = verify.previous(request)
    backend = config.backend or _default_backend()
    if state.load(request, NAME) is not None:
        # An ADD that was killed, or is done again; what it made for other addresses would stay.
        delete(request)
    bridge, ports = ("", []) if config.policy == OPEN else _bridge(request, result)
    sources = [str(each.address.host) for each in result.ips]
    made: dict[str, object] = {
        "backend": backend,
        "policy": config.policy,
        "bridge": bridge,
        "ips": [str(each.address) for each in result.ips],
        "admin": config.admin,
        "zone": config.zone,
    }
    if backend == "firewalld":
        from cni import firewalld

        # What somebody else told firewalld stays when the container goes.
        made["others"] = firewalld.present(config.zone, sources)
    made["ports"] = ports if config.policy == ISOLATED else []
    state.save(request, NAME, made)
    with Undo() as undo:
        undo.push(lambda: delete(request))
        _make(request, Fields(made))
    return result


def check(request: Request) -> None:
    config = Config(request)
    result = verify.previous(request)
    record = state.load(request, NAME)
    if record is None:
        bridge = "" if config.policy == OPEN else _bridge(request, result)[0]
        record = {
            "backend": config.backend or _default_backend(),
            "policy": config.policy,
            "bridge": bridge,
            "ips": [str(each.address) for each in result.ips],
            "admin": config.admin,
            "zone": config.zone,
        }
    if not _is_complete(request, Fields(record)):
        raise verify.damaged("the firewall rules of the attachment are missing")


def delete(request: Request) -> None:
    """Take the rules back, as recorded; without a record what the reference plugin made for prevResult."""
    record = state.load(request, NAME)
    if record is None:
        _delete_unrecorded(request)
        return
    made = Fields(record)
    addresses = teardown.recorded_ips(made)
    backend, policy = made.string("backend"), made.string("policy")
    steps = teardown.Steps()
    if backend == "iptables":
        from cni.iptables import firewall as by_iptables

        steps.run(lambda: by_iptables.remove(addresses))
    elif backend == "firewalld":
        from cni import firewalld

        others = made.strings("others")
        sources = [text for each in addresses if (text := str(each.host)) not in others]
        steps.run(lambda: firewalld.remove(made.string("zone"), sources))
    if backend != "iptables":
        owner, bridge = teardown.owner(request), made.string("bridge")
        steps.run(lambda: firewall.remove(addresses, policy, bridge, owner))
    steps.run(lambda: _isolate(made.strings("ports"), isolated=False))
    steps.finish()
    state.remove(request, NAME)


def reload(request: Request) -> list[str]:
    """Put back what is missing of a recorded attachment, and say what that was."""
    record = state.load(request, NAME)
    if record is None or _is_complete(request, Fields(record)):
        return []
    _make(request, Fields(record))
    if state.load(request, NAME) is None:
        # A DEL came in between: what was put back is nobody's.
        state.save(request, NAME, record)
        delete(request)
    elif not _is_complete(request, Fields(record)):
        raise verify.damaged(
            "the firewall rules cannot be put back", "delete the table inet rkt_firewall first"
        )
    return ["firewall rules"]


def status(request: Request) -> None:
    """Code 50 when the backend is not there, 51 when another table shuts what this one cannot open."""
    backend = Config(request).backend or _default_backend()
    if backend == "iptables":
        from cni.iptables import rules

        rules.read(v6=False)
    elif backend == "firewalld":
        from cni import firewalld

        if not firewalld.is_running():
            raise CniError(PLUGIN_NOT_AVAILABLE, "firewalld is not running")
    elif shut := firewall.shut_elsewhere():
        tables = ", ".join(f"{chain} of the table {table}" for _, table, chain in shut)
        raise CniError(
            LIMITED_CONNECTIVITY,
            "forwarded packets are dropped by another table",
            tables,
            hint="set backend to iptables if it is iptables' FORWARD, else accept the containers there",
        )


def _make(request: Request, made: Fields) -> None:
    addresses = teardown.recorded_ips(made)
    backend, policy, bridge = made.string("backend"), made.string("policy"), made.string("bridge")
    if backend == "iptables":
        from cni.iptables import firewall as by_iptables

        by_iptables.add(addresses, policy, bridge, made.string("admin"))
    elif backend == "firewalld":
        from cni import firewalld

        firewalld.add(made.string("zone"), [str(each.host) for each in addresses])
    if _has_own_rules(backend, policy):
        firewall.add(addresses, policy, bridge, teardown.owner(request))
    _isolate(made.strings("ports"), isolated=True)


def _is_complete(request: Request, made: Fields) -> bool:
    addresses = teardown.recorded_ips(made)
    backend, policy, bridge = made.string("backend"), made.string("policy"), made.string("bridge")
    if backend == "iptables":
        from cni.iptables import firewall as by_iptables

        if not by_iptables.is_complete(addresses, policy, bridge, made.string("admin")):
            return False
    elif backend == "firewalld":
        from cni import firewalld

        sources = [str(each.host) for each in addresses]
        if len(firewalld.present(made.string("zone"), sources)) < len(sources):
            return False
    if _has_own_rules(backend, policy) and not firewall.is_complete(
        addresses, policy, bridge, teardown.owner(request)
    ):
        return False
    return all(_is_isolated(port) for port in made.strings("ports"))


def _has_own_rules(backend: str, policy: str) -> bool:
    """Whether there is something in the table of nftables: firewalld knows no policies."""
    return backend == "nftables" or (backend == "firewalld" and policy != OPEN)


def _default_backend() -> str:
    """firewalld when it is running; iptables where its FORWARD drops, as no other table can help there.

    Of the iptables of before only its presence can be seen.
    """
    from cni import firewalld

    if firewalld.is_running():
        return "firewalld"
    if ("filter", "FORWARD") in [(table, chain) for _, table, chain in firewall.shut_elsewhere()]:
        return "iptables"
    return "iptables" if presence.has_old("filter", v6=False) else "nftables"


def _bridge(request: Request, result: Result) -> tuple[str, list[str]]:
    """The container's bridge, and its ports there that are not isolated yet."""
    bridge, ports = "", []
    with Socket(ROUTE) as socket:
        for each in result.interfaces:
            found = None if each.sandbox else link.get(socket, each.name)
            if found is None:
                continue
            if found.kind == "bridge":
                bridge = bridge or found.name
            elif found.master:
                master = link.get(socket, found.master)
                if master is not None and master.kind == "bridge":
                    bridge = master.name
                    if not found.isolated:
                        ports.append(found.name)
    if not bridge:
        raise CniError(
            INVALID_CONFIG,
            "this ingressPolicy is for containers on a bridge",
            "the plugins before have none",
            hint="put the bridge plugin before this one, or set ingressPolicy to open",
        )
    return bridge, ports


def _isolate(ports: tuple[str, ...], *, isolated: bool) -> None:
    """Whether ports of a bridge hear each other. It does that itself: no rule sees what it passes on."""
    if not ports:
        return
    with Socket(ROUTE) as socket:
        batch = Batch(socket)
        for each in ports:
            request = link.set_bridge_port(each, isolated=isolated)
            # On the way back the port may be gone, or a port no more.
            batch.add(
                request if isolated else request.tolerating(errno.ENODEV, errno.EINVAL, errno.EOPNOTSUPP)
            )
        batch.commit()


def _is_isolated(port: str) -> bool:
    with Socket(ROUTE) as socket:
        found = link.get(socket, port)
    return found is not None and found.isolated


def _delete_unrecorded(request: Request) -> None:
    try:
        previous = request.prev_result
    except CniError:
        return
    addresses = [each.address for each in previous.ips] if previous is not None else []
    if not addresses:
        return
    steps = teardown.Steps()
    steps.run(lambda: firewall.remove(addresses, OPEN, "", teardown.owner(request)))
    steps.run(lambda: _remove_from_iptables(request))
    if request.fields.get("backend") in (None, "", "firewalld"):
        from cni import firewalld

        zone = request.fields.string("firewalldZone") or _ZONE
        steps.run(lambda: firewalld.remove(zone, [str(each.host) for each in addresses]))
    steps.finish()


def _remove_from_iptables(request: Request) -> None:
    from cni.iptables import firewall as by_iptables

    result = request.prev_result
    by_iptables.remove([each.address for each in result.ips] if result is not None else [])
