"""The OCI configuration from an image manifest of an ACI: what OCI can say of it."""

from __future__ import annotations

from appc import jsonfield
from appc.jsonfield import listed, string
from appc.types import platforms
from appc.types.annotations import CMD, ENTRYPOINT, STOP_SIGNAL
from oci.types.config import History, ImageConfig, Process
from oci.types.platform import Platform

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from appc.schema.app import App
    from appc.schema.image import ImageManifest
    from appc.types.annotations import Annotations
    from oci.types.digest import Digest

#: Ports of one range that are written one by one, as OCI knows no ranges.
_MOST_PORTS = 1024


def config(
    manifest: ImageManifest, diff_ids: Sequence[Digest], notes: list[str], *, created: str = ""
) -> ImageConfig:
    """The configuration of an image with these layers; `notes` takes what OCI cannot say.

    An entry point and arguments that docker2aci kept apart come back apart; else the whole command is the
    entry point, so that arguments go behind it, as appc's executors do it.
    """
    annotations = manifest.annotations
    created = created or annotations.get("created") or ""
    return ImageConfig(
        platform=_platform(manifest),
        process=None if manifest.app is None else _process(manifest.app, annotations, notes),
        diff_ids=tuple(diff_ids),
        created=created,
        author=annotations.get("authors") or "",
        history=tuple(History(created=created, created_by="aci " + manifest.name) for _ in diff_ids),
    )


def _platform(manifest: ImageManifest) -> Platform:
    os, arch = manifest.labels.get("os"), manifest.labels.get("arch")
    if os is None or arch is None:
        return Platform.of_host()
    goos, goarch, goarm = platforms.to_go(os, arch)
    return Platform(goos, goarch, f"v{goarm}" if goarm else "")


def _process(app: App, annotations: Annotations, notes: list[str]) -> Process:
    entrypoint: tuple[str, ...] | None = app.exec or None
    cmd: tuple[str, ...] | None = None
    kept = _words(annotations.get(ENTRYPOINT)), _words(annotations.get(CMD))
    if any(kept) and kept[0] + kept[1] == app.exec:
        entrypoint, cmd = kept[0] or None, kept[1] or None
    # Groups of a Docker image are those that its /etc/group has for a USER without one, then as now.
    derived = bool(app.supplementary_gids) and annotations.of_docker
    for what, there in (
        ("event handlers", app.event_handlers),
        ("supplementary groups", app.supplementary_gids and not derived),
        ("isolators", app.isolators),
        ("user annotations", app.user_annotations),
    ):
        if there:
            notes.append(f"{what}: left out, OCI configurations have none")
    return Process(
        user=app.user if derived else _user(app),
        entrypoint=entrypoint,
        cmd=cmd,
        env=tuple(f"{variable.name}={variable.value}" for variable in app.environment),
        working_dir=app.working_directory,
        volumes=tuple(point.path for point in app.mount_points),
        exposed_ports=_ports(app, notes),
        labels=dict(app.user_labels),
        stop_signal=annotations.get(STOP_SIGNAL) or "",
    )


def _words(text: str | None) -> tuple[str, ...]:
    try:
        return listed(string)(jsonfield.parse((text or "[]").encode()))
    except ValueError:
        return ()


def _user(app: App) -> str:
    if (app.user, app.group) == ("0", "0"):
        return ""
    return f"{app.user}:{app.group}"


def _ports(app: App, notes: list[str]) -> tuple[str, ...]:
    found: list[str] = []
    for port in app.ports:
        if port.count > _MOST_PORTS:
            notes.append(f"port {port.name}: left out, {port.count} ports are too many to name")
            continue
        found += [f"{number}/{port.protocol}" for number in range(port.port, port.port + port.count)]
    return tuple(sorted(found))
