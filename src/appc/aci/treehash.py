"""One hash over a directory tree: what `verify` compares to see whether a rendered image was changed.

Covers every name, kind, mode, owner, size, link target, extended attribute and content, hard links included;
times are left out, as rkt always did.
"""

from __future__ import annotations

import hashlib
import os

from appc.aci import tar, tree
from linux.named_tuple import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from appc.aci.tar import Entry

_PIECE = 1 << 20


class TreeHash(NamedTuple):
    """The hash as ``sha512-`` and hexadecimal digits; `size` is that of all files together, in bytes."""

    hash: str
    size: int
    entries: int


def measure(root: int, *, known: Callable[[os.stat_result], bytes | None] | None = None) -> TreeHash:
    """Hash the tree below the directory fd `root`.

    `known` gives the SHA-512 of a file's content if the caller has it already; else the file is read.
    """
    total = hashlib.sha512()
    size = entries = 0
    for entry, fd in tree.Walk(root, b""):
        digest = b""
        if entry.kind is tar.FILE:
            digest = (known(os.fstat(fd)) if known is not None else None) or _digest(fd)
            size += entry.size
        total.update(_line(entry, digest))
        entries += 1
    return TreeHash("sha512-" + total.hexdigest(), size, entries)


def _line(entry: Entry, digest: bytes) -> bytes:
    """Every field with its length in front, so that no two entries give the same bytes."""
    fields = [
        entry.name,
        entry.kind.encode(),
        b"%o %d %d %d" % (entry.mode, entry.uid, entry.gid, entry.size),
        entry.target,
        b"%d %d" % entry.device,
        digest,
    ]
    for key, value in sorted(entry.xattrs.items()):
        fields += [key, value]
    return b"".join([b"%d:%s," % (len(field), field) for field in (b"%d" % len(fields), *fields)])


def _digest(fd: int) -> bytes:
    found = hashlib.sha512()
    while data := os.read(fd, _PIECE):
        found.update(data)
    return found.digest()
