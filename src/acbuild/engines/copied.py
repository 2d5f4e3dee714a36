"""Running on a copy of all layers, for where no overlay is possible: on a builder whose own root is one.

Afterwards the copy is compared with what it was before the run, and what changed goes into the upper
directory. Deletions are told by name: a filesystem without overlays has no marks for them.
"""

from __future__ import annotations

import os
import stat

from acbuild.engines import Layers
from appc.aci import tar
from appc.aci.tree import Walk
from appc.aci.unpack import Unpacker
from linux.files import remove_tree
from linux.paths import Root

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_PIECE = 1 << 20


def run(layers: Layers, once: Callable[[Layers], int]) -> int:
    """Call `once` with the copy as its only layer; its result. Device nodes are not copied."""
    copy = f"{layers.scratch}.copy"
    remove_tree(copy)
    os.mkdir(copy, 0o755)
    try:
        _merge(layers, copy)
        before = _marks(copy)
        try:
            return once(Layers((), copy, layers.scratch, layers.deleted))
        finally:
            _take_over(layers, copy, before)
    finally:
        remove_tree(copy)


def _merge(layers: Layers, copy: str) -> None:
    root = os.open(copy, _DIRECTORY)
    try:
        for tree in (*reversed(layers.lowers), layers.upper):
            _copy(tree, root, lambda _: True)
    finally:
        os.close(root)


def _copy(tree: str, root: int, wanted: Callable[[bytes], bool]) -> None:
    """Put the entries of the directory `tree` that are `wanted` over those of the directory fd `root`."""
    source = os.open(tree, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        unpacker = Unpacker(root, owners=os.geteuid() == 0)
        for entry, fd in Walk(source, b""):
            if not wanted(entry.name):
                continue
            if entry.kind is tar.CHARACTER_DEVICE and entry.device == (0, 0):
                unpacker.remove(entry.name)
            else:
                unpacker.add(entry, _content(fd) if fd >= 0 else ())
        unpacker.finish()
    finally:
        os.close(source)


def _content(fd: int) -> Iterator[memoryview]:
    while data := os.read(fd, _PIECE):
        yield memoryview(data)


def _marks(directory: str) -> dict[bytes, tuple[int, int, int]]:
    """Every name below `directory`, and what changes when anything about it does."""
    root = os.open(directory, _DIRECTORY)
    found: dict[bytes, tuple[int, int, int]] = {}
    stack = [b"."]
    try:
        while stack:
            above = stack.pop()
            fd = os.open(above, _DIRECTORY, dir_fd=root)
            try:
                with os.scandir(fd) as entries:
                    for entry in entries:
                        name = os.fsencode(entry.name)
                        whole = name if above == b"." else above + b"/" + name
                        status = entry.stat(follow_symlinks=False)
                        found[whole] = status.st_ino, status.st_ctime_ns, status.st_mode
                        if stat.S_ISDIR(status.st_mode):
                            stack.append(whole)
            finally:
                os.close(fd)
    finally:
        os.close(root)
    return found


def _take_over(layers: Layers, copy: str, before: dict[bytes, tuple[int, int, int]]) -> None:
    after = _marks(copy)
    changed: set[bytes] = set()
    for name, mark in after.items():
        if before.get(name) != mark:
            while name and name not in changed:
                changed.add(name)
                name = name.rpartition(b"/")[0]
    gone = [name for name in before.keys() - after.keys() if name.rpartition(b"/")[0] in {b"", *after}]
    root = os.open(layers.upper, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with Root.open(layers.upper) as upper:
            for name in gone:
                upper.remove(os.fsdecode(name))
        _copy(copy, root, changed.__contains__)
    finally:
        os.close(root)
    layers.deleted.update(name for name in gone if _is_below(layers, name))


def _is_below(layers: Layers, name: bytes) -> bool:
    """Whether a lower directory has something at `name`."""
    for lower in layers.lowers:
        with Root.open(lower) as below:
            try:
                os.close(below.open_beneath(os.fsdecode(name), os.O_PATH | os.O_NOFOLLOW))
            except OSError:
                continue
        return True
    return False
