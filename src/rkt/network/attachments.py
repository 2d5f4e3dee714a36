"""What is attached to networks on this node: pods, and containers of runtimes with our plugins or cache.

Pods are known from their plans, which say how they were joined; all else from the records of our plugins and
the results in libcni's cache.
"""

from __future__ import annotations

import os

from cni import config, inventory
from cni.cache import Cache
from cni.errors import CniError
from cni.runtime import Runtime
from rkt.network import plan

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from cni.config import NetworkConfig
    from cni.inventory import Known

# Where other runtimes, and distributions, have their plugins.
_CONVENTIONAL = ("/opt/cni/bin", "/usr/lib/cni", "/usr/libexec/cni")


class Attached:
    """An attachment, and the network it is on as it was when it was added; None when nobody kept that."""

    __slots__ = ("known", "network", "pod", "runtime")

    def __init__(self, known: Known, *, pod: bool, network: NetworkConfig | None, runtime: Runtime) -> None:
        self.known = known
        self.pod = pod
        self.network = network
        self.runtime = runtime

    def check(self) -> str:
        """CHECK: what is wrong, "" for nothing. Raises CniError 1 when the network is too old to tell."""
        if self.network is None or self.known.cached is None:
            return "nobody kept the result of its ADD, so there is nothing to compare with"
        try:
            self.runtime.check(self.network, self.known.attachment)
        except CniError as failed:
            if failed.code == 1:
                raise
            return str(failed)
        return ""

    def delete(self) -> None:
        """DEL, through the whole network where that is known, else for each plugin that recorded something.

        Everything is tried; raises the first CniError.
        """
        if self.network is not None:
            gone = self.known.lives is False
            self.runtime.delete(self.network, self.known.attachment, keep_going=True, thorough=gone)
            return
        from cni import plugins
        from cni.plugin import perform

        first: CniError | None = None
        for plugin, request in self.known.records:
            try:
                if plugins.is_builtin(plugin):
                    perform(plugin, request)
            except CniError as failed:
                first = first or failed
        if first is not None:
            raise first
        if self.known.cache is not None:
            self.known.cache.remove(self.known.network, self.known.attachment)


def caches() -> list[Cache]:
    """The cache of the node, and those of the pods."""
    return [Cache(), *[each.cache for each in plan.registered()]]


def every(network: str = "") -> Iterator[Attached]:
    """All attachments, or those of one network, by network, container and interface."""
    joined = {
        (joining.network.name, pod.uuid, joining.if_name): (pod, joining)
        for pod in plan.registered()
        for joining in pod.joinings
    }
    for known in inventory.attachments(caches(), network=network):
        found = joined.get((known.network, known.container_id, known.ifname))
        if found is not None:
            pod, joining = found
            runtime = Runtime(pod.path, cache=pod.cache, environment=dict(os.environ), verbatim=True)
            yield Attached(known, pod=True, network=joining.network, runtime=runtime)
            continue
        path = next((request.path for _, request in known.records if request.path), plugin_path())
        runtime = Runtime(path, cache=known.cache, environment=dict(os.environ))
        yield Attached(known, pod=False, network=_kept_network(known), runtime=runtime)


def plugin_path() -> tuple[str, ...]:
    """Where plugins are: CNI_PATH, else the directories that others use and that exist."""
    given = tuple(each for each in os.environ.get("CNI_PATH", "").split(":") if each)
    return given or tuple(each for each in _CONVENTIONAL if os.path.isdir(each))


def network_directory() -> str:
    """Where other runtimes have their networks: NETCONFPATH, else as by convention."""
    return os.environ.get("NETCONFPATH") or config.DIRECTORY


def _kept_network(known: Known) -> NetworkConfig | None:
    """The network as it stands in the cache, with the plugins that stand in the directory of its name."""
    if known.cached is None or not known.cached.config:
        return None
    try:
        return config.with_siblings(config.parse_list(known.cached.config), network_directory())
    except CniError:
        return None
