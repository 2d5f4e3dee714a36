"""Durable files, directory locks and temporary trees: what was reported as done survives a power cut.

The order is always data, fsync, rename or link, fsync of the directory (rules D1 to D7). Every path here is
the project's own; a path that an image or a pod had a say in goes through `linux.paths` instead.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

_TEMPORARY_PREFIX = ".tmp-"
_COUNTER = 0


def write_atomically(
    path: str, data: bytes, *, mode: int = 0o644, dir_fd: int | None = None, durable: bool = True
) -> None:
    """Replace the file `path` by one that holds `data`, durably: readers see old or new, never a part.

    `path` is relative to `dir_fd` when that is given. A failure (ENOSPC) leaves the old file and no other.
    A symbolic link at `path` is replaced, not followed. The mode is set exactly, whatever the umask.
    Without `durable` nothing waits for the disk: for what a power cut makes pointless anyway.
    """
    directory, name = os.path.split(path)
    parent = os.open(directory or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=dir_fd)
    try:
        temporary = _unused_name(name)
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=parent)
        try:
            try:
                write_all(fd, data)
                os.fchmod(fd, mode)
                if durable:
                    os.fsync(fd)
            finally:
                os.close(fd)
            os.rename(temporary, name, src_dir_fd=parent, dst_dir_fd=parent)
        except BaseException:
            _unlink_quietly(temporary, parent)
            raise
        if durable:
            os.fsync(parent)
    except OSError as failed:
        if failed.filename is None or failed.filename == temporary_name_of(failed.filename):
            failed.filename = path
        raise
    finally:
        os.close(parent)


def temporary_name_of(name: object) -> object:
    """`name` when it is one of this module's temporary names, else None."""
    return name if isinstance(name, str) and name.startswith(_TEMPORARY_PREFIX) else None


def _unused_name(suffix: str) -> str:
    """A name no other process and no earlier call uses: a later O_EXCL proves it."""
    global _COUNTER
    _COUNTER += 1
    return f"{_TEMPORARY_PREFIX}{os.getpid()}-{_COUNTER}-{os.urandom(4).hex()}-{suffix}"[:200]


def _unlink_quietly(name: str, dir_fd: int) -> None:
    try:
        os.unlink(name, dir_fd=dir_fd)
    except OSError:
        return


def write_all(fd: int, data: bytes | memoryview) -> None:
    """write(2) until all of `data` is out; a pipe or a full disk may take a part at a time."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def sync_directory(target: str | int) -> None:
    """fsync the directory `target` (path or fd), so that names made or removed in it are durable."""
    if isinstance(target, int):
        os.fsync(target)
        return
    fd = os.open(target, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def sync_filesystem(target: str | int) -> None:
    """syncfs(2) on the filesystem of `target` (path or fd): for whole trees (D3), fsync does not recurse."""
    from linux.libc import syscall

    if isinstance(target, int):
        syscall("syncfs", target)
        return
    fd = os.open(target, os.O_RDONLY | os.O_CLOEXEC)
    try:
        syscall("syncfs", fd, path=target)
    finally:
        os.close(fd)


def start_writing(fd: int, offset: int, length: int) -> None:
    """Have the kernel begin to write this part of the file to the disk; the fsync that comes has less to do.

    A hint: sync_file_range(2) promises nothing, and where it fails nothing is lost.
    """
    from linux.libc import syscall

    try:
        syscall("sync_file_range", fd, offset, length, 2)  # SYNC_FILE_RANGE_WRITE: do not wait
    except OSError:
        return


def lock_directory(path: str, *, exclusive: bool, blocking: bool = True) -> int:
    """flock(2) on the directory itself; the fd that holds the lock until every copy of it is closed.

    Raises BlockingIOError when not `blocking` and somebody else has it. The directory may have been renamed
    while we waited: the lock stays with it, and the caller looks where it is now.
    """
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _flock(fd, exclusive=exclusive, blocking=blocking, path=path)
    except BaseException:
        os.close(fd)
        raise
    return fd


def lock_file(path: str, *, exclusive: bool, blocking: bool = True, mode: int = 0o600) -> int:
    """flock(2) on the file `path`, made when missing; the fd that holds the lock.

    The file may be removed or replaced while we wait for it; a lock on a name that is gone locks nobody out,
    so after locking the name is looked at again and the whole is retried.
    """
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, mode)
        try:
            _flock(fd, exclusive=exclusive, blocking=blocking, path=path)
            try:
                named = os.stat(path, follow_symlinks=False)
            except FileNotFoundError:
                named = None
            if named is not None and os.path.samestat(named, os.fstat(fd)):
                return fd
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)


def _flock(fd: int, *, exclusive: bool, blocking: bool, path: str) -> None:
    operation = (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | (0 if blocking else fcntl.LOCK_NB)
    try:
        fcntl.flock(fd, operation)
    except OSError as failed:
        failed.filename = path
        raise


class temporary_directory:
    """``with temporary_directory(parent) as path``: a directory (0700) in `parent`, locked while in use.

    The lock (on the directory itself, D7) tells `collect_temporary` that its owner lives; `keep()` makes the
    exit leave the tree where it is, for a caller who has renamed it away.
    """

    __slots__ = ("_kept", "fd", "path")

    def __init__(self, parent: str, suffix: str = "") -> None:
        self._kept = False
        while True:
            self.path = os.path.join(parent, _unused_name(suffix))
            try:
                os.mkdir(self.path, 0o700)
            except OSError as failed:
                failed.filename = parent  # whose fault it is; the name means nothing to anybody
                raise
            try:
                # A collector may win between mkdir and flock: then the name is gone, and we try again.
                self.fd = lock_directory(self.path, exclusive=True, blocking=False)
                if os.path.samestat(os.stat(self.path), os.fstat(self.fd)):
                    return
                os.close(self.fd)
            except (FileNotFoundError, BlockingIOError):
                continue

    def keep(self) -> None:
        """Leave the tree alone at the end of the ``with``."""
        self._kept = True

    def __enter__(self) -> str:
        return self.path

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if not self._kept:
                remove_tree(self.path)
        finally:
            os.close(self.fd)


def collect_temporary(parent: str) -> list[str]:
    """Remove what dead owners of `temporary_directory` or `write_atomically` left in `parent`; their names.

    A file of a temporary name has no lock to show that its owner lives, so the pid in the name must be dead.
    """
    removed = []
    for name in _names_in(parent):
        if not name.startswith(_TEMPORARY_PREFIX):
            continue
        path = os.path.join(parent, name)
        try:
            if stat.S_ISDIR(os.lstat(path).st_mode):
                fd = lock_directory(path, exclusive=True, blocking=False)
                try:
                    remove_tree(path)
                finally:
                    os.close(fd)
            elif _owner_lives(name):
                continue
            else:
                os.unlink(path)
        except (FileNotFoundError, BlockingIOError):
            continue
        removed.append(name)
    return removed


def _names_in(parent: str) -> list[str]:
    try:
        return sorted(os.listdir(parent))
    except FileNotFoundError:
        return []


def _owner_lives(name: str) -> bool:
    pid = name[len(_TEMPORARY_PREFIX) :].partition("-")[0]
    return pid.isdigit() and os.path.exists(f"/proc/{pid}")


def anonymous_file(directory: str, mode: int = 0o600) -> int:
    """A new file without a name on the filesystem of `directory`, open for reading and writing (O_TMPFILE).

    A crash leaves nothing. Filesystems without O_TMPFILE (EOPNOTSUPP, EISDIR on kernels before 3.11) get a
    file that is unlinked at once; `link_into_place` then copies.
    """
    try:
        return os.open(directory, os.O_RDWR | os.O_TMPFILE | os.O_CLOEXEC, mode)
    except OSError as failed:
        if failed.errno not in {errno.EOPNOTSUPP, errno.EISDIR}:
            raise
    path = os.path.join(directory, _unused_name("anonymous"))
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    os.unlink(path)
    return fd


def link_into_place(fd: int, path: str, *, mode: int | None = None, replace: bool = False) -> None:
    """Give the `anonymous_file` `fd` the name `path`, durably (D1): fsync, linkat, fsync of the directory.

    Raises FileExistsError when the name is taken, unless `replace` is given: then the old file goes at the
    same moment. The file must not have been unlinked by hand.
    """
    if mode is not None:
        os.fchmod(fd, mode)
    os.fsync(fd)
    directory, name = os.path.split(path)
    parent = os.open(directory or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        linked = _unused_name(name) if replace else name
        try:
            _link(fd, linked, parent)
            if replace:
                _rename_over(linked, name, parent)
        except OSError as failed:
            raise type(failed)(failed.errno, failed.strerror, path) from None
        os.fsync(parent)
    finally:
        os.close(parent)


def _link(fd: int, name: str, parent: int) -> None:
    try:
        os.link(f"/proc/self/fd/{fd}", name, dst_dir_fd=parent, follow_symlinks=True)
    except FileNotFoundError:
        _link_copy(fd, name, parent)  # made without O_TMPFILE, so it cannot be linked


def _link_copy(fd: int, name: str, parent: int) -> None:
    temporary = _unused_name(name)
    copy = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=parent)
    try:
        offset = 0
        while count := os.sendfile(copy, fd, offset, 1 << 24):
            offset += count
        os.fchmod(copy, stat.S_IMODE(os.fstat(fd).st_mode))
        os.fsync(copy)
        os.link(temporary, name, src_dir_fd=parent, dst_dir_fd=parent)
    finally:
        os.close(copy)
        os.unlink(temporary, dir_fd=parent)


def _rename_over(temporary: str, name: str, parent: int) -> None:
    try:
        os.rename(temporary, name, src_dir_fd=parent, dst_dir_fd=parent)
    except BaseException:
        _unlink_quietly(temporary, parent)
        raise


def remove_tree(path: str, *, dir_fd: int | None = None) -> None:
    """Remove `path` and all below, never following a link and never leaving its filesystem's tree.

    Works by directory fds, so a name swapped for a link meanwhile leads nowhere; unreadable directories
    (mode 0) are made readable first, immutable and append-only ones let go. Depth is limited by disk only,
    as one fd walks the whole tree. A name that is gone already is no error. A mount point below raises
    OSError (EBUSY): what is mounted there is somebody's.
    """
    directory, name = os.path.split(path.rstrip("/"))
    parent = os.open(directory or ".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=dir_fd)
    try:
        remove_below(parent, name, path)
    finally:
        os.close(parent)


def remove_below(parent: int, name: str, shown: str) -> None:
    """`remove_tree` of the entry `name` of the open directory `parent`; `shown` is its path for messages."""
    try:
        os.unlink(name, dir_fd=parent)
        return
    except FileNotFoundError:
        return
    except (IsADirectoryError, PermissionError):
        if not stat.S_ISDIR(os.lstat(name, dir_fd=parent).st_mode):
            raise
    _empty_directory(parent, name, shown)
    try:
        os.rmdir(name, dir_fd=parent)
    except FileNotFoundError:
        return
    except OSError as failed:
        failed.filename = shown
        raise


_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# FS_IOC_GETFLAGS and FS_IOC_SETFLAGS, with FS_IMMUTABLE_FL and FS_APPEND_FL (ioctl_iflags(2)).
_GET_FLAGS, _SET_FLAGS = 0x80086601, 0x40086602
_PINNED = 0x10 | 0x20


def _open_for_removal(parent: int, name: str) -> int:
    """The directory open for listing; one of mode 0 is made readable first (root needs it not)."""
    try:
        return os.open(name, _DIRECTORY, dir_fd=parent)
    except PermissionError:
        fd = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
        try:
            os.chmod(f"/proc/self/fd/{fd}", 0o700)
        finally:
            os.close(fd)
        return os.open(name, _DIRECTORY, dir_fd=parent)


def _empty_directory(parent: int, name: str, shown: str) -> None:
    """Remove everything below with one fd and a stack of names: a tree may be 10,000 levels deep."""
    current = _open_for_removal(parent, name)
    trail: list[
        tuple[list[str], str, os.stat_result]
    ] = []  # left to do above, our name there, identity of it
    try:
        pending = _sweep(current, shown)
        while True:
            if pending:
                entry = pending.pop()
                try:
                    child = _open_for_removal(current, entry)
                except FileNotFoundError:
                    continue
                trail.append((pending, entry, os.fstat(current)))
                os.close(current)
                current = child
                pending = _sweep(current, os.path.join(shown, *[name for _, name, _ in trail[-20:]]))
            elif trail:
                pending, entry, above = trail.pop()
                up = os.open("..", _DIRECTORY, dir_fd=current)
                os.close(current)
                current = up
                if not os.path.samestat(os.fstat(current), above):
                    raise OSError(errno.ESTALE, "directory was moved while it was being removed", shown)
                try:
                    os.rmdir(entry, dir_fd=current)
                except FileNotFoundError:
                    continue
            else:
                return
    finally:
        os.close(current)


def _sweep(directory: int, shown: str) -> list[str]:
    """Remove files and empty directories from the open `directory`; the names of directories with content.

    Lists as a stream: a directory of a million files costs no memory.
    """
    full = []
    try:
        _make_writable(directory)
    except PermissionError:
        if not _unpin(directory):
            raise
        _make_writable(directory)
    with os.scandir(directory) as entries:
        for entry in entries:
            name = entry.name
            is_directory = entry.is_dir(follow_symlinks=False)
            try:
                try:
                    _remove_one(directory, name, is_directory=is_directory)
                except PermissionError:
                    if not _unpin_with(directory, name):
                        raise
                    _remove_one(directory, name, is_directory=is_directory)
            except FileNotFoundError:
                continue
            except OSError as failed:
                if failed.errno not in {errno.ENOTEMPTY, errno.EEXIST}:
                    failed.filename = os.path.join(shown, name)
                    raise
                full.append(name)
    return full


def _make_writable(fd: int) -> bool:
    """Give the owner of the directory all rights; whether that changed anything."""
    mode = stat.S_IMODE(os.fstat(fd).st_mode)
    if mode & 0o700 == 0o700:
        return False
    os.fchmod(fd, mode | 0o700)
    return True


def _remove_one(directory: int, name: str, *, is_directory: bool) -> None:
    if is_directory:
        os.rmdir(name, dir_fd=directory)
    else:
        os.unlink(name, dir_fd=directory)


def _unpin_with(directory: int, name: str) -> bool:
    """`_unpin` the directory and its entry `name`, which is opened only if nothing comes of that (R5)."""
    found = _unpin(directory)
    mode = os.lstat(name, dir_fd=directory).st_mode
    if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        fd = os.open(name, flags, dir_fd=directory)
        try:
            found = _unpin(fd) or found
        finally:
            os.close(fd)
    return found


def _unpin(fd: int) -> bool:
    """Take away what keeps root itself from removing a file: immutable, append-only (chattr(1)).

    Whether there was any; False on a filesystem that has no such flags.
    """
    import fcntl
    import struct

    try:
        (flags,) = struct.unpack("=l", fcntl.ioctl(fd, _GET_FLAGS, bytes(struct.calcsize("=l"))))
        if not flags & _PINNED:
            return False
        fcntl.ioctl(fd, _SET_FLAGS, struct.pack("=l", flags & ~_PINNED))
    except OSError as failed:
        if failed.errno in {errno.ENOTTY, errno.EOPNOTSUPP, errno.EINVAL, errno.EPERM}:
            return False
        raise
    return True
