"""Taking images apart into a directory, in a cage (rules R1 to R5)."""

from __future__ import annotations

import json
import os

from appc.aci import cage, compression, tar
from appc.aci.errors import InvalidArchive
from appc.aci.layout import INSIDE, MANIFEST, ROOTFS, Layout
from appc.aci.limits import DEFAULT, Limits
from appc.aci.treehash import TreeHash, measure
from appc.aci.unpack import Unpacker
from appc.aci.whitelist import Sieve
from linux.named_tuple import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import BinaryIO

    from appc.aci.tar import Entry


class Layer(NamedTuple):
    """One image to put on top of those before it; `allowed` are the names that may come of it (None: all)."""

    image: BinaryIO
    allowed: frozenset[bytes] | None = None


class Extracted(NamedTuple):
    """What extraction left out, which walls stood around it, and what is there now (if it was measured)."""

    devices: int
    attributes: int
    walls: tuple[str, ...]
    tree: TreeHash | None = None


def extract(image: BinaryIO, directory: int | str, *, limits: Limits = DEFAULT) -> Extracted:
    """Put the root filesystem of `image` (seekable; any compression) into the empty `directory` (fd or path).

    Raises InvalidArchive, or OSError naming the entry; what was written until then is the caller's to remove.
    Nobody else may write to the directory meanwhile. Not durable: sync the filesystem afterwards.
    """
    return extract_layers([Layer(image)], directory, limits=limits)


def extract_layers(
    layers: Sequence[Layer],
    directory: int | str,
    *,
    limits: Limits = DEFAULT,
    measured: bool = False,
    meanwhile: Callable[[], None] | None = None,
) -> Extracted:
    """Put the root filesystems of `layers` into `directory`, each over the one before it.

    `measured` also gives the hash of the resulting tree, for little more than what hashing costs.
    `meanwhile` is called while the cage works: the place for checking what it reads.
    """
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    root = os.open(directory, flags) if isinstance(directory, str) else -1
    owners = os.geteuid() == 0
    try:
        target = directory if isinstance(directory, int) else root
        streams = [compression.Opened(layer.image, limits) for layer in layers]

        def work(inside: int) -> bytes:
            digests: dict[int, bytes] | None = {} if measured else None
            unpacker = Unpacker(inside, owners=owners, digests=digests)
            for stream, layer in zip(streams, layers, strict=True):
                _unpack(stream, unpacker, layer.allowed, limits)
            unpacker.finish()
            tree = None
            if digests is not None:
                tree = measure(inside, known=lambda status: digests.get(status.st_ino))
            return json.dumps([unpacker.devices, unpacker.attributes, tree]).encode()

        try:
            keep = tuple(stream.fileno() for stream in streams)
            with cage.start(work, directory=target, keep=keep, file_size=limits.size) as child:
                if meanwhile is not None:
                    meanwhile()
                devices, attributes, tree = json.loads(child.result())
                for stream in streams:
                    stream.finish()
                return Extracted(devices, attributes, child.walls, tree and TreeHash(*tree))
        finally:
            for stream in streams:
                stream.close()
    finally:
        if root >= 0:
            os.close(root)


def _unpack(
    stream: compression.Opened, unpacker: Unpacker, allowed: frozenset[bytes] | None, limits: Limits
) -> None:
    """Walk over one image: checked against the layout entry by entry, before each is written."""
    wanted = None
    if allowed is not None:
        wanted = Sieve(allowed, tar.TarReader(stream.chunks(), limits))
    reader = tar.TarReader(stream.chunks(), limits)
    layout = Layout(limits)
    for entry in reader:
        layout.see(entry)
        layout.raise_if_bad()
        if entry.name == MANIFEST or entry.name == b".":
            continue
        inside = below_rootfs(entry)
        kept = inside if wanted is None else wanted(inside)
        if kept is not None:
            unpacker.add(kept, reader.content())
    layout.finish()
    layout.raise_if_bad()
    if wanted is not None:
        wanted.finish()


def below_rootfs(entry: Entry) -> Entry:
    """`entry` with the names relative to the rootfs, which itself is ``.``."""
    if entry.name == ROOTFS:
        return entry._replace(name=b".")
    name = entry.name[len(INSIDE) :]
    if entry.kind is tar.HARD_LINK:
        if not entry.target.startswith(INSIDE):
            raise InvalidArchive("a hard link out of the rootfs")
        return entry._replace(name=name, target=entry.target[len(INSIDE) :])
    return entry._replace(name=name)
