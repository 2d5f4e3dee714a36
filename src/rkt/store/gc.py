"""Image garbage collection: trees that no pod uses, then images that nothing has used for a while.

Reconciles with what is on the disk (D6): any number may run at once, after any crash. While it works it holds
the lock that every preparation of a pod shares, so no pod can begin to use what it is about to remove.
"""

from __future__ import annotations

import os
import time

from linux import files
from linux.named_tuple import NamedTuple
from rkt.errors import RktError
from rkt.store import trees
from rkt.store.paths import make_directory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rkt.store.store import ImageInfo, Store

_PREPARE_LOCK = "locks/prepareLock"
#: Phases in which a pod holds on to its trees, and those in which it may yet be run and so to its images.
_PHASES = ("embryo", "prepare", "prepared", "run", "exited-garbage", "garbage")
_LIVE = ("embryo", "prepare", "prepared", "run")
_LARGEST_FILE = 8 << 20


class Used(NamedTuple):
    """What pods refer to: tree IDs, and image IDs of pods that are prepared or run."""

    trees: frozenset[str]
    images: frozenset[str]


def used_by_pods(data_dir: str) -> Used:
    """Look into every pod. A pod that moves meanwhile is found in its old or its new phase, or both."""
    tree_ids: set[str] = set()
    image_ids: set[str] = set()
    # The later phases again at the end: a pod only ever moves forward.
    for phase in (*_PHASES, *_PHASES[2:]):
        for pod in _entries(f"{data_dir}/pods/{phase}"):
            tree_ids.update(_trees_of(pod))
            if phase in _LIVE:
                image_ids.update(_images_of(pod))
    return Used(frozenset(tree_ids), frozenset(image_ids))


def _entries(directory: str) -> list[str]:
    try:
        return [f"{directory}/{name}" for name in os.listdir(directory)]
    except (FileNotFoundError, NotADirectoryError):
        return []


def _trees_of(pod: str) -> Iterator[str]:
    for path in (f"{pod}/stage1TreeStoreID", *(f"{app}/treeStoreID" for app in _entries(f"{pod}/appsinfo"))):
        if data := _read(path):
            yield data.decode("ascii", "replace").strip()


def _images_of(pod: str) -> Iterator[str]:
    """The image IDs in the pod's manifest; none when it cannot be read yet (its trees are kept anyway)."""
    from appc import jsonfield

    try:
        manifest = jsonfield.parse(_read(f"{pod}/pod"))
    except ValueError:
        return
    apps = manifest.get("apps") if isinstance(manifest, dict) else None
    for app in apps if isinstance(apps, list) else []:
        image = app.get("image") if isinstance(app, dict) else None
        image_id = image.get("id") if isinstance(image, dict) else None
        if isinstance(image_id, str):
            yield image_id.lower()


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(_LARGEST_FILE)
    except (FileNotFoundError, NotADirectoryError):
        return b""


class Alone:
    """``with Alone(data_dir):`` no pod is being prepared, and none begins to be."""

    def __init__(self, data_dir: str) -> None:
        self._path = f"{data_dir}/{_PREPARE_LOCK}"
        self._fd = -1

    def __enter__(self) -> None:
        try:
            make_directory(os.path.dirname(self._path))
            self._fd = files.lock_file(self._path, exclusive=True)
        except OSError as error:
            import errno

            if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
                raise
            # A disk too full for an empty file: nothing can be prepared on it either.

    def __exit__(self, *exception: object) -> None:
        if self._fd >= 0:
            os.close(self._fd)


def collect(
    store: Store,
    *,
    grace: float,
    removed_tree: Callable[[str], object],
    removed_image: Callable[[ImageInfo], object],
    failed: Callable[[str, Exception], object],
) -> None:
    """Collect what is not used. `grace` in seconds: an image used since then stays.

    Images that prepared or running pods were made of stay, too. One failure does not keep the rest. Of images
    of layers it is layers that no tree has, and blobs that no image has.
    """
    with Alone(store.data_dir):
        used = used_by_pods(store.data_dir)
        for name in store.paths.tree_ids():
            if name in used.trees:
                continue
            try:
                if trees.remove(store.paths, name):
                    removed_tree(name)
            except OSError as error:
                failed(name, error)
        collect_temporary(store)
        now = time.time()
        for image in store.images():
            if image.id in used.images or now - image.last_used < grace:
                continue
            try:
                store.remove(image.id)
                removed_image(image)
            except (RktError, OSError) as error:
                failed(image.id, error)
        if os.path.isdir(store.paths.content):
            from rkt.store.oci import collecting

            collecting.collect(store.paths, grace=grace, failed=failed)


def collect_temporary(store: Store) -> list[str]:
    """Remove what killed processes left half done."""
    left = files.collect_temporary(store.paths.temporary)
    for directory in (store.paths.blobs, store.paths.manifests):
        for group in _entries(directory):
            left += files.collect_temporary(group)
    return left
