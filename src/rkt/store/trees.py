"""Rendered trees: an image over its dependencies as a directory, made once and shared by all pods.

A tree is there when its directory has its final name (D3). Files keep the owners that the image says; a pod
with a user namespace shifts them with an idmapped mount.
"""

from __future__ import annotations

import os

from linux import files
from linux.named_tuple import NamedTuple
from rkt.errors import RktError
from rkt.store import blobs
from rkt.store.paths import make_directory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from appc.aci.limits import Limits
    from appc.aci.treehash import TreeHash
    from appc.render import Step
    from rkt.store.paths import Paths


#: In a tree that is made of layers: their directories below cas/layer, the topmost first, one a line.
LAYERS = "layers"


class Tree(NamedTuple):
    """A rendered tree. `lowers` are the directories for an overlay mount, the topmost first.

    The files of an image are all in `rootfs_path` unless there are more `lowers` than this one.
    """

    id: str
    rootfs_path: str
    lowers: tuple[str, ...]


def tree_id(steps: Sequence[Step]) -> str:
    """The name of the tree that the steps make: another dependency is another tree."""
    return tree_name([step.image_id for step in steps])


def tree_name(images: Sequence[str]) -> str:
    """The name of the tree that these images make, in this order."""
    try:
        # Up to Python 3.11; `hashlib` would load OpenSSL, 5 ms of a warm start.
        from _sha512 import sha512  # type: ignore[import-not-found]
    except ImportError:
        from hashlib import sha512
    return f"deps-sha512-{sha512(','.join(images).encode()).hexdigest()}"


def find(paths: Paths, name: str) -> Tree | None:
    """The tree, if it has been rendered."""
    return found(paths, name) if os.path.isdir(f"{paths.tree(name)}/rootfs") else None


def found(paths: Paths, name: str) -> Tree:
    """The tree, which is there."""
    rootfs = f"{paths.tree(name)}/rootfs"
    return Tree(name, rootfs, (rootfs, *(f"{paths.layers}/{one}/rootfs" for one in layer_names(paths, name))))


def layer_names(paths: Paths, name: str) -> list[str]:
    """The directories of the layers that the tree is made of, the topmost first; none for a rendered one."""
    try:
        fd = os.open(f"{paths.tree(name)}/{LAYERS}", os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return []
    try:
        return os.read(fd, 1 << 20).decode("ascii", "replace").split()
    finally:
        os.close(fd)


def render(
    paths: Paths, steps: Sequence[Step], manifest: bytes, *, limits: Limits, trusted: Iterable[str] = ()
) -> Tree:
    """Make the tree of `steps`, unless another process just did. Durable at the end.

    Every archive is compared with its ID while it is unpacked, except the `trusted` ones, which this process
    has just hashed: what a failing disk changed is not run.
    """
    name = tree_id(steps)
    make_directory(paths.tree_locks)
    lock = files.lock_file(paths.tree_lock(name), exclusive=True)
    try:
        if (known := find(paths, name)) is not None:
            return known
        make_directory(paths.trees)
        make_directory(paths.temporary)
        temporary = files.temporary_directory(paths.temporary, name)
        with temporary as directory:
            _fill(paths, steps, manifest, directory, frozenset(trusted), limits)
            os.rename(directory, paths.tree(name))
            temporary.keep()
            files.sync_directory(paths.trees)
        return found(paths, name)
    finally:
        os.close(lock)


def _fill(
    paths: Paths,
    steps: Sequence[Step],
    manifest: bytes,
    directory: str,
    trusted: frozenset[str],
    limits: Limits,
) -> None:
    from appc import render as rendering

    needed = rendering.needed(steps)
    rootfs = f"{directory}/rootfs"
    os.mkdir(rootfs, 0o700)  # as the image says in the end; 0755 when it says nothing
    suspects = sorted({str(step.image_id) for step in needed} - trusted)
    extracted = rendering.render(
        needed,
        lambda image_id: blobs.open_blob(paths, image_id),
        rootfs,
        limits=limits,
        measured=True,
        meanwhile=lambda: _check(paths, suspects),
    )
    tree = extracted.tree or measure(rootfs)
    for name, data in (
        ("manifest", manifest),
        ("hash", tree.hash.encode()),
        ("size", b"%d" % tree.size),
        ("image", str(steps[-1].image_id).encode()),
        ("rendered", b""),
    ):
        put(directory, name, data)
    files.sync_filesystem(directory)


def put(directory: str, name: str, data: bytes) -> None:
    """Write a new file of a tree in the making."""
    fd = os.open(f"{directory}/{name}", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(fd, "wb") as file:
        file.write(data)


def _check(paths: Paths, image_ids: Iterable[str]) -> None:
    for image_id in image_ids:
        with blobs.open_stored(paths, image_id) as blob:
            if blobs.digest(blob.fileno()) != image_id:
                raise RktError(
                    f"image {image_id[:39]}: the archive in the store is damaged",
                    hint=f"remove it with `rkt image rm {image_id[:39]}` and fetch it again",
                )


def expected_hash(paths: Paths, name: str) -> str:
    """The hash that the tree had when it was made; empty when that was lost."""
    return _read(f"{paths.tree(name)}/hash")


def size(paths: Paths, name: str) -> int:
    """Bytes of all files of the tree; 0 when there is no such tree."""
    text = _read(f"{paths.tree(name)}/size")
    return int(text) if text.isdigit() else 0


def image_of(paths: Paths, name: str) -> str:
    """The ID of the image that the tree was made for; empty when that was lost."""
    return _read(f"{paths.tree(name)}/image")


def _read(path: str) -> str:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read(4096).strip()
    except (FileNotFoundError, NotADirectoryError):
        return ""


def measure(rootfs: str) -> TreeHash:
    """Hash the tree in the directory `rootfs` as it is now."""
    from appc.aci import treehash

    root = os.open(rootfs, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return treehash.measure(root)
    finally:
        os.close(root)


def remove(paths: Paths, name: str) -> bool:
    """Remove a tree that no pod uses; the caller holds the prepare lock. False when it was gone already.

    It loses its name first, in one step, so that half a tree is never taken for a tree.
    """
    make_directory(paths.tree_locks)
    lock = files.lock_file(paths.tree_lock(name), exclusive=True)
    try:
        temporary = f"{paths.temporary}/.tmp-{os.getpid()}-{name}"
        make_directory(paths.temporary)
        try:
            os.rename(paths.tree(name), temporary)
        except FileNotFoundError:
            return False
        files.sync_directory(paths.trees)
        files.remove_tree(temporary)
        os.unlink(paths.tree_lock(name))
        return True
    finally:
        os.close(lock)
