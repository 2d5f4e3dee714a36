"""Pulling: an image from a registry, or a mirror of it, into a store of blobs.

Documents first, which say what to expect; then the layers that are not there yet, a few at a time. Everything
is checked against its digest and size as it comes. What was cut goes on where it ended, in this pull or the
next.
"""

from __future__ import annotations

import os
import re
import threading
import time

from appc.http import stream
from appc.http.errors import HttpError, TooSlow, Unreachable
from linux.named_tuple import NamedTuple
from oci import blobs as stores
from oci import image as images
from oci.errors import DigestMismatch, InvalidImage, OciError, RegistryError
from oci.image import Image
from oci.registry.client import PULL, Registry
from oci.registry.logins import Logins
from oci.registry.settings import Settings
from oci.types import manifest as manifests
from oci.types import media
from oci.types.descriptor import Descriptor
from oci.types.digest import Digest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from appc.http.client import Response
    from oci.blobs import Receiving, WritableBlobs
    from oci.types.platform import Platform
    from oci.types.reference import Reference

#: Layers at a time.
THREADS = 3
#: How often a transfer that broke is taken up again without having got any further.
_TRIES = 4


class Pulled(NamedTuple):
    """An image that is now in the store. `top` is what the name stood for: its manifest, or an index."""

    image: Image
    top: Descriptor
    endpoint: str


def pull(
    reference: Reference,
    blobs: WritableBlobs,
    platform: Platform,
    *,
    settings: Settings = Settings(),  # noqa: B008  immutable
    logins: Logins | None = None,
    environ: Mapping[str, str] | None = None,
    threads: int = THREADS,
    progress: Callable[[int, int], None] = lambda count, total: None,
    wait: Callable[[float], None] = time.sleep,
) -> Pulled:
    """Have `reference` in `blobs`, of an index the image for `platform`.

    `progress(count, total)` is told of each piece: its bytes, and those of all missing layers. The threads
    have ended when this returns or raises. Mirrors are asked first; what one of them does not have or cannot
    deliver the next does. Raises OciError (NoSuchImage, Unauthorized, DigestMismatch, …) or HttpError.
    """
    environ = os.environ if environ is None else environ
    logins = logins or Logins(environ=environ)
    failures: list[OciError | HttpError] = []
    for endpoint in settings.endpoints(reference):
        with Registry(endpoint, settings, logins, environ=environ, actions=PULL, wait=wait) as registry:
            try:
                return _pull(registry, reference, blobs, platform, threads, progress)
            except (OciError, HttpError) as error:
                failures.append(error)
                if isinstance(error, OciError) and endpoint.base == settings.home(reference).base:
                    break  # it has answered over https: what comes over http is no better
    # The registry itself was asked last, and knows best.
    raise failures[-1]


def _pull(
    registry: Registry,
    reference: Reference,
    blobs: WritableBlobs,
    platform: Platform,
    threads: int,
    progress: Callable[[int, int], None],
) -> Pulled:
    top, data = fetch_manifest(registry, reference)
    documents = {top.digest: (top, data)}

    def fetch(descriptor: Descriptor, limit: int) -> bytes:
        if descriptor.digest not in documents:
            documents[descriptor.digest] = descriptor, _document(registry, blobs, descriptor, limit)
        return documents[descriptor.digest][1]

    image = images.resolve(blobs, top, platform, str(reference), fetch)
    _fetch_layers(registry, image, blobs, threads, progress)
    for descriptor, content in documents.values():
        stores.put(blobs, descriptor.media_type, content)
    return Pulled(image, top, registry.endpoint.base)


def fetch_manifest(registry: Registry, reference: Reference) -> tuple[Descriptor, bytes]:
    """The document that `reference` stands for, checked against the digest that it names, if it names one."""
    with registry.request(
        "GET",
        registry.address(f"manifests/{reference.target}"),
        limit=manifests.LIMIT,
        headers={"Accept": media.ACCEPT},
        accept=frozenset((200,)),
    ) as response:
        data = response.read()
        kind = media.essence(response.header("Content-Type"))
        said = response.header("Docker-Content-Digest")
    known = media.MANIFESTS | media.INDEXES | media.SCHEMA_1
    found = Descriptor(kind if kind in known else "", Digest.of(data), len(data))
    if reference.digest is not None:
        found = found._replace(digest=_same(reference.digest, data, registry.shown))
    elif said:
        try:
            _same(Digest(said), data, registry.shown)
        except DigestMismatch:
            raise
        except ValueError:
            pass  # an odd header of a registry that nobody asked for one
    return found, data


def _same(digest: Digest, data: bytes, shown: str) -> Digest:
    hasher = digest.hasher()
    hasher.update(data)
    if hasher.hexdigest() != digest.hex:
        found = f"{digest.algorithm}:{hasher.hexdigest()}"
        raise DigestMismatch(f"{shown}: the manifest", str(digest), found)
    return digest


def _document(registry: Registry, blobs: WritableBlobs, descriptor: Descriptor, limit: int) -> bytes:
    """A manifest of an index, or a configuration: from the store, else from the registry."""
    if descriptor.size > limit:
        what = f"{registry.shown}: {descriptor.digest}"
        raise InvalidImage(f"{what}: {descriptor.size} bytes are more than the limit of {limit}")
    if blobs.has(descriptor):
        return stores.read(blobs, descriptor, limit, registry.shown)
    is_manifest = descriptor.media_type in media.MANIFESTS | media.INDEXES
    place = "manifests" if is_manifest else "blobs"
    with registry.request(
        "GET",
        registry.address(f"{place}/{descriptor.digest}"),
        limit=descriptor.size,
        headers={"Accept": descriptor.media_type} if is_manifest else None,
        accept=frozenset((200,)),
    ) as response:
        data = response.read()
    if len(data) != descriptor.size:
        raise DigestMismatch(str(descriptor.digest), f"{descriptor.size} bytes", f"{len(data)} bytes")
    _same(descriptor.digest, data, registry.shown)
    return data


# --- layers


def _fetch_layers(
    registry: Registry,
    image: Image,
    blobs: WritableBlobs,
    threads: int,
    progress: Callable[[int, int], None],
) -> None:
    missing = {one.digest: one for one in image.manifest.layers if not blobs.has(one)}
    total = sum(one.size for one in missing.values())
    stop = threading.Event()
    lock = threading.Lock()

    def note(count: int) -> None:
        with lock:
            progress(count, total)

    def job(descriptor: Descriptor) -> None:
        fetch_blob(registry, descriptor, blobs, note, stop)

    # The largest first: the last one to begin should be short.
    in_parallel(job, sorted(missing.values(), key=lambda one: -one.size), threads, stop)


def in_parallel(
    job: Callable[[Descriptor], None], items: Sequence[Descriptor], threads: int, stop: threading.Event
) -> None:
    """Do `job` for all `items`, a few at once; the first failure ends the others and is raised."""
    waiting = list(reversed(items))
    failures: list[BaseException] = []
    lock = threading.Lock()

    def work() -> None:
        while not stop.is_set():
            with lock:
                if not waiting:
                    return
                item = waiting.pop()
            try:
                job(item)
            except BaseException as error:  # noqa: BLE001  handed to the caller's thread
                failures.append(error)
                stop.set()

    started = [threading.Thread(target=work) for _ in range(min(threads, len(items)) - 1)]
    try:
        for thread in started:
            thread.start()
        work()
    except BaseException:
        stop.set()
        raise
    finally:
        for thread in started:
            if thread.ident is not None:
                thread.join()
    if failures:
        raise failures[0]


def fetch_blob(
    registry: Registry,
    descriptor: Descriptor,
    blobs: WritableBlobs,
    note: Callable[[int], None],
    stop: threading.Event,
) -> None:
    """Have one blob in `blobs`; what of it is there from before is not fetched again."""
    with blobs.receive(descriptor) as incoming:
        if incoming.complete:
            note(descriptor.size)
            return
        inherited = incoming.have > 0
        note(incoming.have)
        while True:
            try:
                _transfer(registry, descriptor, incoming, note, stop)
                incoming.finish()
                return
            except DigestMismatch:
                # The part from before may have been the wrong one; once more, all of it.
                if not inherited:
                    raise
                inherited = False
                incoming.restart()


def _transfer(
    registry: Registry,
    descriptor: Descriptor,
    incoming: Receiving,
    note: Callable[[int], None],
    stop: threading.Event,
) -> None:
    """Get what is missing, however often the connection breaks, as long as it goes on."""
    tries, furthest = 0, incoming.have
    while incoming.have < descriptor.size:
        try:
            _attempt(registry, descriptor, incoming, note, stop)
        except (Unreachable, TooSlow):
            tries = 0 if incoming.have > furthest else tries + 1
            furthest = max(furthest, incoming.have)
            if tries >= _TRIES:
                raise


def _attempt(
    registry: Registry,
    descriptor: Descriptor,
    incoming: Receiving,
    note: Callable[[int], None],
    stop: threading.Event,
) -> None:
    headers = {"Range": f"bytes={incoming.have}-"} if incoming.have else None
    with registry.request(
        "GET",
        registry.address(f"blobs/{descriptor.digest}"),
        limit=descriptor.size,
        headers=headers,
        accept=frozenset((200, 206, 416)),
        deadlines=stream.DOWNLOAD,
    ) as response:
        if response.status == 416 or not _continues(response, incoming.have, descriptor.size):
            if not incoming.have:
                raise RegistryError(f"{registry.shown}: sends a part of {descriptor.digest} unasked")
            incoming.restart()
            if response.status != 200:
                return
        for chunk in response.chunks():
            if stop.is_set():
                raise OciError("ended because another layer failed")
            incoming.write(chunk)
            note(len(chunk))
    if incoming.have < descriptor.size and response.status == 200:
        raise DigestMismatch(str(descriptor.digest), f"{descriptor.size} bytes", f"{incoming.have} bytes")


def _continues(response: Response, have: int, size: int) -> bool:
    """Whether the answer begins where our part ends: a 200 does when there is none yet."""
    if response.status == 200:
        return not have
    found = re.fullmatch(
        r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18}|\*)", response.header("Content-Range") or ""
    )
    return found is not None and int(found[1]) == have and found[3] in {"*", str(size)}
