"""What a test left behind: mounts, links, nft tables, namespaces, processes, cgroups, loop devices, files.

Taken before and after each test in the test's own process. Since `isolation` gave that process mount
and network namespaces of its own, a difference is this test's doing. Kinds that all workers share
(cgroups, loop devices) are attributed when the test can be told from them, and compared again by the
controller at the end of the session.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import NamedTuple

import isolation

# Names of ours in directories that other programs use too.
_PREFIXES = ("rkt", "cni", "appc", "acbuild", "actool")
_STATE = "/run/rkt-platform"
_OWN_DIRECTORIES = ("/run", "/run/netns", "/run/lock", _STATE, f"{_STATE}/cni", f"{_STATE}/pods")
# What stays on a host for good: the places for state, without any state in them.
_LOCKS = tuple(
    f"{_STATE}/{name}.lock" for name in ("network", "cni-nft", "cni-bridge", "cni-iptables", "cni-portmap")
)
_PLACES = (_STATE, f"{_STATE}/cni", f"{_STATE}/pods", *_LOCKS)
_SHARED_DIRECTORIES = ("/tmp", "/dev/shm", "/var/lib", "/etc")
# A process that was told to end gets this many seconds to do so before it counts as left behind.
_GRACE = 2.0
# Process IDs of servers that a session of tests shares; they and their children are nobody's leavings.
RESIDENT: set[int] = set()


class Process(NamedTuple):
    pid: int
    started: str
    command: str

    def __str__(self) -> str:
        return f"process {self.pid}: {self.command}"


class State(NamedTuple):
    """What exists at one moment, each thing as one line of text."""

    mounts: frozenset[str]
    links: frozenset[str]
    tables: frozenset[str]
    files: frozenset[str]
    processes: frozenset[Process]

    def since(self, before: State) -> list[str]:
        """What is new compared to `before`."""
        found = [f"mount {line}" for line in sorted(self.mounts - before.mounts)]
        found += [f"network link {name}" for name in sorted(self.links - before.links)]
        found += [f"nft {table}" for table in sorted(self.tables - before.tables)]
        found += [f"file {path}" for path in sorted(self.files - before.files)]
        found += [str(process) for process in sorted(self.processes - before.processes)]
        return found


def take(*, deep: bool) -> State:
    """Look now. `deep` also asks nft, for tests that work on the network (a process each time)."""
    return State(_mounts(), _links(), _tables() if deep else frozenset(), _files(), processes())


def difference(before: State, *, deep: bool) -> list[str]:
    """What is there that was not before, after processes that are just ending had time to."""
    deadline = time.monotonic() + _GRACE
    while True:
        left = take(deep=deep).since(before)
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.05)


def end(left: frozenset[Process]) -> None:
    """Kill processes that a test left, so that the next test starts clean."""
    for process in left:
        if _started(process.pid) == process.started:
            os.kill(process.pid, signal.SIGKILL)


def _mounts() -> frozenset[str]:
    lines = Path("/proc/thread-self/mountinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    found = set()
    for line in lines:
        fields, _, rest = line.partition(" - ")
        found.add(f"{fields.split()[4]} ({' '.join(rest.split()[:2])})")
    return frozenset(found)


def _links() -> frozenset[str]:
    lines = Path("/proc/thread-self/net/dev").read_text(encoding="ascii").splitlines()[2:]
    return frozenset(line.split(":")[0].strip() for line in lines)


def _tables() -> frozenset[str]:
    if os.geteuid() != 0 or shutil.which("nft") is None:
        return frozenset()
    listed = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=False)
    return frozenset(listed.stdout.splitlines())


def _files() -> frozenset[str]:
    return _ours_in(_OWN_DIRECTORIES) if isolation.is_isolated() else frozenset()


def _ours_in(directories: tuple[str, ...]) -> frozenset[str]:
    found = set()
    for directory in directories:
        try:
            names = os.listdir(directory)
        except (FileNotFoundError, PermissionError):
            continue
        ours = directory.startswith(("/run/netns", "/run/rkt-platform"))
        found |= {
            f"{directory}/{name}"
            for name in names
            if (ours or name.startswith(_PREFIXES)) and not name.startswith("rkt-tests-")
        }
    return frozenset(found - set(_PLACES))


def processes() -> frozenset[Process]:
    """Processes that can only come from this test process: its namespaces, its directory, its children."""
    mine = {_namespace(os.getpid(), kind) for kind in ("mnt", "net")}
    isolated = isolation.is_isolated()
    directory = os.environ.get("TMPDIR", "")
    found = set()
    for name in os.listdir("/proc"):
        pid = int(name) if name.isdigit() else 0
        if not pid or pid == os.getpid() or not RESIDENT.isdisjoint((pid, _parent(pid))):
            continue
        if _parent(pid) == os.getpid() or (isolated and _is_ours(pid, mine, directory)):
            started, command = _started(pid), _command(pid)
            if started:
                found.add(Process(pid, started, command))
    return frozenset(found)


def _is_ours(pid: int, mine: set[str], directory: str) -> bool:
    if not mine.isdisjoint({_namespace(pid, kind) for kind in ("mnt", "net")} - {""}):
        return True
    try:
        mounts = Path(f"/proc/{pid}/mountinfo").read_text(encoding="utf-8", errors="replace")
        root = os.readlink(f"/proc/{pid}/root")
        environment = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return False
    return bool(directory) and (
        f"={directory}/" in mounts
        or root.startswith(f"{directory}/")
        or f"TMPDIR={directory}".encode() in environment.split(b"\0")
    )


def _namespace(pid: int, kind: str) -> str:
    try:
        return os.readlink(f"/proc/{pid}/ns/{kind}")
    except OSError:
        return ""


def _stat(pid: int) -> list[str]:
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    return text.rpartition(")")[2].split()


def _parent(pid: int) -> int:
    fields = _stat(pid)
    return int(fields[1]) if fields else 0


def _started(pid: int) -> str:
    fields = _stat(pid)
    return fields[19] if fields else ""


def _command(pid: int) -> str:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        name = Path(f"/proc/{pid}/comm").read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return "(gone)"
    text = b" ".join(words).decode("utf-8", "replace").strip()
    return text or f"[{name}] (zombie)"


def shared_state() -> frozenset[str]:
    """What all workers share: our files, our cgroups in every hierarchy, loop devices.

    Cgroups with processes are left out: either these are left behind themselves, which the check of
    processes tells, or another session of tests runs on the machine.
    """
    found = {f"file {path}" for path in _ours_in(_SHARED_DIRECTORIES)}
    for top in _hierarchies():
        for directory, names, _ in os.walk(top):
            ours = [f"{directory}/{name}" for name in names if _is_ours_cgroup(name)]
            found |= {f"cgroup {path}" for path in ours if not _has_processes(path)}
            if directory.count("/") - top.count("/") >= 3:
                names.clear()
    for backing in Path("/sys/block").glob("loop*/loop/backing_file"):
        try:
            found.add(f"loop device {backing.parent.parent.name}: {backing.read_text().strip()}")
        except OSError:
            continue
    return frozenset(found)


def _hierarchies() -> list[str]:
    top = Path("/sys/fs/cgroup")
    if (top / "cgroup.controllers").exists():
        return [str(top)]
    return sorted(str(entry) for entry in top.iterdir() if entry.is_dir() and not entry.is_symlink())


def _has_processes(group: str) -> bool:
    for directory, _, _ in os.walk(group):
        try:
            if Path(directory, "cgroup.procs").read_text(encoding="ascii"):
                return True
        except OSError:
            continue  # it goes away at this moment, or is threaded
    return False


def _is_ours_cgroup(name: str) -> bool:
    return name.startswith(("rkt", "machine-rkt"))
