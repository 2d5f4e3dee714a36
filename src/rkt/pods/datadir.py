"""Which data directory this is, the same from every root and mount namespace, and whether a pod is in it.

A chroot or a container has a /var/lib/rkt of its own, and may share the control groups or /run of the host.
What stands there of a pod therefore names the data directory by this.
"""

from __future__ import annotations

import os

from rkt.pods.phases import PHASES


def identity(data_dir: str) -> str:
    """The numbers of the directory's filesystem and inode. OSError if there is no such directory."""
    known = os.stat(data_dir)
    return f"{known.st_dev:x}-{known.st_ino:x}"


def has_pod(data_dir: str, uuid: str) -> bool:
    """Whether there is a pod `uuid`, in whatever phase.

    To be asked by who collects, right before: a pod may have come since all of them were listed.
    """
    return any(os.path.isdir(f"{data_dir}/pods/{phase}/{uuid}") for phase in PHASES)
