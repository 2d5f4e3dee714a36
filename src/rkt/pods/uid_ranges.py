"""Which 64k range of host user and group IDs belongs to which pod.

A pod with a user namespace of its own sees IDs 0 to 65535; on the host they are a range that no
other pod has, so that a process that escapes from one pod owns no file and no process of another.
A range is taken by making a symbolic link from the range's number to the pod's UUID: that is atomic
between processes, is never seen half made, costs the same with one pod and with a thousand, and
survives any crash. Links whose pod is gone are removed by `rkt gc`.
"""

from __future__ import annotations

import os

from linux import files
from rkt.errors import RktError
from rkt.pods import datadir

COUNT = 1 << 16
# rkt's own ranges were n << 16 for n in 1..32767. The upper end stays clear of what /etc/subuid
# commonly gives to people (from 100000 on) and of systemd-nspawn's picks (up to 0x6fff << 16).
_FIRST, _LAST = 0x7000, 0x7FFF


def _directory(data_dir: str) -> str:
    return f"{data_dir}/uid-ranges"


def reserve(data_dir: str, uuid: str) -> tuple[int, int]:
    """Take a free range for pod `uuid`: (first host ID, number of IDs).

    The search starts at a place that the UUID decides, so that it is short however many pods there
    are. Raises RktError when every range is taken.
    """
    directory = _directory(data_dir)
    os.makedirs(directory, mode=0o700, exist_ok=True)
    span = _LAST - _FIRST + 1
    start = int(uuid[:8], 16) % span
    for step in range(span):
        number = _FIRST + (start + step) % span
        try:
            os.symlink(uuid, f"{directory}/{number}")
        except FileExistsError:
            continue
        files.sync_directory(directory)
        return number << 16, COUNT
    raise RktError("all ranges of user IDs are in use", hint="`rkt gc` frees those of pods that have ended")


def release(data_dir: str, shift: int) -> None:
    """Give back the range that begins at host ID `shift`. No error if it is free already."""
    try:
        os.unlink(f"{_directory(data_dir)}/{shift >> 16}")
    except FileNotFoundError:
        return


def collect(data_dir: str, live: set[str]) -> list[int]:
    """Free all ranges whose pod is gone; returns the first host IDs of those freed.

    `live` are the UUIDs of all pods; one that came since is seen by its directory.
    """
    directory = _directory(data_dir)
    try:
        numbers = os.listdir(directory)
    except FileNotFoundError:
        return []
    freed = []
    for number in numbers:
        try:
            owner = os.readlink(f"{directory}/{number}")
        except FileNotFoundError:
            continue
        if owner not in live and not datadir.has_pod(data_dir, owner):
            release(data_dir, int(number) << 16)
            freed.append(int(number) << 16)
    return freed
