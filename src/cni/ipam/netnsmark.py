"""What is remembered of a container's network namespace, to know later that it is gone."""

from __future__ import annotations

import os


def mark(path: str) -> str:
    """The namespace's inode, a blank, the path; "" when there is none. It can be told again by `is_gone`."""
    if not path:
        return ""
    try:
        return f"{os.stat(path).st_ino} {path}"
    except OSError:
        return ""


def is_gone(text: str) -> bool:
    """Whether the namespace of a mark is gone for sure, or its path means another one now.

    A path of /proc says too little: the process may have ended before its namespace. Nor does a file that
    is no namespace: it may be one in another mount namespace.
    """
    inode, _, path = text.partition(" ")
    if not path.startswith("/") or path.startswith("/proc/"):
        return False
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return os.path.isdir(os.path.dirname(path))
    except OSError:
        return False
    return found.st_dev == os.stat("/proc/self/ns/net").st_dev and str(found.st_ino) != inode
