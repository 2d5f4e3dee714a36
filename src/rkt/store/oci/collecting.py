"""Garbage of images of layers: layers that no tree has, blobs that no image has."""

from __future__ import annotations

import os
import time

from rkt.errors import RktError
from rkt.store import blobs
from rkt.store.oci import content, layers, records, trees

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from oci.types.digest import Digest
    from rkt.store.oci.records import Record
    from rkt.store.paths import Paths


def all_records(paths: Paths) -> Iterator[tuple[str, Record]]:
    """ID and record of every image of layers. RktError for a damaged record: its parts are not known."""
    for image_id in paths.image_ids():
        try:
            with open(paths.blob(image_id), "rb") as file:
                if not blobs.is_record(file.fileno()):
                    continue
                yield image_id, records.read(file.fileno())
        except FileNotFoundError:
            continue
        except ValueError as error:
            raise RktError(
                f"image {image_id[:39]}: its record is damaged: {error}",
                hint="`rkt image fsck --repair` removes it",
            ) from None


def collect(paths: Paths, *, grace: float, failed: Callable[[str, Exception], object]) -> list[str]:
    """Remove what is not needed; their names. Nothing while somebody fetches: the next collection will.

    `grace` in seconds: the part of a blob that was added to since then stays.
    """
    removed: list[str] = []
    if not os.path.isdir(paths.content):
        return removed
    with content.Idle(paths) as idle:
        if not idle:
            return removed
        used = trees.layers_in_use(paths)
        for diff_id in layers.stored(paths):
            if diff_id not in used:
                try:
                    layers.remove(paths, diff_id)
                    removed.append(f"layer {diff_id}")
                except OSError as error:
                    failed(str(diff_id), error)
        try:
            needed = needed_blobs(paths)
            removed += content.collect(paths, needed, older_than=time.time() - grace)
        except (RktError, OSError) as error:
            failed("blobs", error)
    return removed


def needed_blobs(paths: Paths) -> set[Digest]:
    """The digests of all that images are made of."""
    return {one.digest for _, record in all_records(paths) for one in record.blobs}
