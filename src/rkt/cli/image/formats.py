"""Images as images of layers, whatever they are: what `push`, `convert` and `inspect` work on."""

from __future__ import annotations

import os
from contextlib import contextmanager

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from oci.image import Image
    from rkt.store import Store


@contextmanager
def as_layers(store: Store, image_id: str, note: Callable[[str], object]) -> Iterator[Image]:
    """``with as_layers(store, image_id, note) as image``: as it was fetched, or one layer made of an ACI.

    `note` is told what OCI cannot say of an ACI. The layer's times are those of the files, so the same ACI
    gives the same image. Its blobs are there inside.
    """
    record = store.record(image_id)
    if record is not None:
        from rkt.store.oci import content

        with content.InUse(store.paths):
            yield content.image(store.paths, record)
        return
    from linux.files import temporary_directory
    from oci.blobs import BlobDirectory
    from oci.convert import to_image

    notes: list[str] = []
    manifest = store.manifest(image_id)
    with temporary_directory(store.temporary_path, "convert") as directory:
        blobs = BlobDirectory(directory, durable=False)
        if manifest.dependencies or manifest.path_whitelist:
            root = os.open(store.tree(image_id).rootfs_path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                image = to_image.from_tree(root, manifest, blobs, notes)
            finally:
                os.close(root)
        else:
            with store.open_blob(image_id) as blob:
                image = to_image.from_aci(blob, blobs, notes, limits=store.limits())[1]
        for text in notes:
            note(text)
        yield image
