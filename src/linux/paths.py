"""Paths inside a root that somebody else filled: no link, race or ``..`` leads out of it (R2, R6, R8).

Every path that comes from an image or lies in a pod goes through `Root`. The kernel resolves (openat2,
Linux 5.6); where it cannot, or where directories are made on the way, this module walks by hand, one
component at a time with O_PATH|O_NOFOLLOW, keeping the fds of all ancestors, so that ``..`` is a step back on
our own stack and never asks the filesystem, which another process may be rearranging.
"""

from __future__ import annotations

import errno
import os
import stat

from linux.files import remove_below, write_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

RESOLVE_NO_XDEV = 0x01
RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_BENEATH = 0x08
RESOLVE_IN_ROOT = 0x10

_IN_ROOT = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS
_BENEATH = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV
_STEP = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_MAX_LINKS = 40  # as the kernel's MAXSYMLINKS
_RETRIES = 64

_no_openat2 = False  # learned from the first ENOSYS; tests set it


class Root:
    """A directory inside which paths are resolved as if it were ``/``.

    ``with Root.open("/pod/rootfs") as root:`` or ``Root(fd)`` (the fd then belongs to it). Paths are
    str, relative or absolute alike, except where a method says otherwise. All fds returned are
    close-on-exec and the caller's to close. Errors are OSError with the path as given: ELOOP for a link
    where none may be or a magic link, EXDEV for a way out, ENOTDIR, ENOENT as usual; ValueError for a NUL or
    an unusable name.
    """

    __slots__ = ("fd",)

    def __init__(self, fd: int) -> None:
        self.fd = fd

    @classmethod
    def open(cls, path: str) -> Root:
        """The root at `path`, a trusted path: its links are followed as usual."""
        return cls(os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))

    def __enter__(self) -> Root:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the root's fd; a second call does nothing."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def open_file(self, path: str, flags: int, mode: int = 0) -> int:
        """open(2) inside the root: links, absolute ones too, are followed but stay inside; no magic links.

        O_NOFOLLOW, O_CREAT, O_EXCL, O_DIRECTORY and O_PATH mean what they always mean. Opening a FIFO or a
        device is the caller's risk: see `read_file` for contents.
        """
        return _open(self.fd, path, flags, mode, _IN_ROOT)

    def open_beneath(self, path: str, flags: int, mode: int = 0) -> int:
        """open(2) that refuses every link, every mount point crossed and every absolute path (R2).

        With O_PATH|O_NOFOLLOW the last component may be a link: it is then opened itself.
        """
        return _open(self.fd, path, flags, mode, _BENEATH)

    def parent(
        self, path: str, *, create_mode: int | None = None, follow: bool = True, one_mount: bool = False
    ) -> tuple[int, str]:
        """An O_PATH fd of the directory that holds `path`'s last component, and that component.

        With `create_mode` missing directories are made, with `one_mount` none beyond a mount point (EXDEV).
        ValueError when there is no last component to
        speak of (``/``, ``.``, ``..``): such a path names no entry that could be made or removed.
        """
        directory, name = os.path.split(path.rstrip("/"))
        if name in {"", ".", ".."}:
            raise ValueError(f"{path!r}: has no last component")
        if create_mode is not None:
            made = self.make_directories(directory or ".", create_mode, follow=follow, one_mount=one_mount)
            return made, name
        if not follow:
            return self.open_beneath(directory.lstrip("/") or ".", os.O_PATH | os.O_DIRECTORY), name
        return self.open_file(directory or ".", os.O_PATH | os.O_DIRECTORY), name

    def make_directories(
        self,
        path: str,
        mode: int = 0o755,
        uid: int = 0,
        gid: int = 0,
        *,
        follow: bool = True,
        one_mount: bool = False,
    ) -> int:
        """Make `path` and what is missing above it; an O_PATH fd of the last directory.

        Directories made get exactly `mode`, `uid` and `gid`; those found stay as they are. Links are
        followed inside the root (a dangling one gets its target made, inside), or refused with ELOOP
        unless `follow`. `one_mount` refuses with EXDEV to go to another mount than the root's own.
        """
        resolve = _IN_ROOT if follow else RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS
        walk = _Walk(self.fd, path, resolve | (RESOLVE_NO_XDEV if one_mount else 0))
        walk.create = (mode, uid, gid)
        return walk.open(os.O_PATH | os.O_DIRECTORY, 0)

    def read_file(self, path: str, limit: int = 1 << 20) -> bytes:
        """All of the regular file `path`, at most `limit` bytes; ValueError when it is longer or not regular.

        A FIFO or a device is recognised without being opened (R5), so nothing here can block.
        """
        found = self.open_file(path, os.O_PATH)
        try:
            if not stat.S_ISREG(os.fstat(found).st_mode):
                raise ValueError(f"{path}: not a regular file")
            fd = reopen(found, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
        finally:
            os.close(found)
        try:
            parts: list[bytes] = []
            left = limit + 1
            while left > 0 and (part := os.read(fd, min(left, 1 << 16))):
                parts.append(part)
                left -= len(part)
        finally:
            os.close(fd)
        if left <= 0:
            raise ValueError(f"{path}: larger than {limit} bytes")
        return b"".join(parts)

    def write_file(
        self,
        path: str,
        data: bytes,
        mode: int = 0o644,
        uid: int = 0,
        gid: int = 0,
        *,
        one_mount: bool = False,
    ) -> None:
        """Put a file with `data` at `path`, in place of any file or link there; parents are made (R9).

        Written under another name and renamed: whatever link sits at the last component is replaced, not
        followed. IsADirectoryError when a directory sits there. With `one_mount` EXDEV or EBUSY when the
        place is not on the root's own mount. Not fsynced: what lies in a pod's rootfs is made again at every
        start.
        """
        directory, name = self.parent(path, create_mode=0o755, one_mount=one_mount)
        temporary = f".{os.getpid()}-{os.urandom(6).hex()}"
        try:
            fd = os.open(
                temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=directory
            )
            try:
                write_all(fd, data)
                os.fchown(fd, uid, gid)
                os.fchmod(fd, mode)
            finally:
                os.close(fd)
            try:
                os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
            except OSError as failed:
                os.unlink(temporary, dir_fd=directory)
                raise type(failed)(failed.errno, failed.strerror, path) from None
        finally:
            os.close(directory)

    def lstat(self, path: str) -> os.stat_result:
        """The status of `path`, of a link itself when its last component is one."""
        fd = self.open_file(path, os.O_PATH | os.O_NOFOLLOW)
        try:
            return os.fstat(fd)
        finally:
            os.close(fd)

    def remove(self, path: str) -> None:
        """Remove `path` and all below it; a link is removed, not its target. Gone already is no error."""
        try:
            directory, name = self.parent(path)
        except FileNotFoundError:
            return
        try:
            remove_below(directory, name, path)
        finally:
            os.close(directory)


def reopen(fd: int, flags: int) -> int:
    """The very file behind the O_PATH fd `fd`, opened with `flags`: no path is resolved, nothing races.

    Needs /proc of the caller's own pid namespace.
    """
    return os.open(f"/proc/self/fd/{fd}", flags & ~os.O_NOFOLLOW | os.O_CLOEXEC)


def _open(root: int, path: str, flags: int, mode: int, resolve: int) -> int:
    global _no_openat2
    if not _no_openat2:
        try:
            return _openat2(root, path, flags, mode, resolve)
        except OSError as failed:
            if failed.errno == errno.ENOSYS:
                _no_openat2 = True
            elif failed.errno != errno.EAGAIN:
                raise
    return _Walk(root, path, resolve).open(flags, mode)


def _openat2(root: int, path: str, flags: int, mode: int, resolve: int) -> int:
    """openat2(2); EAGAIN only after many tries: the kernel gives it when a rename crossed its ``..``."""
    import struct

    from linux.libc import syscall

    flags |= os.O_CLOEXEC
    if flags & os.O_PATH:
        flags &= os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    # struct open_how; a mode without O_CREAT or O_TMPFILE is EINVAL to openat2, though not to open(2).
    creates = flags & os.O_CREAT or flags & os.O_TMPFILE == os.O_TMPFILE
    how = struct.pack("QQQ", flags, mode & 0o7777 if creates else 0, resolve)
    for attempt in range(_RETRIES):
        try:
            return syscall("openat2", root, path, how, len(how), path=path)
        except BlockingIOError:
            if attempt == _RETRIES - 1:
                raise
        except InterruptedError:
            continue
    raise AssertionError


class _Walk:
    """One resolution by hand. The stack holds the fds of all directories from the root to where we are."""

    __slots__ = ("create", "device", "links", "path", "resolve", "stack", "todo")

    def __init__(self, root: int, path: str, resolve: int) -> None:
        if "\0" in path:
            raise ValueError(f"{path!r}: NUL in a file name")
        self.path = path
        self.resolve = resolve
        self.create: tuple[int, int, int] | None = None
        self.links = 0
        self.todo: list[str] = []  # components still to walk, the next one last
        self.stack = [root]  # the root's own fd is borrowed: never closed here
        self.device = _mount_of(root) if resolve & RESOLVE_NO_XDEV else None

    def open(self, flags: int, mode: int) -> int:
        """Walk to the last component and open it with open(2)'s `flags`."""
        if not self.path:
            raise self.error(errno.ENOENT)
        if self.resolve & RESOLVE_BENEATH and self.path.startswith("/"):
            raise self.error(errno.EXDEV)
        try:
            self.push(self.path)
            while len(self.todo) > 1:
                self.step(self.todo.pop())
            return self.last(flags, mode)
        except OSError as failed:
            failed.filename = self.path
            raise
        finally:
            for fd in self.stack[1:]:
                os.close(fd)

    def push(self, text: str) -> None:
        """Put the components of `text` in front of those to walk; a trailing slash stays as ``.``."""
        parts = [part for part in text.split("/") if part]
        if text.endswith("/") or not parts:
            parts.append(".")
        if text.startswith("/"):
            self.unwind(1)
        self.todo.extend(reversed(parts))

    def unwind(self, length: int) -> None:
        while len(self.stack) > length:
            os.close(self.stack.pop())

    def step(self, name: str) -> None:
        """Go into the directory `name`, or take up the text of the link `name`."""
        if name == ".":
            return
        if name == "..":
            self.up()
            return
        fd = self.look(name)
        mode = os.fstat(fd).st_mode
        if stat.S_ISDIR(mode):
            self.stack.append(fd)
            return
        try:
            if not stat.S_ISLNK(mode):
                raise self.error(errno.ENOTDIR)
            text = self.link_text(fd)
        finally:
            os.close(fd)
        self.push(text)

    def up(self) -> None:
        if len(self.stack) > 1:
            os.close(self.stack.pop())
        elif self.resolve & RESOLVE_BENEATH:
            raise self.error(errno.EXDEV)

    def look(self, name: str) -> int:
        """An O_PATH fd of the entry `name`, whatever it is; made as a directory when asked to."""
        here = self.stack[-1]
        try:
            fd = os.open(name, _STEP, dir_fd=here)
        except FileNotFoundError:
            if self.create is None:
                raise
            fd = _make_directory(here, name, *self.create)
        if self.device is not None and _mount_of(fd) != self.device:
            os.close(fd)
            raise self.error(errno.EXDEV)
        return fd

    def link_text(self, fd: int) -> str:
        """What the link `fd` says, if links are allowed, are not too many, and this is no magic one."""
        self.links += 1
        if self.resolve & RESOLVE_NO_SYMLINKS or self.links > _MAX_LINKS:
            raise self.error(errno.ELOOP)
        text = os.readlink("", dir_fd=fd)
        from linux.libc import PROC_SUPER_MAGIC, filesystem_type

        # Ordinary links of proc are relative and plain (self, thread-self, mounts, net); the magic ones
        # jump to an object and only show a text such as /bin/sh, pipe:[7] or (unreachable)/x.
        if filesystem_type(fd) == PROC_SUPER_MAGIC and (text[0] in "/(" or ":" in text):
            raise self.error(errno.ELOOP)
        return text

    def last(self, flags: int, mode: int) -> int:
        """Open the last component. Links in its place are followed one by one, each race lost is retried."""
        flags |= os.O_CLOEXEC
        for _ in range(_RETRIES + _MAX_LINKS):
            name = self.todo.pop()
            if name == "..":
                self.up()
                name = "."
            if name == ".":
                if flags & os.O_CREAT:
                    raise self.error(errno.EISDIR)
                return os.open(".", flags, dir_fd=self.stack[-1])
            try:
                fd, text = self.open_last(name, flags, mode)
            except BlockingIOError:
                self.todo.append(name)
                continue
            if text is None:
                return fd
            self.push(text)
            while len(self.todo) > 1:
                self.step(self.todo.pop())
        raise self.error(errno.ELOOP)

    def open_last(self, name: str, flags: int, mode: int) -> tuple[int, str | None]:
        """(fd, None) of the entry opened, or (-1, text) of the link in its place that is to be followed."""
        here = self.stack[-1]
        if flags & os.O_CREAT and flags & os.O_EXCL:
            return os.open(name, flags | os.O_NOFOLLOW, mode, dir_fd=here), None
        try:
            found = self.look(name)
        except FileNotFoundError:
            if not flags & os.O_CREAT:
                raise
            # O_NOFOLLOW: a link put there since is an ELOOP, never a file made elsewhere.
            return os.open(name, flags | os.O_NOFOLLOW, mode, dir_fd=here), None
        try:
            status = os.fstat(found)
            if stat.S_ISLNK(status.st_mode):
                if not flags & os.O_NOFOLLOW:
                    return -1, self.link_text(found)
                if not flags & os.O_PATH:
                    raise self.error(errno.ELOOP)
            if flags & os.O_PATH:
                if flags & os.O_DIRECTORY and not stat.S_ISDIR(status.st_mode):
                    raise self.error(errno.ENOTDIR)
                return os.dup(found), None
            fd = os.open(name, flags | os.O_NOFOLLOW, mode, dir_fd=here)
            # Without this a mount made at `name` since `look` would be crossed unseen.
            if not os.path.samestat(os.fstat(fd), status):
                os.close(fd)
                raise self.error(errno.EAGAIN)
            return fd, None
        finally:
            os.close(found)

    def error(self, number: int) -> OSError:
        return OSError(number, os.strerror(number), self.path)


def _make_directory(parent: int, name: str, mode: int, uid: int, gid: int) -> int:
    """mkdirat, then owner and mode by fd; an O_PATH fd. Somebody else's directory is taken as found."""
    try:
        os.mkdir(name, 0o700, dir_fd=parent)
    except FileExistsError:
        return os.open(name, _STEP, dir_fd=parent)
    fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    try:
        status = os.fstat(fd)
        # If it was swapped since, it is not ours to give away or to open up.
        if status.st_uid == os.geteuid() and stat.S_IMODE(status.st_mode) & 0o777 == 0o700:
            if (status.st_uid, status.st_gid) != (uid, gid):
                os.fchown(fd, uid, gid)
            os.fchmod(fd, mode)
        return os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=fd)
    finally:
        os.close(fd)


def on_one_mount(first: int, second: int) -> bool:
    """Whether two open files lie on the same mount, not only on the same filesystem."""
    return _mount_of(first) == _mount_of(second)


def _mount_of(fd: int) -> tuple[int, str]:
    """What tells one mount from another without statx's mount id (Linux 5.8): device and fdinfo's mnt_id."""
    with open(f"/proc/self/fdinfo/{fd}", encoding="ascii") as info:
        number = next((line.split()[1] for line in info if line.startswith("mnt_id:")), "")
    return os.fstat(fd).st_dev, number
