"""Pushing: an image to a registry, without sending what is there already (distribution-spec, "Push")."""

from __future__ import annotations

import os
import re
import threading
import time

from appc.http import stream
from appc.http import url as urls
from appc.http.errors import HttpError, TooSlow, Unreachable
from oci.errors import DigestMismatch, RegistryError
from oci.registry.body import Bytes, Part
from oci.registry.client import PUSH, Registry
from oci.registry.logins import Logins
from oci.registry.pull import THREADS, in_parallel
from oci.registry.settings import Settings
from oci.types.digest import Digest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import BinaryIO

    from appc.http.client import Response
    from oci.image import Image
    from oci.types.descriptor import Descriptor
    from oci.types.reference import Reference

_TRIES = 4
_SMALL = 64 << 10


def push(
    reference: Reference,
    image: Image,
    *,
    settings: Settings = Settings(),  # noqa: B008  immutable
    logins: Logins | None = None,
    environ: Mapping[str, str] | None = None,
    mount_from: Sequence[Reference] = (),
    chunk: int = 0,
    threads: int = THREADS,
    progress: Callable[[int, int], None] = lambda count, total: None,
    wait: Callable[[float], None] = time.sleep,
) -> Digest:
    """Have `image` at `reference`; the digest of its manifest, by which it can be pulled.

    Blobs go first, the manifest last, so nobody sees half an image. `mount_from` are images of the same
    registry that may have the same blobs. `chunk` bytes go in one request, 0: a blob in one. Pushing to a
    reference with a digest is an error unless the digest is the manifest's. Mirrors are never pushed to.
    Raises OciError or HttpError.
    """
    if reference.digest is not None and reference.digest != image.descriptor.digest:
        raise DigestMismatch("the image", reference.digest, image.descriptor.digest)
    environ = os.environ if environ is None else environ
    others = [one.repository for one in mount_from if one.registry == reference.registry]
    others = [name for name in dict.fromkeys(others) if name != reference.repository]
    logins = logins or Logins(environ=environ)
    failures: list[HttpError] = []
    for endpoint in settings.endpoints(reference, mirrors=False):
        with Registry(
            endpoint, settings, logins, environ=environ, actions=PUSH, also=others, wait=wait
        ) as registry:
            try:
                _Upload(registry, image, others, chunk, progress).run(threads)
                _put_manifest(registry, reference, image)
                return image.descriptor.digest
            except HttpError as error:  # no answer: where plain http is allowed, that is next
                failures.append(error)
    raise failures[0]


class _Upload:
    """The blobs of one image on their way."""

    def __init__(
        self,
        registry: Registry,
        image: Image,
        others: Sequence[str],
        chunk: int,
        progress: Callable[[int, int], None],
    ) -> None:
        self._registry = registry
        self._image = image
        self._others = others
        self._chunk = chunk
        self._progress = progress
        self._lock = threading.Lock()
        self._total = 0

    def run(self, threads: int) -> None:
        blobs = {one.digest: one for one in (*self._image.manifest.layers, self._image.manifest.config)}
        self._total = sum(one.size for one in blobs.values())
        order = sorted(blobs.values(), key=lambda one: -one.size)
        in_parallel(self._blob, order, threads, threading.Event())

    def _note(self, count: int) -> None:
        with self._lock:
            self._progress(count, self._total)

    def _blob(self, descriptor: Descriptor) -> None:
        if self._is_there(descriptor):
            self._note(descriptor.size)
            return
        for other in self._others:
            location = self._start(f"?mount={descriptor.digest}&from={other}")
            if location is None:
                self._note(descriptor.size)
                return
            self._abandon(location)
        with self._image.blobs.open(descriptor) as file:
            for tries in range(_TRIES):
                try:
                    self._send(descriptor, file)
                    return
                except (Unreachable, TooSlow):
                    if self._is_there(descriptor):  # only the answer was lost
                        return
                    if tries == _TRIES - 1:
                        raise

    def _is_there(self, descriptor: Descriptor) -> bool:
        with self._registry.request(
            "HEAD",
            self._registry.address(f"blobs/{descriptor.digest}"),
            limit=_SMALL,
            accept=frozenset((200, 404)),
        ) as response:
            return response.status == 200

    def _start(self, query: str = "") -> str | None:
        """Where to upload to; None when a mount made that needless."""
        with self._registry.request(
            "POST",
            self._registry.address("blobs/uploads/") + query,
            limit=_SMALL,
            accept=frozenset((201, 202)),
        ) as response:
            if response.status == 201:
                return None
            return self._location(response)

    def _abandon(self, location: str) -> None:
        """A mount that was not possible began an upload: end it, as far as the registry lets us."""
        with self._registry.request(
            "DELETE", location, limit=_SMALL, accept=frozenset((200, 202, 204, 400, 404, 405))
        ):
            return

    def _location(self, response: Response) -> str:
        place = response.header("Location")
        if not place:
            raise RegistryError(f"{self._registry.shown}: the registry does not say where to upload to")
        try:
            return str(urls.join(response.url, place))
        except ValueError as error:
            raise RegistryError(
                f"{self._registry.shown}: the address to upload to {error}", status=response.status
            ) from None

    def _send(self, descriptor: Descriptor, file: BinaryIO) -> None:
        location = self._start()
        if location is None:
            raise RegistryError(f"{self._registry.shown}: the registry mounts what nobody asked for")
        offset = 0
        while self._chunk and descriptor.size - offset > self._chunk:
            location, offset = self._send_chunk(descriptor, file, location, offset)
        joined = "&" if "?" in location else "?"
        body = Part(file.fileno(), offset, descriptor.size - offset, self._note)
        headers = {"Content-Type": "application/octet-stream"}
        if offset:
            headers["Content-Range"] = f"{offset}-{descriptor.size - 1}"
        with self._registry.request(
            "PUT",
            f"{location}{joined}digest={descriptor.digest}",
            limit=_SMALL,
            accept=frozenset((201,)),
            headers=headers,
            deadlines=stream.DOWNLOAD,
            body=body,
        ):
            return

    def _send_chunk(
        self, descriptor: Descriptor, file: BinaryIO, location: str, offset: int
    ) -> tuple[str, int]:
        """Send one chunk; where the next goes, and from which byte on. A cut one goes on where it ended."""
        end = min(offset + self._chunk, descriptor.size)
        headers = {
            "Content-Type": "application/octet-stream",
            "Content-Range": f"{offset}-{end - 1}",
        }
        try:
            with self._registry.request(
                "PATCH",
                location,
                limit=_SMALL,
                accept=frozenset((202, 416)),
                headers=headers,
                deadlines=stream.DOWNLOAD,
                body=Part(file.fileno(), offset, end - offset, self._note),
            ) as response:
                if response.status == 202:
                    return self._location(response), end
        except (Unreachable, TooSlow):
            pass
        return self._where(location, descriptor)

    def _where(self, location: str, descriptor: Descriptor) -> tuple[str, int]:
        """How much of an upload the registry has got."""
        with self._registry.request("GET", location, limit=_SMALL, accept=frozenset((200, 204))) as response:
            found = re.fullmatch(r"(?:bytes=)?0-([0-9]{1,18})", response.header("Range") or "0-0")
            got = int(found[1]) + 1 if found is not None and found[1] != "0" else 0
            if found is None or got > descriptor.size:
                raise RegistryError(f"{self._registry.shown}: the registry has lost count of an upload")
            return self._location(response), got


def _put_manifest(registry: Registry, reference: Reference, image: Image) -> None:
    with image.blobs.open(image.descriptor) as file:
        data = file.read()
    with registry.request(
        "PUT",
        registry.address(f"manifests/{reference.target}"),
        limit=_SMALL,
        accept=frozenset((201, 202)),
        headers={"Content-Type": image.manifest.media_type},
        body=Bytes(data),
    ) as response:
        said = response.header("Docker-Content-Digest")
    if said and said != image.descriptor.digest:
        raise DigestMismatch(f"{registry.shown}: what the registry took", image.descriptor.digest, said)
