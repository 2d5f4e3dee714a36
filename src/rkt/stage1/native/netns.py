"""The pin of a pod's network namespace: a bind mount at /run/netns/cni-UUID, where CNI plugins find it."""

from __future__ import annotations

import errno
import os

from linux.mount import api

DIRECTORY = "/run/netns"
_PREFIX = "cni-"


def path(uuid: str) -> str:
    """Where the namespace of pod `uuid` is pinned; rkt's name for it."""
    return f"{DIRECTORY}/{_PREFIX}{uuid}"


def pin(uuid: str, pid: int) -> None:
    """Pin the network namespace of process `pid` for the pod `uuid`."""
    os.makedirs(DIRECTORY, mode=0o755, exist_ok=True)
    target = path(uuid)
    os.close(os.open(target, os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444))
    api.mount(f"/proc/{pid}/ns/net", target, flags=api.MountFlag.BIND)


def unpin(uuid: str) -> None:
    """Remove the pin; no error if there is none, or only half of one."""
    target = path(uuid)
    try:
        api.umount(target, api.UmountFlag.DETACH | api.UmountFlag.NOFOLLOW)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOENT):
            raise
    try:
        os.unlink(target)
    except FileNotFoundError:
        return
