"""Checking images of layers: every blob against its digest, every unpacked layer against its blob."""

from __future__ import annotations

import os

from appc.errors import AppcError
from oci import blobs as stores
from oci.errors import InvalidImage, OciError
from rkt.errors import RktError
from rkt.store import gc, trees
from rkt.store.oci import collecting, content, layers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from appc.aci.limits import Limits
    from oci.types.descriptor import Descriptor
    from oci.types.digest import Digest
    from rkt.store.oci.records import StoredLayer
    from rkt.store.paths import Paths
    from rkt.store.store import Store


def check_blobs(
    paths: Paths, problems: list[str], repairs: list[str], *, repair: bool, note: Callable[[str], object]
) -> None:
    """Hash what the images are made of. A damaged blob is removed with `repair`: a fetch brings it again."""
    if not os.path.isdir(paths.content):
        return
    seen: set[Digest] = set()
    store = content.blobs(paths)
    for image_id, record in collecting.all_records(paths):
        for descriptor in record.blobs:
            if descriptor.digest in seen:
                continue
            seen.add(descriptor.digest)
            note(f"blob {descriptor.digest}")
            problem = _problem(store.place(descriptor.digest), descriptor)
            if problem is None:
                continue
            problems.append(f"image {image_id[:39]}: {descriptor.digest}: {problem}")
            if repair and os.path.exists(store.place(descriptor.digest)):
                os.unlink(store.place(descriptor.digest))
                repairs.append(f"removed the damaged {descriptor.digest}: fetch the image again")


def _problem(path: str, descriptor: Descriptor) -> str | None:
    try:
        with open(path, "rb") as file:
            stores.verify(file, descriptor)
    except FileNotFoundError:
        return "is not there"
    except (InvalidImage, OSError) as error:
        return str(error)
    return None


def check_layers(
    store: Store,
    problems: list[str],
    repairs: list[str],
    *,
    repair: bool,
    note: Callable[[str], object],
    limits: Limits,
) -> None:
    """Compare unpacked layers with their blobs; those whose image is gone cannot be, and are left alone."""
    paths = store.paths
    known: dict[Digest, StoredLayer] = {}
    for _, record in collecting.all_records(paths):
        known.update({layer.diff_id: layer for layer in record.layers})
    blobs = content.blobs(paths) if known else None
    for diff_id in layers.stored(paths):
        if diff_id not in known or blobs is None:
            continue
        note(f"layer {diff_id}")
        try:
            problem = layers.compare(paths, known[diff_id], blobs, limits)
        except (AppcError, OciError, OSError) as error:
            problem = str(error)
        if problem is None:
            continue
        problems.append(f"layer {diff_id}: {problem}")
        if repair:
            _remove(store, diff_id, problems, repairs)


def _remove(store: Store, diff_id: Digest, problems: list[str], repairs: list[str]) -> None:
    """Remove a damaged layer with the trees that have it, unless a pod uses one of them."""
    paths, name = store.paths, layers.name_of(diff_id)
    having = [tree for tree in paths.tree_ids() if name in trees.layer_names(paths, tree)]
    if gc.used_by_pods(store.data_dir).trees & set(having):
        problems.append(f"layer {diff_id}: a pod uses it, so it was left")
        return
    with content.Idle(paths) as idle:
        if not idle:
            raise RktError("an image is being fetched", hint="try again when that is done")
        for tree in having:
            trees.remove(paths, tree)
        layers.remove(paths, diff_id)
    repairs.append(f"removed the damaged layer {diff_id}")
