"""Garbage collection of pods: mark, sweep, and reconcile what the kernel still holds with what lives.

Idempotent and without memory (D6): any number of these may run at once, after any crash, also after a
reboot. A pod that somebody holds is never touched. Progress goes through `Report`, so that the verb
decides what is shown where.
"""

from __future__ import annotations

import os
import time

from rkt.errors import RktError, one_line
from rkt.pods import phases, removal, uid_ranges

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from rkt.pods.directory import PodDirectory
    from rkt.pods.pod import Pod

    class Report(Protocol):
        """What a collection tells while it works."""

        def note(self, text: str) -> None: ...

        def collecting(self, uuid: str) -> None: ...

        def spared(self, uuid: str) -> None: ...

        def failed(self, text: str) -> None: ...


def mark(pods: PodDirectory, report: Report, *, expire_prepared: float) -> None:
    """Move to garbage whatever has ended: exited pods, failed prepares, expired prepared pods, dead embryos.

    `expire_prepared` is in seconds; a prepared pod is young until that long after its last change.
    """
    for pod in pods.pods((phases.RUN,)):
        if _take(pod):
            report.note(f'moving pod "{pod.uuid}" to garbage')
            pod.move(phases.EXITED_GARBAGE)
    for pod in pods.pods((phases.PREPARE,)):
        if _take(pod):
            report.note(f'moving failed prepare "{pod.uuid}" to garbage')
            pod.move(phases.GARBAGE)
    _mark_embryos(pods)
    for pod in pods.pods((phases.PREPARED,)):
        if _age(pod) >= expire_prepared and _take(pod):
            report.note(f'moving expired prepared pod "{pod.uuid}" to garbage')
            pod.move(phases.GARBAGE)


def _mark_embryos(pods: PodDirectory) -> None:
    """Embryos are unlocked for an instant, between mkdir and flock; then their maker holds `prepareLock`.

    So when that lock can be had alone, every unlocked embryo is one whose maker died.
    """
    with pods.nobody_preparing() as lock:
        for pod in pods.pods((phases.EMBRYO,)):
            if (lock.held or _age(pod) > 60) and _take(pod):
                pod.move(phases.GARBAGE)


def sweep(pods: PodDirectory, report: Report, *, local_config: str, grace: float) -> bool:
    """Remove garbage: exited pods once they lie there for `grace` seconds, the rest at once.

    Returns whether all went well; one pod that cannot be removed does not keep the others.
    """
    good = True
    for pod in pods.pods((phases.EXITED_GARBAGE, phases.GARBAGE)):
        if pod.phase == phases.EXITED_GARBAGE and _age(pod) < grace:
            report.spared(pod.uuid)
            continue
        if not _take(pod):
            continue
        if pod.phase == phases.EXITED_GARBAGE:
            report.collecting(pod.uuid)
        try:
            removal.remove(pod, pods.data_dir, local_config)
        except (OSError, RktError) as error:
            report.failed(f'pod "{pod.uuid}" could not be removed: {one_line(error)}')
            good = False
    return good


def reconcile(pods: PodDirectory, report: Report) -> bool:
    """Collect what is named after pods that are gone: networks, namespaces, control groups, ID ranges.

    Returns whether all went well.
    """
    from linux import files
    from rkt import network
    from rkt.fetch import partial
    from rkt.stage1 import flavours

    live = set(pods.uuids(phases.PHASES))
    good = True
    steps = (
        lambda: network.reconcile(live, pods.data_dir),
        lambda: flavours.reconcile(live, pods.data_dir),
        lambda: uid_ranges.collect(pods.data_dir, live),
        lambda: files.collect_temporary(f"{pods.data_dir}/tmp"),  # noqa: S108
        lambda: files.collect_temporary(f"{pods.data_dir}/cas/tmp"),
        lambda: partial.collect(f"{pods.data_dir}/cas/tmp"),
    )
    for step in steps:
        try:
            step()
        except (OSError, RktError) as error:
            report.failed(str(error))
            good = False
    return good


def _take(pod: Pod) -> bool:
    try:
        pod.lock()
    except RktError:
        return False
    return True


def _age(pod: Pod) -> float:
    # rename(2) changes the ctime of the directory: the time of the last change of phase.
    return time.time() - os.fstat(pod.fd).st_ctime
