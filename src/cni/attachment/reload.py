"""Putting back what a reload of the firewall took away, from the records of the attachments.

`nft flush ruleset`, which the service nftables does at each restart, also empties tables that are not its
own; what our plugins had in them is made anew here. A plugin with rules other than those of interfaces has a
function ``reload(request) -> list[str]`` of its own, which says what it has put back.
"""

from __future__ import annotations

from cni import plugins, state
from cni.attachment import guards, masquerading, teardown
from cni.errors import CniError
from cni.fields import Fields
from cni.nft import tables

TYPE_CHECKING = False  # not from typing: a plugin lives too short to import it
if TYPE_CHECKING:
    from cni.request import Request


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
    ips = teardown.recorded_ips(made)
    restored = []
    if not masquerading.is_complete(request, made):
        masquerading.add(request, masquerading.recorded(made), ips)
        restored.append("masquerade")
        if state.load(request, plugin) is None:
            masquerading.remove(request, made)
    if made.string("veth") and guards.missing(request, made):
        guards.add(request, made)
        restored.append("guards of the port")
        if state.load(request, plugin) is None:
            guards.remove(request, made)
    own = getattr(plugins.load(plugin), "reload", None) if plugins.is_builtin(plugin) else None
    if own is not None:
        restored += own(request)
    return restored
