"""Tell systemd-machined about a container (org.freedesktop.machine1), so that `machinectl` knows it."""

from __future__ import annotations

from linux.systemd.bus import Service

TYPE_CHECKING = False
if TYPE_CHECKING:
    from linux.systemd.bus import Bus

_MACHINED = Service(
    "org.freedesktop.machine1", "/org/freedesktop/machine1", "org.freedesktop.machine1.Manager"
)


def register(bus: Bus, name: str, identifier: bytes, *, service: str, leader: int, root: str) -> None:
    """Register the container `name` whose PID 1 is the process `leader`, as part of the leader's unit.

    `identifier` are 16 bytes, `service` is who runs the container, `root` its root directory on the host.
    machined forgets it when that unit ends, or when it is told. Raises BusError: machined is not installed,
    the leader belongs to no unit, the name is taken.
    """
    values = (name, identifier, service, "container", leader, root)
    bus.call(_MACHINED, "RegisterMachine", "sayssus", *values)


def unregister(bus: Bus, name: str) -> None:
    """Forget the container `name`. BusError (NoSuchMachine) when there is none."""
    bus.call(_MACHINED, "UnregisterMachine", "s", name)
