"""Control groups of version 1, hybrid and version 2 behind one class.

`Hierarchy.detect()` finds what the host mounted, `hierarchy.cgroup("rkt/POD/app")` names a group in all of
it; `create`, `apply`, `join`, `kill` and `remove` work on that group and nowhere else.
"""

from __future__ import annotations

from linux.cgroups.group import Cgroup, enter_through
from linux.cgroups.hierarchy import Hierarchy
from linux.cgroups.limits import Device, Limits

__all__ = ["Cgroup", "Device", "Hierarchy", "Limits", "enter_through"]
