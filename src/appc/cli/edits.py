"""Changes to an image manifest, as the flags of `actool patch-manifest` write them."""

from __future__ import annotations

from appc import query
from appc.errors import AppcError, InvalidManifest
from appc.schema.app import App
from appc.schema.image import ImageManifest
from appc.types import isolators as kinds
from appc.types.isolators import Isolator, Isolators
from appc.types.mounts import MountPoint
from appc.types.names import ACIdentifier
from appc.types.ports import Port

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

_CAPABILITIES = (kinds.CAPABILITIES_RETAIN, kinds.CAPABILITIES_REMOVE)
_SECCOMP = (kinds.SECCOMP_RETAIN, kinds.SECCOMP_REMOVE)
_RESOURCES = (
    kinds.CPU,
    kinds.MEMORY,
    kinds.BLOCK_BANDWIDTH,
    kinds.BLOCK_IOPS,
    kinds.NETWORK_BANDWIDTH,
)


def apply(manifest: ImageManifest, wanted: Mapping[str, str]) -> ImageManifest:
    """`manifest` with the changes `wanted`: names of flags and their values. AppcError for a bad one."""
    rest = dict(wanted)
    try:
        if (name := rest.pop("name", None)) is not None:
            manifest = manifest.replace(name=ACIdentifier(name))
        if rest:
            manifest = manifest.replace(app=_edited(_app(manifest, rest), rest))
        return ImageManifest.parse(manifest.encode())
    except InvalidManifest:
        raise
    except ValueError as error:
        raise AppcError(str(error)) from None


def _app(manifest: ImageManifest, wanted: Mapping[str, str]) -> App:
    """The app, which only --exec makes where there is none, and then with --user and --group."""
    if manifest.app is not None:
        return manifest.app
    if "exec" not in wanted:
        flags = ", ".join(f"--{name}" for name in wanted)
        raise AppcError(f"the manifest has no app, so {flags} cannot be set", hint="make one with --exec")
    if "user" not in wanted or "group" not in wanted:
        raise AppcError("the manifest has no app, so --exec needs --user and --group as well")
    return App(user=wanted["user"], group=wanted["group"])


def _edited(app: App, wanted: Mapping[str, str]) -> App:
    if ("seccomp-mode" in wanted) != ("seccomp-set" in wanted):
        raise AppcError("--seccomp-mode and --seccomp-set only make sense together")
    if "capability" in wanted and "revoke-capability" in wanted:
        raise AppcError("conflicting capabilities isolators provided")
    isolators: list[Isolator] = []
    changes: dict[str, object] = {}
    for flag, value in wanted.items():
        if flag == "exec":
            changes["exec"] = tuple(value.split(" "))
        elif flag in {"user", "group"}:
            changes[flag] = value
        elif flag == "supplementary-groups":
            changes["supplementary_gids"] = tuple(_group(text) for text in value.split(","))
        elif flag == "mounts":
            changes["mount_points"] = _merged(app.mount_points, value, MountPoint.from_string)
        elif flag == "ports":
            changes["ports"] = _merged(app.ports, value, Port.from_string)
        elif flag == "capability":
            isolators.append(Isolator.make(kinds.CAPABILITIES_RETAIN, {"set": value.split(",")}))
        elif flag == "revoke-capability":
            isolators.append(Isolator.make(kinds.CAPABILITIES_REMOVE, {"set": value.split(",")}))
        elif flag == "isolators":
            isolators += [_isolator(text) for text in value.split(":")]
        elif flag == "seccomp-mode":
            isolators.append(_seccomp(value, wanted["seccomp-set"]))
    if isolators:
        changes["isolators"] = _with_isolators(app.isolators, isolators)
    return app.replace(**changes)


def _group(text: str) -> int:
    try:
        return query.number(text)
    except ValueError as error:
        raise AppcError(f"invalid supplementary group: {error}") from None


def _merged(
    old: tuple[MountPoint, ...] | tuple[Port, ...],
    text: str,
    parse: Callable[[str], MountPoint | Port],
) -> tuple[MountPoint | Port, ...]:
    """`old` with those in `text`: each in the place of one of its name, or at the end."""
    merged: dict[str, MountPoint | Port] = {entry.name: entry for entry in old}
    for part in text.split(":"):
        entry = parse(part)
        merged[entry.name] = entry
    return tuple(merged.values())


def _with_isolators(old: Isolators, new: Iterable[Isolator]) -> Isolators:
    """`old` and `new`; a new one drops those of its name, and of the name that excludes it."""
    result = old
    for isolator in new:
        family = next(
            (names for names in (_CAPABILITIES, _SECCOMP) if isolator.name in names), (isolator.name,)
        )
        result = Isolators((*result.without(family), isolator))
    return result


def _isolator(text: str) -> Isolator:
    """``resource/cpu,request=50m,limit=1`` or ``os/linux/no-new-privileges,true``."""
    name, comma, value = text.partition(",")
    if not comma:
        raise AppcError(f"isolator {name}: a value is missing")
    if name in _RESOURCES:
        members: dict[str, object] = dict(query.unique_pairs(value))
        if isinstance(default := members.get("default"), str):
            members["default"] = query.boolean(default)
        return Isolator.make(name, members)
    if name == kinds.NO_NEW_PRIVILEGES:
        return Isolator.make(name, query.boolean(value))
    if name in {kinds.OOM_SCORE_ADJ, kinds.CPU_SHARES}:
        negative = value.startswith("-")
        number = query.number(value[negative:])
        return Isolator.make(name, -number if negative else number)
    raise AppcError(f"isolator {name} is not supported for patching")


def _seccomp(mode: str, names: str) -> Isolator:
    mode, comma, rest = mode.partition(",")
    key, equals, errno = rest.partition("=")
    if comma and (key != "errno" or not equals):
        raise AppcError(f"cannot parse seccomp isolator: unknown argument {rest}")
    value: dict[str, object] = {"set": names.split(","), "errno": errno}
    if mode == "retain":
        return Isolator.make(kinds.SECCOMP_RETAIN, value)
    if mode == "remove":
        return Isolator.make(kinds.SECCOMP_REMOVE, value)
    raise AppcError(f"cannot parse seccomp isolator: unknown seccomp mode {mode}")
