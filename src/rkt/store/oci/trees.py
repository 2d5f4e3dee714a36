"""Trees of images of layers: a list of layers to be laid over each other, or one directory made of them all.

The first is what a pod with an overlay gets; its `rootfs` is an empty directory with the properties of the
image's root, on top of the layers in the file `layers`. The second is for images that no overlay shows as
they are, and for whoever wants plain directories.
"""

from __future__ import annotations

import os
from contextlib import ExitStack

from linux import files
from oci.layers import flatten
from oci.layers.flatten import Source
from rkt.store import trees
from rkt.store.oci import content, layers
from rkt.store.paths import make_directory
from rkt.store.trees import Tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from appc.aci.limits import Limits
    from appc.aci.treehash import TreeHash
    from oci.types.digest import Digest
    from rkt.store.oci.records import Record, StoredLayer
    from rkt.store.paths import Paths

#: Overlayfs takes 500 lower directories, and each costs a look at every name that is not there.
_MOST_STACKED = 200
_FLAT = "flat"


def names_of(image_id: str) -> tuple[str, str]:
    """The names of an image's tree, and of the one that is a plain directory where the first is not."""
    return trees.tree_name((image_id,)), trees.tree_name((image_id, _FLAT))


def find(paths: Paths, image_id: str, *, flat: bool) -> Tree | None:
    """The tree if it has been made; with `flat` only one that is a single directory."""
    stacked, plain = names_of(image_id)
    found = trees.find(paths, stacked)
    if flat and (found is None or len(found.lowers) > 1):
        return trees.find(paths, plain)
    return found


def make(paths: Paths, image_id: str, record: Record, *, flat: bool, limits: Limits) -> Tree:
    """Make the tree, unless another process just did. Durable at the end."""
    name = names_of(image_id)[flat]
    make_directory(paths.tree_locks)
    with content.InUse(paths), ExitStack() as held:
        held.callback(os.close, files.lock_file(paths.tree_lock(name), exclusive=True))
        if (found := find(paths, image_id, flat=flat)) is not None:
            return found
        blobs = content.blobs(paths)
        size = 0
        stack = not flat and len(record.layers) <= _MOST_STACKED
        if stack and (stack := layers.ensure(paths, record.layers, blobs, limits)):
            stack, size = layers.stackable(paths, record.diff_ids)
        make_directory(paths.trees)
        make_directory(paths.temporary)
        temporary = held.enter_context(_Named(paths, name))
        if stack:
            tree = _stack(paths, record, temporary.path)
        else:
            tree = _flatten(paths, record, temporary.path, limits)
            size = tree.size
        trees.put(temporary.path, "hash", tree.hash.encode())
        trees.put(temporary.path, "manifest", record.image_manifest.encode())
        trees.put(temporary.path, "size", b"%d" % size)
        trees.put(temporary.path, "image", image_id.encode())
        trees.put(temporary.path, "rendered", b"")
        temporary.commit()
        return trees.found(paths, name)


class _Named:
    """``with _Named(paths, name) as tree``: fill the directory `tree.path`, then `commit` names it."""

    def __init__(self, paths: Paths, name: str) -> None:
        self._paths = paths
        self._name = name
        self._temporary = files.temporary_directory(paths.temporary, name)
        self.path = self._temporary.path

    def __enter__(self) -> _Named:
        self._temporary.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        self._temporary.__exit__(None, None, None)

    def commit(self) -> None:
        files.sync_filesystem(self.path)
        os.rename(self.path, self._paths.tree(self._name))
        self._temporary.keep()
        files.sync_directory(self._paths.trees)


def _stack(paths: Paths, record: Record, directory: str) -> TreeHash:
    """Name the layers, the topmost first, and make the root with the properties that the image gives it."""
    top = f"{directory}/rootfs"
    os.mkdir(top, 0o755)
    os.chmod(top, 0o755)  # noqa: S103  the root of an image; the umask may have taken some
    order = list(reversed(record.diff_ids))
    trees.put(directory, trees.LAYERS, "".join(f"{layers.name_of(one)}\n" for one in order).encode())
    for diff_id in order:
        if b"." in layers.facts(paths, diff_id).described:
            _copy_properties(layers.rootfs(paths, diff_id), top)
            break
    return trees.measure(top)


def _copy_properties(source: str, target: str) -> None:
    info = os.stat(source)
    os.chown(target, info.st_uid, info.st_gid)
    os.chmod(target, info.st_mode & 0o7777)
    for name in os.listxattr(source):
        if not name.startswith("trusted."):
            os.setxattr(target, name, os.getxattr(source, name))
    os.utime(target, ns=(info.st_atime_ns, info.st_mtime_ns))


def _flatten(paths: Paths, record: Record, directory: str, limits: Limits) -> TreeHash:
    top = f"{directory}/rootfs"
    os.mkdir(top, 0o700)
    with ExitStack() as opened:
        sources = open_layers(paths, record.layers, opened.enter_context)
        tree = flatten.to_directory(sources, top, limits=limits, measured=True).tree
    return tree or trees.measure(top)


def open_layers(paths: Paths, wanted: Sequence[StoredLayer], enter: Callable[..., object]) -> list[Source]:
    """The layers, the lowest first, to be read; `enter` closes the files in the end."""
    blobs = content.blobs(paths)
    sources = []
    for layer in wanted:
        file = blobs.open(layer.descriptor)
        enter(file)
        sources.append(Source(file, layer.diff_id))
    return sources


def layers_in_use(paths: Paths) -> set[Digest]:
    """The diff IDs of all layers that a tree is made of."""
    used: set[str] = set()
    for name in paths.tree_ids():
        used.update(trees.layer_names(paths, name))
    return {diff_id for diff_id in layers.stored(paths) if layers.name_of(diff_id) in used}
