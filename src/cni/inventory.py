"""What is attached to which network on this node, as far as records and caches tell.

Our plugins keep a record of each attachment (`cni.state`), runtimes keep the results (`cni.cache`): an
attachment is known from the first, the second or both. Its key is (network, container ID, interface name).
"""

from __future__ import annotations

import os

from cni import state
from cni.fields import Fields
from cni.types.result import Value

TYPE_CHECKING = False  # not from typing: start-up time counts here
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Final

    from cni.cache import Attachment, Cache, Cached
    from cni.request import Request


class Known(Value):
    """An attachment. `records` are the DEL requests of our plugins for it, by plugin.

    `cache` and `cached` are where its result is kept, None when it is known from records alone.
    """

    __slots__ = ("cache", "cached", "container_id", "ifname", "netns", "network", "records")

    def __init__(
        self,
        network: str,
        container_id: str,
        ifname: str,
        *,
        netns: str = "",
        records: Sequence[tuple[str, Request]] = (),
        cache: Cache | None = None,
        cached: Cached | None = None,
    ) -> None:
        self.network: Final = network
        self.container_id: Final = container_id
        self.ifname: Final = ifname
        self.netns: Final = netns
        self.records: Final = tuple(records)
        self.cache: Final = cache
        self.cached: Final = cached

    @property
    def attachment(self) -> Attachment:
        """What a runtime says of it."""
        from cni.cache import Attachment

        if self.cached is None:
            return Attachment(self.container_id, self.ifname, netns=self.netns)
        kept = self.cached.attachment
        if kept.netns:
            return kept
        return Attachment(
            self.container_id,
            self.ifname,
            netns=self.netns,
            args=kept.args,
            capability_args=kept.capability_args,
        )

    @property
    def plugins(self) -> tuple[str, ...]:
        """The plugins that have a part in it, in the order of the network's list where that is known."""
        listed: list[str] = []
        if self.cached is not None and self.cached.config:
            from cni import config
            from cni.errors import CniError

            try:
                listed = [each.type for each in config.parse_list(self.cached.config).plugins]
            except CniError:
                listed = []
        return (*listed, *sorted(plugin for plugin, _ in self.records if plugin not in listed))

    @property
    def addresses(self) -> tuple[str, ...]:
        """Its addresses as ADDRESS/LENGTH: those of the result, else those on record."""
        if self.cached is not None and self.cached.result is not None:
            return tuple(str(each.address) for each in self.cached.result.ips)
        for plugin, request in self.records:
            found = _recorded_addresses(plugin, request)
            if found:
                return found
        return ()

    @property
    def lives(self) -> bool | None:
        """Whether its network namespace is there; None when that cannot be told from here."""
        return namespace_lives(self.netns) if self.netns else None

    def to_json(self) -> dict[str, object]:
        """The attachment as commands show it: what is not known is empty, or null for `lives`."""
        return {
            "network": self.network,
            "container": self.container_id,
            "interface": self.ifname,
            "addresses": list(self.addresses),
            "netns": self.netns,
            "alive": self.lives,
            "plugins": list(self.plugins),
            "recorded": sorted(plugin for plugin, _ in self.records),
            "cached": self.cached is not None,
        }


def attachments(caches: Iterable[Cache], *, network: str = "") -> list[Known]:
    """Everything attached, or attached to `network`, by network, container and interface."""
    kept: dict[tuple[str, str, str], tuple[Cache, Cached]] = {}
    for cache in caches:
        for each in cache.attachments(network=network):
            key = (each.network, each.attachment.container_id, each.attachment.ifname)
            kept.setdefault(key, (cache, each))
    recorded: dict[tuple[str, str, str], list[tuple[str, Request]]] = {}
    for plugin, request in state.every():
        if network in ("", request.name):
            key = (request.name, request.container_id, request.ifname)
            recorded.setdefault(key, []).append((plugin, request))
    found = []
    for key in sorted(kept.keys() | recorded.keys()):
        cache_of, cached = kept.get(key, (None, None))
        records = recorded.get(key, [])
        # libcni before 1.2, such as podman 4's, keeps none: the plugins know it, and say it in the result.
        netns = cached.attachment.netns if cached is not None else ""
        netns = netns or next((each.netns for _, each in records if each.netns), "")
        netns = netns or _netns_of_result(cached)
        found.append(Known(*key, netns=netns, records=records, cache=cache_of, cached=cached))
    return found


def _netns_of_result(cached: Cached | None) -> str:
    if cached is None or cached.result is None:
        return ""
    own = (each for each in cached.result.interfaces if each.name == cached.attachment.ifname)
    return next((each.sandbox for each in own if each.sandbox.startswith("/")), "")


def namespace_lives(path: str) -> bool | None:
    """Whether there is a namespace at `path`: False only when nothing is there.

    None for anything else that is there: a pin that lost its namespace, or one that was mounted in another
    mount namespace, which cannot be seen from this one.
    """
    try:
        # Every namespace is an inode of the one nsfs.
        return os.stat(path).st_dev == os.stat("/proc/self/ns/net").st_dev or None
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, ValueError):
        return None


def _recorded_addresses(plugin: str, request: Request) -> tuple[str, ...]:
    made = state.load(request, plugin)
    try:
        return Fields(made).strings("ips")
    except ValueError:
        return ()
