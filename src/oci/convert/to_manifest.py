"""The image manifest of an ACI from a Docker or OCI configuration, as docker2aci makes it.

What appc cannot say is left out and told, where docker2aci refused the image: a variable of a name that appc
does not allow, a port that is none, a volume over /proc.
"""

from __future__ import annotations

from appc import jsonfield
from appc.jsonfield import quoted
from appc.schema.app import App
from appc.schema.image import Dependency, ImageManifest
from appc.types import platforms
from appc.types.annotations import CMD, DOCKER, ENTRYPOINT, STOP_SIGNAL, Annotations
from appc.types.date import Date
from appc.types.environment import Environment, variable_name
from appc.types.labels import Labels
from appc.types.mounts import MountPoint, mount_path
from appc.types.names import ACIdentifier, ACName
from appc.types.ports import Port
from linux.named_tuple import NamedTuple
from oci.convert import identity
from oci.errors import InvalidImage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from oci.types.config import ImageConfig, Process
    from oci.types.platform import Platform
    from oci.types.reference import Reference

_HIGHEST_PORT = 65535


class Origin(NamedTuple):
    """Where an image comes from: `host` is "" for a file of which nobody said, `original` what was typed."""

    repository: str
    tag: str = ""
    host: str = ""
    original: str = ""

    @classmethod
    def of(cls, reference: Reference) -> Origin:
        """That of a name in a registry."""
        return cls(reference.repository, reference.shown_tag, reference.host, reference.original)

    @property
    def name(self) -> str:
        """The name of the image as appc has it: what it does not allow becomes an underscore."""
        return identifier(f"{self.host}/{self.repository}" if self.host else self.repository)


class Ids(NamedTuple):
    """The IDs that docker2aci keeps in annotations; `layer` is that of the topmost layer, or of the image."""

    layer: str = ""
    manifest: str = ""
    parent: str = ""


def identifier(text: str) -> ACIdentifier:
    """`text` as an AC identifier: other characters become ``_``, of separators in a row the first stays."""
    found: list[str] = []
    for character in ACIdentifier.sanitize(text):
        if not (found and found[-1] in ACIdentifier.SEPARATORS and character in ACIdentifier.SEPARATORS):
            found.append(character)
    return ACIdentifier("".join(found))


def _name(text: str) -> str:
    """`text` as an AC name; "" when nothing is left."""
    try:
        return "-".join(part for part in ACName.sanitize(text).split("-") if part)
    except ValueError:
        return ""


def manifest(
    config: ImageConfig,
    origin: Origin,
    ids: Ids,
    notes: list[str],
    *,
    accounts: Mapping[bytes, bytes] | None = None,
    labels: dict[str, str] | None = None,
) -> ImageManifest:
    """The manifest; `notes` takes what was left out. `accounts` are files of the image that name its users.

    `labels` take the place of those that the origin and the platform give. InvalidImage for what appc cannot
    have at all, such as a user beyond 32 bits.
    """
    if labels is None:
        labels = {"version": origin.tag} if origin.tag else {}
        labels |= platform_labels(config.platform)
    try:
        process = config.process
        app = None if process is None else _app(process, notes, accounts or {})
        found = ImageManifest(
            name=ACIdentifier(origin.name),
            labels=Labels.from_mapping(labels),
            app=app,
            annotations=_annotations(config, origin, ids),
        )
        return ImageManifest.parse(found.encode())
    except ValueError as error:
        raise InvalidImage(
            f"{origin.name}: cannot be an ACI: {'; '.join(jsonfield.reasons(error))}"
        ) from None


def layered(
    top: ImageManifest, below: ImageManifest | None, name: str, paths: Iterable[bytes]
) -> ImageManifest:
    """`top` as one layer of several: with the one below as dependency, and all paths that are there."""
    whitelist = tuple("/" + path.decode("utf-8", "replace") for path in sorted(paths))
    dependencies: tuple[Dependency, ...] = ()
    if below is not None:
        dependencies = (Dependency(image_name=below.name, labels=below.labels),)
    return top.replace(name=identifier(name), path_whitelist=whitelist, dependencies=dependencies)


def platform_labels(platform: Platform) -> dict[str, str]:
    """The labels os and arch, as far as appc has names: never those of the machine that converts."""
    found = platform.canonical
    goarm = found.variant.removeprefix("v") if found.architecture == "arm" and platform.variant else ""
    try:
        os, arch = platforms.from_go(found.os, found.architecture, goarm)
    except ValueError:
        return {"os": found.os} if found.os in platforms.ARCHITECTURES else {}
    return {"os": os, "arch": arch}


def _app(process: Process, notes: list[str], accounts: Mapping[bytes, bytes]) -> App:
    passwd = accounts.get(identity.PASSWD)
    user, group = identity.user_and_group(process.user, passwd)
    further = identity.supplementary_groups(process.user, passwd, accounts.get(identity.GROUP))
    directory = process.working_dir
    if directory and not directory.startswith("/"):
        notes.append(f"working directory {quoted(directory)}: taken from the root")
        directory = "/" + directory
    return App(
        user=user,
        group=group,
        supplementary_gids=further,
        exec=process.command,
        working_directory=directory,
        environment=_environment(process.env, notes),
        mount_points=_mount_points(process.volumes, notes),
        ports=_ports(process.exposed_ports, notes),
        user_labels=dict(process.labels),
    )


def _environment(variables: Iterable[str], notes: list[str]) -> Environment:
    found: dict[str, str] = {}
    for text in variables:
        name, equals, value = text.partition("=")
        try:
            if not equals:
                raise ValueError("has no value")
            found[variable_name(name)] = value
        except ValueError as error:
            notes.append(f"environment variable {quoted(name)}: left out: {error}")
    return Environment.from_json([{"name": name, "value": value} for name, value in found.items()])


def _mount_points(volumes: Iterable[str], notes: list[str]) -> tuple[MountPoint, ...]:
    found: list[MountPoint] = []
    taken: set[str] = set()
    numbers: dict[str, int] = {}
    for path in sorted(volumes):
        try:
            mount_path(path)
        except ValueError as error:
            notes.append(f"volume {quoted(path)}: left out: {error}")
            continue
        rest = _name(path)
        name = base = f"volume-{rest}" if rest else "volume"
        while name in taken:
            numbers[base] = numbers.get(base, 0) + 1
            name = f"{base}-{numbers[base]}"
        taken.add(name)
        found.append(MountPoint(name=ACName(name), path=path if path.startswith("/") else "/" + path))
    return tuple(sorted(found, key=lambda point: point.name))


def _ports(ports: Iterable[str], notes: list[str]) -> tuple[Port, ...]:
    found: list[Port] = []
    taken: set[str] = set()
    for text in sorted(ports):
        numbers, _, protocol = text.partition("/")
        first, dash, last = numbers.partition("-")
        try:
            low = _port(first)
            high = _port(last) if dash else low
            if high < low:
                raise ValueError("the range is empty")
        except ValueError as error:
            notes.append(f"port {quoted(text)}: left out: {error}")
            continue
        name = ACName(_name(text))
        if name in taken:
            notes.append(f"port {quoted(text)}: left out: there is one named {name} already")
            continue
        taken.add(name)
        found.append(Port(name=name, protocol=protocol or "tcp", port=low, count=high - low + 1))
    return tuple(sorted(found, key=lambda port: port.name))


def _port(text: str) -> int:
    if not text or text.strip("0123456789") or len(text) > 5 or not 1 <= int(text) <= _HIGHEST_PORT:
        raise ValueError(f"{quoted(text)} is no port")
    return int(text)


def _annotations(config: ImageConfig, origin: Origin, ids: Ids) -> Annotations:
    process = config.process
    values = {
        "authors": config.author,
        "created": _created(config.created, whole=bool(config.id)),
        "docker-comment": config.comment,
        DOCKER + "originalname": origin.original,
        DOCKER + "registryurl": origin.host,
        DOCKER + "repository": origin.repository,
        DOCKER + "imageid": ids.layer,
        DOCKER + "parentimageid": ids.parent,
        DOCKER + "manifesthash": ids.manifest,
    }
    if process is not None:
        values[ENTRYPOINT] = _list(process.entrypoint)
        values[CMD] = _list(process.cmd)
        values[STOP_SIGNAL] = process.stop_signal
    if ids.parent:
        values[DOCKER + "tag"] = origin.tag
    return Annotations.from_mapping({name: value for name, value in values.items() if value})


def _list(words: tuple[str, ...] | None) -> str:
    return jsonfield.encode(list(words)).decode() if words else ""


def _created(text: str, *, whole: bool) -> str:
    """The time if it is one; Go's zero is none.

    docker2aci wrote `whole` seconds for docker save's oldest format, and none for the epoch.
    """
    if whole and "." in text:
        seconds, _, rest = text.partition(".")
        text = seconds + rest.lstrip("0123456789")
    if text.startswith("0001-01-01T") or (whole and text == "1970-01-01T00:00:00Z"):
        return ""
    try:
        return Date(text)
    except ValueError:
        return ""
