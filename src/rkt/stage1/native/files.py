"""The files in an app's /etc that come from the pod and not from the image: hosts, resolv.conf, hostname."""

from __future__ import annotations

from rkt.errors import RktError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rkt.network.netinfo import NetInfo
    from rkt.stage1.abi import Invocation
    from rkt.stage1.native.plan import PodPlan

# A message between the processes of a pod holds so much; a hosts file of a thousand lines fits well.
_LARGEST = 48 << 10


def etc_files(
    invocation: Invocation, pod: PodPlan, networks: list[NetInfo], hostname: str
) -> list[dict[str, object]]:
    """What to write into every app: `path`, `text`, and `if_missing` for what an image's own file beats.

    For resolv.conf the command line beats what a network told, which beats the image's own file.
    """
    del pod
    found: list[dict[str, object]] = []
    resolv = _resolv_conf(invocation, networks)
    if resolv is not None:
        found.append({"path": "/etc/resolv.conf", "text": resolv})
    found.append(_hosts(invocation, hostname))
    found.append({"path": "/etc/hostname", "text": f"{hostname}\n"})
    if sum(len(str(file["text"])) for file in found) > _LARGEST:
        raise RktError(f"the pod's hosts and resolv.conf are larger than {_LARGEST} bytes")
    return found


def _resolv_conf(invocation: Invocation, networks: list[NetInfo]) -> str | None:
    if invocation.dns_mode == "none":
        return None
    if invocation.dns_mode == "host":
        return _host_file("/etc/resolv.conf")
    if invocation.dns_mode == "stage0":
        return _host_file(f"{invocation.pod_dir}/stage1/rootfs/etc/rkt-resolv.conf")
    if networks:
        from rkt import network

        return network.resolv_conf(networks)
    return None


def _hosts(invocation: Invocation, hostname: str) -> dict[str, object]:
    if invocation.hosts_mode == "host":
        return {"path": "/etc/hosts", "text": _host_file("/etc/hosts")}
    if invocation.hosts_mode == "stage0":
        return {"path": "/etc/hosts", "text": _host_file(f"{invocation.pod_dir}/stage1/rootfs/etc/rkt-hosts")}
    text = f"127.0.0.1\tlocalhost {hostname}\n::1\tlocalhost ip6-localhost ip6-loopback\n"
    return {"path": "/etc/hosts", "text": text, "if_missing": True}


def _host_file(path: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as stream:
        return stream.read(_LARGEST + 1)
