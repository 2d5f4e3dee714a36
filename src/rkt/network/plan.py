"""What is about to be done to join a pod to its networks, written down before it is done (D5).

The record stands in the pod's directory and once more in /run under the pod's UUID, so that a pod whose
directory is gone can still be taken off its networks. Undoing needs nothing else: not the configuration
directory, which may have changed, and not the pod's namespace. It is durable if a plugin of somebody else
is in it, who may keep addresses over a power cut; what the built-in ones make ends with the boot.
"""

from __future__ import annotations

import os

from cni import jsontext, volatile
from cni.cache import Attachment, Cache
from cni.config import NetworkConfig, PluginConfig
from cni.errors import CniError
from cni.fields import Fields
from cni.types import version as versions
from rkt.network import bandwidth, flags
from rkt.pods import datadir

TYPE_CHECKING = False  # not from typing: start-up time counts here
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Final

    from rkt.network.definitions import Definition
    from rkt.network.ports import Forward

DIRECTORY = "net"  # in the pod's directory: the plan, copies of the configurations, results
REGISTRY = "/run/rkt-platform/pods"
_FILE = "plan.json"
_CAPABILITY = "portMappings"
# Plugins can be chained from 0.3.0 on; a port map behind an older network speaks its own version.
_CHAINED_SINCE = "0.3.0"


class Joining:
    """One network of a plan. `conf_path` is the copy of its configuration in the pod's directory."""

    __slots__ = ("args", "capability_args", "conf_path", "if_name", "network")

    def __init__(
        self,
        network: NetworkConfig,
        if_name: str,
        *,
        args: str = "",
        conf_path: str = "",
        capability_args: dict[str, object] | None = None,
    ) -> None:
        self.network: Final = network
        self.if_name: Final = if_name
        self.args: Final = args
        self.conf_path: Final = conf_path
        self.capability_args: Final = capability_args or {}

    def to_json(self) -> dict[str, object]:
        plugins = [
            {"config": each.config, "text": each.text and each.text.decode(), "version": each.version}
            for each in self.network.plugins
        ]
        return {
            "name": self.network.name,
            "version": self.network.version,
            "plugins": plugins,
            "ifName": self.if_name,
            "args": self.args,
            "conf": self.conf_path,
            "capabilityArgs": self.capability_args,
        }

    @classmethod
    def from_json(cls, fields: Fields) -> Joining:
        plugins = [
            PluginConfig(
                each.mapping("config").string("type"),
                each.mapping("config").values,
                each.string("text").encode() or None,
                version=each.string("version"),
            )
            for each in fields.mappings("plugins")
        ]
        network = NetworkConfig(
            fields.string("name"),
            plugins,
            version=fields.string("version"),
            data=b"",
            path=fields.string("conf"),
        )
        return cls(
            network,
            fields.string("ifName"),
            args=fields.string("args"),
            conf_path=fields.string("conf"),
            capability_args=fields.mapping("capabilityArgs").values,
        )


class Plan:
    """All networks of a pod, in the order of joining. `path` is where plugins are looked for.

    `home` tells the pod's data directory from others at the same path (`rkt.pods.datadir`).
    """

    __slots__ = ("home", "joinings", "netns", "path", "pod_dir", "uuid")

    def __init__(
        self,
        uuid: str,
        pod_dir: str,
        netns: str,
        path: Sequence[str],
        joinings: Sequence[Joining],
        *,
        home: str,
    ) -> None:
        self.uuid: Final = uuid
        self.pod_dir: Final = pod_dir
        self.netns: Final = netns
        self.path: Final = tuple(path)
        self.joinings: Final = tuple(joinings)
        self.home: Final = home

    @property
    def data_dir(self) -> str:
        """The data directory that the pod is in: DATA_DIR/pods/PHASE/UUID."""
        return os.path.dirname(os.path.dirname(os.path.dirname(self.pod_dir)))

    @property
    def cache(self) -> Cache:
        """Where the results are kept: with the pod, they go when it goes."""
        return Cache(f"{self.pod_dir}/{DIRECTORY}", durable=self.outlives_boot, make_root=False)

    @property
    def outlives_boot(self) -> bool:
        """Whether something may have to be undone after a power cut: not what built-in plugins made."""
        from cni import invoke

        for each in self.joinings:
            for plugin in each.network.plugins:
                ipam = Fields(plugin.config).mapping("ipam").string("type")
                for name in (plugin.type, ipam) if ipam else (plugin.type,):
                    try:
                        if invoke.find(name, self.path) is not None:
                            return True
                    except CniError:
                        return True
        return False

    def attachment(self, joining: Joining) -> Attachment:
        return Attachment(
            self.uuid,
            joining.if_name,
            netns=self.netns,
            args=flags.pairs(joining.args),
            capability_args=joining.capability_args,
        )

    def save(self) -> None:
        """Write the record, here and there, and the copies of the configurations. Raises OSError."""
        for each in self.joinings:
            with open(each.conf_path, "wb") as file:
                file.write(each.network.data)
        data = jsontext.dumps(self.to_json()).encode()
        # In /run first: from then on gc finds the pod, whatever becomes of its directory.
        os.makedirs(REGISTRY, mode=0o700, exist_ok=True)
        volatile.replace(f"{REGISTRY}/{self.uuid}", data)
        path = f"{self.pod_dir}/{DIRECTORY}/{_FILE}"
        if not self.outlives_boot:
            volatile.replace(path, data)
            return
        from linux.files import write_atomically

        write_atomically(path, data, mode=0o600)

    def forget(self) -> None:
        """Remove the record once everything is undone; the last trace is the one in /run."""
        for path in (f"{self.pod_dir}/{DIRECTORY}/{_FILE}", f"{REGISTRY}/{self.uuid}"):
            try:
                os.unlink(path)
            except FileNotFoundError:
                continue

    def to_json(self) -> dict[str, object]:
        return {
            "uuid": self.uuid,
            "podDir": self.pod_dir,
            "home": self.home,
            "netns": self.netns,
            "path": list(self.path),
            "networks": [each.to_json() for each in self.joinings],
        }


def make(
    uuid: str,
    pod_dir: str,
    netns: str,
    path: Sequence[str],
    definitions: Sequence[Definition],
    forwards: Sequence[Forward],
    rate: int | None = None,
) -> Plan:
    """The plan for joining `definitions` in their order, ports going to one of them.

    That is, as for rkt, the first that masquerades, else the last. A network whose plugins do not map ports
    gets the built-in portmap behind them. `rate`, in bytes a second, is kept by the built-in bandwidth on
    those that it `can_limit`.
    """
    target = next((place for place, each in enumerate(definitions) if each.masquerades), len(definitions) - 1)
    joinings = []
    for place, each in enumerate(definitions):
        network = each.network
        capability_args: dict[str, object] = {}
        if forwards and place == target:
            if not any(_CAPABILITY in plugin.capabilities for plugin in network.plugins):
                network = _with("portmap", _CAPABILITY, network)
            capability_args[_CAPABILITY] = [forward.mapping() for forward in forwards]
        if rate is not None and bandwidth.can_limit(network):
            if not bandwidth.has_capability(network):
                network = _with("bandwidth", bandwidth.CAPABILITY, network)
            capability_args[bandwidth.CAPABILITY] = bandwidth.capability_argument(rate)
        joinings.append(
            Joining(
                network,
                f"eth{place}",
                args=each.args,
                conf_path=f"{pod_dir}/{DIRECTORY}/{each.file_name}",
                capability_args=capability_args,
            )
        )
    home = datadir.identity(f"{pod_dir}/../../..")
    return Plan(uuid, pod_dir, netns, path, joinings, home=home)


def load(pod_dir: str, uuid: str) -> Plan | None:
    """The plan of a pod, from its directory or else from /run; None when it has none, or none any more.

    Raises ValueError when both are damaged.
    """
    damage: ValueError | None = None
    for path in (f"{pod_dir}/{DIRECTORY}/{_FILE}", f"{REGISTRY}/{uuid}"):
        try:
            return _read(path, pod_dir)
        except FileNotFoundError:
            continue
        except ValueError as bad:
            damage = bad
    if damage is not None:
        raise damage
    return None


def registered() -> Iterator[Plan]:
    """Every plan in /run, of every data directory; damaged ones are passed over."""
    try:
        names = os.listdir(REGISTRY)
    except FileNotFoundError:
        return
    for name in names:
        if name.startswith("."):
            continue
        try:
            yield _read(f"{REGISTRY}/{name}", "")
        except (FileNotFoundError, ValueError):
            continue


def _read(path: str, pod_dir: str) -> Plan:
    """`pod_dir`, if given, is where the pod is now: pods move as they go through their phases."""
    with open(path, "rb") as file:
        fields = Fields(jsontext.loads(file.read()))
    return Plan(
        fields.string("uuid"),
        pod_dir or fields.string("podDir"),
        fields.string("netns"),
        fields.strings("path"),
        [Joining.from_json(each) for each in fields.mappings("networks")],
        home=fields.string("home"),
    )


def _with(plugin: str, capability: str, network: NetworkConfig) -> NetworkConfig:
    """`network` with the built-in `plugin` behind its own, for `capability`."""
    version = "" if versions.at_least(network.version, _CHAINED_SINCE) else versions.LATEST
    config: dict[str, object] = {"type": plugin, "capabilities": {capability: True}}
    return network.extended([PluginConfig(plugin, config, version=version)])
