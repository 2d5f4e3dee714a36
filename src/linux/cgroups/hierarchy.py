"""Which cgroup hierarchies the host has, and where below them our groups belong.

Version 1 has a tree per controller; a group of ours is made below the caller's own one there, so that what
limits the caller limits the pod. Version 2 has one tree, in which a group with processes cannot hand
controllers on to children: ours is made below the caller's only if systemd delegated that one
(Delegate=yes), else below the root. A hybrid host (controllers on version 1, an empty version 2 tree for
systemd) counts as version 1: the processes stay where systemd put them in its own trees.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from linux.cgroups.group import Cgroup

# Controllers a group of ours lives in; cpuset is left alone, its groups are unusable until filled in by hand.
CONTROLLERS = ("memory", "cpu", "pids", "devices", "freezer", "blkio")
# The same on version 2: "devices" is a BPF program there, "freezer" is part of every group.
V2_CONTROLLERS = ("memory", "cpu", "pids", "io")
UNIFIED = ""  # the key of the version 2 tree
# Where a process goes that is in a delegated group itself, which must hand its controllers on to our groups.
SUPERVISOR = "supervisor"


class Hierarchy:
    """The cgroup trees of a host: `bases` maps a controller (version 1) or UNIFIED to a directory.

    Our groups go below these directories, under relative names such as ``TOP/POD/APP``.
    """

    __slots__ = ("_mount", "bases")

    def __init__(self, bases: dict[str, str], *, mount: str = "") -> None:
        self.bases = bases
        self._mount = mount

    @classmethod
    def detect(cls, proc: str = "/proc/self") -> Hierarchy:
        """The trees that the process of `proc` sees. None at all is no error: nothing gets enforced then."""
        mounts = _mounts(f"{proc}/mountinfo")
        own = _own(f"{proc}/cgroup")
        bases = {}
        for controller in CONTROLLERS:
            base = _below(*mounts[controller], own.get(controller, "/")) if controller in mounts else ""
            if base and os.access(base, os.W_OK):  # read-only in a container, even for root
                bases[controller] = base
        if bases or UNIFIED not in mounts:
            return cls(bases)
        mount, root = mounts[UNIFIED]
        caller = _below(mount, root, own.get(UNIFIED, "/"))
        if os.path.basename(caller) == SUPERVISOR:
            caller = os.path.dirname(caller)
        if not os.access(mount, os.W_OK) and not _delegated(caller):
            return cls({})
        return cls({UNIFIED: caller if _delegated(caller) else mount}, mount=mount)

    @property
    def version(self) -> int:
        """1 (hybrid too), 2, or 0 when the host has no cgroups."""
        if UNIFIED in self.bases:
            return 2
        return 1 if self.bases else 0

    def cgroup(self, name: str) -> Cgroup:
        """The group `name` (``TOP/POD``), existing or not. ValueError for a name that could escape."""
        from linux.cgroups.group import Cgroup

        parts = name.split("/")
        if any(part in {"", ".", ".."} or "\0" in part or "\n" in part for part in parts) or len(parts) < 2:
            raise ValueError(f"{name!r} is not the name of a group below one of ours")
        return Cgroup({key: f"{base}/{name}" for key, base in self.bases.items()}, len(parts))

    def divide(self, pid: int = 0) -> bool:
        """On version 2: make room below the process `pid` (0: the caller), whose group systemd delegated.

        A group that has processes cannot give controllers to its children, so the process moves into one of
        these, "supervisor". False when the group was not delegated, or has other processes too.
        """
        base = self.bases.get(UNIFIED)
        if base is None or base == self._mount:
            return False
        leaf = f"{base}/{SUPERVISOR}"
        os.makedirs(leaf, exist_ok=True)
        write(f"{leaf}/cgroup.procs", str(pid))
        with open(f"{base}/cgroup.procs", encoding="ascii") as left:
            return not left.read()

    def find(self, top: str) -> dict[str, list[str]]:
        """Groups of ours, alive or left over, anywhere on the host: the names below every directory `top`.

        Gives name to the directories that have it, so that gc finds what a caller in another group made.
        """
        found: dict[str, list[str]] = {}
        starts = _tree_mounts()
        waiting = list(starts)
        while waiting:
            directory = waiting.pop()
            for name in _children(directory):
                path = f"{directory}/{name}"
                if name == top:
                    for group in _children(path):
                        found.setdefault(group, []).append(f"{path}/{group}")
                else:
                    waiting.append(path)
        return found


def write(path: str, value: str) -> None:
    """Write `value` to the control file `path` in one write(2), as the kernel wants it."""
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, value.encode())
    except OSError as failed:
        failed.filename = path
        raise
    finally:
        os.close(fd)


def _tree_mounts() -> list[str]:
    mounts = _mounts("/proc/self/mountinfo")
    wanted = [mounts[key][0] for key in (*CONTROLLERS, UNIFIED) if key in mounts]
    return list(dict.fromkeys(wanted))


def _children(directory: str) -> list[str]:
    """Names of the groups in `directory`; none when it went away meanwhile."""
    try:
        with os.scandir(directory) as entries:
            return [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return []


def _mounts(path: str) -> dict[str, tuple[str, str]]:
    """Controller (or UNIFIED) to (mount point, root within the tree), from a mountinfo file."""
    found: dict[str, tuple[str, str]] = {}
    with open(path, encoding="utf-8", errors="surrogateescape") as lines:
        for line in lines:
            if " - cgroup" not in line:
                continue
            before, after = line.split(" - ", 1)
            fields, kind = before.split(), after.split()
            place = (_unescaped(fields[4]), _unescaped(fields[3]))
            if kind[0] == "cgroup2":
                found.setdefault(UNIFIED, place)
            elif kind[0] == "cgroup":
                for option in kind[2].split(","):
                    found.setdefault(option, place)
    return found


def _unescaped(text: str) -> str:
    """Undo mountinfo's octal escapes of blank, tab, newline and backslash."""
    for escape, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(escape, character)
    return text


def _own(path: str) -> dict[str, str]:
    """Controller (or UNIFIED) to the group of a process, from its /proc/PID/cgroup."""
    found = {}
    with open(path, encoding="utf-8", errors="surrogateescape") as lines:
        for line in lines:
            number, controllers, group = line.rstrip("\n").split(":", 2)
            if number == "0":
                found[UNIFIED] = group
            for controller in filter(None, controllers.split(",")):
                found[controller] = group
    return found


def _below(mount: str, root: str, group: str) -> str:
    """The directory of `group` in a tree whose part `root` is mounted at `mount`.

    A group outside of that part (a container's view of its host) cannot be named: the mount itself then.
    """
    if root != "/":
        group = group[len(root) :] if group == root or group.startswith(root + "/") else "/"
    if ".." in group.split("/"):
        group = "/"
    directory = (mount + group).rstrip("/")
    return directory if os.path.isdir(directory) else mount


def _delegated(directory: str) -> bool:
    """Whether systemd marked the group as handed over to its processes (Delegate=yes, since systemd 244)."""
    for attribute in ("user.delegate", "trusted.delegate"):
        try:
            if os.getxattr(directory, attribute) == b"1":
                return True
        except OSError:
            continue
    return False
