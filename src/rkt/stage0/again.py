"""Run a pod that has ended once more: the same manifest, the same files, what its apps wrote included."""

from __future__ import annotations

import json
import os

from linux import files
from rkt.errors import RktError
from rkt.stage1 import flavours
from rkt.stage1.abi import SUPERVISOR_STATUS, Invocation

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rkt.pods.pod import Pod

_ENDED = ("exited", "exited garbage")
_FLAGS = "runtime-config"


def invocation_of(pod: Pod) -> Invocation:
    """How the pod was run, as `rkt.stage0.run` wrote it down. RktError if it never ran."""
    data = pod.read(_FLAGS)
    if data is None:
        raise RktError(f"pod {pod.uuid} has not been run")
    try:
        value = json.loads(data)
        for name in ("net", "ports", "private_users"):
            if value.get(name) is not None:
                value[name] = tuple(value[name])
        return Invocation(**{name: value[name] for name in Invocation._fields if name in value})
    except (ValueError, TypeError, AttributeError):
        raise RktError(f"pod {pod.uuid}: {_FLAGS} is damaged", hint="make a new pod of its images") from None


def make_ready(pod: Pod, local_config: str) -> Invocation:
    """Make an ended pod, whose lock the caller takes here, runnable again, and tell how it was run.

    What the last run left is undone first, in case nobody did. RktError if the pod has not ended.
    """
    state = pod.state()
    if state not in _ENDED:
        raise RktError(f'pod "{pod.uuid}" has not ended (it is {state})')
    pod.lock()
    invocation = invocation_of(pod)
    flavours.of_pod(pod).gc(pod.path, local_config)
    for name in (SUPERVISOR_STATUS, "not-enforced", "out-of-memory"):
        try:
            os.unlink(name, dir_fd=pod.fd)
        except FileNotFoundError:
            continue
    for directory in ("stage1/rootfs/rkt/status", "apps"):
        files.remove_tree(directory, dir_fd=pod.fd)
    os.mkdir("stage1/rootfs/rkt/status", 0o755, dir_fd=pod.fd)
    return invocation
