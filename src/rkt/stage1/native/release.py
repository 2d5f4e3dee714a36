"""What a pod has on the host outside its directory, and how it is given back: by names, not by memory."""

from __future__ import annotations

import os

from rkt.errors import RktError, one_line
from rkt.pods import datadir

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from linux.cgroups.group import Cgroup


def group_top(data_dir: str) -> str:
    """The name of the control group that holds the pods of a data directory, each data directory its own.

    A collector of one must not take the pods of another for leftovers. OSError if there is no such directory.
    """
    return f"rkt-{datadir.identity(data_dir)}"


def group_name(pod_dir: str) -> str:
    """The name of the control group of a pod: known from where it is alone (D5)."""
    phase, uuid = os.path.split(pod_dir)
    return f"{group_top(f'{phase}/../..')}/{uuid}"


def group_of(pod_dir: str) -> Cgroup | None:
    """The control group of the pod, from its record; None for a pod that never came to making one."""
    from linux import cgroups

    try:
        with open(f"{pod_dir}/subcgroup", encoding="utf-8") as stream:
            return cgroups.Cgroup.from_record(stream.read())
    except FileNotFoundError:
        return None
    except ValueError:  # torn by a crash: the name is known all the same
        return cgroups.Hierarchy.detect().cgroup(group_name(pod_dir))


def release(pod_dir: str, uuid: str) -> list[str]:
    """Kill what is left of the pod, remove its networks, namespace pin and control groups; the problems met.

    Each step for itself, all of them idempotent: it is the end of every run, and what gc does after a crash.
    """
    group = group_of(pod_dir)
    if group is None:
        return []
    steps: tuple[Callable[[], None], ...] = (
        group.kill,
        lambda: _forget_machine(pod_dir, uuid),
        lambda: _disconnect(pod_dir, uuid),
        group.remove,
    )
    problems = []
    for step in steps:
        try:
            step()
        except (OSError, ValueError, RktError) as error:
            problems.append(f"pod {uuid}: {one_line(error)}")
    return problems


def _forget_machine(pod_dir: str, uuid: str) -> None:
    if os.path.exists(f"{pod_dir}/machined"):
        from rkt.stage1.native import systemd

        systemd.unregister(pod_dir, uuid)


def _disconnect(pod_dir: str, uuid: str) -> None:
    if os.path.exists(f"{pod_dir}/netns"):
        from rkt import network
        from rkt.stage1.native import netns

        network.teardown(pod_dir, uuid)
        netns.unpin(uuid)
