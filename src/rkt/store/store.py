"""The store as the rest of rkt sees it."""

from __future__ import annotations

import os

from appc.types.image_id import ImageID
from linux import files
from linux.named_tuple import NamedTuple
from rkt.errors import RktError
from rkt.store import blobs
from rkt.store.blobs import NoSuchImage
from rkt.store.paths import Paths, make_directory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from types import TracebackType
    from typing import BinaryIO, Self

    from appc.aci.limits import Limits
    from appc.render import Image, Step
    from appc.schema.image import Dependency, ImageManifest
    from oci.convert.to_manifest import Origin
    from oci.image import Image as OciImage
    from rkt.store.blobs import Incoming
    from rkt.store.index import Index, Remote, Row
    from rkt.store.oci.records import Record
    from rkt.store.trees import Tree


class ImageInfo(NamedTuple):
    """An image as `image list` shows it. Times in seconds since 1970; `size` of archive and tree in bytes."""

    id: ImageID
    name: str
    version: str
    import_time: float
    last_used: float
    size: int


class _Shared:
    """``with _Shared(cas):`` holds the shared lock on the directory `cas`, which is made if it is missing."""

    __slots__ = ("_cas", "_fd")

    def __init__(self, cas: str) -> None:
        self._cas = cas
        self._fd = -1

    def __enter__(self) -> None:
        make_directory(self._cas)
        self._fd = files.lock_directory(self._cas, exclusive=False)

    def __exit__(self, *exception: object) -> None:
        os.close(self._fd)


class Store:
    """The images below DIR/cas. A context manager; any number of processes may use one at once.

    Methods raise RktError (NoSuchImage where an image is missing), AppcError for what is wrong in an image,
    and OSError.
    """

    def __init__(self, data_dir: str, config_dirs: Sequence[str] = ()) -> None:
        """`config_dirs` are asked for the limits of images when one is imported or rendered."""
        self.paths = Paths(data_dir)
        self.data_dir = data_dir
        self._config_dirs = config_dirs
        self._index: Index | None = None
        self._imported: set[str] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the index. The next call opens it again."""
        if self._index is not None:
            self._index.close()
            self._index = None

    def limits(self) -> Limits:
        """How much an image may take of the host."""
        from appc.aci.limits import DEFAULT
        from rkt.config.merged import load_image_limits

        return DEFAULT._replace(**load_image_limits(self._config_dirs))

    # --- images

    def import_aci(
        self,
        file: BinaryIO,
        *,
        check: Callable[[ImageManifest], object] | None = None,
        expected: str | None = None,
        latest: bool = False,
        remote: Remote | None = None,
        any_platform: bool = False,
        limits: Limits | None = None,
    ) -> ImageID:
        """Bring the image in the seekable `file` (any compression) in; once this returns it is durable (D1).

        `check` may refuse the manifest by raising. `expected` is the ID it must have. `latest` notes that no
        version was asked for; `remote` is stored with the ID filled in. Images for another host are refused
        unless `any_platform`. A failure leaves nothing.
        """
        with self._shared():
            incoming = blobs.receive(self.paths, file, limits=limits or self.limits())
            try:
                manifest = self._accept(incoming, expected, check, any_platform=any_platform)
                make_directory(self.paths.image_locks)
                lock = files.lock_file(self.paths.image_lock(incoming.image_id), exclusive=True)
                try:
                    blobs.commit(self.paths, incoming)
                    self._note(incoming.image_id, manifest, latest=latest, remote=remote)
                finally:
                    os.close(lock)
            finally:
                os.close(incoming.fd)
            self._imported.add(incoming.image_id)
            blobs.touch(self.paths, incoming.image_id)
            return ImageID(incoming.image_id)

    @staticmethod
    def _accept(
        incoming: Incoming,
        expected: str | None,
        check: Callable[[ImageManifest], object] | None,
        *,
        any_platform: bool,
    ) -> ImageManifest:
        """The manifest of what came in, which is what was asked for."""
        from appc.schema.image import ImageManifest

        if expected is not None and incoming.image_id != expected.lower():
            raise RktError(f"the image has the ID {incoming.image_id[:39]}, not {expected[:39]}")
        manifest = ImageManifest.parse(incoming.manifest)
        if check is not None:
            check(manifest)
        if not any_platform:
            blobs.check_platform(manifest)
        return manifest

    def _note(self, image_id: str, manifest: ImageManifest, *, latest: bool, remote: Remote | None) -> None:
        from rkt.store.index import Row

        index = self.index()
        index.put([Row(image_id, manifest.name, latest)])
        if remote is not None:
            index.put_remote(remote._replace(image_id=image_id))

    def import_layers(
        self,
        image: OciImage,
        origin: Origin,
        reference: str = "",
        *,
        note: Callable[[str], object],
        check: Callable[[ImageManifest], object] | None = None,
        limits: Limits | None = None,
    ) -> ImageID:
        """Make the OCI image, whose blobs are those of `content`, an image of the store, durably (D1).

        `reference` is the whole name by which it was asked for. `note` is told what appc cannot say of it,
        `check` as for `import_aci`. The caller holds `oci.content.InUse` since it began to bring the blobs.
        """
        from rkt.store.oci import importing

        notes: list[str] = []
        limits = limits or self.limits()
        record = importing.record_of(self.paths, image, origin, reference, notes, limits=limits)
        for text in notes:
            note(text)
        with self._shared():
            incoming = blobs.receive_record(self.paths, record.encode(), record.image_manifest.encode())
            try:
                manifest = self._accept(incoming, None, check, any_platform=False)
                make_directory(self.paths.image_locks)
                lock = files.lock_file(self.paths.image_lock(incoming.image_id), exclusive=True)
                try:
                    if not blobs.commit(self.paths, incoming):
                        os.utime(self.paths.blob(incoming.image_id))  # of its name it is the newest again
                    self._note(incoming.image_id, manifest, latest=False, remote=None)
                finally:
                    os.close(lock)
            finally:
                os.close(incoming.fd)
        blobs.touch(self.paths, incoming.image_id)
        return ImageID(incoming.image_id)

    def record(self, image_id: str) -> Record | None:
        """What an image of layers is made of; None for one that is an archive. NoSuchImage."""
        with blobs.open_stored(self.paths, image_id) as file:
            if not blobs.is_record(file.fileno()):
                return None
            from rkt.store.oci import records

            try:
                return records.read(file.fileno())
            except ValueError as error:
                raise RktError(
                    f"image {image_id[:39]}: its record is damaged: {error}",
                    hint=f"remove it with `rkt image rm {image_id[:39]}` and fetch it again",
                ) from None

    def _reference(self, image_id: str) -> str:
        """The name by which an image of layers was asked for, "" if it has none: without reading the rest."""
        from appc import jsonfield

        with blobs.open_stored(self.paths, image_id) as file:
            if not blobs.is_record(file.fileno()):
                return ""
            try:
                found = jsonfield.obj(jsonfield.parse(file.read())).get("reference")
            except ValueError:
                return ""
            return found if isinstance(found, str) else ""

    def find_reference(self, name: str, reference: str) -> ImageID | None:
        """The image called `name` that was last fetched as `reference`."""
        found: list[tuple[float, str]] = []
        for row in self.index().named(name) or [row for row in self._unindexed() if row.name == name]:
            try:
                if self._reference(row.image_id) == reference:
                    found.append((os.stat(self.paths.blob(row.image_id)).st_mtime, row.image_id))
            except (FileNotFoundError, NoSuchImage):
                continue  # removed: the row is stale
        return ImageID(max(found)[1]) if found else None

    def resolve(self, prefix: str) -> ImageID:
        """The image whose ID begins with `prefix`; RktError `ambiguous image ID: …`, or NoSuchImage."""
        return ImageID(blobs.resolve(self.paths, prefix))

    def manifest_bytes(self, image_id: str) -> bytes:
        """The manifest as it is in the archive."""
        return blobs.manifest_bytes(self.paths, image_id)

    def manifest(self, image_id: str) -> ImageManifest:
        """The manifest."""
        from appc.schema.image import ImageManifest

        return ImageManifest.parse(self.manifest_bytes(image_id))

    def open_blob(self, image_id: str) -> BinaryIO:
        """The uncompressed archive, to read; that of an image of layers is made for the purpose."""
        return blobs.open_blob(self.paths, image_id)

    def find(self, name: str, labels: Mapping[str, str] | None = None) -> ImageID | None:
        """The image called `name` that has all of `labels`.

        Of several, without a version in `labels`, one that was fetched as the latest goes before others; then
        the one that was imported last.
        """
        wanted = labels or {}
        found = self._candidates(self.index().named(name), wanted)
        if not found:
            found = self._candidates([row for row in self._unindexed() if row.name == name], wanted)
        if not found:
            return None
        preferred = [c for c in found if c[0]] if "version" not in wanted else []
        return max(preferred or found, key=lambda candidate: candidate[1])[2]

    def _candidates(
        self, rows: Iterable[Row], labels: Mapping[str, str]
    ) -> list[tuple[bool, float, ImageID]]:
        found = []
        for row in rows:
            try:
                imported = os.stat(self.paths.blob(row.image_id)).st_mtime
                if self.manifest(row.image_id).labels.match(labels):
                    found.append((row.latest, imported, ImageID(row.image_id)))
            except (FileNotFoundError, NoSuchImage):
                continue  # removed: the row is stale
        return found

    def _unindexed(self) -> list[Row]:
        """Rows for the archives that the index lacks, after a crash or when it was lost; they go in now."""
        from rkt.store.index import Row

        known = self.index().all()
        rows = []
        for image_id in self.paths.image_ids():
            if image_id in known:
                continue
            try:
                rows.append(Row(image_id, self.manifest(image_id).name, latest=False))
            except (RktError, ValueError, OSError):
                continue  # removed meanwhile, or damaged: fsck will tell
        if rows:
            try:
                self.index().put(rows)
            except (RktError, OSError):
                pass  # a full disk, or a store that we may only read: the answer is the same
        return rows

    def images(self) -> list[ImageInfo]:
        """All images, by the time of import. What cannot be read is left out: see `fsck`."""
        sizes = self._tree_sizes()
        found = []
        for image_id in self.paths.image_ids():
            try:
                manifest = self.manifest(image_id)
                blob = os.stat(self.paths.blob(image_id))
                used = os.stat(self.paths.manifest(image_id)).st_mtime
                size = self._size(image_id, blob.st_size) + sizes.get(image_id, 0)
            except (RktError, ValueError, OSError):
                continue
            version = manifest.labels.get("version") or ""
            imported, used = blob.st_mtime, max(used, blob.st_mtime)
            found.append(ImageInfo(ImageID(image_id), manifest.name, version, imported, used, size))
        return sorted(found, key=lambda image: (image.import_time, image.id))

    def _size(self, image_id: str, size: int) -> int:
        """Bytes of an archive, or of all layers: those that images share count for each."""
        record = self.record(image_id)
        return size if record is None else record.size

    def _tree_sizes(self) -> dict[str, int]:
        from rkt.store import trees

        sizes: dict[str, int] = {}
        for name in self.paths.tree_ids():
            image_id = trees.image_of(self.paths, name)
            sizes[image_id] = max(sizes.get(image_id, 0), trees.size(self.paths, name))
        return sizes

    def remove(self, image_id: str) -> None:
        """Remove an image; pods that use it go on (they have its tree and a copy of its manifest).

        Files go first, so that it works on a full disk; the index may then stay behind, and nobody minds.
        """
        blobs.require(self.paths, image_id)
        with self._shared():
            lock = self._try_lock(image_id)
            try:
                blobs.remove(self.paths, image_id)
                try:
                    self.index().forget(image_id)
                except (RktError, OSError):
                    pass  # a stale row is no harm
                try:
                    os.unlink(self.paths.image_lock(image_id))
                except OSError:
                    pass
            finally:
                if lock >= 0:
                    os.close(lock)

    def _try_lock(self, image_id: str) -> int:
        """The image's lock; -1 on a disk so full that the lock's file cannot be made."""
        try:
            make_directory(self.paths.image_locks)
            return files.lock_file(self.paths.image_lock(image_id), exclusive=True)
        except OSError as error:
            import errno

            if error.errno in {errno.ENOSPC, errno.EDQUOT}:
                return -1
            raise

    # --- trees

    def steps(self, image_id: str) -> tuple[Step, ...]:
        """How the image is rendered. NoSuchImage for a missing dependency, AppcError for a circle of them."""
        from appc.render import flatten

        seen: dict[str, Image] = {}

        def look_up(wanted: ImageID) -> Image:
            if wanted not in seen:
                seen[wanted] = self._image(wanted)
            return seen[wanted]

        return flatten(ImageID(image_id), look_up)

    def _image(self, image_id: ImageID) -> Image:
        from appc.render import Image

        manifest = self.manifest(image_id)
        needs = tuple(self.dependency(one) for one in manifest.dependencies)
        return Image(image_id, needs, manifest.path_whitelist)

    def dependency(self, wanted: Dependency) -> ImageID:
        """The image that a dependency means. NoSuchImage if the store lacks it."""
        if wanted.image_id is not None:
            found: ImageID | None = ImageID(wanted.image_id.lower())
            if found is not None and not os.path.exists(self.paths.blob(found)):
                found = None
        else:
            found = self.find(wanted.image_name, wanted.labels.as_dict())
        if found is None:
            raise NoSuchImage(
                f"{wanted.image_name}: a dependency that is not in the store",
                hint="fetch the image again: that fetches what it depends on too",
            )
        return found

    def tree(self, image_id: str, *, render: bool = True, flat: bool = False) -> Tree:
        """The rendered tree of the image. A missing one is made, or NoSuchImage without `render`.

        That of an image of layers is a stack of them if an overlay shows the image so; with `flat` it is one
        directory in any case.
        """
        from rkt.store import trees

        if flat and (record := self.record(image_id)) is not None:
            return self._layered_tree(image_id, record, render=render, flat=True)
        if not self.manifest(image_id).dependencies:
            # What most images are: made of themselves alone. Then a warm start needs no rendering code.
            found = trees.find(self.paths, trees.tree_name((image_id,)))
            if found is not None:
                blobs.touch(self.paths, image_id)
                return found
            if (record := self.record(image_id)) is not None:
                return self._layered_tree(image_id, record, render=render, flat=False)
        steps = self.steps(image_id)
        found = trees.find(self.paths, trees.tree_id(steps))
        if found is None:
            if not render:
                raise NoSuchImage(f"image {image_id[:39]} has not been rendered")
            with self._shared():
                manifest = self.manifest_bytes(image_id)
                found = trees.render(
                    self.paths, steps, manifest, trusted=self._imported, limits=self.limits()
                )
        for used in {str(step.image_id) for step in steps}:
            blobs.touch(self.paths, used)
        return found

    def _layered_tree(self, image_id: str, record: Record, *, render: bool, flat: bool) -> Tree:
        from rkt.store.oci import trees

        found = trees.find(self.paths, image_id, flat=flat)
        if found is None:
            if not render:
                raise NoSuchImage(f"image {image_id[:39]} has not been rendered")
            with self._shared():
                found = trees.make(self.paths, image_id, record, flat=flat, limits=self.limits())
        blobs.touch(self.paths, image_id)
        return found

    def verify(self, image_id: str) -> str:
        """Compare the rendered tree with the hash it had when it was made; that hash. RktError if it differs.

        An image without a tree is rendered first, which checks the archive. A layer is compared with what it
        is unpacked from; the answer for a stack of layers is its name.
        """
        from rkt.store import trees

        tree = self.tree(image_id)
        if len(tree.lowers) > 1 and (record := self.record(image_id)) is not None:
            self._verify_layers(record)
            return tree.id
        expected = trees.expected_hash(self.paths, tree.id)
        found = trees.measure(tree.rootfs_path).hash
        if found != expected:
            raise RktError(
                f"wrong tree hash: {found}, expected: {expected}",
                hint="the tree was changed since it was rendered; `rkt image fsck --repair` removes it",
            )
        return found

    def _verify_layers(self, record: Record) -> None:
        from rkt.store.oci import content, layers

        with content.InUse(self.paths):
            for layer in record.layers:
                problem = layers.compare(self.paths, layer, content.blobs(self.paths), self.limits())
                if problem is not None:
                    raise RktError(
                        f"layer {layer.diff_id}: {problem}",
                        hint="it was changed since it was unpacked; `rkt image fsck --repair` removes it",
                    )

    # --- the index, and where images came from

    def remote(self, aci_url: str) -> Remote | None:
        """What is known about the URL of an image; None also when that image is gone."""
        known = self.index().remote(aci_url)
        if known is not None and not os.path.exists(self.paths.blob(known.image_id)):
            return None
        return known

    def put_remote(self, remote: Remote) -> None:
        """Store what is known about a URL."""
        with self._shared():
            self.index().put_remote(remote)

    def index(self) -> Index:
        """The index, open until `close`."""
        if self._index is None:
            from rkt.store.index import Index

            self._index = Index(self.paths.database)
        return self._index

    def _shared(self) -> _Shared:
        """Take part in the lock that everybody who writes shares while they do; `fsck` holds it alone."""
        return _Shared(self.paths.cas)

    @property
    def temporary_path(self) -> str:
        """The directory for downloads, made if it is missing."""
        make_directory(self.paths.temporary)
        return self.paths.temporary
