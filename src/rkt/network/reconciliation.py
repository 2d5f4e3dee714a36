"""Collecting what is left of pods that are gone (D6): attachments, namespace pins, records, leases."""

from __future__ import annotations

import errno
import os

from cni import volatile
from cni.errors import CniError
from cni.inventory import namespace_lives
from rkt.errors import RktError
from rkt.network import joining, plan
from rkt.pods import datadir

TYPE_CHECKING = False  # not from typing: start-up time counts here
if TYPE_CHECKING:
    from collections.abc import Collection

    from cni.request import Request
    from rkt.network.plan import Plan

_NETNS_PREFIX = "/run/netns/cni-"
_FIRST_PID_NAMESPACE = 0xEFFFFFFC  # its inode: PROC_PID_INIT_INO of the kernel


def reconcile(live: Collection[str], data_dir: str) -> None:
    """Take every pod of `data_dir` that is gone off its networks, and free the leases of other boots.

    `live` are the UUIDs of all pods there are; a pod that came since is seen by its directory. Pods of
    another data directory are left alone, and so are pins in /run/netns that no plan names: other runtimes
    call theirs ``cni-UUID`` as well. Raises RktError that names what could not be collected.
    """
    from linux.files import lock_file

    problems: list[str] = []
    os.makedirs(os.path.dirname(joining.LOCK), mode=0o755, exist_ok=True)
    lock = lock_file(joining.LOCK, exclusive=True)
    try:
        known = set()
        for each in list(plan.registered()):
            known.add(each.uuid)
            if _is_gone(each, live, data_dir):
                problems += joining.undo(each)
                problems += _unpin(each.netns)
        volatile.collect(plan.REGISTRY)
        problems += _collect_records(known)
        _collect_leases()
    finally:
        os.close(lock)
    if problems:
        raise RktError("; ".join(problems))


def _is_gone(wanted: Plan, live: Collection[str], data_dir: str) -> bool:
    if wanted.uuid in live or not _is_of(wanted, data_dir):
        return False
    return not datadir.has_pod(data_dir, wanted.uuid)


def _is_of(wanted: Plan, data_dir: str) -> bool:
    """Whether the pod was one of this data directory, or of one removed that had its path."""
    try:
        if wanted.home == datadir.identity(data_dir):
            return True
    except FileNotFoundError:
        pass
    # Another one at the same path is that of another root or mount namespace while its pod lives.
    return os.path.abspath(wanted.data_dir) == os.path.abspath(data_dir) and _is_deserted(wanted.netns)


def _is_deserted(netns: str) -> bool:
    """Whether there is for sure no process in a namespace."""
    lives = namespace_lives(netns)
    if not lives:
        return lives is False
    if os.stat("/proc/self/ns/pid").st_ino != _FIRST_PID_NAMESPACE:
        return False
    wanted = os.stat(netns).st_ino
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        try:
            if os.stat(f"/proc/{pid}/ns/net").st_ino == wanted:
                return False
        except OSError:  # it has ended, and may be waited for
            continue
    return True


def _unpin(netns: str) -> list[str]:
    """Remove the pin of a namespace: a mount on a file, of which the mount may be gone (after a reboot)."""
    if not netns.startswith(_NETNS_PREFIX) or "/" in netns.removeprefix(_NETNS_PREFIX):
        return []
    from linux.mount import api

    try:
        try:
            api.umount(netns, api.UmountFlag.DETACH | api.UmountFlag.NOFOLLOW)
        except OSError as failed:
            if failed.errno not in (errno.EINVAL, errno.ENOENT):
                raise
        os.unlink(netns)
    except FileNotFoundError:
        return []
    except OSError as failed:
        return [f"{netns}: {failed.strerror}"]
    return []


def _collect_records(known: Collection[str]) -> list[str]:
    """DEL for plugin records that look like rkt's, belong to no plan and have no namespace any more."""
    from cni import state
    from linux.process import fork_and_read

    orphans = [
        (plugin, request)
        for plugin, request in state.every()
        if request.container_id not in known
        and request.netns == f"{_NETNS_PREFIX}{request.container_id}"
        and not os.path.exists(request.netns)
    ]
    if not orphans:
        return []
    answer = fork_and_read(lambda: _delete_all(orphans))
    return [line for line in answer.decode().splitlines() if line]


def _delete_all(orphans: list[tuple[str, Request]]) -> bytes:
    from cni import plugins
    from cni.plugin import perform

    problems = []
    for plugin, request in orphans:
        if not plugins.is_builtin(plugin):
            continue
        try:
            perform(plugin, request)
        except CniError as failed:
            problems.append(f"{plugin}: {request.name}: {request.container_id}: {failed}".replace("\n", " "))
    return "\n".join(problems).encode()


def _collect_leases() -> None:
    from cni.ipam import leases

    leases.collect_other_boots()
