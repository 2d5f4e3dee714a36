"""The build context: the directory ``.acbuild``, which one command at a time has to itself.

A build exists exactly when ``buildMode`` does: it is the last thing that `begin` makes and the first that
`end` removes, so a kill at any moment leaves a build or leftovers, and both commands know what to do with
leftovers. The lock is on the directory itself (flock), so that none is left behind.

A command that changes files says so in ``pending`` first. When it was killed, the files are neither what they
were nor what they should be: only `end`, or the same command again, may go on from there.
"""

from __future__ import annotations

import errno
import os

from acbuild.errors import AcbuildError, NoBuild
from linux import files
from linux.named_tuple import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

    from acbuild.image import Image
    from acbuild.tree.places import Places

APPC, OCI = "appc", "oci"
MODES = (APPC, OCI)

DIRECTORY = ".acbuild"
MODE_FILE = "buildMode"
CURRENT = "currentaci"
PENDING = "pending"
JOURNAL = "journal"
ROOTFS = f"{CURRENT}/rootfs"
#: What the build was made of, for the provenance: lines of JSON.
INPUTS = f"{CURRENT}/inputs"


class Work(NamedTuple):
    """What a command is about to do, in its words."""

    words: tuple[str, ...]


#: The words of a command that changes nothing.
LOOKING = ()


class Build:
    """A build in progress, locked. ``with Build.open(work_path, work) as build``."""

    __slots__ = ("_fd", "_image", "_pending", "_work", "mode", "path", "repeats")

    def __init__(self, path: str, fd: int, mode: str, work: Work | None = None) -> None:
        """`path` is the directory ``.acbuild``; the lock `fd` (or -1) is then the build's to close."""
        self.path = path
        self.mode = mode
        self._fd = fd
        self._work = work
        self._image: Image | None = None
        self._pending = False
        #: Whether the command is one that was killed here, and comes again.
        self.repeats = False

    @classmethod
    def open(cls, work_path: str, work: Work | None = None, *, waiting: Callable[[], None]) -> Self:
        """The build in `work_path`. Waits while another command has it (and calls `waiting` before).

        NoBuild when there is none; AcbuildError when a command was killed here, unless `work` is the same
        again or changes nothing.
        """
        path = os.path.join(work_path, DIRECTORY)
        fd = _lock(path, waiting)
        if fd < 0:
            raise NoBuild(work_path)
        try:
            mode = _mode(path)
            if not mode:
                raise NoBuild(work_path)
            build = cls(path, fd, mode, work)
            build._check_pending(work)
        except BaseException:
            os.close(fd)
            raise
        return build

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        # A failure is told of; what is cut short (^C) is as if it had been killed.
        if self._pending and (value is None or isinstance(value, Exception)):
            os.unlink(f"{self.path}/{PENDING}")
            self._forget_journal()
        if self._fd >= 0:
            os.close(self._fd)

    @property
    def image(self) -> Image:
        """The image, read when it is first asked for."""
        if self._image is None:
            self._image = self._loaded(f"{self.path}/{CURRENT}")
        return self._image

    def _loaded(self, directory: str) -> Image:
        if self.mode == OCI:
            from acbuild.image.oci import OciImage

            return OciImage.load(directory)
        from acbuild.image.appc import AppcImage

        return AppcImage.load(directory)

    @property
    def rootfs(self) -> str:
        """The directory that is the root filesystem of the image."""
        return f"{self.path}/{ROOTFS}"

    def _check_pending(self, work: Work | None) -> None:
        try:
            with open(f"{self.path}/{PENDING}", encoding="utf-8", errors="surrogateescape") as file:
                killed = tuple(file.read().split("\0"))
        except FileNotFoundError:
            return
        if work is not None and work.words in {killed, LOOKING}:
            self._pending = self.repeats = work.words == killed  # gone when this command is through
            return
        named = f"`acbuild {' '.join(killed)}`" if any(killed) else "a command"
        again = "run that command again, or " if any(killed) else ""  # empty: the machine stopped, too
        raise AcbuildError(
            f"{named} was cut short, and left the files of the image in between",
            hint=f"{again}give the build up with `acbuild end`",
        )

    def about_to_change(self) -> None:
        """Note that the files are about to change: intent before effect."""
        if self._work is None:
            return  # a build that is nobody else's: it ends with this process
        if not self.repeats:
            self._forget_journal()  # of a command that was killed after it was through
        text = "\0".join(self._work.words).encode("utf-8", "surrogateescape")
        files.write_atomically(f"{self.path}/{PENDING}", text, durable=False)
        self._pending = True

    def _forget_journal(self) -> None:
        try:
            os.unlink(f"{self.path}/{JOURNAL}")
        except FileNotFoundError:
            return

    def places(self) -> Places:
        """The root filesystem, to be changed: to be used in a ``with``."""
        from acbuild.tree.journal import Journal
        from acbuild.tree.places import Places

        journal = None if self._work is None else Journal(f"{self.path}/{JOURNAL}")
        return Places(self.rootfs, self.path, journal, repeats=self.repeats)

    def note_input(self, line: bytes) -> None:
        """Add a line to the list of what the build is made of."""
        fd = os.open(f"{self.path}/{INPUTS}", os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            files.write_all(fd, line + b"\n")
        finally:
            os.close(fd)


class Beginning:
    """``with Beginning(work_path) as new``: a context that becomes a build by `finish`, or goes again."""

    __slots__ = ("_done", "_fd", "path")

    def __init__(self, work_path: str) -> None:
        """AcbuildError when there is a build in progress already."""
        self.path = os.path.join(work_path, DIRECTORY)
        self._done = False
        while True:
            try:
                os.mkdir(self.path, 0o700)
            except FileExistsError:
                pass
            try:
                self._fd = files.lock_directory(self.path, exclusive=True, blocking=False)
            except FileNotFoundError:
                _refuse_link(self.path)
                continue
            except BlockingIOError:
                raise _in_progress(self.path) from None
            if _is_still(self._fd, self.path):
                break
            os.close(self._fd)
        try:
            if _mode(self.path):
                raise _in_progress(self.path)
            _empty(self.path)  # what a killed `begin` or `end` left
        except BaseException:
            os.close(self._fd)
            raise

    def __enter__(self) -> Self:
        os.mkdir(f"{self.path}/{CURRENT}", 0o755)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if not self._done:
                _remove(self.path)
        finally:
            os.close(self._fd)

    def finish(self, mode: str) -> None:
        """From here on it is a build."""
        files.write_atomically(f"{self.path}/{MODE_FILE}", mode.encode(), durable=False)
        self._done = True


def end(work_path: str, *, waiting: Callable[[], None]) -> None:
    """Remove the build in `work_path`, or what was left of one. NoBuild when there is nothing at all."""
    path = os.path.join(work_path, DIRECTORY)
    fd = _lock(path, waiting)
    if fd < 0:
        raise NoBuild(work_path)
    try:
        _remove(path)
    finally:
        os.close(fd)


def _remove(path: str) -> None:
    try:
        os.unlink(f"{path}/{MODE_FILE}")  # from here on it is no build
    except FileNotFoundError:
        pass
    _empty(path)
    os.rmdir(path)


def _empty(path: str) -> None:
    """Remove what is in the context, after what is mounted there."""
    _unmount_below(path)
    for name in os.listdir(path):
        files.remove_tree(f"{path}/{name}")


def _unmount_below(path: str) -> None:
    """Take off what acbuild 0.4, or a command that was killed, left mounted."""
    with open("/proc/self/mountinfo", "rb") as file:
        if f"/{DIRECTORY}/".encode() not in file.read():
            return
    from linux.mount import api, info

    # The directory is the operator's own; the kernel names it without links.
    whole = os.path.join(_physical(os.path.dirname(path) or "."), os.path.basename(path))
    for entry in info.below(whole):
        api.umount(entry.target, api.UmountFlag.DETACH | api.UmountFlag.NOFOLLOW)


def _physical(path: str) -> str:
    fd = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return os.readlink(f"/proc/self/fd/{fd}")
    finally:
        os.close(fd)


def _lock(path: str, waiting: Callable[[], None]) -> int:
    """The lock on the directory `path`; -1 where there is none. It may go, or be another, while we wait."""
    told = False
    while True:
        try:
            fd = files.lock_directory(path, exclusive=True, blocking=told)
        except BlockingIOError:
            told = True
            waiting()
            continue
        except OSError as failed:
            if failed.errno in {errno.ENOENT, errno.ENOTDIR}:
                return -1
            raise
        if _is_still(fd, path):
            return fd
        os.close(fd)


def _refuse_link(path: str) -> None:
    """A link could be anybody's, and would be somebody else's directory to remove."""
    if os.path.islink(path):
        raise AcbuildError(f"{path}: is a symbolic link", hint="remove it; use --work-path for another place")


def _is_still(fd: int, path: str) -> bool:
    _refuse_link(path)
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path, follow_symlinks=False))
    except FileNotFoundError:
        return False


def _mode(path: str) -> str:
    """The mode of the build in `path`, "" where there is none."""
    try:
        with open(f"{path}/{MODE_FILE}", encoding="utf-8", errors="replace") as file:
            mode = file.read(100).strip()
    except FileNotFoundError:
        return ""
    if mode not in MODES:
        raise AcbuildError(
            f"{path}/{MODE_FILE}: says {mode!r}, which is no build mode",
            hint="`acbuild end` removes the build",
        )
    return mode


def _in_progress(path: str) -> AcbuildError:
    return AcbuildError(
        f"a build is in progress in {path} already", hint="end it with `acbuild end`, or use --work-path"
    )
