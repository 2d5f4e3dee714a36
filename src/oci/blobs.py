"""Where the content of images is kept: files named by their digests, complete or not there at all.

`Blobs` is what everything else in this package needs of a store; `BlobDirectory` is the one that an OCI
layout has (``sha256/DIGITS``), and `ArchiveBlobs` reads those that lie in a tar archive. What comes in is
hashed on the way; what comes out of a place that we did not fill ourselves is hashed before it is used.
"""

from __future__ import annotations

import errno
import os

from linux import files
from oci.errors import DigestMismatch, InvalidImage, NoSuchImage
from oci.types.descriptor import Descriptor
from oci.types.digest import Digest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import BinaryIO, Protocol, Self

    from oci.members import Members
    from oci.types.digest import Hash

    class Blobs(Protocol):
        """Content by digest. The size in a descriptor is as binding as its digest."""

        def has(self, descriptor: Descriptor) -> bool: ...

        def open(self, descriptor: Descriptor) -> BinaryIO:
            """The verified content, from its start, with a descriptor of the system. NoSuchImage."""
            ...

    class WritableBlobs(Blobs, Protocol):
        """A place that takes content."""

        def receive(self, descriptor: Descriptor) -> Receiving: ...

    class Receiving(Protocol):
        """Content on its way in; `complete` says that it is there already, `have` how much is from before."""

        complete: bool
        have: int

        def __enter__(self) -> Self: ...
        def __exit__(
            self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
        ) -> None: ...
        def write(self, data: bytes) -> None: ...
        def restart(self) -> None: ...
        def finish(self) -> None: ...


_PIECE = 1 << 20
#: Written bytes after which the disk is told to begin.
_WRITE_BEHIND = 8 << 20


def read(blobs: Blobs, descriptor: Descriptor, limit: int, what: str) -> bytes:
    """The whole of a small blob, `what` for messages. InvalidImage for one above `limit` bytes."""
    if descriptor.size > limit:
        raise InvalidImage(f"{what}: {descriptor.size} bytes are more than the limit of {limit}")
    with blobs.open(descriptor) as file:
        return file.read(limit + 1)


def put(blobs: WritableBlobs, media_type: str, data: bytes) -> Descriptor:
    """Store a small blob; its descriptor."""
    descriptor = Descriptor.of(media_type, data)
    with blobs.receive(descriptor) as incoming:
        if not incoming.complete:
            incoming.restart()
            incoming.write(data)
            incoming.finish()
    return descriptor


def copy(source: Blobs, descriptor: Descriptor, target: WritableBlobs) -> None:
    """Have the blob in `target` as well."""
    if target.has(descriptor):
        return
    with source.open(descriptor) as file, target.receive(descriptor) as incoming:
        if incoming.complete:
            return
        incoming.restart()
        while data := file.read(_PIECE):
            incoming.write(data)
        incoming.finish()


def verify(file: BinaryIO, descriptor: Descriptor) -> None:
    """DigestMismatch unless the whole of `file`, which is left at its start, is what `descriptor` says."""
    size = os.fstat(file.fileno()).st_size
    if size != descriptor.size:
        raise DigestMismatch(str(descriptor.digest), f"{descriptor.size} bytes", f"{size} bytes")
    hasher = descriptor.digest.hasher()
    while data := file.read(_PIECE):
        hasher.update(data)
    _compare(descriptor, hasher)
    file.seek(0)


def _compare(descriptor: Descriptor, hasher: Hash) -> None:
    found = f"{descriptor.digest.algorithm}:{hasher.hexdigest()}"
    if found != descriptor.digest:
        raise DigestMismatch("content", str(descriptor.digest), found)


class BlobDirectory:
    """The directory `path` with ``sha256/DIGITS`` below it, made when something is to be written.

    `partial` is where incomplete content waits for its rest, on the same filesystem. With `trusted` content
    is not hashed again when it is opened: only this class has written there. Without `durable` nothing waits
    for the disk, for a directory that is removed in the end.
    """

    def __init__(
        self, path: str, *, partial: str | None = None, trusted: bool = False, durable: bool = True
    ) -> None:
        self.path = path
        self._partial = partial or f"{path}/.partial"
        self._trusted = trusted
        self._durable = durable

    def place(self, digest: Digest) -> str:
        """Where the blob is, or would be."""
        return f"{self.path}/{digest.algorithm}/{digest.hex}"

    def has(self, descriptor: Descriptor) -> bool:
        """Whether there is a file of the right name and size."""
        try:
            found = os.stat(self.place(descriptor.digest), follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            return False
        return found.st_size == descriptor.size

    def open(self, descriptor: Descriptor) -> BinaryIO:
        """The blob. A layout may be a stranger's: links are not followed, and a FIFO does not hold us."""
        place = self.place(descriptor.digest)
        try:
            fd = os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            if error.errno in {errno.ENOENT, errno.ENOTDIR}:
                raise NoSuchImage(f"{descriptor.digest}: is not there") from None
            if error.errno == errno.ELOOP:
                raise InvalidImage(f"{place}: is a link, not content") from None
            raise
        file = os.fdopen(fd, "rb")
        try:
            if not _is_regular(fd):
                raise InvalidImage(f"{place}: is no file")
            if not self._trusted:
                verify(file, descriptor)
        except BaseException:
            file.close()
            raise
        return file

    def create(self) -> New:
        """``with create() as new``: content whose digest is known only when it is complete."""
        os.makedirs(f"{self.path}/sha256", exist_ok=True)
        return New(self.path, durable=self._durable)

    def receive(self, descriptor: Descriptor) -> Incoming:
        """``with receive(descriptor) as incoming``: what was not finished is gone on with the next time."""
        place = self.place(descriptor.digest)
        os.makedirs(os.path.dirname(place), exist_ok=True)
        while True:
            os.makedirs(self._partial, exist_ok=True)
            try:
                return Incoming(self, descriptor, place, self._partial, durable=self._durable)
            except FileNotFoundError:
                continue  # the one before us was the last, and took the directory with it


class Incoming:
    """One blob on its way into a BlobDirectory, alone: whoever comes second waits, and finds it complete."""

    def __init__(
        self, blobs: BlobDirectory, descriptor: Descriptor, place: str, partial: str, *, durable: bool
    ) -> None:
        self._descriptor = descriptor
        self._place = place
        self._durable = durable
        self._directory = partial
        self._path = f"{partial}/{descriptor.digest.algorithm}-{descriptor.digest.hex}"
        self._hash = descriptor.digest.hasher()
        self._fd = files.lock_file(self._path, exclusive=True, mode=0o600)
        self._finished = False
        self.have = 0
        self._behind = 0
        try:
            self.complete = blobs.has(descriptor)
            if not self.complete:
                self._count()
        except BaseException:
            os.close(self._fd)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            useless = self.complete or not self.have or isinstance(value, DigestMismatch)
            if not self._finished and (useless or _is_full(value)):
                os.unlink(self._path)
            self._remove_directory()
        finally:
            os.close(self._fd)

    def _remove_directory(self) -> None:
        """Leave no empty directory of ours in a layout."""
        try:
            os.rmdir(self._directory)
        except OSError:
            return

    def _count(self) -> None:
        """Hash what is there from before; more than there can be is worth nothing."""
        size = os.fstat(self._fd).st_size
        if size > self._descriptor.size:
            os.ftruncate(self._fd, 0)
            size = 0
        while self.have < size and (data := os.pread(self._fd, _PIECE, self.have)):
            self._hash.update(data)
            self.have += len(data)

    def restart(self) -> None:
        """Forget what is there."""
        os.ftruncate(self._fd, 0)
        self._hash = self._descriptor.digest.hasher()
        self.have = self._behind = 0

    def write(self, data: bytes) -> None:
        """The next bytes. DigestMismatch as soon as there are too many."""
        if self.have + len(data) > self._descriptor.size:
            expected = f"{self._descriptor.size} bytes"
            raise DigestMismatch(str(self._descriptor.digest), expected, "longer")
        view = memoryview(data)
        self._hash.update(view)
        while view:
            count = os.pwrite(self._fd, view, self.have)
            view = view[count:]
            self.have += count
        if self._durable and self.have - self._behind >= _WRITE_BEHIND:
            files.start_writing(self._fd, self._behind, self.have - self._behind)
            self._behind = self.have

    def finish(self) -> None:
        """Check size and digest, and give the content its name: from then on it is there, and stays."""
        if self.have != self._descriptor.size:
            expected = f"{self._descriptor.size} bytes"
            raise DigestMismatch(str(self._descriptor.digest), expected, f"{self.have} bytes")
        _compare(self._descriptor, self._hash)
        os.fchmod(self._fd, 0o644)
        if self._durable:
            os.fsync(self._fd)
        os.rename(self._path, self._place)
        self._finished = True
        if self._durable:
            files.sync_directory(os.path.dirname(self._place))


class New:
    """Content that is being made. `finish` gives it its name; until then it has none, and leaves nothing."""

    def __init__(self, path: str, *, durable: bool) -> None:
        self._path = path
        self._durable = durable
        self._file = os.fdopen(files.anonymous_file(path, 0o644), "wb")
        self._hash = Digest.hasher(Digest.of(b""))
        self._size = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def write(self, data: bytes) -> None:
        """The next bytes."""
        self._hash.update(data)
        self._size += len(data)
        self._file.write(data)

    def finish(self, media_type: str) -> Descriptor:
        """The content is complete; its descriptor."""
        self._file.flush()
        digest = Digest(f"sha256:{self._hash.hexdigest()}")
        try:
            files.link_into_place(self._file.fileno(), f"{self._path}/sha256/{digest.hex}", mode=0o644)
        except FileExistsError:
            pass  # the same content was there
        return Descriptor(media_type, digest, self._size)


def _is_regular(fd: int) -> bool:
    import stat

    return stat.S_ISREG(os.fstat(fd).st_mode)


def _is_full(error: BaseException | None) -> bool:
    """A full disk must not need a clean-up by hand (rule D9)."""
    return isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}


class ArchiveBlobs:
    """The blobs of an archive's members; `names` says which member holds which digest."""

    def __init__(self, members: Members, names: dict[Digest, str] | None = None) -> None:
        self._members = members
        self._names = names or {}

    def _name(self, digest: Digest) -> str:
        return self._names.get(digest) or f"blobs/{digest.algorithm}/{digest.hex}"

    def has(self, descriptor: Descriptor) -> bool:
        """Whether there is a member of the right name and size."""
        return self._members.size(self._name(descriptor.digest)) == descriptor.size

    def open(self, descriptor: Descriptor) -> BinaryIO:
        """A copy without a name, in TMPDIR: what reads layers wants a file of its own."""
        name = self._name(descriptor.digest)
        if self._members.size(name) is None:
            raise NoSuchImage(f"{self._members.shown}: {descriptor.digest} is not in the archive")
        file = self._members.extracted(name)
        try:
            verify(file, descriptor)
        except BaseException:
            file.close()
            raise
        return file
