"""Pushing an image to a server that publishes it: the protocol of acpush (appc.md 2.6).

What fails for a while is tried again, and the image goes on where it broke off with a server that says that
it can do so. Nothing is published before the server has everything and has said so.
"""

from __future__ import annotations

import os
import time

from appc import jsonfield
from appc.errors import AppcError
from appc.http import stream
from appc.http.errors import BadStatus, HttpError, TooSlow, Unreachable
from linux.named_tuple import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import TypeVar

    from appc.http.client import Client, Response
    from appc.schema.image import ImageManifest

    T = TypeVar("T")

_ANSWER_LIMIT = 1 << 20
_PIECE = 64 * 1024
_OK = 200
#: Answers whose text says what the sender can do.
_EXPLAINED = frozenset((400, 403, 413, 507))
_NOT_FOUND = 404
_PASSING = frozenset((408, 409, 429, 500, 502, 503, 504))
#: The server reads, checks and stores the whole image before it answers the last request.
_COMPLETION = stream.Deadlines(connect=10.0, headers=1800.0, idle=1800.0, total=3600.0)
_UPLOAD = stream.Deadlines(connect=10.0, headers=120.0, idle=60.0, total=24 * 3600.0)
ATTEMPTS = 5


class PushError(AppcError):
    """A push that was not published."""


class _Forgotten(PushError):
    """There is no such upload at the server any more."""


class Rejected(BadStatus):
    """The server's answer to a request that it will not take, with its reason."""

    def __init__(self, url: str, status: int, reason: str) -> None:
        super().__init__(url, status)
        if reason:
            self.problem += f": {reason}"
            self.args = (f"{url}: {self.problem}",)


class Parts(NamedTuple):
    """What is pushed: the manifest's bytes, the signature (None for an unsigned image), the open image."""

    manifest: bytes
    signature: bytes | None
    image: int


def endpoint(
    client: Client, where: str, manifest: ImageManifest, *, tell: Callable[[str], None], port: int = 0
) -> str:
    """The address at which the push of an image begins: the first that discovery gives for its name `where`.

    `where` may have labels, `port` is asked for the page. PushError when there is none, WrongImage for
    another image's name, ValueError for what is no name.
    """
    from appc import app_string
    from appc.discovery import walk

    name, labels = app_string.parse(where)
    walk.check(manifest, name, labels)
    for label in ("os", "arch", "version"):
        value = manifest.labels.get(label)
        if value is None and label != "version":
            raise PushError(f'manifest is missing label: "{label}"')
        if value is not None:
            labels.setdefault(label, value)
    tell("searching for push endpoint via meta discovery")
    found = walk.discover_push_endpoints(client, name, labels, port=port)
    for attempt in found.attempts:
        tell(f"no push endpoint on {attempt.prefix}: {attempt.error}")
    if not found.addresses:
        reasons = "; ".join(f"{attempt.prefix}: {attempt.error}" for attempt in found.attempts)
        raise PushError(
            f"{name}: no endpoints discovered" + (f" ({reasons})" if reasons else ""),
            hint="the page of the name has to hold the tag ac-push-discovery, as that of acserver does",
        )
    tell(f"push endpoint found: {found.addresses[0]}")
    return found.addresses[0]


class Addresses(NamedTuple):
    """Where the server wants what. `resumable`: it tells how much of the image it has."""

    manifest: str
    signature: str
    image: str
    completed: str
    resumable: bool


class Pusher:
    """Pushes with `client`. `tell` gets a line about each step, `progress` bytes sent and their total.

    `wait` is called with the seconds to wait before an attempt that is not the first.
    """

    def __init__(
        self,
        client: Client,
        *,
        tell: Callable[[str], None],
        progress: Callable[[int, int], None],
        wait: Callable[[float], None] = time.sleep,
        attempts: int = ATTEMPTS,
    ) -> None:
        self._client = client
        self._tell = tell
        self._progress = progress
        self._wait = wait
        self._attempts = attempts

    def push(self, endpoint: str, parts: Parts) -> None:
        """Push to the address at which discovery says that a push begins. PushError, HttpError.

        A server that has forgotten the upload was killed, or its answer to the last request was lost: then
        all is pushed once more, which changes nothing where the image is published already.
        """
        try:
            self._push(endpoint, parts)
        except _Forgotten as error:
            self._tell(f"{error}; once more from the start")
            self._push(endpoint, parts)

    def _push(self, endpoint: str, parts: Parts) -> None:
        self._tell("initiating upload")
        addresses = self._repeated("initiating", lambda: self._start(endpoint))
        steps: list[tuple[str, Callable[[], None]]] = [
            ("manifest", lambda: self._put(addresses.manifest, Bytes(parts.manifest)))
        ]
        signature = parts.signature
        if signature is not None:
            steps.append(("signature", lambda: self._put(addresses.signature, Bytes(signature))))
        steps.append(("ACI", lambda: self._put_image(addresses, parts.image)))
        for label, step in steps:
            self._tell(f"uploading {label}")
            try:
                self._repeated(label, step)
            except BadStatus as error:
                if error.status == _NOT_FOUND:
                    raise _Forgotten("the server has forgotten the upload") from None
                self._give_up(addresses, f"error uploading {label}: {error.problem}")
                raise
            except HttpError as error:
                self._give_up(addresses, f"error uploading {label}: {error.problem}")
                raise
        self._tell("completing upload")
        try:
            self._repeated("completing", lambda: self._complete(addresses.completed, {"success": True}))
        except BadStatus as error:
            if error.status == _NOT_FOUND:
                raise _Forgotten("the answer of the server was lost") from None
            raise

    def _start(self, endpoint: str) -> Addresses:
        answer = self._message(endpoint, b"")
        fields = jsonfield.Fields(answer)
        addresses = Addresses(
            fields.required("upload_manifest_url", jsonfield.nonempty),
            fields.required("upload_signature_url", jsonfield.nonempty),
            fields.required("upload_aci_url", jsonfield.nonempty),
            fields.required("completed_url", jsonfield.nonempty),
            fields.optional("resumable", jsonfield.boolean, False),  # noqa: FBT003
        )
        try:
            fields.finish()
        except ValueError as error:
            reasons = "; ".join(jsonfield.reasons(error))
            raise PushError(f"{endpoint}: the answer is none of a push: {reasons}") from None
        return addresses

    def _put(self, address: str, body: Bytes | FilePart, headers: Mapping[str, str] | None = None) -> None:
        with self._send(address, "PUT", body, _UPLOAD, headers) as response:
            if response.status != _OK:
                raise Rejected(address, response.status, _first_line(response.read()))

    def _put_image(self, addresses: Addresses, fd: int) -> None:
        total = os.fstat(fd).st_size
        offset = self._offset(addresses) if addresses.resumable else 0
        if offset == total and total:
            self._progress(total, total)
            return
        offset = offset if offset < total else 0
        if offset:
            self._tell(f"going on after {offset} of {total} bytes")
        body = FilePart(fd, offset, total, self._progress)
        headers = {"Content-Range": f"bytes {offset}-{total - 1}/{total}"} if offset else {}
        self._put(addresses.image, body, headers)

    def _offset(self, addresses: Addresses) -> int:
        with self._client.get(addresses.image, limit=_ANSWER_LIMIT, method="HEAD") as response:
            text = response.header("Upload-Offset") or ""
        return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else 0

    def _complete(self, address: str, message: dict[str, object]) -> None:
        answer = self._message(address, jsonfield.encode(message), _COMPLETION)
        if answer.get("success") is not True:
            reason = answer.get("server_reason") or answer.get("reason") or "the server gives no reason"
            raise PushError(f"the server did not publish the image: {reason}")

    def _give_up(self, addresses: Addresses, reason: str) -> None:
        """Let the server forget what it has; whether it hears that makes no difference to us."""
        try:
            self._complete(addresses.completed, {"success": False, "reason": reason})
        except AppcError:
            return

    def _message(self, address: str, data: bytes, deadlines: stream.Deadlines = _UPLOAD) -> dict[str, object]:
        with self._send(address, "POST", Bytes(data), deadlines) as response:
            text = response.read()
        try:
            return jsonfield.obj(jsonfield.parse(text))
        except ValueError as error:
            if response.status != _OK:
                raise Rejected(address, response.status, _first_line(text)) from None
            raise PushError(f"{address}: the answer is no JSON object: {error}") from None

    def _send(
        self,
        address: str,
        method: str,
        body: Bytes | FilePart,
        deadlines: stream.Deadlines,
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        return self._client.get(
            address,
            limit=_ANSWER_LIMIT,
            method=method,
            body=body,
            headers=headers,
            deadlines=deadlines,
            accept=_EXPLAINED | {_OK},
        )

    def _repeated(self, what: str, step: Callable[[], T]) -> T:
        """Do `step`; again, after 1, 2, 4 … s, for as long as it fails in a way that passes."""
        seconds = 1.0
        for _ in range(self._attempts - 1):
            try:
                return step()
            except HttpError as error:
                if not _passes(error):
                    raise
                self._tell(f"{what}: {error}; again in {seconds:g} s")
            self._wait(seconds)
            seconds *= 2
        return step()


def _passes(error: HttpError) -> bool:
    if isinstance(error, BadStatus):
        return error.status in _PASSING
    return isinstance(error, (Unreachable, TooSlow))


def _first_line(text: bytes) -> str:
    """What a server says, as far as it can be shown on one line."""
    line = text[:1000].decode("utf-8", "replace").strip().partition("\n")[0]
    return "".join(character if character.isprintable() else "?" for character in line)


class Bytes:
    """A short body."""

    def __init__(self, data: bytes) -> None:
        self.size = len(data)
        self._data = data

    def chunks(self) -> Iterator[bytes]:
        if self._data:
            yield self._data


class FilePart:
    """The bytes of an open file from `offset` to `total`, read anew for each attempt."""

    def __init__(self, fd: int, offset: int, total: int, progress: Callable[[int, int], None]) -> None:
        self.size = total - offset
        self._fd = fd
        self._offset = offset
        self._total = total
        self._progress = progress

    def chunks(self) -> Iterator[bytes]:
        offset = self._offset
        while offset < self._total and (
            data := os.pread(self._fd, min(_PIECE, self._total - offset), offset)
        ):
            yield data
            offset += len(data)
            self._progress(offset, self._total)
