"""One layer as a directory of its own, to be laid over others as an overlay: unpacked once, for all images.

The cage writes files and directories; what the layer removes is marked afterwards, as overlayfs wants it: a
character device 0:0 for a name that is gone, an attribute on a directory that hides what is below.
"""

from __future__ import annotations

import errno
import json
import os
import stat

from appc.aci import cage, tar
from appc.aci.limits import DEFAULT, Limits
from appc.aci.unpack import Unpacker
from linux.named_tuple import NamedTuple
from linux.paths import Root
from oci.layers.flatten import Source
from oci.layers.plain import OpenLayer, Tap, check_diff_id
from oci.layers.tree import Tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence, Set

OPAQUE_ATTRIBUTE = b"trusted.overlay.opaque"
#: For overlays mounted with the option userxattr, as those of a user namespace are.
USER_OPAQUE_ATTRIBUTE = b"user.overlay.opaque"


class Unpacked(NamedTuple):
    """What was made of a layer. Names are relative to its root, which is ``.``.

    `whiteouts` and `opaques` are for `mark`. `described` directories have an entry of their own, `implied`
    ones only something in them. With `links_below` nothing usable was written: the layer holds a hard link
    into another one.
    """

    diff_id: str
    links_below: bool
    whiteouts: frozenset[bytes]
    opaques: frozenset[bytes]
    described: frozenset[bytes]
    implied: frozenset[bytes]
    devices: int = 0
    attributes: int = 0
    walls: tuple[str, ...] = ()
    #: Bytes of all files.
    size: int = 0


def unpack(source: Source, directory: int | str, *, limits: Limits = DEFAULT) -> Unpacked:
    """Put the layer's own files into the empty `directory` (fd or path), in a cage; then call `mark`.

    Device nodes are never made: what a lower layer has at their place is removed. Raises, and leaves things,
    as `oci.layers.flatten.to_directory` does. The caller must have a single thread.
    """
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    root = os.open(directory, flags) if isinstance(directory, str) else -1
    opened = OpenLayer(source.file, limits)
    try:
        owners = os.geteuid() == 0

        def work(inside: int) -> bytes:
            unpacker = Unpacker(inside, owners=owners)
            tap = Tap(opened.chunks(), source.diff_id)
            tree = Tree(limits, alone=True)
            tree.start()
            devices, size = _write(tar.TarReader(iter(tap), limits, rooted=True), tree, unpacker)
            unpacker.finish()
            whiteouts, opaques = _orders(tree, devices)
            described, implied = _directories(tree, whiteouts)
            names = [sorted(map(_text, part)) for part in (whiteouts, opaques, described, implied)]
            counts = [unpacker.devices, unpacker.attributes, size]
            return json.dumps([tap.diff_id, tree.links_below, *names, *counts]).encode()

        target = directory if isinstance(directory, int) else root
        with cage.start(work, directory=target, keep=opened.fds(), file_size=limits.size) as child:
            diff_id, links, *parts, devices, attributes, size = json.loads(child.result())
            opened.finish(passes=1)
            if not links:
                check_diff_id(source.diff_id, diff_id, 0)
            whiteouts, opaques, described, implied = (frozenset(map(_bytes, part)) for part in parts)
            return Unpacked(
                diff_id, links, whiteouts, opaques, described, implied, devices, attributes, child.walls, size
            )
    finally:
        opened.close()
        if root >= 0:
            os.close(root)


def _text(name: bytes) -> str:
    return name.decode("latin-1")


def _bytes(name: str) -> bytes:
    return name.encode("latin-1")


def _write(reader: tar.TarReader, tree: Tree, unpacker: Unpacker) -> tuple[set[bytes], int]:
    """Write the entries; the names of devices, which are left out, and the bytes of all files.

    A link into another layer ends it.
    """
    devices: set[bytes] = set()
    size = 0
    for ordinal, entry in enumerate(reader):
        if not tree.add(ordinal, entry):
            continue
        if tree.links_below:
            break
        if entry.kind is tar.FILE:
            size += entry.size
        if entry.kind in {tar.CHARACTER_DEVICE, tar.BLOCK_DEVICE}:
            devices.add(entry.name)
        unpacker.add(entry, reader.content())
    return devices, size


def _orders(tree: Tree, devices: set[bytes]) -> tuple[set[bytes], set[bytes]]:
    """What is to be marked: a name that is removed and there again hides what was there, if a directory."""
    whiteouts = set(devices)
    opaques = set(tree.opaques)
    for name in tree.whiteouts:
        node = tree.find(name)
        if node is None:
            whiteouts.add(name)
        elif node.content is None:
            opaques.add(name)
    # In a directory that is not merged with another a whiteout would be listed, as a file that is not there.
    return {name for name in whiteouts if not _is_inside(name, opaques)}, opaques


def _is_inside(name: bytes, directories: Set[bytes]) -> bool:
    """Whether `name` lies below one of `directories`."""
    if not directories:
        return False
    above = name.rpartition(b"/")[0]
    while above and above not in directories:
        above = above.rpartition(b"/")[0]
    return bool(above) or b"." in directories


def _directories(tree: Tree, whiteouts: Iterable[bytes]) -> tuple[set[bytes], set[bytes]]:
    described = {b"."} if tree.root.entry is not None else set()
    implied = {b"."} - described
    for name, node in tree.walk():
        if node.content is None:
            (described if node.entry is not None else implied).add(name)
    for name in whiteouts:
        above = name.rpartition(b"/")[0]
        while above and above not in described:
            implied.add(above)
            above = above.rpartition(b"/")[0]
    return described, implied


def mark(directory: int, layer: Unpacked, *, attribute: bytes = OPAQUE_ATTRIBUTE) -> None:
    """Make the whiteouts and opaque directories of `layer` in `directory` (an fd; it is borrowed).

    The attribute of ordinary overlays needs CAP_SYS_ADMIN in the first user namespace. May be repeated.
    """
    root = Root(os.dup(directory))
    try:
        for name in sorted(layer.whiteouts):
            _mark_gone(root, name)
        for name in sorted(layer.opaques):
            fd = root.make_directories(os.fsdecode(name), follow=False)
            try:
                os.setxattr(f"/proc/self/fd/{fd}", attribute, b"y")
            finally:
                os.close(fd)
    finally:
        root.close()


def _mark_gone(root: Root, name: bytes) -> None:
    parent, base = root.parent(os.fsdecode(name), create_mode=0o755, follow=False)
    try:
        before = os.fstat(parent)
        os.mknod(base, stat.S_IFCHR, 0, dir_fd=parent)
        os.utime(f"/proc/self/fd/{parent}", ns=(before.st_atime_ns, before.st_mtime_ns))
    except FileExistsError:
        found = os.lstat(base, dir_fd=parent)
        if not (stat.S_ISCHR(found.st_mode) and found.st_rdev == 0):
            raise OSError(errno.EEXIST, os.strerror(errno.EEXIST), os.fsdecode(name)) from None
    finally:
        os.close(parent)


def stackable(layers: Sequence[Unpacked]) -> bool:
    """Whether an overlay of `layers` (the lowest first) shows the same as `flatten` would make.

    It does not where a layer links into another one, hides all that is below its root (which an overlay does
    not ask), or holds a directory that it does not describe and a lower one does: an overlay shows the
    properties of the topmost. The root's are copied easily, so it does not count. Nor where a layer removes
    something of a directory that no lower one has: an overlay would list the whiteout. (In /dev it may: a pod
    has its own there, and old images have devices, which are not made.)
    """
    described: set[bytes] = set()
    there: set[bytes] = {b""}
    for place, layer in enumerate(layers):
        if layer.links_below or (layer.implied - {b"."}) & described or (place and b"." in layer.opaques):
            return False
        removed_from = {name.rpartition(b"/")[0] for name in layer.whiteouts if not name.startswith(b"dev/")}
        if not removed_from <= there:
            return False
        if hiding := layer.whiteouts | layer.opaques:
            there = {name for name in there if name not in layer.whiteouts and not _is_inside(name, hiding)}
            described &= there
        described |= layer.described
        there |= {b"", *layer.described, *layer.implied}
    return True
