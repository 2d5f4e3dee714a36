"""The phases of a pod's life: which directory a pod lies in, and what a lock on it then means.

A pod is a directory that moves by rename(2) through `embryo -> prepare -> [prepared ->] run ->
exited-garbage`; what failed or expired before it ran goes to `garbage`. The advisory lock (flock)
on the pod's own directory tells whether somebody is at work on it: no process identifier is ever
trusted for that. Names and meaning are rkt's (Documentation/devel/pod-lifecycle.md).
"""

from __future__ import annotations

EMBRYO = "embryo"
PREPARE = "prepare"
PREPARED = "prepared"
RUN = "run"
EXITED_GARBAGE = "exited-garbage"
GARBAGE = "garbage"

# In the order in which a pod moves, so that a scan in this order cannot miss one that is moving.
PHASES = (EMBRYO, PREPARE, PREPARED, RUN, EXITED_GARBAGE, GARBAGE)

# (phase, exclusively locked) -> the state that rkt prints
_STATES = {
    (EMBRYO, False): "embryo",
    (EMBRYO, True): "embryo",
    (PREPARE, True): "preparing",
    (PREPARE, False): "aborted prepare",
    (PREPARED, False): "prepared",
    (PREPARED, True): "prepared",
    (RUN, True): "running",
    (RUN, False): "exited",
    (EXITED_GARBAGE, True): "exited deleting",
    (EXITED_GARBAGE, False): "exited garbage",
    (GARBAGE, True): "deleting",
    (GARBAGE, False): "garbage",
}

# States in which a pod has run and runs no more.
ENDED = ("exited", "exited deleting", "exited garbage", "garbage", "deleting")


def state(phase: str, *, locked: bool) -> str:
    """The name of the state of a pod that lies in `phase`, by whether its directory is locked."""
    return _STATES[phase, locked]
