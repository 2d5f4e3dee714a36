"""The native stage 1's entry points: run, stop, gc, and reconcile for pods whose directory is gone.

Intent before effect: the names of control groups and of the network namespace derive from the pod's UUID and
are written into the pod before they are made, so that `gc` finds them after any crash.
"""

from __future__ import annotations

import os

from linux.bare import signal
from rkt.errors import RktError
from rkt.pods import datadir
from rkt.stage1.native.release import group_top, release

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rkt.stage1.abi import Invocation


def run(invocation: Invocation, lock_fd: int, *, may_exec: bool = True) -> int:
    """Run the pod to its end; its exit code (rkt's rule: the first app that failed decides).

    The pod dies with this process, so this process's lock on the pod, `lock_fd`, is the pod's. With
    `may_exec` this may never return: once the pod has run for a while the process executes a smaller
    supervisor (see `monitor`), as a stage 1 of rkt's ABI would from the start, and that exits with the pod's
    code.
    """
    from rkt.stage1.native.start import Start

    start = Start(invocation, lock_fd, may_exec=may_exec)
    try:
        return start.begin().run()
    finally:
        for problem in release(invocation.pod_dir, invocation.uuid):
            os.write(2, f"run: warning: {problem}\n".encode())
        start.close()


def stop(pod_dir: str, *, force: bool, number: int = signal.SIGTERM) -> None:
    """A signal to the pod's parent, which ends the apps; with `force` SIGKILL to the pod's PID 1.

    Does not wait. RktError when the pod has not begun or has just ended.
    """
    from linux import process

    try:
        parent, started, init = (_number(pod_dir, name) for name in ("ppid", "ppid-start", "pid"))
    except (FileNotFoundError, ValueError) as error:  # an empty file is being written
        raise RktError("the pod has not written its process IDs yet", hint="try again in a moment") from error
    try:
        with process.Pidfd.open(parent) as pidfd:
            # The parent's lock on the pod was seen, but between that and now its number may have passed on.
            if process.start_time(parent) != started:
                raise RktError("the pod has just ended")
            if not force:
                pidfd.send_signal(number)
                return
            # PID 1 is a child of the parent: its number cannot have passed on while that one lives.
            with process.Pidfd.open(init) as victim:
                victim.send_signal(signal.SIGKILL)
    except (ProcessLookupError, OverflowError):  # no process has the number of a damaged record
        raise RktError("the pod has just ended") from None


def _number(pod_dir: str, name: str) -> int:
    with open(f"{pod_dir}/{name}", encoding="ascii") as stream:
        return int(stream.read(32))


def gc(pod_dir: str, local_config: str) -> None:
    """Undo what a run left on the host. Raises RktError that names everything that could not be undone."""
    del local_config
    problems = release(pod_dir, os.path.basename(pod_dir))
    if problems:
        raise RktError("; ".join(problems))


def reconcile(live: set[str], data_dir: str) -> None:
    """Remove the control groups of pods of `data_dir` that have no directory any more.

    `live` are the UUIDs of all pods; one that came since is seen by its directory. Everything else of a pod
    is named by its directory, or by the plan of its networks (`rkt.network.reconcile`).
    """
    from linux import cgroups

    try:
        top = group_top(data_dir)
    except FileNotFoundError:
        return  # nobody has run anything yet
    for uuid, directories in cgroups.Hierarchy.detect().find(top).items():
        if len(uuid) == 36 and uuid not in live and not datadir.has_pod(data_dir, uuid):
            group = cgroups.Cgroup({path: path for path in directories}, 2)
            group.kill()
            group.remove()
