"""OCI image layouts 1.0 and 1.1, as a directory or a tar archive (image-spec, image-layout.md).

Also read: what was written before 1.0, with ``refs/TAG`` in place of ``index.json`` (acbuild and docker2aci
of their time), and the directories of skopeo's ``dir:``. What is written is 1.0, which every tool reads, and
the same images give the same bytes.
"""

from __future__ import annotations

import os

from appc import jsonfield
from linux import files
from linux.named_tuple import NamedTuple
from oci import image as images
from oci.blobs import ArchiveBlobs, BlobDirectory
from oci.errors import InvalidImage, NoSuchImage
from oci.image import Image
from oci.types import manifest as manifests
from oci.types import media
from oci.types.descriptor import REF_NAME, Descriptor
from oci.types.manifest import Index

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import BinaryIO

    from oci.blobs import Blobs
    from oci.members import Members
    from oci.types.digest import Digest
    from oci.types.platform import Platform

MARKER, INDEX, REFS = "oci-layout", "index.json", "refs/"
VERSION = b'{"imageLayoutVersion":"1.0.0"}'
_SMALL = 64 << 10
_SKOPEO_MARKER, _SKOPEO, _SKOPEO_MANIFEST = "version", b"Directory Transport Version: 1.", "manifest.json"
#: What containerd and Docker write the whole name into; `REF_NAME` is often the bare tag.
_CONTAINERD_NAME = "io.containerd.image.name"


class Layout(NamedTuple):
    """A layout's index (`listing`), where its blobs are, and what to call it in messages."""

    blobs: Blobs
    listing: Index
    shown: str

    def names(self) -> list[str]:
        """The tags or names by which its images are known, sorted; images without one are not among them."""
        return sorted({name for one in self.listing.manifests for name in _names(one)})

    def image(self, name: str, platform: Platform) -> Image:
        """The image `name`, or with "" the only one there is. NoSuchImage, InvalidImage."""
        found = self._find(name)
        return images.load(self.blobs, found, platform, f"{self.shown}:{name}" if name else self.shown)

    def _find(self, name: str) -> Descriptor:
        listed = [one for one in self.listing.manifests if one.media_type in media.MANIFESTS | media.INDEXES]
        found = [one for one in listed if not name or name in _names(one) or name == one.digest]
        if len({one.digest for one in found}) == 1:
            return found[0]
        known = ", ".join(self.names()) or "images without names"
        if not found:
            what = f"no image {jsonfield.quoted(name)}" if name else "no image"
            raise NoSuchImage(f"{self.shown}: there is {what} in the layout", hint=f"there are: {known}")
        if name:
            raise InvalidImage(f"{self.shown}: {jsonfield.quoted(name)} is the name of more than one image")
        if all(one.platform for one in found) and not self.names():
            raise InvalidImage(f"{self.shown}: holds {len(found)} images without names")
        raise NoSuchImage(f"{self.shown}: holds more than one image", hint=f"say which: {known}")


def _names(descriptor: Descriptor) -> set[str]:
    values = {descriptor.annotations.get(REF_NAME, ""), descriptor.annotations.get(_CONTAINERD_NAME, "")}
    return values - {""}


def read_directory(path: str) -> Layout:
    """The layout in the directory `path`. NoSuchImage where there is none, InvalidImage for a broken one."""

    def read(name: str, limit: int) -> bytes | None:
        return _small_file(f"{path}/{name}", limit)

    if (read(_SKOPEO_MARKER, _SMALL) or b"").startswith(_SKOPEO):
        return _of_skopeo(read(_SKOPEO_MANIFEST, manifests.LIMIT), path)
    refs = []
    if os.path.isdir(f"{path}/refs"):
        refs = sorted(os.listdir(f"{path}/refs"))
    return Layout(BlobDirectory(f"{path}/blobs"), _index(read, refs, path), path)


class _FlatBlobs(BlobDirectory):
    """Content in one directory, named by the digits alone, as `skopeo copy … dir:` has it."""

    def __init__(self, path: str, manifest: Digest) -> None:
        super().__init__(path)
        self._manifest = manifest

    def place(self, digest: Digest) -> str:
        """Where the blob is; the manifests of an index have an ending there."""
        if digest == self._manifest:
            return f"{self.path}/{_SKOPEO_MANIFEST}"
        place = f"{self.path}/{digest.hex}"
        return place if os.path.lexists(place) else f"{place}.{_SKOPEO_MANIFEST}"


def _of_skopeo(data: bytes | None, path: str) -> Layout:
    if data is None:
        raise NoSuchImage(f"{path}: is no image: there is no {_SKOPEO_MANIFEST}")
    document = manifests.parse(data, "", f"{path}: {_SKOPEO_MANIFEST}")
    found = Descriptor.of(document.media_type, data)
    return Layout(_FlatBlobs(path, found.digest), Index(media.OCI_INDEX, (found,)), path)


def read_members(members: Members) -> Layout:
    """The layout in a tar archive."""

    def read(name: str, limit: int) -> bytes | None:
        return members.read(name, limit) if name in members else None

    refs = [name.removeprefix(REFS) for name in members.names(REFS)]
    return Layout(ArchiveBlobs(members), _index(read, refs, members.shown), members.shown)


def _small_file(path: str, limit: int) -> bytes | None:
    """The content of a file in somebody's layout; None where there is none."""
    from linux.paths import Root

    with Root.open(os.path.dirname(path)) as directory:
        try:
            return directory.read_file(os.path.basename(path), limit)
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise InvalidImage(f"{os.path.dirname(path)}: {error}") from None


def _index(read: Callable[[str, int], bytes | None], refs: list[str], shown: str) -> Index:
    marker = read(MARKER, _SMALL)
    if marker is None:
        raise NoSuchImage(f"{shown}: is no image layout: there is no {MARKER}")
    _check_version(marker, shown)
    data = read(INDEX, manifests.LIMIT)
    if data is None:
        return _from_refs(read, refs, shown)
    document = manifests.parse(data, media.OCI_INDEX, f"{shown}: {INDEX}")
    if not isinstance(document, Index):
        raise InvalidImage(f"{shown}: {INDEX} is no index")
    return document


def _check_version(marker: bytes, shown: str) -> None:
    try:
        fields = jsonfield.Fields(jsonfield.parse(marker, limit=_SMALL))
        # acbuild 0.4 wrote an empty object
        version = fields.optional("imageLayoutVersion", jsonfield.string, "1.0.0")
        fields.finish()
    except ValueError as error:
        raise InvalidImage(f"{shown}: invalid {MARKER}: {'; '.join(jsonfield.reasons(error))}") from None
    if not version.startswith("1."):
        raise InvalidImage(f"{shown}: a layout of version {jsonfield.quoted(version)}, which is not known")


def _from_refs(read: Callable[[str, int], bytes | None], refs: list[str], shown: str) -> Index:
    """The index that a layout of before 1.0 stands for."""
    found: list[Descriptor] = []
    for name in refs:
        try:
            one = Descriptor.from_json(jsonfield.parse(read(REFS + name, _SMALL) or b""))
        except ValueError as error:
            raise InvalidImage(f"{shown}: invalid {REFS}{name}: {error}") from None
        found.append(one._replace(annotations={REF_NAME: name}))
    if not found:
        raise InvalidImage(f"{shown}: there is neither {INDEX} nor anything in {REFS}")
    return Index(media.OCI_INDEX, tuple(found))


class LayoutDirectory:
    """A layout that is written: made where there is none, added to where there is one."""

    def __init__(self, path: str, *, durable: bool = True) -> None:
        self.path = path
        self._durable = durable
        os.makedirs(f"{path}/blobs/sha256", exist_ok=True)
        self.blobs = BlobDirectory(f"{path}/blobs", partial=f"{path}/.partial", durable=durable)
        if not os.path.lexists(f"{path}/{MARKER}"):
            files.write_atomically(f"{path}/{MARKER}", VERSION, durable=durable)

    def add(self, image: Image, tag: str) -> None:
        """Copy `image` here and list it under `tag` ("" for none), in place of what had the tag before."""
        image.copy_to(self.blobs)
        lock = files.lock_directory(self.path, exclusive=True)
        try:
            new = images.index_of([(image, tag)]).manifests[0]
            kept = [one for one in self._listed() if not self._is_replaced(one, new, tag)]
            index = Index(media.OCI_INDEX, (*kept, new))
            files.write_atomically(f"{self.path}/{INDEX}", index.encode(), durable=self._durable)
        finally:
            os.close(lock)

    @staticmethod
    def _is_replaced(old: Descriptor, new: Descriptor, tag: str) -> bool:
        name = old.annotations.get(REF_NAME, "")
        return name == tag if tag else not name and old.digest == new.digest

    def _listed(self) -> tuple[Descriptor, ...]:
        if not os.path.lexists(f"{self.path}/{INDEX}"):
            return ()
        return read_directory(self.path).listing.manifests


def write_archive(entries: list[tuple[Image, str]], out: BinaryIO) -> None:
    """Write images and their tags as a layout in one plain tar archive: the same images, the same bytes."""
    from oci.archive import ArchiveWriter

    writer = ArchiveWriter(out)
    writer.file(MARKER, VERSION)
    writer.file(INDEX, images.index_of(entries).encode())
    written: set[str] = set()
    for image, descriptor in sorted(_all_blobs(entries), key=lambda pair: pair[1].digest):
        if descriptor.digest not in written:
            written.add(descriptor.digest)
            with image.blobs.open(descriptor) as file:
                name = f"blobs/{descriptor.digest.algorithm}/{descriptor.digest.hex}"
                writer.stream(name, file, descriptor.size)
    writer.finish()


def _all_blobs(entries: list[tuple[Image, str]]) -> Iterator[tuple[Image, Descriptor]]:
    for image, _ in entries:
        for descriptor in (image.descriptor, image.manifest.config, *image.manifest.layers):
            yield image, descriptor
