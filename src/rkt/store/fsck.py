"""Checking the whole store, and making the index anew from the files (D2)."""

from __future__ import annotations

import os

from linux import files
from linux.named_tuple import NamedTuple
from rkt.errors import RktError, one_line
from rkt.store import blobs, gc, trees

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from rkt.store.index import Row
    from rkt.store.store import Store


class Findings(NamedTuple):
    """What was looked at, what is wrong with it, and what was done about it."""

    images: int
    trees: int
    problems: list[str]
    repairs: list[str]


def check(store: Store, *, repair: bool, note: Callable[[str], object]) -> Findings:
    """Hash every archive and every tree, compare, rebuild the index, collect leftovers.

    With `repair` damaged archives and trees are removed, trees only if no pod uses them. `note` is told what
    is being looked at. Waits until nobody else writes to the store.
    """
    problems: list[str] = []
    repairs: list[str] = []
    if not os.path.isdir(store.paths.cas):
        return Findings(0, 0, problems, repairs)
    # In this order, as preparations do: the other way round each would wait for the other.
    with gc.Alone(store.data_dir):
        lock = files.lock_directory(store.paths.cas, exclusive=True)
        try:
            left = gc.collect_temporary(store)
            repairs.extend(f"removed {name}, which a killed process left" for name in left)
            rows = _check_images(store, problems, repairs, repair=repair, note=note)
            count = _check_trees(store, problems, repairs, repair=repair, note=note)
            _check_layers(store, problems, repairs, repair=repair, note=note)
            _check_index(store, rows, problems, repairs)
        finally:
            os.close(lock)
    return Findings(len(rows), count, problems, repairs)


def _check_images(
    store: Store, problems: list[str], repairs: list[str], *, repair: bool, note: Callable[[str], object]
) -> list[Row]:
    from rkt.store.index import Row

    known = store.index().all()
    rows = []
    for image_id in list(store.paths.image_ids()):
        note(f"image {image_id[:39]}")
        problem, name = _check_image(store, image_id, repairs)
        if problem is None:
            latest = known[image_id].latest if image_id in known else False
            rows.append(Row(image_id, name, latest))
            continue
        problems.append(f"image {image_id[:39]}: {problem}")
        if repair:
            blobs.remove(store.paths, image_id)
            repairs.append(f"removed the damaged image {image_id[:39]}")
    for group in sorted(os.listdir(store.paths.manifests)) if os.path.isdir(store.paths.manifests) else []:
        for name in sorted(os.listdir(f"{store.paths.manifests}/{group}")):
            if not os.path.exists(store.paths.blob(name)):
                os.unlink(f"{store.paths.manifests}/{group}/{name}")
                repairs.append(f"removed the manifest {name[:39]}, which has no image")
    return rows


def _check_layers(
    store: Store, problems: list[str], repairs: list[str], *, repair: bool, note: Callable[[str], object]
) -> None:
    """What images of layers are made of, and the layers themselves."""
    if not os.path.isdir(store.paths.content):
        return
    from rkt.store.oci import checking

    try:
        checking.check_blobs(store.paths, problems, repairs, repair=repair, note=note)
        checking.check_layers(store, problems, repairs, repair=repair, note=note, limits=store.limits())
    except RktError as error:
        problems.append(str(error))


def _check_image(store: Store, image_id: str, repairs: list[str]) -> tuple[str | None, str]:
    """What is wrong with an archive, and the name in its manifest; a wrong copy of the manifest is mended."""
    from appc.errors import AppcError
    from appc.schema.image import ImageManifest

    try:
        with blobs.open_stored(store.paths, image_id) as blob:
            found = blobs.digest(blob.fileno())
            if found != image_id:
                return f"the archive is damaged: its hash is {found[:39]}", ""
        inside = blobs.manifest_inside(store.paths, image_id)
        name = str(ImageManifest.parse(inside).name)
    except (AppcError, RktError, ValueError, OSError) as error:
        return one_line(error), ""
    if blobs.manifest_bytes(store.paths, image_id) != inside:
        os.unlink(store.paths.manifest(image_id))
        blobs.manifest_bytes(store.paths, image_id)
        repairs.append(f"image {image_id[:39]}: wrote its damaged manifest anew")
    return None, name


def _check_trees(
    store: Store, problems: list[str], repairs: list[str], *, repair: bool, note: Callable[[str], object]
) -> int:
    used = gc.used_by_pods(store.data_dir).trees
    count = 0
    for name in store.paths.tree_ids():
        note(f"tree {name[:44]}")
        count += 1
        try:
            expected = trees.expected_hash(store.paths, name)
            found = trees.measure(f"{store.paths.tree(name)}/rootfs").hash
            for layer in trees.layer_names(store.paths, name):
                os.stat(f"{store.paths.layers}/{layer}/rootfs")
        except OSError as error:
            problem = one_line(error)
        else:
            problem = f"wrong tree hash: {found[:39]}, expected: {expected[:39]}" if found != expected else ""
        if not problem:
            continue
        problems.append(f"tree {name[:44]}: {problem}")
        if repair and name in used:
            problems.append(f"tree {name[:44]}: a pod uses it, so it was left")
        elif repair:
            trees.remove(store.paths, name)
            repairs.append(f"removed the damaged tree {name[:44]}")
    return count


def _check_index(store: Store, rows: list[Row], problems: list[str], repairs: list[str]) -> None:
    index = store.index()
    before = index.all()
    damage = index.check()
    problems.extend(f"index: {text}" for text in damage)
    if damage or {row.image_id: row for row in rows} != before:
        try:
            index.rebuild(rows)
        except (RktError, OSError) as error:
            problems.append(f"index: {one_line(error)}")
            return
        repairs.append("made the index anew from the files")
