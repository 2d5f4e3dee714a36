"""Certificates for single hosts: each host gets its own directory's, and no other host does."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from appc.http.certificates import Certificates
from appc.http.client import Client
from appc.http.errors import BadCertificate, Unreachable
from appc.http.url import parse
from appc.settings.files import ConfigError
from fixtures.httpsserver import head, make_authority, start

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fixtures.httpsserver import Authority, Request, Send, Server


@pytest.fixture(scope="module")
def private(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """An authority that the system does not know."""
    return make_authority(tmp_path_factory.mktemp("private"))


def serving(authority: Authority, mode: ssl.VerifyMode, version: ssl.TLSVersion) -> Server:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.maximum_version = version
    context.load_cert_chain(authority.certificate)
    context.load_verify_locations(authority.bundle)
    context.verify_mode = mode
    server = start(context)

    def tell(_request: Request, send: Send) -> None:
        """Whether the client has shown a certificate."""
        shown = bool(send.__self__.getpeercert())  # type: ignore[attr-defined]
        send(head(200, {"Content-Length": "1"}) + b"%d" % shown)

    server.pages["/shown"] = tell
    return server


@pytest.fixture(params=[ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["tls12", "tls13"])
def demanding(request: pytest.FixtureRequest, private: Authority) -> Iterator[Server]:
    server = serving(private, ssl.CERT_REQUIRED, request.param)
    yield server
    server.stop()


@pytest.fixture
def asking(private: Authority) -> Iterator[Server]:
    server = serving(private, ssl.CERT_OPTIONAL, ssl.TLSVersion.TLSv1_3)
    yield server
    server.stop()


def give(directory: Path, host: str, authority: Authority, *, ca: bool = True, client: bool = True) -> None:
    place = directory / host
    place.mkdir(parents=True)
    if ca:
        (place / "ca.crt").write_bytes(authority.bundle.read_bytes())
    if client:
        (place / "client.cert").write_bytes(authority.certificate.read_bytes())
        (place / "client.key").write_bytes(authority.certificate.read_bytes())


def client_of(directory: Path) -> Client:
    return Client(certificates=Certificates([str(directory)]), environ={})


def test_client_certificate_and_authority_of_a_host(
    demanding: Server, private: Authority, tmp_path: Path
) -> None:
    with client_of(tmp_path) as client, pytest.raises(BadCertificate):
        client.document(demanding.url("/shown"), limit=10)
    give(tmp_path, f"localhost:{demanding.port}", private)
    with client_of(tmp_path) as client:
        assert client.document(demanding.url("/shown"), limit=10) == b"1"
        # the same server by another name is another host
        with pytest.raises(BadCertificate):
            client.document(demanding.url("/shown", host="127.0.0.1"), limit=10)


def test_server_that_demands_a_certificate_that_is_not_there(
    demanding: Server, private: Authority, tmp_path: Path
) -> None:
    give(tmp_path, f"localhost:{demanding.port}", private, client=False)
    with client_of(tmp_path) as client, pytest.raises(Unreachable) as refused:
        client.document(demanding.url("/shown"), limit=10)
    assert "TLS handshake failed" in str(refused.value)
    assert "a certificate of ours" in str(refused.value.hint)


def test_redirect_to_another_host_shows_no_client_certificate(
    demanding: Server, asking: Server, private: Authority, tmp_path: Path
) -> None:
    """CVE-2019-10214's kind, with certificates: what proves us to one host is not for the next."""
    give(tmp_path, f"localhost:{demanding.port}", private)
    give(tmp_path, f"127.0.0.1:{asking.port}", private, client=False)
    demanding.redirect("/away", asking.url("/shown", host="127.0.0.1"))
    with client_of(tmp_path) as client:
        assert client.document(demanding.url("/away"), limit=10) == b"0"
        assert client.document(demanding.url("/shown"), limit=10) == b"1"


def test_names_of_directories(tmp_path: Path, private: Authority) -> None:
    strong, weak = tmp_path / "strong", tmp_path / "weak"
    give(strong, "docker.io", private)
    give(strong, "[::1]:5000", private)
    give(weak, "example.com", private)
    (strong / "example.com").mkdir()  # says that there is nothing
    found = Certificates([str(strong), str(weak)], known_as={"registry-1.docker.io": "docker.io"})

    def has(address: str) -> bool:
        return found.context(parse(address), verify=True) is not None

    assert has("https://registry-1.docker.io/")
    assert has("https://[::1]:5000/")
    assert not has("https://[::1]/")
    assert not has("https://example.com/")
    assert not has("https://docker.io:444/")


@pytest.mark.parametrize(
    ("files", "problem"),
    [
        ({"client.cert": "x"}, "client.key is missing"),
        ({"client.key": "x"}, "client.cert is missing"),
        ({"client.key": "x", "client.cert": "x"}, "client.cert: is no certificate"),
        ({"ca.crt": "x"}, "ca.crt: is no certificate"),
    ],
)
def test_files_that_are_none(tmp_path: Path, files: dict[str, str], problem: str) -> None:
    place = tmp_path / "example.com"
    place.mkdir()
    for name, content in files.items():
        (place / name).write_text(content)
    with pytest.raises(ConfigError, match=problem):
        Certificates([str(tmp_path)]).context(parse("https://example.com"), verify=True)


def test_a_key_with_a_passphrase_asks_nobody(tmp_path: Path, private: Authority) -> None:
    from cryptography.hazmat.primitives import serialization

    give(tmp_path, "example.com", private)
    key = serialization.load_pem_private_key(private.certificate.read_bytes(), None)
    (tmp_path / "example.com/client.key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    with pytest.raises(ConfigError, match=r"client\.cert"):
        Certificates([str(tmp_path)]).context(parse("https://example.com"), verify=True)
