"""The stage 1 flavours: which one a pod has, and what every one of them offers.

The bundled flavours run as functions in the process of rkt, which saves a second interpreter. A stage 1
from an image runs by the entry points that its manifest names (rkt's stage 1 ABI). Either way the pod
directory is all that they share with stage 0.
"""

from __future__ import annotations

from rkt.errors import RktError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from rkt.pods.pod import Pod
    from rkt.stage1.abi import Invocation

    class Stage1(Protocol):
        """What a flavour does for a pod (rkt's ABI, Documentation/devel/stage1-implementors-guide.md)."""

        def run(self, invocation: Invocation, lock_fd: int) -> int:
            """Run the pod to its end; the exit code that `rkt run` shall have."""

        def stop(self, pod_dir: str, *, force: bool) -> None:
            """Ask the pod to end (SIGTERM), or end it (`force`: SIGKILL). Does not wait."""

        def gc(self, pod_dir: str, local_config: str) -> None:
            """Undo what the pod did to the host outside its directory. Idempotent; half started pods too."""


DEFAULT = "native"
BUNDLED = {
    "native": "rkt.stage1.native.stage1",
    "fly": "rkt.stage1.fly.stage1",
}
FLAVOUR_FILE = "stage1-flavour"
EXTERNAL = "image"


def bundled(name: str) -> Stage1:
    """The bundled flavour `name`; RktError for an unknown one."""
    try:
        module = BUNDLED[name]
    except KeyError:
        raise RktError(
            f"stage1 flavour {name!r} is not one of " + ", ".join(sorted(BUNDLED)),
            hint="a stage1 image is given with --stage1-path, --stage1-url, --stage1-name or --stage1-hash",
        ) from None
    found: Stage1 = __import__(module, fromlist=["run"])  # importlib would have to be loaded first
    return found


def bundled_name(by: str, value: str) -> str | None:
    """The bundled flavour that a `--stage1-…` flag means; None when it means an image.

    `--stage1-name=coreos.com/rkt/stage1-fly` means our own fly as much as `fly` does, with any version:
    scripts that were written for rkt's images keep working.
    """
    if by not in ("name", "image"):
        return None
    name = value.partition(":")[0].rpartition("/")[2].removeprefix("stage1-")
    # The flavours that systemd-nspawn ran are what the native one stands in for.
    return {"coreos": DEFAULT, "host": DEFAULT, "src": DEFAULT}.get(name, name if name in BUNDLED else None)


def of_pod(pod: Pod) -> Stage1:
    """The flavour that the pod was prepared for (the default one if it never came to that)."""
    name = pod.read_text(FLAVOUR_FILE) or DEFAULT
    if name == EXTERNAL:
        from rkt.stage1 import external

        found: Stage1 = external
        return found
    return bundled(name)


def reconcile(live: set[str], data_dir: str) -> None:
    """Remove what pods that are gone left in the kernel: control groups and pinned namespaces."""
    for module in BUNDLED.values():
        collect = getattr(__import__(module, fromlist=["run"]), "reconcile", None)
        if collect is not None:
            collect(live, data_dir)
