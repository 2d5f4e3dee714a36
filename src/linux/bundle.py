"""All modules of this project compiled in one file, so that a short command need not look for each of them.

To find and read a module costs the interpreter a dozen system calls and 50 microseconds, and a command needs
50 to 150 modules. `use` has them read from the bundle that `write` put beside the sources. A module whose
source has changed since, by its time or size as for a .pyc, is imported in the usual way; so are all when
there is no bundle, or one of another interpreter. Source: Python's library reference, importlib.
"""

from __future__ import annotations

import os
import sys

# What is behind importlib, which would have to be loaded first.
from _frozen_importlib import ModuleSpec
from _frozen_importlib_external import MAGIC_NUMBER, SourceFileLoader
from marshal import loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import CodeType, ModuleType

# The file: Python's magic number, a number of the bundle's own, the length of the index, the index, entries.
# The index has the place of each module's entry, offset << _LENGTH_BITS | length. An entry is (whether it is
# a package, time of the source in ns, its size, code), then the bundle's own number: no other one's has it.
_OWN = 8  # bytes
_HEAD = len(MAGIC_NUMBER) + _OWN + 4
_LENGTH_BITS = 32
_DAMAGED = (OSError, EOFError, ValueError, TypeError)


def path_of(root: str) -> str:
    """The bundle of the packages below the directory `root`: where Python itself keeps compiled modules."""
    return f"{root}/__pycache__/bundle.{sys.implementation.cache_tag}"


def use(root: str) -> None:
    """Import the packages below `root` from their bundle from now on, as far as it has them as they are."""
    try:
        finder = _Finder(root)
    except _DAMAGED:
        return
    sys.meta_path.insert(0, finder)


def write(root: str) -> int:
    """Make the bundle of the packages below `root`, by way of their .pyc files; the number of modules.

    Raises OSError when it cannot be written, SyntaxError for a module that is none.
    """
    from marshal import dumps

    from linux.files import write_atomically

    own = os.urandom(_OWN)
    places: dict[str, int] = {}
    entries: list[bytes] = []
    offset = 0
    for name, source in _modules(root):
        status = os.stat(source)
        code = SourceFileLoader(name, source).get_code(name)
        is_package = source.endswith("/__init__.py")
        entry = dumps((is_package, status.st_mtime_ns, status.st_size, code)) + own
        places[name] = offset << _LENGTH_BITS | len(entry)
        entries.append(entry)
        offset += len(entry)
    index = dumps(places)
    path = path_of(root)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    head = MAGIC_NUMBER + own + len(index).to_bytes(4, "little")
    write_atomically(path, b"".join((head, index, *entries)), mode=0o644)
    return len(places)


def _modules(root: str) -> Iterator[tuple[str, str]]:
    """(name, path) of every module of the packages below `root`."""
    for directory, below, files in os.walk(root):
        if directory == root:
            continue
        if "__init__.py" not in files:
            below.clear()
            continue
        package = directory[len(root) + 1 :].replace("/", ".")
        for file in files:
            if file == "__init__.py":
                yield package, f"{directory}/{file}"
            elif file.endswith(".py"):
                yield f"{package}.{file[:-3]}", f"{directory}/{file}"


class _Loader(SourceFileLoader):
    """Has the code at hand, once; what else a loader is asked for is as for any module."""

    code: CodeType | None

    def get_code(self, fullname: str) -> CodeType | None:
        code, self.code = self.code, None  # a module needs it no more, and some processes live long
        return code or super().get_code(fullname)


class _Finder:
    """A finder of `sys.meta_path` that knows where each module is without looking."""

    __slots__ = ("_entries", "_own", "_path", "_places", "_root")

    def __init__(self, root: str) -> None:
        self._root = root
        self._path = path_of(root)
        head = self._read(_HEAD, 0)
        if not head.startswith(MAGIC_NUMBER):
            raise ValueError(f"{self._path}: made by another Python")
        self._own = head[len(MAGIC_NUMBER) :][:_OWN]
        length = int.from_bytes(head[-4:], "little")
        self._places: dict[str, int] = loads(self._read(length, _HEAD))  # noqa: S302  ours, as a .pyc is
        self._entries = _HEAD + length

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        place = self._places.get(name)
        if place is None:
            return None
        directory = f"{self._root}/{name.replace('.', '/')}"
        try:
            entry = self._read(place & (1 << _LENGTH_BITS) - 1, self._entries + (place >> _LENGTH_BITS))
            if not entry.endswith(self._own):
                return None  # the bundle was made anew meanwhile
            is_package, modified, size, code = loads(entry)  # noqa: S302
            source = f"{directory}/__init__.py" if is_package else f"{directory}.py"
            status = os.stat(source)
        except _DAMAGED:
            return None
        if status.st_mtime_ns != modified or status.st_size != size:
            return None
        loader = _Loader(name, source)
        loader.code = code
        spec = ModuleSpec(name, loader, origin=source, is_package=is_package)
        spec.has_location = True
        spec.cached = self._path
        if spec.submodule_search_locations is not None:
            spec.submodule_search_locations.append(directory)
        return spec

    def _read(self, length: int, offset: int) -> bytes:
        # Opened each time: the first process of a pod must not hold a file of the host.
        fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return os.pread(fd, length, offset)
        finally:
            os.close(fd)
