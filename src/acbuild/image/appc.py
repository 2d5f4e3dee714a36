"""The image of a build of mode appc: its manifest, and how the commands change it."""

from __future__ import annotations

from acbuild.errors import AcbuildError, NotFound
from appc.schema.app import POST_STOP, PRE_START, App, EventHandler
from appc.schema.image import Dependency, ImageManifest
from appc.types.annotations import Annotation, Annotations
from appc.types.environment import Environment, EnvironmentVariable
from appc.types.isolators import Isolator, Isolators
from appc.types.labels import Label, Labels
from appc.types.mounts import MountPoint
from appc.types.names import ACIdentifier, ACName
from appc.types.ports import Port
from linux import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import TypeVar

    T = TypeVar("T")

UNNAMED = "acbuild-unnamed"
MANIFEST = "manifest"
#: Where acbuild notes the commands that made the image; behind it stands the number of the command.
HISTORY = "coreos.com/acbuild/command-"
#: Bytes, as `appc.aci.limits` has it.
_LIMIT = 4 << 20


def empty() -> ImageManifest:
    """The manifest that a build begins with: for this host, and not named yet."""
    from appc.types import platforms

    os, arch = platforms.of_host()
    labels = Labels.from_mapping({"arch": arch, "os": os})
    return ImageManifest(name=ACIdentifier(UNNAMED), labels=labels)


def write_manifest(directory: str, manifest: ImageManifest) -> None:
    """Put `manifest` into `directory`, in place of the one there."""
    files.write_atomically(f"{directory}/{MANIFEST}", manifest.encode(), durable=False)


class AppcImage:
    """The manifest in memory; `save` checks it as a whole and puts it into the context."""

    __slots__ = ("_directory", "_saved", "manifest")

    def __init__(self, manifest: ImageManifest, directory: str) -> None:
        self.manifest = manifest
        self._saved = manifest
        self._directory = directory

    @classmethod
    def load(cls, directory: str) -> AppcImage:
        """The image in `directory`. InvalidManifest for one that is none."""
        # The context is the builder's own: only the root filesystem in it needs `linux.paths` (and ctypes).
        with open(f"{directory}/{MANIFEST}", "rb") as file:
            data = file.read(_LIMIT + 1)
        if len(data) > _LIMIT:
            raise AcbuildError(f"{MANIFEST}: larger than {_LIMIT} bytes")
        return cls(ImageManifest.parse(data), directory)

    def save(self) -> None:
        """Write the manifest if it changed. ValueError for one that breaks the specification."""
        if self.manifest is self._saved:
            return
        checked = ImageManifest.parse(self.manifest.encode())
        write_manifest(self._directory, checked)
        self.manifest = self._saved = checked

    def text(self, which: str, *, pretty: bool) -> bytes:
        """The manifest as JSON; there is no other file to show."""
        if which != MANIFEST:
            raise AcbuildError(f"--file: an image of mode appc has no {which}", hint="leave --file out")
        from appc.jsonfield import encode

        return encode(self.manifest.to_json(), indent=4) if pretty else self.manifest.encode()

    def record(self, command: str, *, changes_files: bool) -> None:
        """Note a command as the newest of the image's history."""
        del changes_files
        numbers = [number for number, _ in self._commands()]
        name = f"{HISTORY}{max(numbers, default=0) + 1}"
        self.add_annotation(name, command)

    def history(self) -> list[str]:
        """The commands noted, the oldest first."""
        return [command for _, command in sorted(self._commands())]

    def _commands(self) -> Iterable[tuple[int, str]]:
        for annotation in self.manifest.annotations:
            number = annotation.name.removeprefix(HISTORY)
            if number != annotation.name and number.isascii() and number.isdigit() and len(number) < 10:
                yield int(number), annotation.value

    def architecture(self) -> str:
        """The label `arch`, "" without one."""
        return self.manifest.labels.get("arch") or ""

    def environment(self) -> tuple[tuple[str, str], ...]:
        """The variables of the app."""
        return tuple(self._app.environment.as_dict().items())

    def working_directory(self) -> str:
        """That of the app, "" where none is set."""
        return self._app.working_directory or ""

    # --- the image

    def set_name(self, name: str) -> None:
        self._change(name=ACIdentifier(name))

    def set_tag(self, tag: str) -> None:
        self.add_label("version", tag)

    def add_label(self, name: str, value: str) -> None:
        label = Label.from_json({"name": name, "value": value})
        self._change(labels=Labels(_put(self.manifest.labels, label, lambda one: one.name == name)))

    def remove_label(self, name: str) -> None:
        rest = _taken(self.manifest.labels, f"label {ACIdentifier(name)}", lambda one: one.name == name)
        self._change(labels=Labels(rest))

    def add_annotation(self, name: str, value: str) -> None:
        new = Annotation.from_json({"name": name, "value": value})
        kept = _set(self.manifest.annotations, new, lambda one: one.name == name)
        self._change(annotations=Annotations(kept))

    def remove_annotation(self, name: str) -> None:
        what = f"annotation {ACIdentifier(name)}"
        self._change(
            annotations=Annotations(_taken(self.manifest.annotations, what, lambda one: one.name == name))
        )

    def add_dependency(self, image: str, labels: list[str], image_id: str, size: int) -> None:
        from appc import app_string

        name, named = app_string.parse(image)
        given = [(label, text) for label, _, text in (one.partition("=") for one in labels)]
        value: dict[str, object] = {
            "imageName": name,
            "labels": [{"name": label, "value": text} for label, text in (*given, *named.items())],
            "size": size,
        }
        if image_id:
            value["imageID"] = image_id
        dependency = Dependency.from_json(value)
        kept = _put(self.manifest.dependencies, dependency, lambda one: one.image_name == name)
        self._change(dependencies=tuple(kept))

    def remove_dependency(self, name: str) -> None:
        what = f"dependency {ACIdentifier(name)}"
        rest = _taken(self.manifest.dependencies, what, lambda one: one.image_name == name)
        self._change(dependencies=tuple(rest))

    def add_whitelist(self, paths: list[str]) -> None:
        kept = self.manifest.path_whitelist
        new = [path for path in dict.fromkeys(map(_absolute, paths)) if path not in kept]
        self._change(path_whitelist=(*kept, *new))

    def remove_whitelist(self, paths: list[str]) -> None:
        rest: Sequence[str] = self.manifest.path_whitelist
        for path in map(_absolute, paths):
            rest = _taken(rest, f"path {path}", lambda one, path=path: one == path)  # type: ignore[misc]
        self._change(path_whitelist=tuple(rest))

    def replace_manifest(self, data: bytes) -> None:
        """Put the manifest in `data` in place of the old one. What it does not have stays as it was.

        So it is with acbuild 0.4, which decodes the new manifest into the old one.
        """
        from appc.errors import InvalidManifest
        from appc.jsonfield import obj, parse, reasons

        try:
            new = {_member(name): value for name, value in obj(parse(data)).items()}
            merged = ImageManifest.from_json(_merged(self.manifest.to_json(), new))
        except ValueError as error:
            raise InvalidManifest("image manifest", reasons(error)) from None
        self.manifest = merged

    # --- its app

    def set_exec(self, command: list[str]) -> None:
        self._change_app(exec=tuple(command))

    def set_user(self, user: str) -> None:
        given = _given(user, "user")
        if self.manifest.annotations.of_docker:
            # a Docker image says no groups: these came from its /etc/group, for its own user
            self._change_app(user=given, supplementary_gids=())
        else:
            self._change_app(user=given)

    def set_group(self, group: str) -> None:
        self._change_app(group=_given(group, "group"))

    def set_supplementary_groups(self, groups: list[str]) -> None:
        from appc.query import number

        self._change_app(supplementary_gids=tuple(number(group) for group in groups))

    def set_working_directory(self, path: str) -> None:
        self._change_app(working_directory=path)

    def set_event_handler(self, event: str, command: list[str]) -> None:
        if event not in {PRE_START, POST_STOP}:
            raise AcbuildError(f"{event}: no event", hint=f"choose from {PRE_START} and {POST_STOP}")
        handler = EventHandler(name=event, exec=tuple(command))
        old = self._app.event_handlers
        self._change_app(event_handlers=tuple(_put(old, handler, lambda one: one.name == event)))

    def add_environment(self, name: str, value: str) -> None:
        variable = EnvironmentVariable.from_json({"name": name, "value": value})
        kept = _set(self._app.environment, variable, lambda one: one.name == name)
        self._change_app(environment=Environment(kept))

    def remove_environment(self, name: str) -> None:
        rest = _taken(self._app.environment, f"variable {name}", lambda one: one.name == name)
        self._change_app(environment=Environment(rest))

    def add_mount(self, name: str, path: str, *, read_only: bool) -> None:
        point = MountPoint.from_json({"name": name, "path": path, "readOnly": read_only})
        kept = _put(self._app.mount_points, point, lambda one: name == one.name or path == one.path)
        self._change_app(mount_points=tuple(kept))

    def remove_mount(self, name: str) -> None:
        """By its name or its path."""
        points = self._app.mount_points
        rest = _taken(points, f"mount {name}", lambda one: name in {one.name, one.path})
        self._change_app(mount_points=tuple(rest))

    def add_port(self, name: str, protocol: str, port: str, *, count: int, activated: bool) -> None:
        from appc.query import number

        new = Port.from_json({
            "name": name,
            "protocol": protocol,
            "port": number(port),
            "count": count,
            "socketActivated": activated,
        })
        kept = _put(self._app.ports, new, lambda one: one.name == name)
        self._change_app(ports=tuple(kept))

    def remove_port(self, name: str) -> None:
        """By its name or its number."""
        ports = self._app.ports
        rest = _taken(ports, f"port {ACName(name)}", lambda one: name in {one.name, str(one.port)})
        self._change_app(ports=tuple(rest))

    def add_isolator(self, name: str, value: bytes) -> None:
        from appc.jsonfield import parse

        isolator = Isolator.make(name, parse(value))
        kept = _put(self._app.isolators, isolator, lambda one: one.name == name)
        self._change_app(isolators=Isolators(kept))

    def remove_isolator(self, name: str) -> None:
        what = f"isolator {ACIdentifier(name)}"
        rest = _taken(self._app.isolators, what, lambda one: one.name == name)
        self._change_app(isolators=Isolators(rest))

    # --- how

    @property
    def _app(self) -> App:
        """The app, or one to start from."""
        return self.manifest.app or App(user="0", group="0")

    def _change_app(self, **changes: object) -> None:
        self._change(app=self._app.replace(**changes))

    def _change(self, **changes: object) -> None:
        self.manifest = self.manifest.replace(**changes)


def _put(old: Iterable[T], new: T, same: Callable[[T], bool]) -> list[T]:
    """`old` without what `new` takes the place of, and `new` at the end."""
    return [*(one for one in old if not same(one)), new]


def _set(old: Iterable[T], new: T, same: Callable[[T], bool]) -> list[T]:
    """`old` with `new` in the very place of what it replaces, else at the end."""
    kept = list(old)
    for place, one in enumerate(kept):
        if same(one):
            kept[place] = new
            return kept
    return [*kept, new]


def _taken(old: Iterable[T], what: str, same: Callable[[T], bool]) -> list[T]:
    kept = list(old)
    rest = [one for one in kept if not same(one)]
    if len(rest) == len(kept):
        raise NotFound(what)
    return rest


def _given(text: str, what: str) -> str:
    if not text:
        raise AcbuildError(f"{what} cannot be empty")
    return text


def _absolute(path: str) -> str:
    from appc.types.mounts import cleaned

    if not path.startswith("/"):
        raise AcbuildError(f"{path}: is not an absolute path")
    return cleaned(path)


_MEMBERS = (
    *("acKind", "acVersion", "name", "labels", "app", "dependencies", "pathWhitelist", "annotations"),
    *("exec", "eventHandlers", "user", "group", "supplementaryGIDs", "workingDirectory", "environment"),
    *("mountPoints", "ports", "isolators", "userAnnotations", "userLabels"),
)


def _member(name: str) -> str:
    """The member as the specification spells it: Go's decoder does not look at case."""
    return next((known for known in _MEMBERS if known.lower() == name.lower()), name)


def _merged(old: dict[str, object], new: dict[str, object]) -> dict[str, object]:
    """`old` with the members of `new`, null for none; the members of the app are looked at one by one."""
    result = {**old, **new}
    before, after = old.get("app"), new.get("app")
    if isinstance(before, dict) and isinstance(after, dict):
        result["app"] = {**before, **{_member(name): value for name, value in after.items()}}
    return result
