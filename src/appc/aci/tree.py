"""A directory tree as archive entries, in a fixed order; nothing but files and directories is ever opened.

The tree may change or be hostile while it is read (the root of a pod that is exported): everything goes by
directory fds, links are never followed, and what was a file a moment ago is looked at again once it is open.
"""

from __future__ import annotations

import os
import stat

from appc.aci import tar
from appc.aci.errors import shown
from appc.aci.limits import DEFAULT
from appc.aci.tar import Entry
from appc.errors import AppcError
from linux.named_tuple import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_KINDS = {
    stat.S_IFREG: tar.FILE,
    stat.S_IFDIR: tar.DIRECTORY,
    stat.S_IFLNK: tar.SYMLINK,
    stat.S_IFCHR: tar.CHARACTER_DEVICE,
    stat.S_IFBLK: tar.BLOCK_DEVICE,
    stat.S_IFIFO: tar.FIFO,
}
#: Extended attributes that belong to a file rather than to the host it lies on (as SELinux labels do) or to
#: the overlay it was written through.
_ATTRIBUTES = (b"user.", b"security.capability", b"system.posix_acl_")
_NOT_ATTRIBUTES = (b"user.overlay.",)
_NOFOLLOW = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


class Found(NamedTuple):
    """An entry, and for a file the fd to read its content from; the walk closes it."""

    entry: Entry
    fd: int


class Walk:
    """Iterates over the tree under the directory fd `root`, each directory before what is in it.

    Names are sorted as bytes; `prefix` goes in front of them (b"" leaves them as they are). Owners go through
    `owner(uid, gid)`; times later than `latest` (seconds) become `latest`, whole seconds in any case, as the
    reference writes them. Sockets are left out and counted in `sockets`, as is the directory whose device and
    inode numbers are `without` (not counted). The second and later names of an inode are hard links.
    AppcError for a tree so deep that nobody reads its archive, which would be huge: a name has all above it.
    """

    def __init__(
        self,
        root: int,
        prefix: bytes,
        *,
        owner: Callable[[int, int], tuple[int, int]] | None = None,
        latest: int | None = None,
        without: tuple[int, int] | None = None,
    ) -> None:
        self._root = root
        self._without = without
        self._prefix = prefix
        self._owner = owner
        self._latest = latest
        self._seen: dict[tuple[int, int], bytes] = {}
        self.sockets = 0

    def __iter__(self) -> Iterator[Found]:
        status = os.fstat(self._root)
        name = self._prefix or b"."
        yield Found(self._entry(name, tar.DIRECTORY, status, _attributes(self._root)), -1)
        yield from self._below(self._root, self._prefix)

    def _below(self, directory: int, prefix: bytes) -> Iterator[Found]:
        """Depth first with one fd per level and no recursion: a tree may be deeper than Python's stack."""
        stack = [(os.dup(directory), prefix, self._names(directory))]
        try:
            while stack:
                at, path, names = stack[-1]
                if not names:
                    os.close(at)
                    stack.pop()
                    continue
                name = names.pop()
                full = path + b"/" + name if path else name
                if len(full) > DEFAULT.name:
                    raise AppcError(
                        f"{shown(full)}: a name of more than {DEFAULT.name} bytes",
                        hint="no archive with one can be read; remove what lies so deep",
                    )
                status = os.lstat(name, dir_fd=at)
                kind = _KINDS.get(stat.S_IFMT(status.st_mode))
                if kind is None:
                    self.sockets += 1
                elif (status.st_dev, status.st_ino) == self._without:
                    continue
                elif kind is tar.DIRECTORY:
                    fd = self._open(name, at, full, os.O_DIRECTORY)
                    stack.append((fd, full, self._names(fd)))
                    yield Found(self._entry(full, kind, os.fstat(fd), _attributes(fd)), -1)
                else:
                    yield from self._leaf(name, at, full, kind, status)
        finally:
            for fd, _, _ in stack:
                os.close(fd)

    def one(self, name: bytes) -> Iterator[Found]:
        """The entry `name` of the root alone, which is no directory. Nothing for a socket."""
        status = os.lstat(name, dir_fd=self._root)
        kind = _KINDS.get(stat.S_IFMT(status.st_mode))
        full = self._prefix + b"/" + name if self._prefix else name
        if kind is None:
            self.sockets += 1
        else:
            yield from self._leaf(name, self._root, full, kind, status)

    def _leaf(
        self, name: bytes, directory: int, full: bytes, kind: str, status: os.stat_result
    ) -> Iterator[Found]:
        if (first := self._first_name(status, full)) is not None:
            yield Found(self._link(full, status, first), -1)
        elif kind is tar.FILE:
            yield from self._file(name, directory, full)
        else:
            yield Found(self._special(name, directory, full, kind, status), -1)

    @staticmethod
    def _names(directory: int) -> list[bytes]:
        """The names in `directory`, the last one first. (os.listdir of an fd gives text.)"""
        return sorted(map(os.fsencode, os.listdir(directory)), reverse=True)

    @staticmethod
    def _open(name: bytes, directory: int, full: bytes, flags: int = 0) -> int:
        try:
            return os.open(name, _NOFOLLOW | flags, dir_fd=directory)
        except OSError as error:
            error.filename = shown(full)
            raise

    def _file(self, name: bytes, directory: int, full: bytes) -> Iterator[Found]:
        fd = self._open(name, directory, full)
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                raise AppcError(f"{shown(full)}: was replaced while it was read")
            yield Found(self._entry(full, tar.FILE, status, _attributes(fd)), fd)
        finally:
            os.close(fd)

    def _special(self, name: bytes, directory: int, full: bytes, kind: str, status: os.stat_result) -> Entry:
        entry = self._entry(full, kind, status, _attributes_of_name(directory, name))
        if kind is tar.SYMLINK:
            return entry._replace(target=os.readlink(name, dir_fd=directory), mode=0o777)
        if kind is tar.FIFO:
            return entry
        return entry._replace(device=(os.major(status.st_rdev), os.minor(status.st_rdev)))

    def _first_name(self, status: os.stat_result, full: bytes) -> bytes | None:
        """The name under which the inode went into the archive already."""
        if status.st_nlink < 2:
            return None
        inode = status.st_dev, status.st_ino  # inodes of two filesystems may share a number
        if inode in self._seen:
            return self._seen[inode]
        self._seen[inode] = full
        return None

    def _link(self, full: bytes, status: os.stat_result, first: bytes) -> Entry:
        return self._entry(full, tar.HARD_LINK, status, {})._replace(target=first, size=0)

    def _entry(self, name: bytes, kind: str, status: os.stat_result, xattrs: Mapping[bytes, bytes]) -> Entry:
        seconds = status.st_mtime_ns // 1_000_000_000
        if self._latest is not None and seconds > self._latest:
            seconds = self._latest
        uid, gid = status.st_uid, status.st_gid
        if self._owner is not None:
            uid, gid = self._owner(uid, gid)
        size = status.st_size if kind is tar.FILE else 0
        mode = stat.S_IMODE(status.st_mode)
        return Entry(name, kind, mode, uid, gid, size, seconds * 1_000_000_000, b"", (0, 0), xattrs)


def _attributes(fd: int) -> dict[bytes, bytes]:
    try:
        names = os.listxattr(fd)
    except OSError:
        return {}  # a filesystem without extended attributes
    return {n: os.getxattr(fd, n) for n in map(os.fsencode, names) if _is_kept(n)} if names else {}


def _attributes_of_name(directory: int, name: bytes) -> dict[bytes, bytes]:
    """Those of a link, device or fifo, which are not to be opened; there is no call that takes a dirfd."""
    path = b"/proc/self/fd/%d/%s" % (directory, name)
    try:
        names = os.listxattr(path, follow_symlinks=False)
    except OSError:
        return {}
    return {n: os.getxattr(path, n, follow_symlinks=False) for n in map(os.fsencode, names) if _is_kept(n)}


def _is_kept(name: bytes) -> bool:
    return name.startswith(_ATTRIBUTES) and not name.startswith(_NOT_ATTRIBUTES)
