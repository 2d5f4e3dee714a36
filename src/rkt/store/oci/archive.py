"""An archive of an image of layers, for whoever wants an ACI: exports, dependencies of other images."""

from __future__ import annotations

import os
from contextlib import ExitStack

from appc.aci import header, tar
from appc.aci.layout import ROOTFS
from appc.aci.limits import DEFAULT, Limits
from appc.aci.writer import manifest_entry
from linux import files
from oci.convert.to_aci import DEVICE_LINKS
from oci.layers import flatten
from rkt.store.oci.trees import open_layers
from rkt.store.paths import make_directory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import BinaryIO

    from rkt.store.oci.records import Record
    from rkt.store.paths import Paths


def write(paths: Paths, record: Record, sink: Callable[[bytes], object], *, limits: Limits = DEFAULT) -> None:
    """Give `sink` the bytes of a plain archive: the same image gives the same. Layers are verified."""
    data = record.image_manifest.encode()
    head = header.encode(manifest_entry(len(data))) + data + bytes(-len(data) % tar.BLOCK)
    with ExitStack() as opened:
        sources = open_layers(paths, record.layers, opened.enter_context)
        flatten.to_archive(
            sources, sink, head=lambda _: head, prefix=ROOTFS, links=DEVICE_LINKS, limits=limits
        )


def unnamed(paths: Paths, record: Record) -> BinaryIO:
    """The archive in a file without a name, to read."""
    make_directory(paths.temporary)
    file = os.fdopen(files.anonymous_file(paths.temporary), "w+b")
    try:
        write(paths, record, file.write)
        file.flush()
        file.seek(0)
    except BaseException:
        file.close()
        raise
    return file
