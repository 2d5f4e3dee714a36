"""The isolator resource/network-bandwidth (spec/ace.md): what a pod may send and receive on its networks.

The apps of a pod share its interfaces, so that it is the pod that is limited: each of its interfaces, in each
direction. Traffic on its loopback is nobody's business.
"""

from __future__ import annotations

from appc.types import isolators as names

TYPE_CHECKING = False  # not from typing: start-up time counts here
if TYPE_CHECKING:
    from appc.schema.pod import PodManifest
    from appc.types.isolators import Isolators
    from cni.config import NetworkConfig

CAPABILITY = "bandwidth"
# The plugins whose interface has an end on the host, where traffic can be held back.
_WITH_AN_END_HERE = ("bridge", "ptp", "flannel")
_SMALLEST_BURST, _LARGEST_BURST = 64 << 10, 4 << 20  # bytes


def limit(manifest: PodManifest) -> int | None:
    """Bytes a second; None for no limit: the pod's own, else the sum of its apps' if each of them has one."""
    own = _of(manifest.isolators)
    if own is not None:
        return own
    total = 0
    for each in manifest.apps:
        found = _of(each.app.isolators) if each.app is not None else None
        if found is None:
            return None
        total += found
    return total or None


def is_wanted(manifest: PodManifest) -> bool:
    """Whether anybody asked for a limit, be it one that can be kept or not."""
    given = [manifest.isolators, *(each.app.isolators for each in manifest.apps if each.app is not None)]
    return any(_of(each) is not None for each in given)


def can_limit(network: NetworkConfig) -> bool:
    """Whether the traffic of `network` can be limited."""
    return has_capability(network) or network.plugins[0].type in _WITH_AN_END_HERE


def has_capability(network: NetworkConfig) -> bool:
    """Whether a plugin of the network's own takes limits."""
    return any(CAPABILITY in plugin.capabilities for plugin in network.plugins)


def capability_argument(rate: int) -> dict[str, object]:
    """The CNI capability `bandwidth`, which counts bits, for `rate` bytes a second: a tenth of it at once."""
    burst = min(max(rate // 10, _SMALLEST_BURST), _LARGEST_BURST)
    return {
        "ingressRate": rate * 8,
        "ingressBurst": burst * 8,
        "egressRate": rate * 8,
        "egressBurst": burst * 8,
    }


def _of(given: Isolators) -> int | None:
    isolator = given.get(names.NETWORK_BANDWIDTH)
    if isolator is None or not isinstance(isolator.setting, names.Resource):
        return None
    quantity = isolator.setting.limit
    return None if quantity is None else quantity.value()
