"""The built-in plugins: a table of names and modules, none of which is imported here.

To add a plugin, write a module with these functions and give it a row in `PLUGINS`, and a symbolic link of
its name to ``plugin`` in ``lib/cni/``:

``add(request: Request) -> Result``
    Make the attachment. A plugin in a chain returns `request.prev_result`, changed by what it did.
``delete(request: Request) -> None``
    Take it back. May come twice, without an ADD, with a namespace that is gone; none of that is an error.
``check(request: Request) -> None``
    Raise CniError when the attachment is not as it was made.
``status(request: Request) -> None`` (optional)
    Raise CniError 50 or 51 when an ADD would not succeed. Default: ask the IPAM plugin, if there is one.
``collect(request: Request) -> None`` (optional)
    GC. Default: `delete` for each attachment in `cni.state` that is not valid, then the IPAM plugin's GC.
``reload(request: Request) -> list[str]`` (optional)
    Put back the rules that a reload of the firewall took away; what that was (`cni.attachment.reload`).
``VERSIONS: tuple[str, ...]`` (optional)
    The versions it speaks. Default: all.
``command(arguments: list[str]) -> int`` (optional)
    What the executable does when it is called with arguments, which no runtime does: the exit status.

They raise CniError; ValueError is taken for a bad configuration (code 7), OSError for
code 7, 11 or 50 where the kernel's reason is one of these, else 999 (`cni.plugin`).
"""

from __future__ import annotations

TYPE_CHECKING = False  # not from typing: a plugin lives too short to import it
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    from cni.request import Request
    from cni.types.result import Result

    class Plugin(Protocol):
        """A plugin module. The optional functions are looked up by name."""

        add: Callable[[Request], Result]
        check: Callable[[Request], None]
        delete: Callable[[Request], None]


PLUGINS = {
    "bandwidth": "cni.plugins.bandwidth",
    "bridge": "cni.plugins.bridge",
    "debug": "cni.plugins.debug",
    "dhcp": "cni.ipam.dhcp.plugin",
    "dummy": "cni.plugins.dummy",
    "firewall": "cni.plugins.firewall",
    "flannel": "cni.plugins.flannel",
    "host-device": "cni.plugins.host_device",
    "host-local": "cni.ipam.host_local",
    "ipvlan": "cni.plugins.ipvlan",
    "loopback": "cni.plugins.loopback",
    "macvlan": "cni.plugins.macvlan",
    "portmap": "cni.plugins.portmap",
    "ptp": "cni.plugins.ptp",
    "sbr": "cni.plugins.sbr",
    "tap": "cni.plugins.tap",
    "tuning": "cni.plugins.tuning",
    "vrf": "cni.plugins.vrf",
    "static": "cni.ipam.static",
    "sql": "cni.ipam.sql.plugin",
    "http": "cni.ipam.http.plugin",
    "vlan": "cni.plugins.vlan",
}


def is_builtin(name: str) -> bool:
    return name in PLUGINS


def load(name: str) -> Plugin:
    """The module of the built-in plugin `name`; KeyError when there is none."""
    module: Plugin = __import__(PLUGINS[name], fromlist=["add"])  # importlib would have to be loaded first
    return module
