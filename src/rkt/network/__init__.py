"""A pod's networks: which there are, joining them, leaving them, ports, names.

The functions here are the package's face; each imports what it needs when it is called.
"""

from __future__ import annotations

TYPE_CHECKING = False  # not from typing: start-up time counts here
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from appc.schema.pod import PodManifest
    from rkt.network.netinfo import NetInfo


def parse_net_flags(values: Iterable[str]) -> tuple[str, ...]:
    """See `rkt.network.flags.parse_net_flags`."""
    from rkt.network import flags

    return flags.parse_net_flags(values)


def setup(
    pod_dir: str,
    uuid: str,
    netns_path: str,
    net: Iterable[str],
    manifest: PodManifest,
    local_config: str,
    remarks: list[str],
) -> list[NetInfo]:
    """See `rkt.network.joining.setup`."""
    from rkt.network import joining

    return joining.setup(pod_dir, uuid, netns_path, net, manifest, local_config, remarks)


def teardown(pod_dir: str, uuid: str) -> None:
    """See `rkt.network.joining.teardown`."""
    from rkt.network import joining

    joining.teardown(pod_dir, uuid)


def reconcile(live: Collection[str], data_dir: str) -> None:
    """See `rkt.network.reconciliation.reconcile`."""
    from rkt.network import reconciliation

    reconciliation.reconcile(live, data_dir)


def resolv_conf(networks: Iterable[NetInfo]) -> str | None:
    """See `rkt.network.naming.resolv_conf`."""
    from rkt.network import naming

    return naming.resolv_conf(networks)


def parse_dns(
    servers: Sequence[str], search: Sequence[str] = (), options: Sequence[str] = (), domain: str = ""
) -> tuple[str, str]:
    """See `rkt.network.naming.parse_dns`."""
    from rkt.network import naming

    return naming.parse_dns(servers, search, options, domain)


def parse_hosts(values: Sequence[str]) -> tuple[str, dict[str, list[str]]]:
    """See `rkt.network.naming.parse_hosts`."""
    from rkt.network import naming

    return naming.parse_hosts(values)


def hosts(hostname: str, entries: dict[str, list[str]] | None = None) -> str:
    """See `rkt.network.naming.hosts`."""
    from rkt.network import naming

    return naming.hosts(hostname, entries)
