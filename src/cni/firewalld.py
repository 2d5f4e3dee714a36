"""Sources of firewalld's zones, by its D-Bus interface (org.fedoraproject.FirewallD1.zone).

They are in firewalld's running configuration alone: `firewall-cmd --reload` forgets them.
"""

from __future__ import annotations

import os

from cni.errors import INVALID_CONFIG, PLUGIN_NOT_AVAILABLE, CniError
from linux.systemd import bus as dbus
from linux.systemd.bus import Bus, BusError, Service

TYPE_CHECKING = False  # not from typing: a plugin lives too short to import it
if TYPE_CHECKING:
    from collections.abc import Sequence

_NAME = "org.fedoraproject.FirewallD1"
_ZONES = Service(_NAME, "/org/fedoraproject/FirewallD1", f"{_NAME}.zone")
_DRIVER = Service("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus")


def is_running() -> bool:
    """Whether firewalld is there to be asked. No bus, or one that does not answer, is no firewalld."""
    if not os.path.exists(dbus.SYSTEM):
        return False
    try:
        with Bus(dbus.SYSTEM) as bus:
            return bool(bus.call(_DRIVER, "NameHasOwner", "s", _NAME)[0])
    except OSError:
        return False


def present(zone: str, sources: Sequence[str]) -> list[str]:
    """Those of `sources` (networks or addresses) that the zone has. CniError 50 without firewalld."""
    with _connected() as bus:
        return [each for each in sources if _ask(bus, "querySource", zone, each)]


def add(zone: str, sources: Sequence[str]) -> None:
    """Let the zone's rules be those for what comes from `sources`; what it has already is passed over.

    CniError 7 when another zone has one, or when there is no such zone; 50 without firewalld.
    """
    with _connected() as bus:
        for each in sources:
            _ask(bus, "addSource", zone, each, tolerated=("ZONE_ALREADY_SET",))


def remove(zone: str, sources: Sequence[str]) -> None:
    """No longer. What the zone has not is passed over, and a firewalld that is not there has nothing."""
    if not is_running():
        return
    with _connected() as bus:
        for each in sources:
            _ask(bus, "removeSource", zone, each, tolerated=("UNKNOWN_SOURCE", "ZONE_CONFLICT"))


def _connected() -> Bus:
    try:
        bus = Bus(dbus.SYSTEM)
    except OSError as failed:
        raise CniError(PLUGIN_NOT_AVAILABLE, "the system bus does not answer", str(failed)) from None
    return bus


def _ask(bus: Bus, method: str, zone: str, source: str, *, tolerated: Sequence[str] = ()) -> object:
    try:
        return bus.call(_ZONES, method, "ss", zone, source)[0]
    except BusError as failed:
        # firewalld's own errors have one name on the bus, and begin with a code.
        code = str(failed.strerror).partition(":")[0]
        if code in tolerated:
            return None
        if failed.name.startswith("org.freedesktop.DBus.Error."):
            raise CniError(PLUGIN_NOT_AVAILABLE, "firewalld does not answer", str(failed.strerror)) from None
        raise CniError(INVALID_CONFIG, f"firewalld: {method} {source} failed", str(failed.strerror)) from None
