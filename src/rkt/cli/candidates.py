"""What shell completion offers for a pod, an image, a network: what is on this host now."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rkt.settings import GlobalOptions


def pods(settings: GlobalOptions) -> list[str]:
    """UUIDs, with the state as description."""
    from rkt.pods.directory import PodDirectory

    return [f"{pod.uuid}\t{pod.state()}" for pod in PodDirectory(settings.data_dir).pods()]


def images(settings: GlobalOptions) -> list[str]:
    """Names with the ID as description. A store that is not there yet is not made."""
    from rkt.store import Store

    if not os.path.isdir(os.path.join(settings.data_dir, "cas")):
        return []
    with Store(settings.data_dir) as store:
        return [
            f"{image.name}:{image.version}\t{image.id}" if image.version else f"{image.name}\t{image.id}"
            for image in store.images()
        ]


def networks(settings: GlobalOptions) -> list[str]:
    """The built-in networks and those that files in net.d define, as their names stand in the files."""
    import json

    found = ["none", "host", "default", "default-restricted"]
    for directory in settings.config_dirs():
        try:
            names = sorted(os.listdir(os.path.join(directory, "net.d")))
        except OSError:
            continue
        for name in names:
            if name.endswith((".conf", ".conflist")):
                try:
                    with open(os.path.join(directory, "net.d", name), encoding="utf-8") as file:
                        found.append(str(json.load(file)["name"]))
                except (OSError, ValueError, KeyError, TypeError):
                    continue  # not a network yet; `rkt run` says what is wrong with it
    return found


def containers(_settings: GlobalOptions) -> list[str]:
    """What is attached to a network, with the networks as description."""
    from rkt.network import attachments

    found: dict[str, list[str]] = {}
    for each in attachments.every():
        found.setdefault(each.known.container_id, []).append(each.known.network)
    return [f"{container}\t{', '.join(networks)}" for container, networks in found.items()]
