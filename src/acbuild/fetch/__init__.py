"""Images that a build is made of, by name: from rkt's store, from acbuild's cache, or fetched and checked.

What is fetched is checked as by `rkt fetch`: the signature against the keys that rkt trusts, name and labels
against the manifest, ID and size of a dependency. rkt's store is only read; what is fetched here is kept in a
cache of acbuild's own, apart if its signature was not checked.
"""

from __future__ import annotations

from contextlib import contextmanager

from acbuild.errors import AcbuildError
from linux.named_tuple import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import BinaryIO

    from acbuild.fetch.stores import Stores
    from acbuild.settings import Settings
    from appc.schema.image import Dependency, ImageManifest
    from appc.types.image_id import ImageID
    from oci.image import Image

DOCKER = "docker://"
#: An image may depend on that many others in all; a server could make up new ones for ever.
MOST_DEPENDENCIES = 256


@contextmanager
def image(
    settings: Settings, start: str, *, insecure: bool, say: Callable[[str], None]
) -> Iterator[tuple[BinaryIO, str]]:
    """``with image(settings, start, …) as (file, uri)``: the ACI that `start` names, and where it is from."""
    if start.startswith(DOCKER):
        with (
            from_registry(settings, start, insecure=insecure) as (found, uri),
            _converted(found, start, say) as file,
        ):
            yield file, uri
        return
    from acbuild.fetch.stores import Stores

    stores = Stores.of(settings, insecure=insecure)
    if start.startswith("sha512-"):
        image_id = stores.resolve(start)
    else:
        from appc import app_string
        from appc.types import platforms

        name, labels = app_string.parse(start)
        host_os, host_arch = platforms.of_host()
        image_id = _named(stores, name, {"os": host_os, "arch": host_arch, **labels}, None, say)
    with stores.open(image_id) as file:
        yield file, start if start.startswith("sha512-") else f"{start}#{image_id}"


def _named(
    stores: Stores,
    name: str,
    labels: dict[str, str],
    wanted: Dependency | None,
    say: Callable[[str], None],
) -> ImageID:
    found = stores.find(name, labels, wanted)
    if found is not None:
        return found
    from acbuild.fetch.discovered import download

    return download(stores, name, labels, wanted, say)


class Closure(NamedTuple):
    """Everything that an image depends on: its dependencies in order, and how to render and read images."""

    direct: tuple[ImageID, ...]
    images: dict[ImageID, tuple[tuple[ImageID, ...], tuple[str, ...]]]
    open: Callable[[ImageID], BinaryIO]


def dependencies(
    settings: Settings, manifest: ImageManifest, *, insecure: bool, say: Callable[[str], None]
) -> Closure:
    """Have all that `manifest` depends on, directly and not, in a store.

    Dependencies on each other in a circle are found when they are rendered.
    """
    from acbuild.fetch.stores import Stores

    stores = Stores.of(settings, insecure=insecure)
    found: dict[Dependency, ImageID] = {}
    known: dict[ImageID, tuple[tuple[ImageID, ...], tuple[str, ...]]] = {}

    def resolved(listed: tuple[Dependency, ...]) -> tuple[ImageID, ...]:
        for dependency in listed:
            if dependency in found:
                continue
            if len(found) >= MOST_DEPENDENCIES:
                raise AcbuildError(f"{manifest.name}: depends on more than {MOST_DEPENDENCIES} images")
            labels = dependency.labels.as_dict()
            found[dependency] = _named(stores, dependency.image_name, labels, dependency, say)
        return tuple(found[dependency] for dependency in listed)

    direct = resolved(manifest.dependencies)
    queue = list(direct)
    while queue:
        image_id = queue.pop(0)
        if image_id not in known:
            below = stores.manifest(image_id)
            known[image_id] = resolved(below.dependencies), below.path_whitelist
            queue += known[image_id][0]
    return Closure(direct, known, stores.open)


@contextmanager
def from_registry(settings: Settings, start: str, *, insecure: bool) -> Iterator[tuple[Image, str]]:
    """``with from_registry(settings, "docker://NAME", …) as (image, uri)``: pulled, for this host.

    Mirrors, logins and certificates are those that rkt is configured with.
    """
    from acbuild.scratch import scratch
    from oci.blobs import BlobDirectory
    from oci.registry import configured, pull
    from oci.types.platform import Platform
    from oci.types.reference import Reference

    try:
        reference = Reference.parse(start.removeprefix(DOCKER))
    except ValueError as error:
        raise AcbuildError(f"{start}: {error}") from None
    with scratch() as directory:
        blobs = BlobDirectory(directory, trusted=True, durable=False)
        pulled = pull.pull(
            reference,
            blobs,
            Platform.of_host(),
            settings=configured.settings(settings.config_dirs, plain_http=insecure),
            logins=configured.logins(settings.config_dirs),
        )
        yield pulled.image, f"{start.partition('@')[0]}@{pulled.image.descriptor.digest}"


@contextmanager
def _converted(found: Image, start: str, say: Callable[[str], None]) -> Iterator[BinaryIO]:
    """The image as an ACI, squashed."""
    from oci.convert import to_aci
    from oci.convert.to_manifest import Ids, Origin
    from oci.members import unnamed_file
    from oci.types.reference import Reference

    layers = found.manifest.layers
    if not layers:
        raise AcbuildError(f"{start}: has no layers")
    origin = Origin.of(Reference.parse(start.removeprefix(DOCKER)))
    ids = Ids(layers[-1].digest.hex, found.descriptor.digest)
    with unnamed_file() as file:
        for note in to_aci.squashed(found, origin, file, ids=ids, compression="none").notes:
            say(note)
        file.seek(0)
        yield file
