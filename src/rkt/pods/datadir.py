"""Which data directory this is: the same from every root and mount namespace, unlike its path.

A chroot or a container has a /var/lib/rkt of its own, and may share the control groups or /run of the host.
What stands there of a pod therefore names the data directory by this.
"""

from __future__ import annotations

import os


def identity(data_dir: str) -> str:
    """The numbers of the directory's filesystem and inode. OSError if there is no such directory."""
    known = os.stat(data_dir)
    return f"{known.st_dev:x}-{known.st_ino:x}"
