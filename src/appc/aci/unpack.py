"""Entries become files below one directory, and nowhere else (rule R2).

Every parent is resolved again for every entry, beneath the root, without links, magic links or mounts; what
is created is created exclusively; what is in the way is removed first; owners, modes, times and attributes
go on through the fd of the very file that was made. Directories get theirs at the very end, deepest first.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat

from appc.aci import tar
from appc.aci.errors import InvalidArchive, shown
from appc.errors import AppcError
from linux.files import remove_below, write_all
from linux.paths import Root

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from appc.aci.tar import Entry

_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_DIRECTORY = os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_RESTING = os.O_PATH | os.O_DIRECTORY
#: What a rendered tree keeps. overlayfs takes orders from attributes of its own, on any layer; security
#: labels and trusted attributes are the host's business.
_ATTRIBUTES = (b"user.", b"security.capability", b"system.posix_acl_access", b"system.posix_acl_default")
_NOT_ATTRIBUTES = (b"user.overlay.",)
_SET_ID = stat.S_ISUID | stat.S_ISGID
_UNSUPPORTED = {errno.ENOTSUP, errno.EPERM, errno.ENOSPC, errno.E2BIG, errno.ERANGE, errno.EINVAL}


class Unpacker:
    """Writes the entries of one image, or of several on top of each other, below the directory fd `root`.

    `root` is borrowed. With `owners` off (for who is not root) everything belongs to the caller, and
    setuid and setgid bits are left out, since they would name the wrong owner. Device nodes are never made
    (rule R5). What was left out is counted in `devices` and `attributes`. `digests`, if given, gets the
    SHA-512 of every file by inode number.
    """

    def __init__(self, root: int, *, owners: bool, digests: dict[int, bytes] | None = None) -> None:
        self._root = Root(root)
        self._fd = root
        self._owners = owners
        #: Directories to finish: name to entry and the time (a counter) when it was seen.
        self._directories: dict[bytes, tuple[Entry, int]] = {}
        self._removed: dict[bytes, int] = {}
        self._clock = 0
        self._digests = digests
        self.devices = 0
        self.attributes = 0

    def add(self, entry: Entry, content: Iterable[memoryview] = ()) -> None:
        """Put the entry in place, over whatever is there. Names in it are relative to the root."""
        self._clock += 1
        try:
            if entry.name == b".":
                self._directories[b"."] = entry, self._clock
                return
            directory, _, name = entry.name.rpartition(b"/")
            parent = self._parent(directory)
            try:
                self._make(parent, name, entry, content)
            finally:
                os.close(parent)
        except OSError as failed:
            failed.filename = shown(entry.name)
            failed.filename2 = None
            raise

    def remove(self, name: bytes) -> None:
        """Remove what is at `name` (below the root), with all below it. Nothing there is no error."""
        self._clock += 1
        directory, _, base = name.rpartition(b"/")
        try:
            parent = self._root.open_beneath(os.fsdecode(directory) or ".", _RESTING)
        except (FileNotFoundError, NotADirectoryError):
            return
        try:
            self._clear(parent, base, name)
        finally:
            os.close(parent)

    def finish(self) -> None:
        """Give directories their owners, modes, attributes and times; an unmentioned root is 0755."""
        if b"." not in self._directories:
            os.fchmod(self._fd, 0o755)
        for name in sorted(self._directories, reverse=True):
            entry, when = self._directories[name]
            if self._is_gone(name, when):
                continue
            try:
                fd = self._root.open_beneath(os.fsdecode(name), os.O_RDONLY | _DIRECTORY)
            except OSError as failed:
                if failed.errno in {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}:
                    continue  # a later image put something else there
                raise
            try:
                self._set_properties(fd, entry)
            finally:
                os.close(fd)

    def _is_gone(self, name: bytes, when: int) -> bool:
        """Whether the directory seen at `when`, or one above it, was removed later; it may be there again."""
        while name:
            if self._removed.get(name, 0) > when:
                return True
            name = name.rpartition(b"/")[0]
        return False

    # --- parents

    def _parent(self, directory: bytes) -> int:
        """The directory as O_PATH fd; made where it is missing, in place of what is no directory."""
        if not directory:
            return os.open(".", _RESTING | os.O_CLOEXEC, dir_fd=self._fd)
        try:
            return self._root.open_beneath(os.fsdecode(directory), _RESTING)
        except OSError as failed:
            if failed.errno not in {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}:
                raise
        fd = os.open(".", _RESTING | os.O_CLOEXEC, dir_fd=self._fd)
        path = b""
        try:
            for part in directory.split(b"/"):
                path = path + b"/" + part if path else part
                below = self._step(fd, part, path)
                os.close(fd)
                fd = below
        except BaseException:
            os.close(fd)
            raise
        return fd

    def _step(self, parent: int, name: bytes, path: bytes) -> int:
        try:
            return os.open(name, os.O_PATH | _DIRECTORY, dir_fd=parent)
        except FileNotFoundError:
            pass
        except OSError as failed:
            if failed.errno not in {errno.ENOTDIR, errno.ELOOP}:
                raise
            # A link or file of a lower image: the specification says replaced, never followed.
            self._clear(parent, name, path)
        os.mkdir(name, 0o755, dir_fd=parent)
        return os.open(name, os.O_PATH | _DIRECTORY, dir_fd=parent)

    def _clear(self, parent: int, name: bytes, path: bytes) -> None:
        remove_below(parent, os.fsdecode(name), shown(path))
        self._removed[path] = self._clock

    # --- entries

    def _make(self, parent: int, name: bytes, entry: Entry, content: Iterable[memoryview]) -> None:
        kind = entry.kind
        if kind is tar.DIRECTORY:
            self._directory(parent, name, entry)
            return
        if kind is tar.CHARACTER_DEVICE or kind is tar.BLOCK_DEVICE:
            self.devices += 1
            self._clear(parent, name, entry.name)
            return
        try:
            self._create(parent, name, entry, content)
        except FileExistsError:
            if kind is tar.HARD_LINK and entry.target == entry.name:
                return
            self._clear(parent, name, entry.name)
            self._create(parent, name, entry, content)

    def _create(self, parent: int, name: bytes, entry: Entry, content: Iterable[memoryview]) -> None:
        kind = entry.kind
        if kind is tar.FILE:
            fd = os.open(name, _CREATE, entry.mode & 0o777, dir_fd=parent)
            try:
                self._write(fd, content)
                self._set_properties(fd, entry, made=True)
            finally:
                os.close(fd)
            return
        if kind is tar.HARD_LINK:
            self._hard_link(parent, name, entry)
            return
        if kind is tar.SYMLINK:
            os.symlink(entry.target, name, dir_fd=parent)
        else:
            os.mkfifo(name, entry.mode & 0o777, dir_fd=parent)
        if self._owners:
            os.chown(name, entry.uid, entry.gid, dir_fd=parent, follow_symlinks=False)
        os.utime(name, ns=(entry.mtime, entry.mtime), dir_fd=parent, follow_symlinks=False)
        self.attributes += len(entry.xattrs)

    def _write(self, fd: int, content: Iterable[memoryview]) -> None:
        if self._digests is None:
            for piece in content:
                write_all(fd, piece)
            return
        digest = hashlib.sha512()
        for piece in content:
            digest.update(piece)
            write_all(fd, piece)
        self._digests[os.fstat(fd).st_ino] = digest.digest()

    def _hard_link(self, parent: int, name: bytes, entry: Entry) -> None:
        """Link to the entry, and set nothing: its properties are those of the target (CVE-2021-32760)."""
        directory, _, target = entry.target.rpartition(b"/")
        try:
            source = self._root.open_beneath(os.fsdecode(directory) or ".", _RESTING)
            try:
                os.link(target, name, src_dir_fd=source, dst_dir_fd=parent, follow_symlinks=False)
            finally:
                os.close(source)
        except FileExistsError:
            raise
        except OSError as failed:
            if failed.errno not in {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EPERM}:
                raise
            raise InvalidArchive(
                f"{shown(entry.name)}: a hard link to {shown(entry.target)}, which is not there or no file"
            ) from None

    def _directory(self, parent: int, name: bytes, entry: Entry) -> None:
        try:
            os.mkdir(name, 0o755, dir_fd=parent)
        except FileExistsError:
            if not stat.S_ISDIR(os.lstat(name, dir_fd=parent).st_mode):
                self._clear(parent, name, entry.name)
                os.mkdir(name, 0o755, dir_fd=parent)
        self._directories[entry.name] = entry, self._clock

    def _set_properties(self, fd: int, entry: Entry, *, made: bool = False) -> None:
        """Owner, then mode and attributes (a change of owner takes both away), then times.

        `made`: the file is new and has the lower nine bits of the mode already.
        """
        mode = entry.mode
        if self._owners:
            if not made or entry.uid or entry.gid:
                os.fchown(fd, entry.uid, entry.gid)
        else:
            mode &= ~_SET_ID
        if not made or mode & ~0o777:
            os.fchmod(fd, mode)
        for key, value in entry.xattrs.items():
            self._set_attribute(fd, key, value)
        os.utime(fd, ns=(entry.mtime, entry.mtime))

    def _set_attribute(self, fd: int, key: bytes, value: bytes) -> None:
        if key.startswith(_ATTRIBUTES) and not key.startswith(_NOT_ATTRIBUTES):
            try:
                os.setxattr(fd, key, value)
                return
            except OSError as failed:
                if failed.errno not in _UNSUPPORTED:
                    raise
                if key == b"security.capability" and self._owners:
                    raise AppcError(f"{shown(key)}: cannot be set here ({failed.strerror})") from None
        self.attributes += 1
