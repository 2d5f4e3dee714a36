"""Leaving out of an image what its path whitelist, or one above it, does not name (appc spec, aci.md)."""

from __future__ import annotations

from bisect import bisect_left

from appc.aci import tar
from appc.aci.errors import InvalidArchive, shown
from appc.aci.layout import INSIDE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from appc.aci.tar import Entry, TarReader


def paths(whitelist: Iterable[str]) -> frozenset[bytes] | None:
    """The cleaned names, relative to the rootfs, of a manifest's whitelist; None for an empty one: no limit.

    The reference takes ``/d/``, ``d`` and ``/./d/../d`` for the same, and so does this.
    """
    names = frozenset(_clean(path) for path in whitelist)
    return names or None


def _clean(path: str) -> bytes:
    parts: list[bytes] = []
    for part in path.encode("utf-8", "surrogateescape").split(b"/"):
        if part == b"..":
            del parts[-1:]
        elif part and part != b".":
            parts.append(part)
    return b"/".join(parts) or b"."


def both(first: frozenset[bytes] | None, second: frozenset[bytes] | None) -> frozenset[bytes] | None:
    """What two whitelists both allow; None allows everything."""
    if first is None or second is None:
        return second if first is None else first
    return first & second


class Sieve:
    """Passes the entries of one image (names below the rootfs) that `allowed` names.

    Directories above an allowed name pass too, since nothing can be there without them; an allowed directory
    does not bring its content. When the whitelist takes the name that a file's content is stored under but
    leaves another hard link to it, the content moves to that one: what is allowed exists.
    """

    def __init__(self, allowed: frozenset[bytes], reader: TarReader) -> None:
        """`reader` reads the image once from its start, for the hard links that are in it."""
        self._allowed = allowed
        self._sorted = sorted(allowed)
        #: Every hard link to the file it stands for; files of which only links stay to the first of those.
        self._files: dict[bytes, bytes] = {}
        self._heirs: dict[bytes, bytes] = {}
        self._served: set[bytes] = set()
        for entry in reader:
            if entry.kind is tar.HARD_LINK:
                self._note(entry)

    def _note(self, entry: Entry) -> None:
        if not (entry.name.startswith(INSIDE) and entry.target.startswith(INSIDE)):
            raise InvalidArchive("a hard link out of the rootfs")
        name, target = entry.name[len(INSIDE) :], entry.target[len(INSIDE) :]
        file = self._files[name] = self._files.get(target, target)
        if name in self._allowed and file not in self._allowed:
            self._heirs.setdefault(file, name)

    def __call__(self, entry: Entry) -> Entry | None:
        name = entry.name
        if entry.kind is tar.HARD_LINK:
            if name not in self._allowed:
                return None
            file = self._files[name]
            heir = self._heirs.get(file, file)
            return None if heir == name else entry._replace(target=heir)
        if name in self._allowed or (entry.kind is tar.DIRECTORY and self._is_above(name)):
            return entry
        if name in self._heirs:
            self._served.add(name)
            return entry._replace(name=self._heirs[name])
        return None

    def _is_above(self, directory: bytes) -> bool:
        """Whether an allowed name is in it. A set of all directories above them can take gigabytes."""
        inside = directory + b"/"
        place = bisect_left(self._sorted, inside)
        return directory == b"." or (place < len(self._sorted) and self._sorted[place].startswith(inside))

    def finish(self) -> None:
        """Raises InvalidArchive when a hard link lost its content, which lies in another image."""
        for file, heir in self._heirs.items():
            if file not in self._served:
                raise InvalidArchive(f"{shown(heir)}: a hard link to {shown(file)}, which is left out")
