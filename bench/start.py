"""Time from the command to the end of /bin/true in a new pod, beside runc, crun and podman."""

from __future__ import annotations

import itertools
import subprocess
from typing import TYPE_CHECKING

import bundle
from timing import Contender, compare, table

if TYPE_CHECKING:
    from pathlib import Path

_NAMES = itertools.count()


def run(directory: Path, rounds: int) -> str:
    """The tables, in Markdown."""
    root = bundle.rootfs(directory)
    image = bundle.aci(directory, root, ["/bin/true"])
    rkt = bundle.data_dir(directory, image)

    def collect() -> None:
        subprocess.run([*rkt, "gc", "--grace-period=0s"], check=True, capture_output=True)

    alone = [
        Contender("rkt run --net=none", [*rkt, "run", "--net=none", "example.com/bench"], after=collect),
        Contender("rkt run --net=host", [*rkt, "run", "--net=host", "example.com/bench"], after=collect),
    ]
    for runtime in ("runc", "crun"):
        if bundle.have(runtime):
            place = bundle.oci(directory, root, runtime, ["/bin/true"])
            alone.append(Contender(f"{runtime} run", [runtime, "run", "-b", str(place), f"bench-{runtime}"]))
    fly = [*rkt, "run", "--stage1-name=fly", "example.com/bench"]
    alone.append(Contender("rkt run, stage1 fly", fly, after=collect))
    networked = [Contender("rkt run --net=default", [*rkt, "run", "example.com/bench"], after=collect)]
    before = bundle.tables()
    if bundle.have("podman"):
        bundle.podman(root)
        command = ["podman", "--runtime=runc", "run", "--rm", *bundle.PODMAN_LIMITS]
        without = [*command, "--network=none", bundle.PODMAN_IMAGE, "/bin/true"]
        alone.append(Contender("podman run --network=none", without))
        networked.append(Contender("podman run", [*command, bundle.PODMAN_IMAGE, "/bin/true"]))
    try:
        first = table("Start without a network", compare(alone, rounds=rounds), base="runc run")
        second = table("Start with the default network", compare(networked, rounds=rounds), base="podman run")
    finally:
        bundle.forget_podman(before)
    return f"{first}\n\n{second}"
