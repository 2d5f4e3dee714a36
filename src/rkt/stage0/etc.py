"""The /etc/resolv.conf and /etc/hosts that the command line asks for (rkt's --dns… and --hosts-entry)."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rkt.appargs import PodOptions
    from rkt.pods.pod import Pod


def write(pod: Pod, options: PodOptions) -> tuple[str, str]:
    """Write what the user gave into the pod; where resolv.conf and hosts come from, in the ABI's words.

    Raises RktError for what is no address or no name.
    """
    dns_mode, hosts_mode = "default", "default"
    if options.dns or options.dns_search or options.dns_opt or options.dns_domain:
        from rkt.network import naming

        dns_mode, text = naming.parse_dns(
            options.dns, options.dns_search, options.dns_opt, options.dns_domain
        )
        if dns_mode == "stage0":
            _put(pod, "rkt-resolv.conf", text)
    if options.hosts_from_host:
        hosts_mode = "host"
    elif options.hosts_entries:
        from rkt.network import naming

        given = [f"{address}={name}" for address, name in options.hosts_entries]
        hosts_mode, entries = naming.parse_hosts(given)
        _put(pod, "rkt-hosts", naming.hosts(options.hostname or f"rkt-{pod.uuid}", entries))
    return dns_mode, hosts_mode


def _put(pod: Pod, name: str, text: str) -> None:
    os.makedirs(f"{pod.path}/stage1/rootfs/etc", mode=0o755, exist_ok=True)
    with open(f"{pod.path}/stage1/rootfs/etc/{name}", "w", encoding="utf-8") as stream:
        stream.write(text)
