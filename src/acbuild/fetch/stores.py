"""Where images lie: rkt's store, which is only read, and acbuild's cache, which is laid out alike.

DIR/cas/blob/sha512/XX/ID is an archive without compression, DIR/cas/imageManifest/sha512/XX/ID its manifest;
XX are the first two digits of the ID. An image is there when its archive is.
"""

from __future__ import annotations

import os

from acbuild.errors import AcbuildError
from appc.schema.image import ImageManifest
from appc.types.image_id import LENGTH, PREFIX, ImageID
from linux import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import BinaryIO

    from acbuild.settings import Settings
    from appc.schema.image import Dependency

RKT = "/var/lib/rkt"
_BLOBS, _MANIFESTS = "cas/blob/sha512", "cas/imageManifest/sha512"
_LARGEST_MANIFEST = 4 << 20


def cache_directory() -> str:
    """The directory of acbuild's cache: ACBUILD_CACHE, or as the XDG specification says."""
    if given := os.environ.get("ACBUILD_CACHE"):
        return given
    if home := os.environ.get("XDG_CACHE_HOME"):
        return f"{home}/acbuild"
    home = os.environ.get("HOME", "")
    return f"{home}/.cache/acbuild" if home.startswith("/") else "/var/cache/acbuild"


class Stores:
    """The stores that may be used. What was fetched without its signature is used only if `insecure`."""

    def __init__(self, rkt: str, cache: str, config: tuple[str, str], *, insecure: bool) -> None:
        """`config` are rkt's system and local configuration: what is fetched is checked by them."""
        self.insecure = insecure
        self.config = config
        self.own = f"{cache}/{'unverified' if insecure else 'verified'}"
        self._all = [rkt, f"{cache}/verified", *([self.own] if insecure else [])]

    @classmethod
    def of(cls, settings: Settings, *, insecure: bool) -> Stores:
        """Those that the global flags and the environment name."""
        return cls(settings.store or RKT, cache_directory(), settings.config_dirs, insecure=insecure)

    def resolve(self, text: str) -> ImageID:
        """The image whose ID begins with `text`."""
        found = {image_id for _, image_id in self._images() if image_id.startswith(text.lower())}
        if len(text) < len(PREFIX) + 2 or not found:
            raise AcbuildError(f"no image {text[:39]} in the stores", hint="see `rkt image list`")
        if len(found) > 1:
            raise AcbuildError(f"{text}: is the beginning of {len(found)} image IDs", hint="give more digits")
        return ImageID(found.pop())

    def find(self, name: str, labels: Mapping[str, str], wanted: Dependency | None = None) -> ImageID | None:
        """The image with this name and all of these labels that came last; of `wanted` also the ID counts."""
        best: tuple[float, str] | None = None
        for directory, image_id in self._images():
            if wanted is not None and wanted.image_id not in {None, image_id}:
                continue
            try:
                manifest = self.manifest(image_id)
                when = os.stat(_place(directory, _BLOBS, image_id)).st_mtime
            except (ValueError, OSError):
                continue  # removed meanwhile, or broken: then it is not the one
            if manifest.name == name and manifest.labels.match(labels):
                best = max(best or (when, image_id), (when, image_id))
        return None if best is None else ImageID(best[1])

    def manifest(self, image_id: str) -> ImageManifest:
        """The manifest of an image that is there."""
        from appc.aci.reader import read_manifest

        for directory in self._all:
            try:
                with open(_place(directory, _MANIFESTS, image_id), "rb") as file:
                    if data := file.read(_LARGEST_MANIFEST):
                        return ImageManifest.parse(data)
            except (FileNotFoundError, PermissionError):
                continue
        with self.open(image_id) as blob:
            return ImageManifest.parse(read_manifest(blob))

    def open(self, image_id: str) -> BinaryIO:
        """The archive of an image."""
        for directory in self._all:
            try:
                return open(_place(directory, _BLOBS, image_id), "rb")
            except (FileNotFoundError, PermissionError):
                continue
        raise AcbuildError(f"no image {image_id[:39]} in the stores")

    def _images(self) -> Iterator[tuple[str, str]]:
        """Every image, with the store that has it."""
        for directory in self._all:
            for group in _names(f"{directory}/{_BLOBS}"):
                for name in _names(f"{directory}/{_BLOBS}/{group}"):
                    if len(name) == LENGTH and name.startswith(PREFIX):
                        yield directory, name

    def add(self, file: BinaryIO, check: Callable[[ImageManifest, ImageID], object]) -> ImageID:
        """Check the image in `file` (seekable) and keep it, durably. `check` may refuse it by raising."""
        from appc.aci import reader

        os.makedirs(f"{self.own}/cas/tmp", 0o700, exist_ok=True)
        fd = files.anonymous_file(f"{self.own}/cas/tmp")
        try:
            archive = reader.read_caged(file, sink=lambda data: files.write_all(fd, data))
            check(ImageManifest.parse(archive.manifest), archive.image_id)
            blob = _place(self.own, _BLOBS, archive.image_id)
            manifest = _place(self.own, _MANIFESTS, archive.image_id)
            for path in (blob, manifest):
                os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
            files.write_atomically(manifest, archive.manifest, mode=0o600)
            try:
                files.link_into_place(fd, blob)  # last: it is what makes the image exist
            except FileExistsError:
                pass
            return archive.image_id
        finally:
            os.close(fd)


def _place(directory: str, kind: str, image_id: str) -> str:
    return f"{directory}/{kind}/{image_id[len(PREFIX) : len(PREFIX) + 2]}/{image_id}"


def _names(directory: str) -> list[str]:
    try:
        return sorted(os.listdir(directory))
    except (FileNotFoundError, PermissionError, NotADirectoryError):
        return []
