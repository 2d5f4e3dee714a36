"""What is wrong with the networks of this node, and what mends it.

Nothing is changed. Plugins are asked for their versions and their STATUS, the kernel for what they need.
"""

from __future__ import annotations

import errno
import os

from cni import config, state
from cni.errors import CniError
from cni.fields import Fields
from cni.types.version import LATEST
from linux import probes
from linux.probes import FAIL, OK, WARN, Finding

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from cni.cache import Cache
    from cni.config import NetworkConfig
    from cni.inventory import Known
    from cni.runtime import Runtime

# What each plugin makes: kinds of links as the kernel calls them, and the module that has them.
_KINDS = {
    "bandwidth": ("ifb",),
    "bridge": ("bridge", "veth"),
    "dummy": ("dummy",),
    "flannel": ("bridge", "veth"),
    "ipvlan": ("ipvlan",),
    "macvlan": ("macvlan",),
    "ptp": ("veth",),
    "vlan": ("vlan",),
    "vrf": ("vrf",),
}
_MODULES = {"vlan": "8021q"}
_NFTABLES = ("firewall", "portmap")
_TUN = "/dev/net/tun"


def networks(found: Sequence[NetworkConfig], runtime: Runtime) -> list[Finding]:
    """Each network: its plugins and their IPAM plugins, what they need of the kernel, whether it is ready."""
    wanted = sorted({kind for each in found for kind in _kinds(each)})
    missing = _missing_kinds(wanted)
    filters = probes.one("nftables", "/") if any(_wants_nftables(each) for each in found) else None
    findings = []
    for each in found:
        bad = [Finding(each.name, FAIL, str(problem), _remedy(problem)) for problem in runtime.problems(each)]
        for kind in _kinds(each):
            if kind in missing:
                module = _MODULES.get(kind, kind)
                bad.append(Finding(each.name, FAIL, f"this kernel has no {kind} links", f"modprobe {module}"))
        if filters is not None and filters.status != OK and _wants_nftables(each):
            bad.append(Finding(each.name, filters.status, f"nftables: {filters.text}", filters.remedy))
        if any(plugin.type == "tap" for plugin in each.plugins) and not os.path.exists(_TUN):
            bad.append(Finding(each.name, FAIL, f"{_TUN} is missing", "modprobe tun"))
        if not bad:
            bad += _readiness(each, runtime)
        kinds = ", ".join(plugin.type for plugin in each.plugins)
        findings += bad or [Finding(each.name, OK, f"{kinds}: ready")]
    return findings


def files(problems: Iterable[str], caches: Iterable[Cache]) -> list[Finding]:
    """Files that cannot be read: `problems` of configurations (``PATH: reason``), caches, records."""
    found = [Finding("configuration", FAIL, problem, "correct or remove the file") for problem in problems]
    unread = [path for cache in caches for path in cache.damaged()]
    remedy = "remove the file; a DEL does without it"
    found += [Finding("cache", WARN, f"{path} cannot be read", remedy) for path in unread]
    text = "is damaged or of another boot"
    return found + [Finding("record", WARN, f"{path} {text}", "remove the file") for path in state.damaged()]


def leftovers(known: Sequence[Known], leases: str = "") -> list[Finding]:
    """Attachments whose namespace is gone, and addresses in `leases` that are held for nobody."""
    from cni.ipam.leases import DIRECTORY, Leases

    found = [
        Finding(
            each.network,
            WARN,
            f"{each.container_id} {each.ifname}: its network namespace {each.netns} is gone",
            "rkt cni gc",
        )
        for each in known
        if each.lives is False
    ]
    leases = leases or DIRECTORY
    holders = {(each.network, each.container_id) for each in known}
    for network in sorted(os.listdir(leases)) if os.path.isdir(leases) else ():
        if not os.path.isdir(f"{leases}/{network}"):
            continue
        with Leases(network, leases) as held:
            stale = [name for name, holder, _ in held.held() if (network, holder) not in holders]
        if stale:
            shown = ", ".join(sorted(stale)[:5]) + (", …" if len(stale) > 5 else "")
            text = f"{len(stale)} addresses are held for attachments that nobody knows of: {shown}"
            found.append(
                Finding(network, WARN, text, "rkt cni gc --plugins, if no other runtime uses the network")
            )
    return found


def _readiness(network: NetworkConfig, runtime: Runtime) -> list[Finding]:
    try:
        runtime.status(_with_status(network, runtime))
    except CniError as failed:
        return [Finding(network.name, FAIL, f"not ready: {failed}", failed.hint or "")]
    return []


def _with_status(network: NetworkConfig, runtime: Runtime) -> NetworkConfig:
    """The network in the version that has STATUS, if all of its plugins speak it, whatever its own is."""
    kinds = {plugin.type for plugin in network.plugins}
    kinds |= {Fields(plugin.config).mapping("ipam").string("type") for plugin in network.plugins}
    if not all(LATEST in runtime.supported_versions(kind) for kind in kinds if kind):
        return network
    plugins = [config.PluginConfig(each.type, each.config, version=LATEST) for each in network.plugins]
    return config.NetworkConfig(network.name, plugins, version=LATEST, data=network.data, path=network.path)


def _remedy(problem: CniError) -> str:
    if problem.msg.startswith("failed to find plugin"):
        return problem.hint or "install it into a directory of CNI_PATH, such as /opt/cni/bin"
    return problem.hint or "correct the configuration"


def _kinds(network: NetworkConfig) -> tuple[str, ...]:
    return tuple(kind for plugin in network.plugins for kind in _KINDS.get(plugin.type, ()))


def _wants_nftables(network: NetworkConfig) -> bool:
    for plugin in network.plugins:
        fields = Fields(plugin.config)
        backend = fields.get("backend") or fields.get("ipMasqBackend") or "nftables"
        asked = any(fields.get(key) is True for key in ("ipMasq", "macspoofchk", "arpspoofchk"))
        if backend == "nftables" and (plugin.type in _NFTABLES or asked):
            return True
    return False


def _missing_kinds(kinds: Sequence[str]) -> frozenset[str]:
    """Those of `kinds` that the kernel cannot make, tried in a namespace that ends with the attempt."""
    from linux import namespaces, process
    from linux.netlink import link
    from linux.netlink.batch import Batch
    from linux.netlink.socket import ROUTE, Socket

    def attempt() -> bytes:
        namespaces.unshare(namespaces.NEWNET)
        missing = []
        with Socket(ROUTE) as socket:
            for number, kind in enumerate(kinds):
                batch = Batch(socket)
                batch.add(link.create(f"probe{number}", kind))
                try:
                    batch.commit()
                except OSError as failed:
                    # A kind that is there wants options, such as a link to lie on: another error.
                    if failed.errno in (errno.EOPNOTSUPP, errno.ENOENT):
                        missing.append(kind)
        return " ".join(missing).encode()

    try:
        return frozenset(process.fork_and_read(attempt).decode().split())
    except (OSError, RuntimeError):
        return frozenset()  # not allowed to try: nothing is known against it


def available(directories: Iterable[str]) -> tuple[list[NetworkConfig], list[str]]:
    """The networks of several directories, and what is wrong there; of one name the first counts."""
    found: dict[str, NetworkConfig] = {}
    problems: list[str] = []
    for directory in directories:
        try:
            networks_there, problems_there = config.available(directory)
        except CniError as failed:
            problems.append(f"{directory}: {failed}")
            continue
        problems += problems_there
        for each in networks_there:
            found.setdefault(each.name, each)
    return list(found.values()), problems
