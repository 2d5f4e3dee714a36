"""What can be told about a pod from its directory: the facts behind `list`, `status` and the rest.

Reads only. Everything that a file of the pod cannot tell (no manifest yet, not started, still
running) is None or empty, never an error: a pod may be removed or half made while it is read.
"""

from __future__ import annotations

from appc import jsonfield
from linux.named_tuple import NamedTuple
from rkt.pods import directory, phases

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rkt.pods.pod import Pod


class AppFacts(NamedTuple):
    """One app of a pod. `exit_code` is None while it runs or when nobody saw its end."""

    name: str
    image_id: str
    image_name: str
    image_version: str
    exit_code: int | None
    pid: int | None


class NetworkFacts(NamedTuple):
    """One network of a pod, as net-info.json has it."""

    name: str
    ifname: str
    ip4: str
    ip6: str


class PodFacts(NamedTuple):
    """One pod. Times are seconds since the epoch; None when it has not come to that."""

    uuid: str
    name: str | None
    state: str
    created: float | None
    started: float | None
    finished: float | None
    pid: int | None
    apps: tuple[AppFacts, ...]
    networks: tuple[NetworkFacts, ...]
    has_manifest: bool
    flavour: str
    not_enforced: tuple[str, ...]
    out_of_memory: tuple[str, ...]  # ended apps of which the kernel killed processes

    @property
    def ended(self) -> bool:
        return self.state in phases.ENDED


def inspect(pod: Pod) -> PodFacts:
    """All facts about an open pod."""
    state = pod.state()
    manifest = _load(pod, "pod")
    running = state == "running"
    ended = state in phases.ENDED
    return PodFacts(
        uuid=pod.uuid,
        name=pod.read_text(directory.NAME_FILE),
        state=state,
        created=pod.modified("pod-created"),
        started=pod.modified("pid") or pod.modified("ppid"),
        finished=_finished(pod) if ended else None,
        pid=_number(pod.read_text("pid")) or _number(pod.read_text("ppid")),
        apps=tuple(_app(pod, app, running=running) for app in manifest.get("apps") or ()),
        networks=tuple(_networks(pod)) if running or ended else (),
        has_manifest=bool(manifest),
        flavour=pod.read_text("stage1-flavour") or "",
        not_enforced=tuple((pod.read_text("not-enforced") or "").splitlines()),
        out_of_memory=tuple((pod.read_text("out-of-memory") or "").splitlines()),
    )


def app_names(pod: Pod) -> list[str]:
    """The names of the pod's apps in the order of its manifest."""
    return [str(app.get("name")) for app in _load(pod, "pod").get("apps") or ()]


def _load(pod: Pod, name: str) -> dict[str, Any]:
    data = pod.read(name)
    if not data:
        return {}
    try:
        value = jsonfield.parse(data)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _app(pod: Pod, app: dict[str, Any], *, running: bool) -> AppFacts:
    name = str(app.get("name", ""))
    image = app.get("image") or {}
    labels = {label.get("name"): label.get("value") for label in image.get("labels") or ()}
    return AppFacts(
        name=name,
        image_id=str(image.get("id", "")),
        image_name=str(image.get("name") or ""),
        image_version=str(labels.get("version") or ""),
        exit_code=_number(pod.read_text(f"stage1/rootfs/rkt/status/{name}")),
        pid=_number(pod.read_text(f"apps/{name}/pid")) if running else None,
    )


def _networks(pod: Pod) -> list[NetworkFacts]:
    data = pod.read("net-info.json")
    try:
        listed = jsonfield.parse(data) if data else []
    except ValueError:
        return []
    if not isinstance(listed, list):
        return []
    return [
        NetworkFacts(
            str(net.get("netName", "")), str(net.get("ifName", "")), _address(net, "ip"), _address(net, "ip6")
        )
        for net in listed
        if isinstance(net, dict)
    ]


def _address(net: dict[str, Any], key: str) -> str:
    value = net.get(key)
    return str(value) if value else ""


def _finished(pod: Pod) -> float | None:
    times = [pod.modified(f"stage1/rootfs/rkt/status/{name}") for name in app_names(pod)]
    known = [time for time in times if time is not None]
    return max(known) if known else None


def _number(text: str | None) -> int | None:
    try:
        return int(text) if text is not None else None
    except ValueError:
        return None
