"""Take a pod away: everything that it left in the kernel first, then its files, its manifest last.

Nothing here needs what was in the memory of whoever ran the pod: all names derive from the UUID and
from the files of the pod (D5, D6). Every step may find its work done already.
"""

from __future__ import annotations

import os

from linux import files
from rkt.pods import phases, uid_ranges

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rkt.pods.pod import Pod

# Removed in this order after everything else: as long as the manifest is there, `rkt list` and the next
# `gc` know what the rest of the directory is.
_LAST = ("pod",)


def remove(pod: Pod, data_dir: str, local_config: str) -> None:
    """Remove a pod whose lock the caller holds and which lies in `exited-garbage` or `garbage`.

    Raises OSError or RktError at what cannot be undone; a later call goes on where this one stopped.
    """
    from rkt.stage1 import flavours

    if pod.read("mds-registered") is not None:
        from rkt.metadata import pods

        pods.unregister(pod.path, pod.uuid)
    flavours.of_pod(pod).gc(pod.path, local_config)
    unmount_below(pod.path)
    shift = _shift(pod)
    for name in sorted(os.listdir(pod.fd), key=lambda name: (name in _LAST, name != "stage1")):
        files.remove_tree(name, dir_fd=pod.fd)
    if shift is not None:
        uid_ranges.release(data_dir, shift)
    try:
        os.rmdir(pod.path)
    except FileNotFoundError:
        return
    files.sync_directory(os.path.dirname(pod.path))


def discard(pod: Pod, data_dir: str, local_config: str) -> None:
    """Move a pod, whose lock the caller holds, out of sight and remove it."""
    if pod.phase == phases.RUN:
        pod.move(phases.EXITED_GARBAGE)
    elif pod.phase not in (phases.EXITED_GARBAGE, phases.GARBAGE):
        pod.move(phases.GARBAGE)
    remove(pod, data_dir, local_config)


def unmount_below(path: str) -> None:
    """Detach every mount of the caller's namespace that lies at or below `path`, innermost first.

    The paths are compared as the kernel lists them, never resolved: a symbolic link inside the pod
    cannot make this touch a mount of the host (rkt's fly flavour lost up to ten that way).
    """
    from linux.mount import api, info

    below = path + "/"
    targets = [entry.target for entry in info.mounts() if (entry.target + "/").startswith(below)]
    for target in reversed(targets):
        api.umount(target, api.UmountFlag.DETACH | api.UmountFlag.NOFOLLOW)


def _shift(pod: Pod) -> int | None:
    text = pod.read_text("private-users-prepared")
    try:
        return int(text.split(":")[0]) if text else None
    except ValueError:
        return None
