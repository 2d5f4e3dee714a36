"""The pod manifest of a pod: built from a command line, or read from a file and completed.

Either way the result is reified (spec/pods.md): every app has its ``app`` section, its image's full ID, and a
mount for each mount point of its image, so that nobody later has to look at the image's manifest for it.
"""

from __future__ import annotations

import os

from appc import jsonfield
from appc.errors import InvalidManifest
from appc.jsonfield import quoted
from appc.schema.app import App
from appc.schema.kind import AC_VERSION
from appc.schema.pod import PodManifest, RuntimeApp, RuntimeImage
from appc.types.annotations import CMD, ENTRYPOINT, Annotations
from appc.types.isolators import (
    CAPABILITIES_REMOVE,
    CAPABILITIES_RETAIN,
    SECCOMP_REMOVE,
    SECCOMP_RETAIN,
    Isolators,
    Resource,
)
from appc.types.mounts import Mount, cleaned
from appc.types.names import ACName
from appc.types.ports import ExposedPort, Port
from appc.types.volumes import Volume
from linux.named_tuple import NamedTuple
from rkt.errors import RktError
from rkt.stage0 import environment

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from appc.schema.image import ImageManifest
    from appc.types.image_id import ImageID
    from rkt.appargs.options import AppOptions, PodOptions

#: Isolators of the image that one from the command line takes the place of, besides those of its own name.
_REPLACED = {
    CAPABILITIES_RETAIN: (CAPABILITIES_REMOVE,),
    CAPABILITIES_REMOVE: (CAPABILITIES_RETAIN,),
    SECCOMP_RETAIN: (SECCOMP_REMOVE,),
    SECCOMP_REMOVE: (SECCOMP_RETAIN,),
}
_PROTOCOLS = ("tcp", "udp", "sctp")
_LARGEST = 2**63 - 1
#: Where a stage1 reads how to connect the streams of an app (rkt's names).
STREAM_ANNOTATION = "coreos.com/rkt/stage2/"


class Image(NamedTuple):
    """An image of the store: its whole ID, and its manifest."""

    id: ImageID
    manifest: ImageManifest


# --- from a command line ---


def build_pod_manifest(
    options: PodOptions, images: Sequence[Image], *, inherited: Mapping[str, str] | None = None
) -> PodManifest:
    """The reified manifest for `options`; `images` are those of its apps, in their order.

    `inherited` (default: this process's environment) is what --inherit-env passes on. Raises RktError.
    """
    variables = (os.environ if inherited is None else inherited) if options.inherit_env else {}
    files = [environment.read_file(path) for path in options.set_env_files]
    apps: list[RuntimeApp] = []
    volumes = list(options.volumes)
    for wanted, image in zip(options.apps, images, strict=True):
        name = wanted.name or app_name(image.manifest.name)
        if any(app.name == name for app in apps):
            raise RktError(f"multiple apps with name {name}", hint="tell them apart with `--name=NAME`")
        app = _app(wanted, image)
        try:
            env = environment.merged(
                app.environment,
                inherited=variables,
                files=files,
                pod=options.set_env,
                app=wanted.environment,
            )
            annotations = Annotations.from_mapping(dict(wanted.annotations) | _stream_modes(wanted))
        except ValueError as error:
            raise RktError(f"app {name}: {error}") from None
        apps.append(
            RuntimeApp(
                name=name,
                image=RuntimeImage(id=image.id, name=image.manifest.name, labels=image.manifest.labels),
                app=app.replace(environment=env),
                read_only_root_fs=wanted.readonly_rootfs,
                mounts=_merged_mounts(name, options.mounts, wanted.mounts),
                annotations=annotations,
            )
        )
    manifest = PodManifest(apps=tuple(apps), volumes=tuple(volumes), ports=options.ports)
    return _checked(_reified(manifest))


def app_name(image_name: str) -> ACName:
    """The name of an app that has none: the last part of its image's name, as an AC name."""
    last = image_name.rsplit("/", 1)[-1]
    parts = ACName.sanitize(last).split("-")
    return ACName("-".join(part for part in parts if part))


def _app(wanted: AppOptions, image: Image) -> App:
    """The app of the image with what the command line says in its place."""
    app = image.manifest.app
    if app is None:
        if wanted.exec is None:
            raise RktError(
                f"image {image.manifest.name} has no app section and --exec argument is not provided"
            )
        app = App(user=str(os.getuid()), group=str(os.getgid()))
    command = _command(wanted, app, image.manifest.annotations)
    if not command:
        raise RktError(
            f"image {image.manifest.name} has no program to run and --exec argument is not provided"
        )
    changes: dict[str, object] = {"exec": command}
    for field in ("user", "group", "supplementary_gids"):
        if (value := getattr(wanted, field)) is not None:
            changes[field] = value
    if wanted.user is not None and image.manifest.annotations.of_docker:
        changes.setdefault("supplementary_gids", ())  # the image's are those of its own user
    if wanted.working_dir is not None:
        changes["working_directory"] = wanted.working_dir
    if wanted.user_annotations:
        changes["user_annotations"] = dict(app.user_annotations) | dict(wanted.user_annotations)
    if wanted.user_labels:
        changes["user_labels"] = dict(app.user_labels) | dict(wanted.user_labels)
    for isolator in wanted.isolators:
        kept = app.isolators.without((isolator.name, *_REPLACED.get(isolator.name, ())))
        app = app.replace(isolators=Isolators((*kept, isolator)))
    return app.replace(**changes)


def _command(wanted: AppOptions, app: App, annotations: Annotations) -> tuple[str, ...]:
    """What is executed. Arguments go behind the image's own, but take the place of Docker's Cmd.

    An image that was one of Docker's says in annotations (docker2aci's) which part is which.
    """
    if wanted.exec is not None:
        return wanted.exec, *wanted.args
    if wanted.args:
        entrypoint, cmd = (_words(annotations.get(name)) for name in (ENTRYPOINT, CMD))
        if (entrypoint or cmd) and entrypoint + cmd == app.exec:
            return *entrypoint, *wanted.args
    return *app.exec, *wanted.args


def _words(text: str | None) -> tuple[str, ...]:
    """The list of words in an annotation; none where it is none."""
    try:
        return jsonfield.listed(jsonfield.string)(jsonfield.parse((text or "[]").encode()))
    except ValueError:
        return ()


def _stream_modes(wanted: AppOptions) -> dict[str, str]:
    modes = {"stdin": wanted.stdin, "stdout": wanted.stdout, "stderr": wanted.stderr}
    return {STREAM_ANNOTATION + stream: mode for stream, mode in modes.items() if mode is not None}


def _merged_mounts(name: ACName, pod: Sequence[Mount], app: Sequence[Mount]) -> tuple[Mount, ...]:
    """The mounts of all apps and those of this one, which count where both speak of a path."""
    _no_path_twice("all apps", pod)
    _no_path_twice(f"app {name}", app)
    by_path = {cleaned(mount.path): mount for mount in (*pod, *app)}
    return tuple(by_path.values())


def _no_path_twice(whose: str, mounts: Sequence[Mount]) -> None:
    """RktError for two mounts at one path: one of the volumes would never be seen."""
    taken: dict[str, Mount] = {}
    for mount in mounts:
        path = cleaned(mount.path)
        if path in taken:
            raise RktError(
                f"{whose}: the volumes {quoted(taken[path].volume)} and {quoted(mount.volume)} are both "
                f"to be mounted at {path}"
            )
        taken[path] = mount


# --- from a file ---


def check_pod_manifest(data: bytes, find: Callable[[str], Image]) -> PodManifest:
    """The reified manifest for the file of --pod-manifest with the content `data`.

    `find` gives the image for an ID, which may be short, and raises an error of its own where there is none.
    Raises RktError with every problem of the file.
    """
    try:
        value = jsonfield.parse(data)
        images = _images(value, find)
        manifest = PodManifest.from_json(value)
    except ValueError as error:
        problem = InvalidManifest("pod manifest", jsonfield.reasons(error))
        raise RktError(str(problem), hint="see `actool validate`") from None
    apps = []
    for app in manifest.apps:
        image = images[app.image.id]
        section = app.app or image.manifest.app
        if section is None:
            raise RktError(f"app {app.name}: no app section in the pod manifest or the image manifest")
        if not section.exec:
            raise RktError(f"app {app.name}: there is no program to run: exec is empty")
        described = app.image
        if described.name is None:
            described = RuntimeImage(id=image.id, name=image.manifest.name, labels=image.manifest.labels)
        elif described.name != image.manifest.name:
            raise RktError(
                f"app {app.name}: image {app.image.id[:19]} is called {image.manifest.name}, "
                f"not {described.name} as the pod manifest has it"
            )
        apps.append(app.replace(app=section, image=described))
    if not apps:
        raise RktError("the pod manifest has no apps")
    return _checked(_reified(manifest.replace(apps=tuple(apps), ac_version=AC_VERSION)))


def _images(value: object, find: Callable[[str], Image]) -> dict[str, Image]:
    """The images of all apps. Completes their IDs in `value`, and mends a version that rkt wrote.

    Manifests that ``rkt cat-manifest`` printed carry rkt's version as that of the specification, and
    rkt's IDs are 64 digits long.
    """
    images: dict[str, Image] = {}
    if not isinstance(value, dict):
        return images
    for name in value:
        if name.lower() == "acversion" and _is_of_rkt(value[name]):
            value[name] = str(AC_VERSION)
        if name.lower() == "apps" and isinstance(value[name], list):
            for app in value[name]:
                section = _member(app, "image")
                given = _member(section, "id")
                if isinstance(section, dict) and isinstance(given, str) and given.startswith("sha512-"):
                    image = find(given)
                    key = next(key for key in section if key.lower() == "id")
                    section[key] = str(image.id)
                    images[image.id] = image
    return images


def _member(value: object, name: str) -> object:
    if not isinstance(value, dict):
        return None
    return next((member for key, member in value.items() if key.lower() == name), None)


def _is_of_rkt(version: object) -> bool:
    return isinstance(version, str) and version.startswith("1.")


# --- both ---


def _reified(manifest: PodManifest) -> PodManifest:
    """`manifest` with a mount for each mount point, and with ports that name the app's port by number."""
    volumes = {volume.name: volume for volume in manifest.volumes}
    apps = []
    for app in manifest.apps:
        mounts = list(app.mounts)
        _no_path_twice(f"app {app.name}", mounts)
        taken = {cleaned(mount.path) for mount in mounts}
        for point in app.app.mount_points if app.app else ():
            if cleaned(point.path) in taken:
                continue
            taken.add(cleaned(point.path))
            name = point.name
            if name not in volumes:
                name = _implicit_name(app.name, point.name, volumes)
                volumes[name] = Volume.empty(name)
            mounts.append(Mount(volume=name, path=point.path))
        apps.append(app.replace(mounts=tuple(mounts)))
    reified = manifest.replace(apps=tuple(apps), volumes=tuple(volumes.values()))
    return reified.replace(ports=tuple(_with_pod_port(reified, port) for port in manifest.ports))


def _implicit_name(app: str, point: str, volumes: Mapping[ACName, Volume]) -> ACName:
    """A new name for the empty volume of a mount point that no volume was given for, as rkt forms it."""
    name, number = ACName(f"{app}-{point}"), 1
    while name in volumes:
        number += 1
        name = ACName(f"{app}-{point}-{number}")
    return name


def _with_pod_port(manifest: PodManifest, exposed: ExposedPort) -> ExposedPort:
    """`exposed` with the port that it stands for: an app's of that name, or a number such as 80 or 53-udp."""
    if exposed.pod_port is not None:
        return exposed
    found = [port for app in manifest.apps if app.app for port in app.app.ports if port.name == exposed.name]
    if len(found) > 1:
        raise RktError(
            f"the port {quoted(exposed.name)} is ambiguous: {len(found)} apps have one of that name"
        )
    if found:
        return exposed.replace(pod_port=found[0])
    number, dash, protocol = exposed.name.partition("-")
    if not number.strip("0123456789") and len(number) <= 5 and 0 < int(number) <= 65535:
        if not dash:
            protocol = "tcp"
        if protocol in _PROTOCOLS:
            return exposed.replace(pod_port=Port(name=exposed.name, protocol=protocol, port=int(number)))
    names = sorted({port.name for app in manifest.apps if app.app for port in app.app.ports})
    hint = (
        f"the apps have {', '.join(names)}"
        if names
        else "a number such as 80 or 53-udp works for every image"
    )
    raise RktError(f"no app has a port {quoted(exposed.name)}", hint=hint)


def _checked(manifest: PodManifest) -> PodManifest:
    """`manifest` as it will be read back: what was put together must be as sound as what was read."""
    _host_ports(manifest)
    _amounts("pod", manifest.isolators)
    for app in manifest.apps:
        if app.app is not None:
            _amounts(f"app {app.name}", app.app.isolators)
    try:
        return PodManifest.from_json(jsonfield.parse(manifest.encode()))
    except ValueError as error:
        raise RktError(str(InvalidManifest("pod manifest", jsonfield.reasons(error)))) from None


def _amounts(whose: str, isolators: Isolators) -> None:
    """RktError for a limit that no kernel can hold, and that would mean none if it were cut short."""
    for isolator in isolators:
        limit = isolator.setting.limit if isinstance(isolator.setting, Resource) else None
        if limit is not None and limit.value() > _LARGEST:
            raise RktError(f"{whose}: {isolator.name}: the limit {limit} is more than {_LARGEST} (2^63 - 1)")


def _host_ports(manifest: PodManifest) -> None:
    """RktError when two mappings want the same ports of the host for one protocol."""
    taken: list[tuple[ExposedPort, Port]] = []
    for exposed in manifest.ports:
        port = exposed.pod_port
        if port is None or exposed.host_port == 0:
            raise RktError(f"the port {quoted(exposed.name)} has no port of the host")
        if exposed.host_port + port.count - 1 > 65535:
            raise RktError(f"the port {quoted(exposed.name)}: its last port on the host is above 65535")
        for other, other_port in taken:
            if (
                port.protocol == other_port.protocol
                and (None in {exposed.host_ip, other.host_ip} or exposed.host_ip == other.host_ip)
                and exposed.host_port < other.host_port + other_port.count
                and other.host_port < exposed.host_port + port.count
            ):
                raise RktError(
                    f"the ports {quoted(other.name)} and {quoted(exposed.name)} want the same "
                    f"{port.protocol} port {exposed.host_port} of the host"
                )
        taken.append((exposed, port))


def implicit_mounts(manifest: PodManifest, options: PodOptions) -> list[tuple[ACName, str]]:
    """Apps and paths with an empty volume nobody asked for: users should hear that it goes with the pod."""
    asked = {volume.name for volume in options.volumes}
    mounts = [(app.name, mount) for app in manifest.apps for mount in app.mounts]
    return [(name, mount.path) for name, mount in mounts if mount.volume not in asked]
