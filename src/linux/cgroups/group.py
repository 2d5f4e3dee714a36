"""One control group: made, limited, filled, killed and removed in every tree it lives in.

A Cgroup only ever touches the directories it was given; those come from `Hierarchy.cgroup`, from `child`,
or from a record that this class wrote.
"""

from __future__ import annotations

import errno
import os
import time

from linux.cgroups import limits as limit_files
from linux.cgroups.hierarchy import UNIFIED, V2_CONTROLLERS, write

_SIGKILL = 9  # importing signal costs as much as enum
_DEPTH_OF_OURS = 3  # how far up `create` and `remove` go: TOP/POD/APP


class Cgroup:
    """A group under one name in all trees: `directories` maps a controller (or UNIFIED) to its directory."""

    __slots__ = ("_depth", "directories")

    def __init__(self, directories: dict[str, str], depth: int) -> None:
        self.directories = directories
        self._depth = min(depth, _DEPTH_OF_OURS)

    # Naming

    def child(self, name: str) -> Cgroup:
        """The group `name` in this one. On version 2 a group with children has no processes of its own."""
        if name in {"", ".", ".."} or "/" in name or "\0" in name or "\n" in name:
            raise ValueError(f"{name!r} is not the name of a group")
        return Cgroup({key: f"{path}/{name}" for key, path in self.directories.items()}, self._depth + 1)

    def record(self) -> str:
        """The group as text, for another process to find it: a line ``controller:directory`` per tree."""
        return "".join(f"{self._depth}:{key}:{path}\n" for key, path in self.directories.items())

    @classmethod
    def from_record(cls, text: str) -> Cgroup:
        """The group that `record` wrote. ValueError for anything else."""
        directories, depth = {}, 0
        for line in text.splitlines():
            number, key, path = line.split(":", 2)
            if not path.startswith("/") or ".." in path.split("/"):
                raise ValueError(f"{path!r} is not the directory of a control group")
            directories[key], depth = path, int(number)
        return cls(directories, depth)

    # Life

    def create(self) -> None:
        """Make the group where it does not exist; on version 2 the groups above hand their controllers on."""
        for key, path in self.directories.items():
            for _ in range(10):
                try:
                    self._create_in(key, path)
                except FileNotFoundError:
                    continue  # somebody removed the empty parent between our two steps
                break
            else:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)

    def _create_in(self, key: str, path: str) -> None:
        ours = path.split("/")
        for length in range(len(ours) - self._depth + 1, len(ours) + 1):
            directory = "/".join(ours[:length])
            if key == UNIFIED:
                _hand_on(os.path.dirname(directory))
            try:
                os.mkdir(directory, 0o755)
            except FileExistsError:
                continue

    def exists(self) -> bool:
        """Whether the group is there in any tree."""
        return any(os.path.isdir(path) for path in self.directories.values())

    def remove(self, *, timeout: float = 1.0) -> None:
        """Remove the group and all groups in it; those above too when they are ours and empty now.

        What is gone already is no error. OSError (EBUSY) when processes are left after `timeout` seconds.
        """
        deadline = time.monotonic() + timeout
        for path in self.directories.values():
            while True:
                try:
                    _remove_tree(path)
                except OSError as failed:
                    if failed.errno != errno.EBUSY or time.monotonic() > deadline:
                        raise
                    time.sleep(0.005)  # a killed process leaves its group a moment after its parent reaped it
                else:
                    break
            for _ in range(self._depth - 1):
                path = os.path.dirname(path)
                try:
                    os.rmdir(path)
                except OSError:
                    break

    # Processes

    def join(self) -> None:
        """Move the calling process, which has one thread, into the group.

        On version 1 this writes the thread's own number: moving a whole process makes the kernel wait for
        an RCU grace period, 6 to 10 ms, moving oneself does not.
        """
        fds = self.open_entry()
        try:
            enter_through(fds)
        finally:
            for fd in fds:
                os.close(fd)

    def open_entry(self) -> list[int]:
        """File descriptors through which a process can join later that does not see the trees any more.

        They are for `enter_through`; the kernel asks for the permissions of whoever opened them.
        """
        fds: list[int] = []
        try:
            for key, path in self.directories.items():
                file = "cgroup.procs" if key == UNIFIED else "tasks"
                fds.append(os.open(f"{path}/{file}", os.O_WRONLY | os.O_CLOEXEC))
        except BaseException:
            for fd in fds:
                os.close(fd)
            raise
        return fds

    def add(self, pid: int) -> None:
        """Move the process `pid` into the group. ProcessLookupError when it is gone."""
        for path in self.directories.values():
            write(f"{path}/cgroup.procs", str(pid))

    def processes(self) -> list[int]:
        """Every process in the group and below, as the caller's PID namespace numbers them, in order."""
        found: set[int] = set()
        for path in self.directories.values():
            for directory, _, _ in os.walk(path):
                try:
                    with open(f"{directory}/cgroup.procs", encoding="ascii") as pids:
                        found.update(int(pid) for pid in pids)
                except OSError as failed:
                    if failed.errno not in {errno.ENOENT, errno.ENODEV, errno.EOPNOTSUPP}:
                        raise
        return sorted(found - {0})  # 0: a process that the caller's PID namespace cannot name

    def killed_for_memory(self) -> int:
        """How many processes of the group the kernel has killed for lack of memory; 0 if it does not tell."""
        for key, name in ((UNIFIED, "memory.events"), ("memory", "memory.oom_control")):
            try:
                with open(f"{self.directories[key]}/{name}", encoding="ascii") as counters:
                    return next(int(line[9:]) for line in counters if line.startswith("oom_kill "))
            except (KeyError, OSError, StopIteration):
                continue  # another version, no controller, or a kernel before 4.13
        return 0

    def kill(self, *, timeout: float = 5.0) -> None:
        """SIGKILL everything in the group and below, and what is forked meanwhile; return when it is empty.

        Version 2 does it at a stroke (cgroup.kill, Linux 5.14); else the group is frozen first where it can
        be, so that nothing gets away. TimeoutError after `timeout` seconds. The caller must not be in it.
        """
        if os.getpid() in self.processes():
            raise ValueError("a process cannot kill the control group it is in")
        deadline = time.monotonic() + timeout
        unified = self.directories.get(UNIFIED)
        if unified is not None and os.path.exists(f"{unified}/cgroup.kill"):
            write(f"{unified}/cgroup.kill", "1")
        while pids := self.processes():
            self._freeze("FROZEN")
            for pid in pids:
                try:
                    os.kill(pid, _SIGKILL)
                except ProcessLookupError:
                    continue
            self._freeze("THAWED")
            if all(_is_zombie(pid) for pid in pids):
                return
            if time.monotonic() > deadline:
                raise TimeoutError(errno.ETIMEDOUT, f"processes {pids} outlive SIGKILL in a control group")
            time.sleep(0.002)

    def _freeze(self, state: str) -> None:
        path = self.directories.get("freezer")
        if path is not None and os.path.exists(f"{path}/freezer.state"):
            write(f"{path}/freezer.state", state)

    # Limits

    def apply(self, limits: limit_files.Limits) -> list[str]:
        """Enforce `limits`; what could not be, each as ``isolator: reason``, for the user to see.

        Never raises for a missing controller or a value the kernel refuses: the caller decides whether a
        pod may run without.
        """
        disks = block_devices() if limits.block_bandwidth or limits.block_iops else ()
        unified = self.directories.get(UNIFIED)
        table = limit_files.version_1 if unified is None else limit_files.version_2
        missed: dict[str, str] = {}
        for isolator, controller, file, value in table(limits, disks):
            directory = self.directories.get(controller) if unified is None else unified
            if directory is None or not os.path.exists(f"{directory}/{file}"):
                missed.setdefault(isolator, f"no cgroup controller {controller!r} for it on this host")
                continue
            try:
                write(f"{directory}/{file}", value)
            except OSError as failed:
                missed.setdefault(isolator, f"{file}: {value!r} refused: {failed.strerror}")
        if unified is not None and limits.devices is not None:
            from linux.cgroups import devices

            try:
                devices.attach(unified, limits.devices)
            except OSError as failed:
                missed["device rules"] = f"no BPF for control groups: {failed.strerror}"
        if not disks:
            wanted = (("bandwidth", limits.block_bandwidth), ("iops", limits.block_iops))
            missed |= {f"resource/block-{what}": "no disk on this host" for what, value in wanted if value}
        return [f"{isolator}: {reason}" for isolator, reason in missed.items()]


def enter_through(fds: list[int]) -> None:
    """Move the calling process into the group whose `open_entry` gave `fds`; it must have one thread."""
    for fd in fds:
        os.write(fd, b"0")


def block_devices() -> tuple[str, ...]:
    """The disks of the host that can be throttled, as ``major:minor``."""
    found = []
    try:
        names = sorted(os.listdir("/sys/block"))
    except OSError:
        return ()
    for name in names:
        if name.startswith(("ram", "zram", "loop")):
            continue
        try:
            with open(f"/sys/block/{name}/dev", encoding="ascii") as numbers:
                found.append(numbers.read().strip())
        except OSError:
            continue
    return tuple(found)


def _hand_on(directory: str) -> None:
    """Let the children of a version 2 group have our controllers, as far as it has them itself.

    Those that cannot be handed on (the group has processes, the host gave them to somebody else) show
    later as a missing file, which `apply` reports.
    """
    try:
        with open(f"{directory}/cgroup.controllers", encoding="ascii") as file:
            available = file.read().split()
        with open(f"{directory}/cgroup.subtree_control", encoding="ascii") as file:
            enabled = file.read().split()
    except OSError:
        return
    for controller in V2_CONTROLLERS:
        if controller in available and controller not in enabled:
            try:
                write(f"{directory}/cgroup.subtree_control", f"+{controller}")
            except OSError:
                continue


def _remove_tree(path: str) -> None:
    """Remove a group and those in it, the deepest first; what is gone is no error."""
    try:
        children = [entry.name for entry in os.scandir(path) if entry.is_dir(follow_symlinks=False)]
    except FileNotFoundError:
        return
    for name in children:
        _remove_tree(f"{path}/{name}")
    try:
        os.rmdir(path)
    except FileNotFoundError:
        return


def _is_zombie(pid: int) -> bool:
    """Whether `pid` is dead and only waits for its parent: such a process stays in its group on version 1."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[0] in {"Z", "X"}
    except OSError:
        return True
