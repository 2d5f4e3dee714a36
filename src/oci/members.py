"""The members of a tar archive by name: for archives that hold an image's documents and layers as files.

The archive is walked once, checked as every archive is (rule R1); only where things are is remembered.
Members that are links lead to others of the same archive, by name and never through a filesystem.
"""

from __future__ import annotations

import os

from appc.aci import compression, tar
from appc.aci.errors import shown
from appc.aci.limits import DEFAULT, Limits
from linux.named_tuple import NamedTuple
from oci.errors import InvalidImage, NoSuchImage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import BinaryIO, Self

_LINKS = 8
_PIECE = 1 << 20


class _Member(NamedTuple):
    """Of a file where its content is, of a link the name that it leads to."""

    offset: int
    size: int
    target: str | None


class Members:
    """``with Members(path) as members``. A compressed archive is unpacked to a file without a name first."""

    def __init__(self, path: str, *, limits: Limits = DEFAULT) -> None:
        self.shown = path
        self._file: BinaryIO = open(path, "rb")  # noqa: SIM115  closed by `close`
        self._found: dict[str, _Member] = {}
        try:
            kind = compression.detect(compression.peek(self._file))
            if kind is None:
                raise InvalidImage(f"{path}: is no tar archive", hint="`file` may tell what this is")
            if kind != compression.NONE:
                self._unpack(kind, limits)
            self._walk(limits)
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the archive."""
        self._file.close()

    def _unpack(self, kind: str, limits: Limits) -> None:
        plain = unnamed_file()
        try:
            for chunk in compression.inflate(self._file, limits=limits, kind=kind):
                plain.write(chunk)
        except BaseException:
            plain.close()
            raise
        plain.flush()
        self._file.close()
        self._file = plain

    def _walk(self, limits: Limits) -> None:
        reader = tar.TarReader(compression.inflate(self._file, limits=limits, kind="none"), limits)
        for entry in reader:
            name = shown(entry.name)
            if entry.kind is tar.DIRECTORY:
                continue
            if name in self._found:
                raise InvalidImage(f"{self.shown}: {name} occurs twice")
            if entry.kind is tar.FILE:
                self._found[name] = _Member(reader.position, entry.size, None)
            elif entry.kind is tar.SYMLINK:
                self._found[name] = _Member(0, 0, _joined(name, shown(entry.target)))
            elif entry.kind is tar.HARD_LINK:
                self._found[name] = _Member(0, 0, shown(entry.target))

    def __contains__(self, name: str) -> bool:
        return self.size(name) is not None

    def names(self, prefix: str) -> list[str]:
        """The names that begin with `prefix`, sorted."""
        return sorted(name for name in self._found if name.startswith(prefix))

    def resolved(self, name: str) -> str:
        """Where links lead from `name`; the name itself where there is none. InvalidImage for a circle."""
        for _ in range(_LINKS):
            member = self._found.get(name)
            if member is None or member.target is None:
                return name
            name = member.target
        raise InvalidImage(f"{self.shown}: {name}: links lead on and on")

    def size(self, name: str) -> int | None:
        """The size of the file `name` in bytes; None where there is none."""
        member = self._found.get(self.resolved(name))
        return None if member is None else member.size

    def read(self, name: str, limit: int) -> bytes:
        """The content of a small member. NoSuchImage where there is none."""
        member = self._member(name)
        if member.size > limit:
            raise InvalidImage(
                f"{self.shown}: {name}: {member.size} bytes are more than the limit of {limit}"
            )
        return os.pread(self._file.fileno(), member.size, member.offset)

    def extracted(self, name: str) -> BinaryIO:
        """A copy of the member in a file without a name, at its start."""
        member = self._member(name)
        copy = unnamed_file()
        try:
            offset, left = member.offset, member.size
            while left:
                count = os.sendfile(copy.fileno(), self._file.fileno(), offset, min(left, 1 << 30))
                if not count:
                    raise InvalidImage(f"{self.shown}: {name}: was cut while it was read")
                offset, left = offset + count, left - count
            copy.seek(0)
        except BaseException:
            copy.close()
            raise
        return copy

    def _member(self, name: str) -> _Member:
        member = self._found.get(self.resolved(name))
        if member is None:
            raise NoSuchImage(f"{self.shown}: there is no {name} in the archive")
        return member


def unnamed_file() -> BinaryIO:
    """A temporary file (TMPDIR) that is gone when it is closed, however the process ends."""
    from linux import files

    return os.fdopen(files.anonymous_file(os.environ.get("TMPDIR") or "/var/tmp"), "w+b")  # noqa: S108


def _joined(name: str, target: str) -> str:
    """What the link `name` with the text `target` stands for, from the top of the archive."""
    parts: list[str] = []
    base = "" if target.startswith("/") else name.rpartition("/")[0]
    for part in f"{base}/{target}".split("/"):
        if part == "..":
            del parts[-1:]
        elif part and part != ".":
            parts.append(part)
    return "/".join(parts)
