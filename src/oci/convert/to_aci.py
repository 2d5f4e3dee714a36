"""Whole images as ACIs: squashed into one, or one for each layer. The same image gives the same bytes."""

from __future__ import annotations

import hashlib
from contextlib import ExitStack

from appc.aci import compression as compressions
from appc.aci import header, tar
from appc.aci.layout import ROOTFS
from appc.aci.limits import DEFAULT, Limits
from appc.aci.writer import manifest_entry
from appc.types.image_id import ImageID
from linux.named_tuple import NamedTuple
from oci.convert import identity
from oci.convert.to_manifest import Ids, Origin, layered, manifest, platform_labels
from oci.layers import flatten
from oci.layers.flatten import Facts, Source

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager
    from typing import BinaryIO

    from appc.schema.image import ImageManifest
    from oci.image import Image
    from oci.types.config import ImageConfig

#: Where programs look for their standard streams; Docker makes these at run time, appc has them in the image.
DEVICE_LINKS = {
    b"dev/fd": b"/proc/self/fd",
    b"dev/stdin": b"/proc/self/fd/0",
    b"dev/stdout": b"/proc/self/fd/1",
    b"dev/stderr": b"/proc/self/fd/2",
}


class Converted(NamedTuple):
    """One ACI that was written. `notes` say what of the image could not be kept."""

    file: str
    image_id: ImageID
    manifest: ImageManifest
    notes: tuple[str, ...]


class _Output:
    """The archive on its way into a file: hashed, compressed."""

    def __init__(self, out: BinaryIO, compression: str) -> None:
        self._out = out
        self._compress, self._flush = compressions.deflater(compression)
        self._hash = hashlib.sha512()

    def write(self, data: bytes) -> None:
        self._hash.update(data)
        self._out.write(self._compress(data))

    def finish(self) -> ImageID:
        self._out.write(self._flush())
        self._out.flush()
        return ImageID.from_digest(self._hash.digest())


def _head(found: ImageManifest) -> bytes:
    data = found.encode()
    return header.encode(manifest_entry(len(data))) + data + bytes(-len(data) % tar.BLOCK)


def _open_layers(image: Image, stack: ExitStack) -> list[Source]:
    return [Source(stack.enter_context(image.open_layer(one)), one.diff_id) for one in image.layers]


def file_name(origin: Origin) -> str:
    """``library-busybox-latest.aci``: the name without its registry, and the tag."""
    return "-".join(part for part in (origin.repository.replace("/", "-"), origin.tag) if part) + ".aci"


def squashed(
    image: Image,
    origin: Origin,
    out: BinaryIO,
    *,
    ids: Ids,
    compression: str = compressions.GZIP,
    limits: Limits = DEFAULT,
) -> Converted:
    """Write all layers as one ACI to `out`. What is in `out` after an error is worth nothing."""
    notes: list[str] = []
    output = _Output(out, compression)
    found: list[ImageManifest] = []
    process = image.config.process
    needed = process is not None and identity.needs_files(process.user)
    wanted = (identity.PASSWD, identity.GROUP) if needed else ()

    def head(facts: Facts) -> bytes:
        found.append(manifest(image.config, origin, ids, notes, accounts=facts.files))
        return _head(found[0])

    with ExitStack() as stack:
        sources = _open_layers(image, stack)
        flatten.to_archive(
            sources,
            output.write,
            head=head,
            prefix=ROOTFS,
            wanted=wanted,
            links=DEVICE_LINKS,
            limits=limits,
        )
    return Converted(file_name(origin), output.finish(), found[0], tuple(notes))


def each_layer(
    image: Image,
    origin: Origin,
    open_output: Callable[[str], AbstractContextManager[BinaryIO]],
    *,
    manifest_hash: str,
    chain: Sequence[ImageConfig] = (),
    compression: str = compressions.GZIP,
    limits: Limits = DEFAULT,
) -> Iterator[Converted]:
    """Write an ACI for each layer, the lowest first, each depending on the one below it.

    `open_output(name)` gives the file for each. `chain` has the configurations of docker save's oldest form.
    """
    with ExitStack() as stack:
        sources = _open_layers(image, stack)
        wanted = identity.PASSWD, identity.GROUP
        facts = flatten.survey(sources, wanted=wanted, every_path=True, limits=limits)
        below: ImageManifest | None = None
        for place in range(len(sources)):
            notes: list[str] = []
            found, name = _layer_manifest(image, origin, manifest_hash, chain, place, notes, facts)
            found = layered(found, below, name, {*facts.paths[place], *DEVICE_LINKS})
            with open_output(_layer_file(found, origin, place, len(sources), chain)) as out:
                output = _Output(out, compression)
                alone = not facts.links_below[place]
                head = _head(found)
                flatten.to_archive(
                    sources[place : place + 1] if alone else sources[: place + 1],
                    output.write,
                    head=lambda _, head=head: head,  # type: ignore[misc]
                    prefix=ROOTFS,
                    top_only=not alone,
                    links=DEVICE_LINKS,
                    limits=limits,
                )
                image_id = output.finish()
            file = _layer_file(found, origin, place, len(sources), chain)
            yield Converted(file, image_id, found, tuple(notes))
            below = found


def _layer_manifest(
    image: Image,
    origin: Origin,
    manifest_hash: str,
    chain: Sequence[ImageConfig],
    place: int,
    notes: list[str],
    facts: Facts,
) -> tuple[ImageManifest, str]:
    """The manifest of one layer, and the name of its image. Only the topmost says what to run."""
    is_top = place == len(image.layers) - 1
    layer = image.layers[place].descriptor.digest.hex
    if chain:
        config = chain[place]
        ids = Ids(config.id, manifest_hash, config.parent)
        labels = {"layer": config.id, **({"version": origin.tag} if origin.tag else {})}
        labels |= platform_labels(config.platform)
        layer = config.id
    else:
        config = image.config if is_top else image.config._replace(process=None, author="", created="")
        ids = Ids(layer, manifest_hash)
        labels = {"version": origin.tag} if origin.tag and is_top else {}
        labels |= platform_labels(image.config.platform)
        # A layer may come again, as empty ones do: what it depends on is another image then.
        earlier = sum(one.descriptor.digest.hex == layer for one in image.layers[:place])
        layer += f".{earlier + 1}" if earlier else ""
    found = manifest(config, origin, ids, notes, accounts=facts.files if is_top else None, labels=labels)
    return found, f"{origin.name}-{layer}"


def _layer_file(
    found: ImageManifest, origin: Origin, place: int, count: int, chain: Sequence[ImageConfig]
) -> str:
    """As docker2aci names it: by the layer's ID, or in the oldest form by its number from the top."""
    layer = found.name.rpartition("-")[2]
    parts = [origin.repository.replace("/", "-"), "" if chain else layer, origin.tag]
    parts += [found.labels.get("os") or "", found.labels.get("arch") or ""]
    if chain:
        parts.append(str(count - 1 - place))
    return "-".join(part for part in parts if part) + ".aci"
