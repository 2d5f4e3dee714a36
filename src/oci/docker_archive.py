"""What ``docker save`` writes, in each of its forms.

Read: the oldest (``repositories`` with a directory ``ID/{json,layer.tar}`` a layer), the one since Docker
1.10 (``manifest.json``, where ``layer.tar`` may be a link to another layer's), and that of today, which is an
OCI layout too. Written: one archive that is the first and the second at once, so that every reader is served.
"""

from __future__ import annotations

from appc import jsonfield
from appc.jsonfield import Fields, listed, nonempty, obj, string_map
from linux.named_tuple import NamedTuple
from oci import image as images
from oci.blobs import ArchiveBlobs
from oci.errors import InvalidImage, NoSuchImage
from oci.image import Image
from oci.types import config as configs
from oci.types import media
from oci.types.config import ImageConfig
from oci.types.descriptor import Descriptor
from oci.types.digest import Digest
from oci.types.manifest import MOST_LAYERS, Manifest
from oci.types.reference import HUB, Reference, check_tag

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import BinaryIO

    from oci.archive import ArchiveWriter
    from oci.members import Members

MANIFEST, REPOSITORIES = "manifest.json", "repositories"
_LIMIT = 1 << 20
_HEX = "0123456789abcdef"


class Saved(NamedTuple):
    """One image of an archive: the names that it was saved under, as they are written, and itself.

    `chain` is there for the oldest form: the configuration of each layer, the lowest first.
    """

    names: tuple[str, ...]
    image: Image
    chain: tuple[ImageConfig, ...] = ()


def is_one(members: Members) -> bool:
    """Whether the archive looks as if docker save, or a tool like it, had made it."""
    return MANIFEST in members or REPOSITORIES in members


def select(members: Members, wanted: Reference | None) -> Saved:
    """The image `wanted` (None: the only one). NoSuchImage says what there is."""
    listed_images = _listed(members) if MANIFEST in members else _repositories(members)
    names = sorted({name for one in listed_images for name in one.names})
    if wanted is None:
        if len(listed_images) != 1 or len(names) > 1:
            what = "holds more than one image" if listed_images else "holds no image"
            raise NoSuchImage(
                f"{members.shown}: {what}",
                hint=f"say which: {', '.join(names)}" if names else None,
            )
        return listed_images[0].load(members)
    if len(listed_images) == 1 and not names:
        return listed_images[0].load(members)  # saved by its ID: it is called what the user says
    for one in listed_images:
        if any(_same(name, wanted) for name in one.names):
            return one.load(members)
    raise NoSuchImage(
        f"{members.shown}: there is no image {wanted.original or wanted} in the archive",
        hint=f"there are: {', '.join(names)}" if names else None,
    )


def _same(name: str, wanted: Reference) -> bool:
    """Whether the two name one image: `wanted` without a registry fits any, as docker2aci took it."""
    try:
        found = Reference.parse(name)
    except ValueError:
        return False
    if found.shown_tag != wanted.shown_tag:
        return False
    return found.name == wanted.name or (wanted.registry == HUB and found.repository == wanted.repository)


class _Listed(NamedTuple):
    """An image before it is read."""

    names: tuple[str, ...]
    #: Of the newer form.
    config: str = ""
    layers: tuple[str, ...] = ()
    #: Of the oldest form: the ID of the topmost layer.
    top: str = ""

    def load(self, members: Members) -> Saved:
        return _load_chain(members, self) if self.top else _load(members, self)

    @classmethod
    def from_json(cls, value: object) -> _Listed:
        """An element of manifest.json."""
        fields = Fields(value)
        found = cls(
            fields.optional("RepoTags", listed(nonempty), ()),
            fields.required("Config", nonempty),
            fields.required("Layers", listed(nonempty)),
        )
        fields.finish()
        if len(found.layers) > MOST_LAYERS:
            raise ValueError(f"{len(found.layers)} layers are more than the limit of {MOST_LAYERS}")
        return found


def _listed(members: Members) -> list[_Listed]:
    try:
        return list(listed(_Listed.from_json)(jsonfield.parse(members.read(MANIFEST, _LIMIT))))
    except ValueError as error:
        reasons = "; ".join(jsonfield.reasons(error))
        raise InvalidImage(f"{members.shown}: invalid {MANIFEST}: {reasons}") from None


def _repositories(members: Members) -> list[_Listed]:
    """The images in ``repositories``: name to tag to the ID of the topmost layer."""
    found: dict[str, list[str]] = {}
    try:
        for name, tags in obj(jsonfield.parse(members.read(REPOSITORIES, _LIMIT))).items():
            for tag, layer in string_map(tags).items():
                found.setdefault(_layer_id(layer), []).append(f"{name}:{check_tag(tag)}")
    except InvalidImage:
        raise
    except ValueError as error:
        reasons = "; ".join(jsonfield.reasons(error))
        raise InvalidImage(f"{members.shown}: invalid {REPOSITORIES}: {reasons}") from None
    return [_Listed(tuple(sorted(names)), top=top) for top, names in found.items()]


def _layer_id(text: str) -> str:
    """The ID goes into the names of members, and out into file names."""
    if len(text) != 64 or text.strip(_HEX):
        raise ValueError(f"{jsonfield.quoted(text)} is no ID of a layer")
    return text


def _load(members: Members, one: _Listed) -> Saved:
    data = members.read(one.config, configs.LIMIT)
    config = ImageConfig.parse(data, f"{members.shown}: {one.config}")
    names = {Digest.of(data): one.config}
    layers = [_layer(members, name, names) for name in one.layers]
    manifest = Manifest(media.DOCKER_MANIFEST, Descriptor.of(media.DOCKER_CONFIG, data), tuple(layers))
    images.check(manifest, config, members.shown)
    return Saved(one.names, _image(members, manifest, config, names))


def _load_chain(members: Members, one: _Listed) -> Saved:
    """Follow the layers from the topmost to the lowest, each once (CVE-2016-8579: they went in circles)."""
    chain: list[ImageConfig] = []
    seen: set[str] = set()
    current = one.top
    while current:
        if current in seen or len(chain) >= MOST_LAYERS:
            raise InvalidImage(f"{members.shown}: the layers of {one.top} are each other's parents")
        seen.add(current)
        data = members.read(f"{current}/json", configs.LIMIT)
        config = ImageConfig.parse(data, f"{members.shown}: {current}/json")
        chain.append(config._replace(id=current))
        try:
            current = _layer_id(config.parent) if config.parent else ""
        except ValueError as error:
            raise InvalidImage(f"{members.shown}: {current}/json: parent: {error}") from None
    chain.reverse()
    names: dict[Digest, str] = {}
    layers = [_layer(members, f"{config.id}/layer.tar", names) for config in chain]
    # The configuration of such an image is that of its topmost layer.
    data = members.read(f"{one.top}/json", configs.LIMIT)
    names[Digest.of(data)] = f"{one.top}/json"
    manifest = Manifest(media.DOCKER_MANIFEST, Descriptor.of(media.DOCKER_CONFIG, data), tuple(layers))
    return Saved(one.names, _image(members, manifest, chain[-1], names), tuple(chain))


def _image(members: Members, manifest: Manifest, config: ImageConfig, names: dict[Digest, str]) -> Image:
    descriptor = Descriptor.of(manifest.media_type, manifest.encode())
    return Image(ArchiveBlobs(members, names), descriptor, manifest, config)


def _layer(members: Members, name: str, names: dict[Digest, str]) -> Descriptor:
    """The descriptor of a layer, whose digest nobody has written down: it is hashed."""
    import hashlib

    with members.extracted(name) as file:
        hasher = hashlib.sha256()
        size = 0
        while data := file.read(1 << 20):
            hasher.update(data)
            size += len(data)
    digest = Digest(f"sha256:{hasher.hexdigest()}")
    names[digest] = members.resolved(name)
    return Descriptor(media.DOCKER_LAYER, digest, size)


def write(entries: list[tuple[Image, tuple[Reference, ...]]], out: BinaryIO) -> None:
    """Write images and their names as a docker archive; the same images give the same bytes."""
    from oci.archive import ArchiveWriter

    writer = ArchiveWriter(out)
    manifest: list[object] = []
    repositories: dict[str, dict[str, str]] = {}
    written: set[str] = set()
    for image, references in entries:
        with image.blobs.open(image.manifest.config) as file:
            data = file.read(configs.LIMIT)
        config = f"{image.manifest.config.digest.hex}.json"
        if config not in written:
            written.add(config)
            writer.file(config, data)
        layers = _write_layers(writer, image, written)
        names = [f"{_docker_name(reference)}:{reference.shown_tag}" for reference in references]
        files = [f"{one}/layer.tar" for one in layers]
        manifest.append({"Config": config, "RepoTags": names, "Layers": files})
        for reference in references if layers else ():
            repositories.setdefault(_docker_name(reference), {})[reference.shown_tag] = layers[-1]
    writer.file(MANIFEST, jsonfield.encode(manifest))
    if repositories:
        writer.file(REPOSITORIES, jsonfield.encode(repositories))
    writer.finish()


def _docker_name(reference: Reference) -> str:
    """As Docker shows it: without its own registry and ``library/``."""
    if reference.registry != HUB:
        return reference.name
    return reference.repository.removeprefix("library/")


def _write_layers(writer: ArchiveWriter, image: Image, written: set[str]) -> list[str]:
    """The layers as the oldest form has them; their IDs, the lowest first.

    An ID stands for a layer with all below it, as Docker's chain IDs do.
    """
    import hashlib

    from oci.layers.plain import plain_copy

    ids: list[str] = []
    for place, layer in enumerate(image.layers):
        below = ids[-1] if ids else ""
        top = image.manifest.config.digest if place == len(image.layers) - 1 else ""
        with image.open_layer(layer) as stored, plain_copy(stored, layer.diff_id) as (file, size, diff_id):
            one = hashlib.sha256(f"{below} {diff_id} {top}".encode()).hexdigest()
            ids.append(one)
            if one in written:
                continue
            written.add(one)
            writer.file(f"{one}/VERSION", b"1.0")
            writer.file(f"{one}/json", _layer_json(image.config, one, below, top=bool(top)))
            writer.stream(f"{one}/layer.tar", file, size)
    return ids


def _layer_json(config: ImageConfig, layer: str, parent: str, *, top: bool) -> bytes:
    value: dict[str, object] = {"id": layer}
    if parent:
        value["parent"] = parent
    value["created"] = config.created or "1970-01-01T00:00:00Z"
    if top:
        value |= config.platform.to_json()
        if config.author:
            value["author"] = config.author
        if config.process is not None:
            value["config"] = config.process.to_json()
    return jsonfield.encode(value)
