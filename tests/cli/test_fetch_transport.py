"""Servers that misbehave (S25), and secrets that stay secret (S17)."""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import Rkt
    from fixtures.httpsserver import Server
    from fixtures.publisher import Publisher

UNSIGNED = "--insecure-options=image"
OK = b"HTTP/1.1 200 OK\r\n"


def leftovers(rkt: Rkt) -> list[str]:
    found = []
    for directory in ("tmp", "blob"):
        for _, _, names in os.walk(rkt.directory / "data/cas" / directory):
            found += names
    return found


FAULTS = {
    "no http": (b"SSH-2.0-x\r\n\r\n", "no HTTP"),
    "100,000 headers": (OK + b"".join(b"X-%d: y\r\n" % n for n in range(100_000)) + b"\r\n", "headers"),
    "long header": (OK + b"X: " + b"y" * 100_000 + b"\r\n\r\n", ""),
    "1 TiB offered": (OK + b"Content-Length: 1099511627776\r\n\r\n", "the limit is"),
    "two lengths": (OK + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabc", "Content-Length"),
    "negative length": (OK + b"Content-Length: -3\r\n\r\nabc", "Content-Length"),
    "length and chunks": (OK + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "both"),
    "100 encodings": (OK + b"Content-Encoding: " + b"gzip," * 99 + b"gzip\r\n\r\n", "Content-Encoding"),
    "bad chunk": (OK + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n", ""),
    "partial unasked": (b"HTTP/1.1 206 X\r\nContent-Range: bytes 5-9/10\r\n\r\nabcde", "206"),
    "not modified unasked": (b"HTTP/1.1 304 X\r\n\r\n", "304"),
    "redirect to a file": (b"HTTP/1.1 302 X\r\nLocation: file:///etc/passwd\r\n\r\n", "redirects to"),
    "redirect nowhere": (b"HTTP/1.1 302 X\r\n\r\n", "Location"),
    "redirect to itself": (b"HTTP/1.1 302 X\r\nLocation: /x.aci\r\nContent-Length: 0\r\n\r\n", "redirects"),
    "accepted": (b"HTTP/1.1 202 X\r\nContent-Length: 0\r\n\r\n", "202"),
    "an error page": (b"HTTP/1.1 503 X\r\nContent-Length: 5\r\n\r\nhello", "503"),
    "success without an image": (OK + b"Content-Length: 5\r\n\r\nhello", ""),
    "an empty image": (OK + b"Content-Length: 0\r\n\r\n", ""),
}


@pytest.mark.parametrize("name", FAULTS)
def test_faults_end_with_an_error_and_leave_nothing(https_server: Server, rkt: Rkt, name: str) -> None:
    answer, problem = FAULTS[name]

    def handler(_request: object, send: object) -> None:
        send(answer)  # type: ignore[operator]
        if b"Location: /x" not in answer:
            raise ConnectionAbortedError

    https_server.pages["/x.aci"] = handler  # type: ignore[assignment]
    started = time.monotonic()
    done = rkt(UNSIGNED, "fetch", https_server.url("/x.aci"), code=254)
    assert problem in done.stderr
    assert "Traceback" not in done.stderr
    assert time.monotonic() - started < 30
    assert leftovers(rkt) == []


def test_a_silent_server_costs_less_than_half_a_minute(https_server: Server, rkt: Rkt) -> None:
    https_server.raw("/x.aci", hold=True)
    started = time.monotonic()
    done = rkt(UNSIGNED, "fetch", https_server.url("/x.aci"), code=254)
    assert "the server" in done.stderr
    assert time.monotonic() - started < 30


def test_a_downgrade_by_redirect_is_refused(https_server: Server, http_server: Server, rkt: Rkt) -> None:
    https_server.redirect("/x.aci", http_server.url("/x.aci"))
    done = rkt(UNSIGNED, "fetch", https_server.url("/x.aci"), code=254)
    assert "https to http" in done.stderr
    assert http_server.requests == []


def test_plain_http_needs_its_option(publisher: Publisher, http_server: Server, rkt: Rkt) -> None:
    http_server.resource("/x.aci", publisher.aci().read_bytes())
    done = rkt(UNSIGNED, "fetch", http_server.url("/x.aci"), code=254)
    assert "--insecure-options=http" in done.stderr
    assert http_server.requests == []
    rkt("--insecure-options=image,http", "fetch", http_server.url("/x.aci"))


def test_an_unproved_server_needs_its_option(
    publisher: Publisher, rkt: Rkt, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = publisher.publish(publisher.aci())
    monkeypatch.setenv("SSL_CERT_FILE", "/dev/null")
    assert "certificate" in rkt(UNSIGNED, "fetch", url, code=254).stderr
    assert "certificate" in rkt(UNSIGNED, "--debug", "fetch", "localhost/app", code=254).stderr
    done = rkt("--insecure-options=image,tls", "fetch", url)
    assert "TLS verification has been disabled" in done.stderr


def write_auth(rkt: Rkt, directory: str, domain: str, type_: str, **credentials: str) -> None:
    path = rkt.directory / directory / "auth.d/test.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "rktKind": "auth",
        "rktVersion": "v1",
        "domains": [domain],
        "type": type_,
        "credentials": credentials,
    }
    path.write_text(json.dumps(content))


def guarded(server: Server, path: str, body: bytes, authorization: str) -> None:
    """Serve `body` only to those who know."""

    def handler(request: object, send: object) -> None:
        if request.headers.get("authorization") == authorization:  # type: ignore[attr-defined]
            send(OK + b"Content-Length: %d\r\n\r\n" % len(body) + body)  # type: ignore[operator]
        else:
            send(b"HTTP/1.1 401 X\r\nContent-Length: 0\r\n\r\n")  # type: ignore[operator]

    server.pages[path] = handler  # type: ignore[assignment]


@pytest.mark.parametrize("directory", ["usr", "etc", "user"])
@pytest.mark.parametrize(
    ("type_", "credentials", "authorization"),
    [
        ("basic", {"user": "me", "password": "pw"}, "Basic bWU6cHc="),
        ("oauth", {"token": "sometoken"}, "Bearer sometoken"),
    ],
)
def test_configured_credentials_open_the_door(
    publisher: Publisher,
    https_server: Server,
    rkt: Rkt,
    directory: str,
    type_: str,
    credentials: dict[str, str],
    authorization: str,
) -> None:
    guarded(https_server, "/x.aci", publisher.aci().read_bytes(), authorization)
    done = rkt(UNSIGNED, "fetch", https_server.url("/x.aci"), code=254)
    assert "bad HTTP status code: 401" in done.stderr
    write_auth(rkt, directory, f"localhost:{https_server.port}", type_, **credentials)
    rkt(UNSIGNED, "fetch", https_server.url("/x.aci"))


def test_local_credentials_override_the_systems(publisher: Publisher, https_server: Server, rkt: Rkt) -> None:
    guarded(https_server, "/x.aci", publisher.aci().read_bytes(), "Bearer right")
    domain = f"localhost:{https_server.port}"
    write_auth(rkt, "usr", domain, "oauth", token="right")
    rkt(UNSIGNED, "fetch", https_server.url("/x.aci"))
    write_auth(rkt, "etc", domain, "oauth", token="wrong")
    assert "401" in rkt(UNSIGNED, "fetch", https_server.url("/x.aci"), code=254).stderr


@pytest.fixture
def command_lines() -> Iterator[set[bytes]]:
    """Every command line that is seen on the machine while the test runs."""
    seen: set[bytes] = set()
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(0.005):
            for pid in filter(str.isdigit, os.listdir("/proc")):
                try:
                    with open(f"/proc/{pid}/cmdline", "rb") as file:
                        seen.add(file.read())
                except OSError:
                    continue

    thread = threading.Thread(target=watch)
    thread.start()
    yield seen
    stop.set()
    thread.join()


def test_a_secret_is_in_no_output_no_command_line_and_no_file(
    publisher: Publisher, https_server: Server, second_server: Server, rkt: Rkt, command_lines: set[bytes]
) -> None:
    secret, encoded = "SECRET123", "bWU6U0VDUkVUMTIz"
    write_auth(rkt, "etc", f"localhost:{https_server.port}", "basic", user="me", password=secret)
    https_server.page("/401.aci", secret, status=401)
    https_server.page("/500.aci", encoded, status=500)
    https_server.redirect("/302.aci", second_server.url(f"/{secret}.aci?token={encoded}"))
    https_server.raw("/garbage.aci", encoded.encode() + b"\r\n\r\n")
    https_server.page("/body.aci", secret)
    https_server.resource("/good.aci", publisher.aci().read_bytes(), etag=f'"{secret}"')
    output = ""
    for path in ("401", "500", "302", "garbage", "body", "good"):
        for debug in ([], ["--debug"]):
            done = rkt(*debug, UNSIGNED, "fetch", https_server.url(f"/{path}.aci"), code=None)
            output += done.stdout + done.stderr
    assert all("authorization" not in request.headers for request in second_server.requests)
    assert secret not in output
    assert encoded not in output
    assert not any(secret.encode() in line or encoded.encode() in line for line in command_lines)


def test_a_password_in_the_address_is_not_shown_or_stored(
    publisher: Publisher, https_server: Server, rkt: Rkt
) -> None:
    guarded(https_server, "/x.aci", publisher.aci().read_bytes(), "Basic bWU6U0VDUkVUMTIz")
    address = f"https://me:SECRET123@localhost:{https_server.port}/x.aci"
    output = ""
    for words in (
        ["--debug", UNSIGNED, "fetch", address],
        ["--debug", "fetch", address],
        ["--debug", "fetch", "--pull-policy=never", address.replace("x.aci", "y.aci")],
        ["--debug", UNSIGNED, "fetch", address.replace("x.aci", "y.aci")],
    ):
        done = rkt(*words, code=None)
        output += done.stdout + done.stderr
    assert "SECRET123" not in output
    stored = subprocess.run(["grep", "-r", "SECRET123", rkt.directory], capture_output=True, check=False)
    assert stored.stdout == b""
