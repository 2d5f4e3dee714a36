"""Pushing to a registry that misbehaves, over the real client and a server that speaks HTTP by hand."""

from __future__ import annotations

import hashlib
import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from appc.http.errors import HttpError
from fixtures.httpsserver import Server, head
from fixtures.registries import PASSWORD, USER, answer
from oci import blobs as stores
from oci.blobs import BlobDirectory
from oci.errors import DigestMismatch, OciError, RegistryError
from oci.image import Image, Layer, assemble
from oci.registry.logins import Login, Logins
from oci.registry.push import push
from oci.types import media
from oci.types.config import ImageConfig
from oci.types.descriptor import Descriptor
from oci.types.digest import Digest
from oci.types.platform import Platform
from oci.types.reference import Reference

if TYPE_CHECKING:
    from fixtures.httpsserver import Request, Send

CONTENT = os.urandom(300_000)


@pytest.fixture
def image(tmp_path: Path) -> Image:
    blobs = BlobDirectory(str(tmp_path / "blobs"))
    descriptor = stores.put(blobs, media.OCI_LAYER, CONTENT)
    config = ImageConfig(Platform("linux", "amd64"), None, (descriptor.digest,))
    return assemble(blobs, config, [Layer(descriptor, descriptor.digest)])


class Taking:
    """A registry that takes uploads; `body` reads what a request carries."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.uploads: dict[str, bytes] = {}
        self.blobs: dict[str, bytes] = {}
        self.manifests: dict[str, bytes] = {}
        self.location = f"https://localhost:{server.port}"
        self.break_patch = self.break_put = 0
        self.digest: str | None = None
        server.fallback = self.handle

    def where(self, request: Request, name: str) -> dict[str, str]:
        return {"Location": request.target, "Range": f"0-{len(self.uploads[name]) - 1}"}

    def handle(self, request: Request, send: Send) -> None:
        data = request.body
        target, _, query = request.target.partition("?")
        name = target.rsplit("/", 1)[1]
        match request.method:
            case "HEAD":
                send(head(200 if name in self.blobs else 404, {"Content-Length": "0"}))
            case "POST":
                one = str(len(self.uploads))
                self.uploads[one] = b""
                answer(send, 202, b"", {"Location": f"{self.location}/v2/app/blobs/uploads/{one}?state=a%3D"})
            case "PATCH":
                start, end = map(int, request.headers["content-range"].split("-"))
                assert start == len(self.uploads[name])
                assert end - start + 1 == len(data)
                if self.break_patch:
                    self.break_patch -= 1
                    self.uploads[name] += data[: len(data) // 2]
                    raise ConnectionAbortedError
                self.uploads[name] += data
                answer(
                    send, 202, b"", {"Location": request.target, "Range": f"0-{len(self.uploads[name]) - 1}"}
                )
            case "GET":
                answer(
                    send, 204, b"", {"Location": request.target, "Range": f"0-{len(self.uploads[name]) - 1}"}
                )
            case "PUT" if "/uploads/" in target:
                if self.break_put:
                    self.break_put -= 1
                    raise ConnectionAbortedError
                assert "state=a%3D" in query
                whole = self.uploads.pop(name) + data
                found = re.search(r"digest=(sha256:[0-9a-f]{64})", query)
                assert found is not None
                assert found[1] == "sha256:" + hashlib.sha256(whole).hexdigest()
                self.blobs[found[1]] = whole
                answer(send, 201, b"")
            case "PUT":
                self.manifests[name] = data
                digest = self.digest or "sha256:" + hashlib.sha256(data).hexdigest()
                answer(send, 201, b"", {"Docker-Content-Digest": digest})


@pytest.fixture
def taking(https_server: Server) -> Taking:
    return Taking(https_server)


def send_it(taking: Taking, image: Image, **more: object) -> str:
    host = f"localhost:{taking.server.port}"
    logins = Logins({host: Login(USER, PASSWORD)}, files=False)
    return push(Reference.parse(f"{host}/app:1"), image, logins=logins, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("chunk", [0, 100_000, 300_000, 7_000])
def test_push(taking: Taking, image: Image, chunk: int) -> None:
    digest = send_it(taking, image, chunk=chunk)
    assert digest == "sha256:" + hashlib.sha256(taking.manifests["1"]).hexdigest()
    assert CONTENT in taking.blobs.values()
    methods = [request.method for request in taking.server.requests]
    assert methods[-1] == "PUT"
    assert (methods.count("PATCH") > 0) == (0 < chunk < 300_000)


def test_a_cut_chunk_goes_on_where_it_ended(taking: Taking, image: Image) -> None:
    taking.break_patch = 1
    send_it(taking, image, chunk=100_000)
    assert CONTENT in taking.blobs.values()


def test_a_cut_upload_is_made_again(taking: Taking, image: Image) -> None:
    taking.break_put = 2
    send_it(taking, image, threads=1)
    assert CONTENT in taking.blobs.values()


def test_cuts_without_end(taking: Taking, image: Image) -> None:
    taking.break_put = 1000
    with pytest.raises(HttpError, match=r"closed|broke"):
        send_it(taking, image)
    assert "1" not in taking.manifests
    assert len(taking.server.requests) < 60


def test_uploads_to_another_host_take_no_credential_along(
    taking: Taking, image: Image, second_server: Server
) -> None:
    other = Taking(second_server)
    other.uploads = taking.uploads
    taking.location = other.location
    challenge = 'Basic realm="x"'

    def ask(request: Request, send: Send) -> None:
        if request.headers.get("authorization"):
            taking.handle(request, send)
        else:
            answer(send, 401, b"", {"WWW-Authenticate": challenge})

    taking.server.fallback = ask
    send_it(taking, image)
    assert len(other.blobs) == 2
    assert all("authorization" not in request.headers for request in second_server.requests)


class Guarded(Taking):
    """One that wants tokens, hands out `Token-1` and so on, and takes the newest alone.

    `instead` answers in the place of requests whose method and part of the path it has, each once.
    """

    def __init__(self, server: Server) -> None:
        super().__init__(server)
        self.issued = 0
        self.scopes: list[str] = []
        self.instead: list[tuple[str, str, int, dict[str, str], bytes]] = []

    def handle(self, request: Request, send: Send) -> None:
        if request.path == "/token":
            self.issued += 1
            self.scopes.append(request.target)
            answer(send, 200, json.dumps({"token": f"Token-{self.issued}"}).encode())
            return
        for place, (method, part, status, headers, body) in enumerate(self.instead):
            if request.method == method and part in request.target:
                del self.instead[place]
                answer(send, status, body, headers)
                return
        if self.issued and request.headers.get("authorization") == f"Bearer Token-{self.issued}":
            super().handle(request, send)
        else:
            answer(send, 401, b"", self.challenge())

    def challenge(self) -> dict[str, str]:
        return {"WWW-Authenticate": f'Bearer realm="{self.server.url("/token")}",service="tests"'}


@pytest.fixture
def guarded(https_server: Server) -> Guarded:
    return Guarded(https_server)


@pytest.mark.parametrize(
    ("method", "part"), [("POST", "uploads"), ("PUT", "uploads"), ("PUT", "manifests"), ("PATCH", "uploads")]
)
def test_a_token_that_expires_under_way_is_renewed(
    guarded: Guarded, image: Image, method: str, part: str
) -> None:
    """Also in the middle of an upload, whose bytes go once more."""
    guarded.instead = [(method, part, 401, guarded.challenge(), b"")]
    send_it(guarded, image, threads=1, chunk=100_000 if method == "PATCH" else 0)
    assert CONTENT in guarded.blobs.values()
    assert "1" in guarded.manifests
    assert guarded.issued == 2
    assert all("repository%3Aapp%3Apull%2Cpush" in scope for scope in guarded.scopes)


def test_a_registry_that_refuses_each_token(guarded: Guarded, image: Image) -> None:
    guarded.instead = [("PUT", "manifests", 401, guarded.challenge(), b"")] * 20
    with pytest.raises(RegistryError, match="refuses the credentials") as refused:
        send_it(guarded, image)
    assert guarded.issued <= 4
    assert not guarded.manifests
    assert "Token-" not in str(refused.value)
    assert PASSWORD not in str(refused.value)


@pytest.mark.parametrize(("method", "part"), [("HEAD", "blobs"), ("PUT", "uploads"), ("PUT", "manifests")])
def test_429_is_waited_for(guarded: Guarded, image: Image, method: str, part: str) -> None:
    waits: list[float] = []
    guarded.instead = [(method, part, 429, {"Retry-After": "7"}, b""), (method, part, 503, {}, b"")]
    send_it(guarded, image, threads=1, wait=waits.append)
    assert waits == [7.0, 2.0]
    assert "1" in guarded.manifests


def test_429_for_ever_ends(guarded: Guarded, image: Image) -> None:
    guarded.instead = [("PUT", "manifests", 429, {"Retry-After": "1"}, b"")] * 50
    with pytest.raises(RegistryError, match="wants fewer requests"):
        send_it(guarded, image, wait=lambda seconds: None)
    assert not guarded.manifests


def test_a_blob_that_arrived_as_another_is_refused(guarded: Guarded, image: Image) -> None:
    """A registry that counts another digest says so; nothing speaks of the image then."""
    body = b'{"errors": [{"code": "DIGEST_INVALID", "message": "digest does not match"}]}'
    guarded.instead = [("PUT", "uploads", 400, {}, body)] * 2
    with pytest.raises(RegistryError, match="digest does not match"):
        send_it(guarded, image, threads=1)
    assert not guarded.manifests


@pytest.mark.parametrize("location", ["http://localhost:1", "ftp://x", "https://user:pw@localhost:1"])
def test_uploads_to_odd_places(taking: Taking, image: Image, location: str) -> None:
    taking.location = location
    with pytest.raises((RegistryError, HttpError)):
        send_it(taking, image)
    assert not taking.blobs


def test_a_registry_that_takes_something_else(taking: Taking, image: Image) -> None:
    taking.digest = "sha256:" + "0" * 64
    with pytest.raises(DigestMismatch):
        send_it(taking, image)


def test_a_redirected_upload_is_not_followed(taking: Taking, image: Image, second_server: Server) -> None:
    elsewhere = {"Location": second_server.url("/x")}
    taking.server.fallback = lambda request, send: answer(send, 307, b"", elsewhere)
    with pytest.raises(HttpError, match="redirects a POST"):
        send_it(taking, image)
    assert {request.method for request in second_server.requests} == {"HEAD"}


def test_an_image_that_is_not_whole_is_not_announced(taking: Taking, image: Image) -> None:
    missing = Descriptor(media.OCI_LAYER, Digest.of(b"absent"), 6)
    broken = image._replace(manifest=image.manifest._replace(layers=(missing,)))
    with pytest.raises(OciError, match="not there"):
        send_it(taking, broken)
    assert not taking.manifests


def test_another_digest_than_asked_for(taking: Taking, image: Image) -> None:
    reference = Reference.parse(f"localhost:{taking.server.port}/app@sha256:{'0' * 64}")
    with pytest.raises(DigestMismatch):
        push(reference, image, logins=Logins(files=False))
    assert not taking.server.requests
    assert json.dumps(taking.manifests) == "{}"
