"""The rules of the web client (R22), against a server that breaks them."""

from __future__ import annotations

import select
import socket
import threading
import time
from typing import TYPE_CHECKING

import pytest

from appc.http import stream
from appc.http.auth import AwsV4, Basic, Bearer, Credentials
from appc.http.client import Client
from appc.http.errors import (
    BadAnswer,
    BadCertificate,
    BadStatus,
    HttpError,
    Refused,
    TooLarge,
    TooSlow,
    Unreachable,
)
from appc.http.url import parse
from fixtures.httpsserver import make_authority, server_context, start

if TYPE_CHECKING:
    from pathlib import Path

    from fixtures.httpsserver import Authority, Server

LIMIT = 1 << 20
QUICK = stream.Deadlines(connect=1.0, headers=0.6, idle=0.4, total=1.5)
BODY = b"HTTP/1.1 200 OK\r\n"


def read(client: Client, address: str, deadlines: stream.Deadlines) -> bytes:
    with client.get(address, limit=LIMIT, deadlines=deadlines) as response:
        return response.read()


def test_a_document_comes_over_verified_tls(https_server: Server) -> None:
    https_server.page("/x", "hello")
    with Client() as client:
        assert client.document(https_server.url("/x"), limit=LIMIT) == b"hello"
    [request] = https_server.requests
    assert request.headers["accept-encoding"] == "identity"
    assert "authorization" not in request.headers


def test_one_connection_serves_several_requests(https_server: Server) -> None:
    https_server.page("/x", "hello")
    handshakes = []
    context = https_server.context
    assert context is not None
    context.sni_callback = lambda *_: handshakes.append(1)
    with Client() as client:
        for _ in range(3):
            client.document(https_server.url("/x"), limit=LIMIT)
    assert len(handshakes) == 1


def test_a_kept_connection_that_the_server_closed_is_made_anew(https_server: Server) -> None:
    def once(_request: object, send: object) -> None:
        send(BODY + b"Content-Length: 2\r\n\r\nok")  # type: ignore[operator]
        raise ConnectionAbortedError

    https_server.pages["/x"] = once
    with Client() as client:
        for _ in range(3):
            assert client.document(https_server.url("/x"), limit=LIMIT) == b"ok"
            time.sleep(0.05)


def test_an_unknown_certificate_is_refused_unless_tls_checks_are_off(
    https_server: Server, authority: Authority, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    https_server.page("/x", "hello")
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.other_certificate))
    with Client() as client, pytest.raises(BadCertificate):
        client.document(https_server.url("/x"), limit=LIMIT)
    assert https_server.requests == []
    with Client(insecure_tls=True) as client:
        assert client.document(https_server.url("/x"), limit=LIMIT) == b"hello"


def test_a_server_without_tls_is_told_apart() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def answer() -> None:
            peer = listening.accept()[0]
            with peer:
                peer.recv(1 << 16)
                peer.sendall(b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request?")

        server = threading.Thread(target=answer)
        server.start()
        address = f"https://127.0.0.1:{listening.getsockname()[1]}/x"
        with Client() as client, pytest.raises(Unreachable, match="is not TLS") as failed:
            client.document(address, limit=LIMIT)
        server.join()
    assert "plainHttp" in (failed.value.hint or "")


def test_a_certificate_for_another_name_is_refused(
    trusted: Authority, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    authority = make_authority(tmp_path, names=("example.com",))
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.bundle))
    server = start(server_context(authority.certificate))
    try:
        with Client() as client, pytest.raises(BadCertificate, match="Hostname mismatch"):
            client.document(server.url("/x"), limit=LIMIT)
    finally:
        server.stop()


def test_plain_http_wants_the_option(http_server: Server) -> None:
    http_server.page("/x", "hello")
    with Client() as client, pytest.raises(Refused, match="plain http") as refused:
        client.document(http_server.url("/x"), limit=LIMIT)
    assert "--insecure-options=http" in (refused.value.hint or "")
    assert http_server.requests == []
    with Client(insecure_http=True) as client:
        assert client.document(http_server.url("/x"), limit=LIMIT) == b"hello"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_followed(https_server: Server, status: int) -> None:
    https_server.redirect("/a", "/b", status)
    https_server.page("/b", "here")
    with Client() as client, client.get(https_server.url("/a"), limit=LIMIT) as response:
        assert response.read() == b"here"
        assert response.url.path == "/b"


def test_ten_redirects_are_followed_and_eleven_are_not(https_server: Server) -> None:
    for hop in range(11):
        https_server.redirect(f"/{hop}", f"/{hop + 1}")
    https_server.page("/11", "end")
    with Client() as client:
        assert client.document(https_server.url("/1"), limit=LIMIT) == b"end"
        with pytest.raises(Refused, match="more than 10 redirects"):
            client.document(https_server.url("/0"), limit=LIMIT)


def test_a_redirect_loop_ends(https_server: Server) -> None:
    https_server.redirect("/a", "/a")
    with Client() as client, pytest.raises(Refused, match="redirects"):
        client.document(https_server.url("/a"), limit=LIMIT)


def test_cve_2014_5277_a_redirect_from_https_to_http_is_refused(
    https_server: Server, http_server: Server
) -> None:
    https_server.redirect("/a", http_server.url("/b"))
    http_server.page("/b", "plain")
    with Client() as client, pytest.raises(Refused, match="https to http"):
        client.document(https_server.url("/a"), limit=LIMIT)
    assert http_server.requests == []
    with Client(insecure_http=True) as client:
        assert client.document(https_server.url("/a"), limit=LIMIT) == b"plain"


@pytest.mark.parametrize(
    "location",
    [
        "file:///etc/passwd",
        "gopher://localhost/x",
        "https://user:hunter2@localhost/x",
        "https://exa mple/",
        "https://localhost:0/",
        "https://" + "a" * 9000,
    ],
)
def test_odd_redirects_are_refused(https_server: Server, location: str) -> None:
    https_server.redirect("/a", location)
    with Client() as client, pytest.raises(Refused) as refused:
        client.document(https_server.url("/a"), limit=LIMIT)
    assert "hunter2" not in str(refused.value)


def test_a_redirect_without_or_with_two_places_is_refused(https_server: Server) -> None:
    https_server.page("/none", status=302)
    https_server.raw("/two", b"HTTP/1.1 302 X\r\nLocation: /x\r\nLocation: /y\r\nContent-Length: 0\r\n\r\n")
    with Client() as client:
        for path in ("/none", "/two"):
            with pytest.raises(BadAnswer, match="Location"):
                client.document(https_server.url(path), limit=LIMIT)


def test_cve_2020_15157_credentials_stay_with_their_host_and_port(
    https_server: Server, second_server: Server
) -> None:
    credentials = Credentials({f"localhost:{https_server.port}": Basic("me", "SECRET123")})
    https_server.redirect("/a", second_server.url("/b"))
    second_server.redirect("/b", https_server.url("/c"))
    https_server.page("/c", "back")
    with Client(credentials) as client:
        assert client.document(https_server.url("/a"), limit=LIMIT) == b"back"
    first, last = https_server.requests
    assert first.headers["authorization"] == last.headers["authorization"] == "Basic bWU6U0VDUkVUMTIz"
    assert "authorization" not in second_server.requests[0].headers


def test_credentials_are_never_sent_over_plain_http(http_server: Server) -> None:
    credentials = Credentials({f"localhost:{http_server.port}": Bearer("SECRET123")})
    http_server.page("/x", "hello")
    with Client(credentials, insecure_http=True) as client:
        client.document(http_server.url("/x"), limit=LIMIT)
    assert "authorization" not in http_server.requests[0].headers


def test_credentials_for_a_host_do_not_fit_its_other_ports(https_server: Server) -> None:
    https_server.page("/x", "hello")
    with Client(Credentials({"localhost": Bearer("t")})) as client:
        client.document(https_server.url("/x"), limit=LIMIT)
    assert "authorization" not in https_server.requests[0].headers


def test_a_user_name_in_the_address_is_sent_to_its_origin_alone(
    https_server: Server, second_server: Server
) -> None:
    https_server.redirect("/a", second_server.url("/b"))
    second_server.page("/b", "there")
    with Client() as client:
        client.document(f"https://me:SECRET123@localhost:{https_server.port}/a", limit=LIMIT)
    assert https_server.requests[0].headers["authorization"] == "Basic bWU6U0VDUkVUMTIz"
    assert "authorization" not in second_server.requests[0].headers


def test_no_error_holds_a_secret(https_server: Server, second_server: Server) -> None:
    credentials = Credentials({f"localhost:{https_server.port}": Basic("me", "SECRET123")})
    echo = "bWU6U0VDUkVUMTIz"
    https_server.page("/401", "SECRET123", status=401)
    https_server.page("/500", "Authorization: Basic " + echo, status=500)
    https_server.redirect("/302", second_server.url(f"/SECRET123?auth={echo}"))
    https_server.redirect("/host", f"https://{echo}.invalid/")
    https_server.raw("/garbage", b"SECRET123 garbage\r\n\r\n")
    https_server.redirect("/scheme", f"ftp://{echo}/")
    with Client(credentials) as client:
        for path in ("/401", "/500", "/302", "/host", "/garbage", "/scheme"):
            with pytest.raises(HttpError) as failed:
                client.document(https_server.url(path), limit=LIMIT)
            text = f"{failed.value} {failed.value.hint} {failed.value.args}"
            assert "SECRET123" not in text
            assert echo.lower() not in text.lower()


def test_typed_passwords_are_not_in_errors_either(https_server: Server) -> None:
    with Client() as client:
        for address in (
            f"https://me:SECRET123@localhost:{https_server.port}/missing",
            "https://me:SECRET123@exa mple.com/",
            "https://me:SECRET123@localhost:1/x",
            "ftp://me:SECRET123@localhost/x",
        ):
            with pytest.raises(HttpError) as failed:
                client.document(address, limit=LIMIT)
            assert "SECRET123" not in str(failed.value)


@pytest.mark.parametrize("status", [201, 204, 206, 304, 400, 401, 404, 500, 503])
def test_only_accepted_statuses_are_success(https_server: Server, status: int) -> None:
    https_server.page("/x", status=status)
    with Client() as client, pytest.raises(BadStatus, match=f"bad HTTP status code: {status}"):
        client.document(https_server.url("/x"), limit=LIMIT)


def test_a_length_over_the_limit_is_refused_before_the_body(https_server: Server) -> None:
    https_server.raw("/x", BODY + b"Content-Length: 1099511627776\r\n\r\n", hold=True)
    started = time.monotonic()
    with Client() as client, pytest.raises(TooLarge, match="1099511627776"):
        client.document(https_server.url("/x"), limit=LIMIT)
    assert time.monotonic() - started < 2


def test_an_endless_body_is_cut_at_the_limit(https_server: Server) -> None:
    https_server.raw(
        "/x", BODY + b"Transfer-Encoding: chunked\r\n\r\n", *[b"10000\r\n" + bytes(65536) + b"\r\n"] * 40
    )
    with Client() as client, pytest.raises(TooLarge):
        client.document(https_server.url("/x"), limit=LIMIT)


def test_a_short_body_is_an_error(https_server: Server) -> None:
    https_server.raw("/length", BODY + b"Content-Length: 10\r\n\r\nabc")
    https_server.raw("/chunked", BODY + b"Transfer-Encoding: chunked\r\n\r\n5\r\nab")

    def close_after(path: str) -> None:
        handler = https_server.pages[path]

        def wrapped(request: object, send: object) -> None:
            handler(request, send)  # type: ignore[arg-type]
            raise ConnectionAbortedError

        https_server.pages[path] = wrapped  # type: ignore[assignment]

    with Client() as client:
        for path in ("/length", "/chunked"):
            close_after(path)
            with pytest.raises(Unreachable, match="connection broke"):
                client.document(https_server.url(path), limit=LIMIT)


@pytest.mark.parametrize(
    "head",
    [
        b"Content-Length: 3\r\nContent-Length: 4\r\n",
        b"Content-Length: -1\r\n",
        b"Content-Length: 0x10\r\n",
        b"Content-Length: \xb2\r\n",
        b"Content-Length: 99999999999999999999\r\n",
        b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n",
        b"Content-Encoding: gzip\r\nContent-Length: 3\r\n",
        b"Content-Encoding: " + b"gzip, " * 100 + b"gzip\r\nContent-Length: 3\r\n",
    ],
)
def test_an_ambiguous_body_is_refused(https_server: Server, head: bytes) -> None:
    https_server.raw("/x", BODY + head + b"\r\nabc", hold=True)
    with Client() as client, pytest.raises((BadAnswer, TooLarge)):
        read(client, https_server.url("/x"), QUICK)


def test_too_many_headers_or_too_long_ones_are_refused(https_server: Server) -> None:
    https_server.raw("/count", BODY + b"".join(b"X-%d: y\r\n" % n for n in range(100_000)) + b"\r\n")
    https_server.raw("/long", BODY + b"X: " + b"y" * 200_000 + b"\r\n\r\n")
    https_server.raw(
        "/sum", BODY + b"".join(b"X-%d: " % n + b"y" * 60_000 + b"\r\n" for n in range(50)) + b"\r\n"
    )
    https_server.raw("/continue", b"HTTP/1.1 100 Continue\r\n\r\n" * 10_000)
    with Client() as client:
        for path in ("/count", "/long", "/sum", "/continue"):
            with pytest.raises(BadAnswer):
                client.document(https_server.url(path), limit=LIMIT)


def test_what_is_no_http_is_refused(https_server: Server) -> None:
    https_server.raw("/x", b"SSH-2.0-OpenSSH_9.2\r\n\r\n")
    https_server.raw("/empty")
    with Client() as client, pytest.raises(BadAnswer):
        client.document(https_server.url("/x"), limit=LIMIT)


def test_a_silent_server_is_given_up(https_server: Server) -> None:
    https_server.raw("/silent", hold=True)
    https_server.raw("/headers", *[b"X-%d: y\r\n" % n for n in range(100)], pause=0.1)
    https_server.raw("/half", BODY + b"Content-Length: 10\r\n\r\nabc", hold=True)
    https_server.raw("/drip", BODY + b"Content-Length: 1000\r\n\r\n", *[b"x"] * 1000, pause=0.1)
    with Client() as client:
        for path in ("/silent", "/headers", "/half", "/drip"):
            started = time.monotonic()
            with pytest.raises((TooSlow, BadAnswer)):
                read(client, https_server.url(path), QUICK)
            assert time.monotonic() - started < 3


def test_a_body_that_only_trickles_is_given_up(https_server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "WINDOW", 0.5)
    https_server.raw("/drip", BODY + b"Content-Length: 1000\r\n\r\n", *[b"x"] * 1000, pause=0.05)
    patient = stream.Deadlines(connect=5, headers=5, idle=5, total=60)
    with Client() as client, pytest.raises(TooSlow, match="bytes a second"):
        read(client, https_server.url("/drip"), patient)


def test_a_server_that_never_finishes_tls_is_given_up(http_server: Server) -> None:
    with Client() as client, pytest.raises((TooSlow, Unreachable)):
        client.get(f"https://localhost:{http_server.port}/x", limit=LIMIT, deadlines=QUICK)


def test_nobody_listens(https_server: Server) -> None:
    https_server.stop()
    with Client() as client, pytest.raises(Unreachable, match="connection refused") as failed:
        client.document(https_server.url("/x"), limit=LIMIT)
    assert failed.value.hint == "nothing listens there: is the server started, and the port right?"
    with Client() as client, pytest.raises(Unreachable, match="cannot connect"):
        client.document("https://nobody.invalid/", limit=LIMIT)


def test_a_proxy_carries_http_and_https(https_server: Server, http_server: Server) -> None:
    https_server.page("/x", "secure")
    proxied = []

    def relay(request: object, send: object) -> None:
        proxied.append(request.target)  # type: ignore[attr-defined]
        send(BODY + b"Content-Length: 7\r\n\r\nproxied")  # type: ignore[operator]

    http_server.pages["http://example.com/x"] = relay
    proxy = f"http://joe:pw@127.0.0.1:{http_server.port}"
    with Client(environ={"http_proxy": proxy}, insecure_http=True) as client:
        assert client.document("http://example.com/x", limit=LIMIT) == b"proxied"
        assert client.document(https_server.url("/x"), limit=LIMIT) == b"secure"  # loopback: direct
    assert http_server.requests[0].headers["proxy-authorization"] == "Basic am9lOnB3"
    with (
        Client(environ={"HTTPS_PROXY": proxy}) as client,
        pytest.raises(Unreachable, match="status 404") as refused,
    ):
        client.document("https://example.com/x", limit=LIMIT)
    assert http_server.requests[-1].method == "CONNECT"
    assert "pw" not in str(refused.value)


def relay(listener: socket.socket, port: int, seen: list[bytes]) -> None:
    """A proxy for one connection: answers CONNECT, then passes bytes to the local `port` and back."""
    client, _ = listener.accept()
    with client, socket.create_connection(("127.0.0.1", port)) as server:
        head = b""
        while b"\r\n\r\n" not in head:
            head += client.recv(4096)
        seen.append(head)
        client.sendall(b"HTTP/1.1 200 Connection established\r\nVia: x\r\n\r\n")
        ends = {client: server, server: client}
        while True:
            for source in select.select(list(ends), [], [], 10)[0]:
                data = source.recv(65536)
                if not data:
                    return
                ends[source].sendall(data)


def test_https_goes_through_a_tunnel_and_is_verified_to_the_end(https_server: Server) -> None:
    https_server.page("/x", "secure")
    seen: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=relay, args=(listener, https_server.port, seen))
        thread.start()
        proxy = f"http://joe:pw@127.0.0.1:{listener.getsockname()[1]}"
        credentials = Credentials({"example.com": Bearer("SECRET123")})
        with Client(credentials, environ={"https_proxy": proxy}) as client:
            assert client.document("https://example.com/x", limit=LIMIT) == b"secure"
            assert client.document("https://example.com/x", limit=LIMIT) == b"secure"  # the same tunnel
        thread.join()
    [head] = seen
    assert head.startswith(b"CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\n")
    assert b"Proxy-Authorization: Basic am9lOnB3\r\n" in head
    assert b"SECRET123" not in head
    assert all("proxy-authorization" not in request.headers for request in https_server.requests)
    assert https_server.requests[0].headers["authorization"] == "Bearer SECRET123"


def test_aws_signature_agrees_with_amazons_own_example() -> None:
    # "GET Object List" of the S3 API reference, "Examples: Signature Calculations": no header but the three.
    key = AwsV4("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "us-east-1")
    url = parse("https://examplebucket.s3.amazonaws.com/?max-keys=2&prefix=J")
    headers = key.headers("GET", url, 1369353600.0)  # 2013-05-24T00:00:00Z
    assert headers["Authorization"].endswith(
        "Signature=34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"
    )


@pytest.mark.parametrize(
    ("host", "region"),
    [
        ("bucket.s3-eu-west-1.amazonaws.com", "eu-west-1"),
        ("bucket.s3.eu-central-1.amazonaws.com", "eu-central-1"),
        ("s3.amazonaws.com", "us-east-1"),
        ("bucket.s3.amazonaws.com", "us-east-1"),
        ("s3.eu-west-1.amazonaws.com.evil.com", "us-east-1"),
    ],
)
def test_the_region_comes_from_the_host(host: str, region: str) -> None:
    headers = AwsV4("id", "key").headers("GET", parse(f"https://{host}/x"), 0.0)
    assert f"/{region}/s3/aws4_request" in headers["Authorization"]
