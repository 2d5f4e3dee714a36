"""Putting back what a reload of the firewall took away, from the records of the attachments.

`nft flush ruleset`, which the service nftables does at each restart, also empties tables that are not its
own; what our plugins had in them is made anew here. A plugin whose rules are elsewhere has a function
``reload(request) -> bool`` of its own, which says whether anything had been missing.
"""

from __future__ import annotations

from cni import plugins, state
from cni.attachment import teardown
from cni.errors import CniError
from cni.fields import Fields
from cni.nft import mac_guard, masquerade, port_maps, tables
from cni.nft.port_maps import Mapping

TYPE_CHECKING = False  # not from typing: a plugin lives too short to import it
if TYPE_CHECKING:
    from cni.request import Request

_PORTMAP = "portmap"


def reload() -> list[str]:
    """Put everything back that is missing; what that was, a line for each attachment and plugin.

    Whatever the network. No ADD or DEL may run at the same time (`cni.exclusion`); one of a runtime that does
    not ask is noticed where it took the attachment away, and what was put back for it is removed again. A
    failure is a line that begins with ``error:``, and the others are tried.
    """
    told = []
    records = sorted(state.every(), key=lambda each: (each[1].name, each[1].container_id, each[0]))
    for plugin, request in records:
        where = f"{request.name} {request.container_id} {request.ifname}: {plugin}"
        try:
            restored = _restore(plugin, request)
        except (CniError, OSError, ValueError, tables.Busy) as failed:
            told.append(f"error: {where}: {failed}")
            continue
        if restored:
            told.append(f"{where}: {', '.join(restored)}")
    return told


def _restore(plugin: str, request: Request) -> list[str]:
    found = state.load(request, plugin)
    if found is None:
        return []
    made = Fields(found)
    owner = teardown.owner(request)
    ips = teardown.recorded_ips(made)
    restored = []
    if made.boolean("masquerade") and ips and not masquerade.is_complete(ips, owner):
        masquerade.add(ips, owner)
        restored.append("masquerade")
        if state.load(request, plugin) is None:
            masquerade.remove(ips, owner)
    if made.boolean("guarded"):
        port, mac = made.string("veth"), made.string("containerMAC")
        if port and mac and not mac_guard.is_complete(port, mac, owner):
            mac_guard.add(port, mac, owner)
            restored.append("guard of the hardware address")
            if state.load(request, plugin) is None:
                mac_guard.remove(port, mac, owner)
    if plugin == _PORTMAP and made.get("mappings") is not None and ips:
        restored += _restore_ports(request, made)
    elif plugins.is_builtin(plugin):
        own = getattr(plugins.load(plugin), "reload", None)
        if own is not None and own(request):
            restored.append("rules")
    return restored


def _restore_ports(request: Request, made: Fields) -> list[str]:
    owner = teardown.owner(request)
    targets = teardown.recorded_ips(made)
    snat = made.string("snat", port_maps.SNAT)
    mappings = [Mapping.from_json(each) for each in made.mappings("mappings")]
    if port_maps.is_complete(mappings, targets, owner, snat=snat):
        return []
    port_maps.add(mappings, targets, owner, snat=snat, is_stale=lambda _: False)
    interface = made.string("interface")
    if interface:
        port_maps.open_localnet(interface, lasting=not port_maps.is_pair(interface))
    if state.load(request, _PORTMAP) is None:
        port_maps.remove(mappings, targets, owner, snat=snat)
    return ["port mappings"]
