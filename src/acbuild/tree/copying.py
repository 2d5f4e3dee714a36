"""Copying files of the host into the image, with all that they are: owners, times, attributes, hard links.

Devices, fifos and links are made again, never opened. Directories that are there already are merged into,
and keep their own properties; a link to a directory of the image stands for that directory.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat

from acbuild import rootless
from acbuild.errors import AcbuildError
from acbuild.tree.places import Places, cleaned
from appc.aci import tar
from appc.aci.tree import Walk
from linux.files import write_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from appc.aci.tar import Entry

    Owner = Callable[[int, int], tuple[int, int]]

_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_PIECE = 1 << 20
_SPECIAL = {
    tar.FIFO: stat.S_IFIFO,
    tar.CHARACTER_DEVICE: stat.S_IFCHR,
    tar.BLOCK_DEVICE: stat.S_IFBLK,
}


def copy(places: Places, source: str, target: str, *, owner: Owner | None = None) -> Copied:
    """Copy the file or directory `source` to the path `target` of the image.

    Parents are made (0755). A file takes the place of a file or link; what is a directory there and none
    here, or the other way round, is an AcbuildError.
    """
    copier = _Copier(places, owner)
    path = cleaned(target)
    is_directory = stat.S_ISDIR(os.lstat(source).st_mode)  # what a link with a slash behind it leads to, too
    source = source.rstrip("/") or "/"
    if is_directory:
        return copier.tree(source, path)
    if path == ".":
        raise AcbuildError(f"{source}: is no directory, and cannot take the place of the image's root")
    return copier.single(source, path)


def copy_root(places: Places, source: str) -> Copied:
    """Copy the directory `source` to be the root filesystem itself, its own properties included."""
    return _Copier(places, None).tree(source.rstrip("/") or "/", ".", with_root=True)


def copy_to_directory(
    places: Places, sources: Sequence[str], target: str, *, owner: Owner | None = None
) -> list[Copied]:
    """Copy each of `sources` under its own name into the directory `target`, which is made if missing."""
    path = cleaned(target)
    if places.kind(path) and not places.is_directory(path):
        raise AcbuildError(f'target "{target}" is not a directory')
    os.close(places.made(path))
    copied = []
    for source in sources:
        name = os.path.basename(source.rstrip("/"))
        if name in {"", ".", ".."}:  # the content of it: there is no name to give it
            copied.append(copy(places, source, target, owner=owner))
        else:
            copied.append(copy(places, source, f"{path}/{name}", owner=owner))
    return copied


class Copied:
    """What was copied: how many sockets were left out, and the digest of the content.

    `algorithm` is that of an in-toto digest set: ``sha256`` for a file, ``dirHash`` for a directory: the
    SHA-256 over the sorted lines ``SHA-256  NAME`` of its files.
    """

    __slots__ = ("algorithm", "digest", "sockets", "source", "target")

    def __init__(self, source: str, target: str, algorithm: str, digest: str, sockets: int) -> None:
        self.source = source
        self.target = target
        self.algorithm = algorithm
        self.digest = digest
        self.sockets = sockets


class _Copier:
    """One source on its way into the image."""

    def __init__(self, places: Places, owner: Owner | None) -> None:
        self._places = places
        self._owner = owner or rootless.owner()
        self._chown = os.geteuid() == 0
        if owner is not None and not self._chown:
            raise AcbuildError(
                "--chown needs root", hint="what you build as a user belongs to root when written"
            )
        self._digests: list[tuple[bytes, str]] = []

    def single(self, source: str, path: str) -> Copied:
        above, _, name = path.rpartition("/")
        if self._places.kind(path) == stat.S_IFDIR:
            raise AcbuildError(f"/{path}: is a directory, and {source} is none")
        directory, base = os.path.split(source)
        here = os.open(directory or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            walk = Walk(here, b"", owner=self._owner)
            parent = self._places.made(above or ".")
            try:
                self._places.changing(parent, above or ".")
                for entry, fd in walk.one(os.fsencode(base)):
                    self._put(parent, os.fsencode(name), entry, fd, path)
            finally:
                os.close(parent)
        finally:
            os.close(here)
        digest = self._digests[0][1] if self._digests else hashlib.sha256().hexdigest()
        return Copied(source, path, "sha256", digest, walk.sockets)

    def tree(self, source: str, path: str, *, with_root: bool = False) -> Copied:
        """The directory: first what is in it, then its own properties and those of directories in it."""
        here = os.open(source, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        made: list[tuple[str, Entry]] = []
        links: dict[bytes, str] = {}
        parent, at = -1, ""
        try:
            # `copy . /app`: the context lies in what is copied, and would go into itself without end
            walk = Walk(here, b"", owner=self._owner, without=self._places.context)
            for entry, fd in walk:
                if entry.name == b".":
                    if self._directory(path) or with_root:
                        made.append((path, entry))
                    continue
                name = os.fsdecode(entry.name)
                whole = name if path == "." else f"{path}/{name}"
                if entry.kind is tar.DIRECTORY:
                    if self._directory(whole):
                        made.append((whole, entry))
                    continue
                above, _, base = whole.rpartition("/")
                if parent < 0 or above != at:
                    if parent >= 0:
                        os.close(parent)
                        parent = -1
                    parent, at = self._places.directory(above or "."), above
                    self._places.changing(parent, above or ".")
                if entry.kind is tar.HARD_LINK:
                    self._link(parent, base, links[entry.target], whole)
                else:
                    links[entry.name] = whole
                    self._put(parent, os.fsencode(base), entry, fd, whole)
            for whole, entry in reversed(made):
                self._finish(whole, entry)
                self._places.forget(whole)
        finally:
            if parent >= 0:
                os.close(parent)
            os.close(here)
        return Copied(source, path, "dirHash", _hash_of(self._digests), walk.sockets)

    def _directory(self, path: str) -> bool:
        """Have a directory at `path`; True when it was made, and so has its properties still to get."""
        if self._places.is_directory(path):
            return path in self._places.unfinished
        if self._places.kind(path):
            raise AcbuildError(f"/{path}: is no directory, but is to become one", hint="remove it first")
        os.close(self._places.made(path))
        return True

    def _finish(self, path: str, entry: Entry) -> None:
        fd = self._places.directory(path)
        try:
            self._set_properties(fd, entry)
        finally:
            os.close(fd)

    def _put(self, parent: int, name: bytes, entry: Entry, content: int, path: str) -> None:
        self._clear(parent, name, path)
        if entry.kind is tar.FILE:
            fd = os.open(name, _CREATE, 0o600, dir_fd=parent)
            try:
                self._fill(fd, content, entry)
                self._set_properties(fd, entry)
            finally:
                os.close(fd)
            return
        if entry.kind is tar.SYMLINK:
            os.symlink(entry.target, name, dir_fd=parent)
        else:
            device = os.makedev(*entry.device)
            os.mknod(name, _SPECIAL[entry.kind] | entry.mode & 0o777, device, dir_fd=parent)
        if self._chown:
            os.chown(name, entry.uid, entry.gid, dir_fd=parent, follow_symlinks=False)
        if entry.kind is not tar.SYMLINK:
            os.chmod(b"/proc/self/fd/%d/%s" % (parent, name), entry.mode)  # made just now: no link
        os.utime(name, ns=(entry.mtime, entry.mtime), dir_fd=parent, follow_symlinks=False)

    def _clear(self, parent: int, name: bytes, path: str) -> None:
        try:
            os.unlink(name, dir_fd=parent)
        except FileNotFoundError:
            return
        except OSError as failed:
            if failed.errno not in {errno.EISDIR, errno.EPERM}:
                raise
            raise AcbuildError(
                f"/{path}: is a directory, but is to become a file", hint="remove it first"
            ) from None

    def _link(self, parent: int, name: str, first: str, path: str) -> None:
        self._clear(parent, os.fsencode(name), path)
        above, _, base = first.rpartition("/")
        source = self._places.directory(above or ".")
        try:
            os.link(base, name, src_dir_fd=source, dst_dir_fd=parent, follow_symlinks=False)
        finally:
            os.close(source)

    def _fill(self, fd: int, content: int, entry: Entry) -> None:
        digest = hashlib.sha256()
        size = 0
        while data := os.read(content, _PIECE):
            digest.update(data)
            size += len(data)
            write_all(fd, data)
        if size != entry.size:
            raise AcbuildError(f"{os.fsdecode(entry.name)}: changed while it was copied")
        self._digests.append((entry.name, digest.hexdigest()))

    def _set_properties(self, fd: int, entry: Entry) -> None:
        """Owner, then mode and attributes (a change of owner takes both away), then times."""
        if self._chown:
            os.fchown(fd, entry.uid, entry.gid)
        os.fchmod(fd, entry.mode)
        for key, value in entry.xattrs.items():
            try:
                os.setxattr(fd, key, value)
            except OSError as failed:
                if failed.errno not in {errno.ENOTSUP, errno.EPERM}:
                    raise
                raise AcbuildError(
                    f"{os.fsdecode(entry.name)}: the attribute {os.fsdecode(key)} cannot be set here "
                    f"({failed.strerror})"
                ) from None
        os.utime(fd, ns=(entry.mtime, entry.mtime))


def _hash_of(digests: list[tuple[bytes, str]]) -> str:
    lines = b"".join(digest.encode() + b"  " + name + b"\n" for name, digest in sorted(digests))
    return hashlib.sha256(lines).hexdigest()
