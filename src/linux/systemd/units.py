"""Units of the service manager: the one that a process belongs to, and new scopes around processes."""

from __future__ import annotations

from linux.named_tuple import NamedTuple
from linux.systemd.bus import BusError, Service

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from linux.systemd.bus import Bus

_MANAGER = Service(
    "org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager"
)


class Unit(NamedTuple):
    """A unit of the system's manager. `slice` is the innermost slice that it is in ("-.slice" at the top)."""

    name: str
    slice: str


def of_process(pid: int | str = "self") -> Unit | None:
    """The unit that the process belongs to, by its control group; None outside of all units."""
    found = None
    with open(f"/proc/{pid}/cgroup", encoding="utf-8", errors="surrogateescape") as lines:
        for line in lines:
            number, controllers, path = line.rstrip("\n").split(":", 2)
            # systemd keeps the processes of its units in the version 2 tree, where it does not use that one
            # in a tree of its own. The others need not be its.
            if number == "0" or controllers == "name=systemd":
                found = of_group(path) or found
    return found


def of_group(path: str) -> Unit | None:
    """The unit whose control group is `path` or above it."""
    inside = "-.slice"
    for part in path.split("/"):
        name = part.removeprefix("_")  # systemd's escape for names that the kernel could take for its own
        if name.endswith(".slice"):
            inside = name
        elif name.endswith((".service", ".scope")):
            return Unit(name, inside)
    return None


def start_scope(bus: Bus, name: str, pids: Sequence[int], *, slice: str, description: str) -> None:
    """Put processes into the new scope `name`, whose control group is theirs to divide (Delegate=yes).

    Returns when they are there. The scope ends with its last process. Raises BusError when the manager
    refuses, or when a unit of that name exists.
    """
    properties = [
        ("Description", ("s", description)),
        ("Slice", ("s", slice)),
        ("PIDs", ("au", list(pids))),
        ("Delegate", ("b", True)),
        ("CollectMode", ("s", "inactive-or-failed")),  # a scope that failed is nothing to keep
    ]
    bus.subscribe(
        f"type='signal',sender='{_MANAGER.name}',path='{_MANAGER.path}',"
        f"interface='{_MANAGER.interface}',member='JobRemoved'"
    )
    (job,) = bus.call(_MANAGER, "StartTransientUnit", "ssa(sv)a(sa(sv))", name, "fail", properties, [])
    while True:
        _, path, unit, result = bus.signal("JobRemoved")
        if path == job:
            if result != "done":
                raise BusError("org.freedesktop.systemd1.JobFailed", f"{unit}: its job ended as {result}")
            return
