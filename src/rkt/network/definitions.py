"""The networks that can be joined: built in, and those of ``net.d`` in the local configuration.

A file there replaces the built-in network of its name. Networks are joined in the order of their file
names, which is what makes one of them eth0; the built-in ones are as if in files that begin with 99.
"""

from __future__ import annotations

import os

from cni import config
from cni.config import NetworkConfig
from cni.errors import INVALID_CONFIG, CniError
from rkt.errors import RktError
from rkt.network import flags

TYPE_CHECKING = False  # not from typing: start-up time counts here
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Final

PLUGINS = "/usr/lib/rkt/plugins/net"
_ENDINGS = (".conf", ".conflist")
_BUILT_IN = {
    "99-default-restricted.conf": b"""{
    "cniVersion": "1.0.0",
    "name": "default-restricted",
    "type": "ptp",
    "ipMasq": false,
    "ipam": {"type": "host-local", "subnet": "172.31.0.0/16"}
}""",
    "99-default.conf": b"""{
    "cniVersion": "1.0.0",
    "name": "default",
    "type": "ptp",
    "ipMasq": true,
    "ipam": {
        "type": "host-local",
        "subnet": "172.16.28.0/24",
        "routes": [{"dst": "0.0.0.0/0"}]
    }
}""",
}
_BUILT_IN_NAMES = ("default", "default-restricted")


class Definition:
    """A network to join: its configuration, and the CNI_ARGS that the user gave for it."""

    __slots__ = ("args", "file_name", "network")

    def __init__(self, network: NetworkConfig, file_name: str, args: str) -> None:
        self.network: Final = network
        self.file_name: Final = file_name
        self.args: Final = args

    @property
    def masquerades(self) -> bool:
        return any(plugin.masquerades for plugin in self.network.plugins)


def plugin_path(local_config: str) -> tuple[str, ...]:
    """Where plugin executables are looked for, before the built-in ones."""
    return (f"{local_config}/net.d", PLUGINS)


def select(net: Iterable[str], local_config: str) -> list[Definition]:
    """The networks that `net` (of `parse_net_flags`) names, in the order in which they are joined.

    Raises RktError for names that are not there. A file that cannot be read matters only then, or when
    the user asks for `all`.
    """
    wanted = flags.split(net)
    if "none" in wanted or "host" in wanted:
        return []
    everything = "all" in wanted
    found, problems = _available(f"{local_config}/net.d", None if everything else set(wanted))
    missing = [name for name in wanted if name != "all" and name not in found]
    if missing or (everything and problems):
        hint = "; ".join(problems) or f"define it in {local_config}/net.d"
        if missing:
            raise RktError("networks not found: " + ", ".join(missing), hint=hint)
        raise RktError("a network cannot be read: " + problems[0], hint="correct or remove the file")
    chosen = [
        Definition(network, file_name, wanted.get(network.name, ""))
        for file_name, network in found.values()
        if everything or network.name in wanted
    ]
    return sorted(chosen, key=lambda each: os.fsencode(each.file_name))


def available(local_config: str) -> tuple[list[NetworkConfig], list[str]]:
    """Every network that a pod could join, and what is wrong with files in net.d (``PATH: reason``)."""
    found, problems = _available(f"{local_config}/net.d", None)
    return [network for _, network in found.values()], problems


def _available(
    directory: str, wanted: set[str] | None
) -> tuple[dict[str, tuple[str, NetworkConfig]], list[str]]:
    """Name to (file name, network), and what cannot be read; `wanted` None for all."""
    found: dict[str, tuple[str, NetworkConfig]] = {}
    problems: list[str] = []
    for file_name in _file_names(directory):
        path = f"{directory}/{file_name}"
        try:
            network = config.read(path)
            if network.name in found or (wanted is not None and network.name not in wanted):
                continue
            if file_name.endswith(".conflist"):
                network = config.with_siblings(network, directory)
            _check(network)
        except CniError as bad:
            problems.append(f"{path}: {bad}")
            continue
        found[network.name] = (file_name, network)
    for file_name, data in _BUILT_IN.items():
        if wanted is None or any(name in wanted and name not in found for name in _BUILT_IN_NAMES):
            network = config.parse_single(data)
            found.setdefault(network.name, (file_name, network))
    return found, problems


def _check(network: NetworkConfig) -> None:
    from cni.types import names, version

    names.check_network_name(network.name)
    try:
        version.parse(network.version)
    except ValueError as bad:
        raise CniError(INVALID_CONFIG, str(bad)) from None


def _file_names(directory: str) -> list[str]:
    try:
        names = sorted(os.listdir(os.fsencode(directory)))
    except (FileNotFoundError, NotADirectoryError):
        return []
    found = [os.fsdecode(name) for name in names]
    return [name for name in found if name.endswith(_ENDINGS) and os.path.isfile(f"{directory}/{name}")]
