"""A pod on disk and the metadata service: registered before it runs, told where to ask, forgotten with it."""

from __future__ import annotations

import os

from rkt.errors import RktError
from rkt.metadata import PORT, client

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from rkt.network.netinfo import NetInfo

# In the pod directory, says that the pod is registered and at which port the service hears pods.
MARK = "mds-registered"
_LOOPBACK = "127.0.0.1"


def register(pod_dir: str, uuid: str, token: str, *, local: bool) -> None:
    """Register the pod in `pod_dir` under `token`; `local` is for one in the host's network.

    The mark is written first, so that whoever collects the pod knows, whenever this process dies (D5).
    """
    from linux.files import write_atomically

    mark = os.path.join(pod_dir, MARK)
    write_atomically(mark, b"")
    apps = os.path.join(pod_dir, "appsinfo")
    port = client.register(
        uuid,
        token,
        _read(os.path.join(pod_dir, "pod")),
        {app: _read(os.path.join(apps, app, "manifest")) for app in sorted(os.listdir(apps))},
        net_info="" if local else os.path.join(pod_dir, "net-info.json"),
        local=local,
    )
    write_atomically(mark, b"%d\n" % port)


def unregister(pod_dir: str, uuid: str) -> None:
    """Forget the pod, if it was registered. A service that does not run forgets it by itself."""
    if os.path.exists(os.path.join(pod_dir, MARK)):
        client.unregister(uuid)


def url(pod_dir: str, token: str, networks: Sequence[NetInfo], *, local: bool) -> str:
    """AC_METADATA_URL for the apps; empty for a pod without a token, which is not registered.

    The service is reached at the host's address in the first network that has one. RktError when none has.
    """
    if not token:
        return ""
    text = _read(os.path.join(pod_dir, MARK)).decode().strip()
    port = int(text) if text.isdigit() else PORT
    if local:
        return client.url(token, port, _LOOPBACK)
    from cni.types.address import format_ip

    for network in networks:
        if network.gateway is not None:
            return client.url(token, port, format_ip(network.gateway))
    raise RktError(
        "--mds-register: the host has no address in the networks of the pod",
        hint="add a network in which it has one, such as --net=default",
    )


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()
