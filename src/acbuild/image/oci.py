"""The image of a build of mode oci: configuration, manifest and layers, as an image layout in the context."""

from __future__ import annotations

import os

from acbuild.errors import AcbuildError, NotFound, Unsupported
from linux import files
from oci import image as images
from oci import layout
from oci.blobs import BlobDirectory
from oci.types.config import History, ImageConfig, Process
from oci.types.descriptor import REF_NAME
from oci.types.platform import Platform

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from oci.image import Image, Layer
    from oci.types.descriptor import Descriptor
    from oci.types.digest import Digest

LATEST = "latest"
#: Where acbuild keeps the names that OCI has no place for; behind it stands the name.
MOUNT, PORT = "coreos.com/acbuild/mount/", "coreos.com/acbuild/port/"


def new_image(directory: str, config: ImageConfig | None = None) -> OciImage:
    """An image without layers in the empty `directory`, for this host; not saved yet."""
    config = config or ImageConfig(Platform.of_host(), Process())
    return OciImage(directory, config, (), {}, LATEST, None)


def read_archive(path: str) -> OciImage:
    """The image in the file `path`, to be looked at: it cannot be saved."""
    from oci import source

    with source.opened(path, None, Platform.of_host()) as found:
        return _of(found.image, "", found.names[0] if found.names else LATEST)


def _of(image: Image, directory: str, tag: str) -> OciImage:
    layers = tuple(image.manifest.layers)
    return OciImage(directory, image.config, layers, image.manifest.annotations, tag, image)


class OciImage:
    """Configuration and annotations in memory; `save` writes the documents that say so, and lists them."""

    __slots__ = ("_annotations", "_changed", "_directory", "_saved", "config", "layers", "tag")

    def __init__(
        self,
        directory: str,
        config: ImageConfig,
        layers: tuple[Descriptor, ...],
        annotations: Mapping[str, str],
        tag: str,
        saved: Image | None,
    ) -> None:
        self._directory = directory
        self.config = config
        self.layers = layers
        self._annotations = dict(annotations)
        self.tag = tag
        self._saved = saved
        self._changed = saved is None

    @classmethod
    def load(cls, directory: str) -> OciImage:
        """The image in `directory`. OciError for a layout that is broken."""
        found = layout.read_directory(directory)
        tag = found.listing.manifests[0].annotations.get(REF_NAME, LATEST)
        return _of(found.image("", Platform.of_host()), directory, tag)

    @property
    def blobs(self) -> BlobDirectory:
        """Where the context has the content. Nobody else writes there, and it goes with the build."""
        return BlobDirectory(f"{self._directory}/blobs", trusted=True, durable=False)

    def save(self) -> None:
        """Write the documents if something changed; those that they replace are removed."""
        if not self._changed:
            return
        old = self._saved
        new = self.assembled()
        if not os.path.lexists(f"{self._directory}/{layout.MARKER}"):
            files.write_atomically(f"{self._directory}/{layout.MARKER}", layout.VERSION, durable=False)
        listing = images.index_of([(new, self.tag)])
        files.write_atomically(f"{self._directory}/{layout.INDEX}", listing.encode(), durable=False)
        self._saved, self._changed = new, False
        if old is None:
            return
        kept = {new.descriptor.digest, new.manifest.config.digest}
        for descriptor in (old.descriptor, old.manifest.config):
            if descriptor.digest not in kept:
                os.unlink(self.blobs.place(descriptor.digest))

    def assembled(self) -> Image:
        """The documents as they are now, in the context's blobs."""
        layers = [images.Layer(one, None) for one in self.layers]
        return images.assemble(self.blobs, self.config, layers, self._annotations)

    def text(self, which: str, *, pretty: bool) -> bytes:
        """The manifest or the configuration as JSON."""
        from appc.jsonfield import encode, parse

        if which == "config":
            data = self.config.encode()
        else:
            data = (self._saved or self.assembled()).manifest.encode()
        return encode(parse(data), indent=4) if pretty else data

    # --- layers and history

    def add_layer(self, layer: Layer) -> None:
        """Put a layer, whose content is in the blobs, on top."""
        if layer.diff_id is None:
            raise AcbuildError(f"{layer.descriptor.digest}: a layer without the digest of its plain archive")
        self.layers = (*self.layers, layer.descriptor)
        self._configure(
            self.config._replace(diff_ids=(*self.config.diff_ids, layer.diff_id), history=self._with_step())
        )

    def replace_layers(self, layer: Layer) -> None:
        """Have this layer instead of all others."""
        self.layers = ()
        steps = tuple(step._replace(empty_layer=True) for step in self.config.history)
        self._configure(self.config._replace(diff_ids=(), history=steps))
        self.add_layer(layer)

    def _with_step(self) -> tuple[History, ...]:
        """The history with one more step that has a layer: the newest, if it has none of its own yet.

        There must be as many as there are layers.
        """
        steps = self.config.history
        if steps and steps[-1].empty_layer:
            return (*steps[:-1], steps[-1]._replace(empty_layer=False))
        if self.config.diff_ids and not steps:
            return steps  # the image that this one is built upon has no history, so this one cannot
        return (*steps, History(created_by="acbuild"))

    @property
    def top(self) -> Digest | None:
        """The digest of the topmost layer."""
        return self.layers[-1].digest if self.layers else None

    def record(self, command: str, *, changes_files: bool) -> None:
        """Note a command in the history. Which of them have a layer is decided when that is made."""
        del changes_files
        if self.config.diff_ids and not self.config.history:
            return
        step = History(created_by=command, empty_layer=True)
        self._configure(self.config._replace(history=(*self.config.history, step)))

    def history(self) -> list[str]:
        """What was done, the oldest first, what is inherited included."""
        return [step.created_by for step in self.config.history if step.created_by]

        # --- the image

    def architecture(self) -> str:
        """As appc calls it, "" for one that it has no name for."""
        from appc.errors import UnsupportedPlatform
        from appc.types import platforms

        platform = self.config.platform
        try:
            return platforms.from_go(platform.os, platform.architecture, platform.variant.lstrip("v"))[1]
        except UnsupportedPlatform:
            return ""

    def environment(self) -> tuple[tuple[str, str], ...]:
        """The variables of the process."""
        pairs = (item.partition("=") for item in self._process.env)
        return tuple((name, value) for name, separator, value in pairs if name and separator)

    def working_directory(self) -> str:
        """That of the process, "" where none is set."""
        return self._process.working_dir

    def set_name(self, name: str) -> None:
        del name
        raise Unsupported("names", hint="see set-tag; the rest of the name is given where it is pushed")

    def set_tag(self, tag: str) -> None:
        if not tag or tag.strip("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-"):
            raise AcbuildError(f"{tag!r}: is no tag", hint="letters, digits, `_`, `.` and `-`")
        self.tag = tag
        self._changed = True

    def add_annotation(self, name: str, value: str) -> None:
        if not name:
            raise AcbuildError("an annotation needs a name")
        self._annotations[name] = value
        self._changed = True

    def remove_annotation(self, name: str) -> None:
        if name not in self._annotations:
            raise NotFound(f"annotation {name}")
        del self._annotations[name]
        self._changed = True

    def add_label(self, name: str, value: str) -> None:
        del name, value
        raise Unsupported("labels", hint="use `acbuild annotation add`")

    def remove_label(self, name: str) -> None:
        self.add_label(name, "")

    def add_dependency(self, image: str, labels: list[str], image_id: str, size: int) -> None:
        del image, labels, image_id, size
        raise Unsupported("dependencies", hint="begin with the image that this one is built upon")

    def remove_dependency(self, name: str) -> None:
        self.add_dependency(name, [], "", 0)

    def add_whitelist(self, paths: list[str]) -> None:
        del paths
        raise Unsupported("whitelists", hint="use `acbuild remove`: what is below is removed too")

    def remove_whitelist(self, paths: list[str]) -> None:
        self.add_whitelist(paths)

    def replace_manifest(self, data: bytes) -> None:
        """Take the configuration in `data`; the layers, and their part of it, stay.

        What it does not have stays too, in its process as well: so acbuild 0.4 has it.
        """
        new = ImageConfig.parse(_merged(self._process, data), "the file")
        platform = new.platform if new.platform.os else self.config.platform
        self._configure(
            self.config._replace(
                platform=platform,
                process=new.process or self.config.process,
                created=new.created or self.config.created,
                author=new.author or self.config.author,
            )
        )

    # --- its process

    def set_exec(self, command: list[str]) -> None:
        self._set(self._process._replace(entrypoint=tuple(command[:1]), cmd=tuple(command[1:]) or None))

    def set_user(self, user: str) -> None:
        _check_identity(user, "user")
        _, colon, group = self._process.user.partition(":")
        self._set(self._process._replace(user=user + colon + group))

    def set_group(self, group: str) -> None:
        _check_identity(group, "group")
        self._set(self._process._replace(user=f"{self._process.user.partition(':')[0]}:{group}"))

    def set_supplementary_groups(self, groups: list[str]) -> None:
        del groups
        raise Unsupported("supplementary groups")

    def set_working_directory(self, path: str) -> None:
        if path and not path.startswith("/"):
            raise AcbuildError(f"{path}: is not an absolute path")
        self._set(self._process._replace(working_dir=path))

    def set_event_handler(self, event: str, command: list[str]) -> None:
        del event, command
        raise Unsupported("event handlers")

    def add_environment(self, name: str, value: str) -> None:
        if not name or "=" in name:
            raise AcbuildError(f"{name!r}: is no name of a variable")
        kept = [one for one in self._process.env if one.partition("=")[0] != name]
        self._set(self._process._replace(env=(*kept, f"{name}={value}")))

    def remove_environment(self, name: str) -> None:
        kept = tuple(one for one in self._process.env if one.partition("=")[0] != name)
        if len(kept) == len(self._process.env):
            raise NotFound(f"variable {name}")
        self._set(self._process._replace(env=kept))

    def add_mount(self, name: str, path: str, *, read_only: bool) -> None:
        from appc.types.mounts import MountPoint

        if read_only:
            raise Unsupported("read-only mounts")
        MountPoint.from_json({"name": name, "path": path})
        old = self._noted(MOUNT, name).removeprefix("path:")
        rest = {one for one in self._process.volumes if one != old}
        self._forget(MOUNT, f"path:{path}")  # one of that path is replaced too
        self._annotations[MOUNT + name] = f"path:{path}"
        self._set(self._process._replace(volumes=tuple(sorted(rest | {path}))))

    def remove_mount(self, name: str) -> None:
        """By its name or its path."""
        path = self._noted(MOUNT, name).removeprefix("path:") or name
        if path not in self._process.volumes:
            raise NotFound(f"mount {name}")
        self._forget(MOUNT, f"path:{path}")
        self._set(self._process._replace(volumes=tuple(one for one in self._process.volumes if one != path)))

    def add_port(self, name: str, protocol: str, port: str, *, count: int, activated: bool) -> None:
        from appc.query import number
        from appc.types.ports import Port

        if count != 1:
            raise Unsupported("port counts")
        if activated:
            raise Unsupported("socket activated ports")
        new = Port.from_json({"name": name, "protocol": protocol, "port": number(port)})
        old = self._annotations.pop(PORT + name, "")
        kept = self._annotations.values()  # another name may be that of the same port
        rest = {one for one in self._process.exposed_ports if _port_note(one) != old or old in kept}
        self._annotations[PORT + name] = f"number:{new.port} protocol:{protocol}"
        self._set(self._process._replace(exposed_ports=tuple(sorted(rest | {f"{new.port}/{protocol}"}))))

    def remove_port(self, name: str) -> None:
        """By its name, its number or both of number and protocol."""
        noted = self._noted(PORT, name)
        gone = [
            one
            for one in self._process.exposed_ports
            if _port_note(one) == noted or name in {one, one.partition("/")[0]}
        ]
        if not gone:
            raise NotFound(f"port {name}")
        for one in gone:
            self._forget(PORT, _port_note(one))
        self._set(
            self._process._replace(
                exposed_ports=tuple(one for one in self._process.exposed_ports if one not in gone)
            )
        )

    def add_isolator(self, name: str, value: bytes) -> None:
        del name, value
        raise Unsupported("isolators")

    def remove_isolator(self, name: str) -> None:
        self.add_isolator(name, b"")

    # --- how

    @property
    def _process(self) -> Process:
        return self.config.process or Process()

    def _set(self, process: Process) -> None:
        self._configure(self.config._replace(process=process))

    def _configure(self, config: ImageConfig) -> None:
        self.config = config
        self._changed = True

    def _noted(self, kind: str, name: str) -> str:
        return self._annotations.get(kind + name, "")

    def _forget(self, kind: str, value: str) -> None:
        """Remove the names of something that is gone."""
        self._annotations = {
            name: noted
            for name, noted in self._annotations.items()
            if not (name.startswith(kind) and noted == value)
        }


def _merged(process: Process, data: bytes) -> bytes:
    """The configuration in `data` with what its process lacks of `process`, set by set."""
    from appc.jsonfield import encode, parse

    given = parse(data)
    new = given.get("config") if isinstance(given, dict) else None
    if not isinstance(given, dict) or not isinstance(new, dict):
        return data
    merged: dict[str, object] = process.to_json()
    for name, value in new.items():
        old = merged.get(name)
        merged[name] = {**old, **value} if isinstance(old, dict) and isinstance(value, dict) else value
    return encode({**given, "config": merged})


def _check_identity(text: str, what: str) -> None:
    if not text:
        raise AcbuildError(f"{what} cannot be empty")
    if ":" in text:
        raise AcbuildError(f"{what} cannot contain a ':' character")


def _port_note(exposed: str) -> str:
    """What an annotation says of the port ``80/tcp``."""
    number, _, protocol = exposed.partition("/")
    return f"number:{number} protocol:{protocol or 'tcp'}"
