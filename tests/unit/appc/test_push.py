"""The push client against servers that are slow of understanding: retries, lost answers, clear reasons."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from appc.http.auth import Basic, Credentials
from appc.http.client import Client
from appc.http.errors import BadStatus, Refused, Unreachable
from appc.http.url import parse
from appc.push import Parts, Pusher, PushError
from fixtures.httpsserver import Server, head

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fixtures.httpsserver import Handler, Request, Send

IMAGE = bytes(range(256)) * 400


@pytest.fixture
def parts(tmp_path: Path) -> Iterator[Parts]:
    path = tmp_path / "image"
    path.write_bytes(IMAGE)
    with open(path, "rb") as file:
        yield Parts(b"{}", b"signature", file.fileno())


@pytest.fixture
def server(https_server: Server) -> Server:
    """One that takes everything, as acserver of old does: it says nothing of going on."""
    addresses = {
        f"upload_{part}_url": https_server.url(f"/{part}") for part in ("manifest", "signature", "aci")
    }
    start = {"aci_push_version": "0.0.1", "multipart": False, "completed_url": https_server.url("/complete")}
    https_server.page("/start", json.dumps(start | addresses))
    for part in ("manifest", "signature", "aci"):
        https_server.page(f"/{part}")
    https_server.page("/complete", '{"success": true}')
    return https_server


def push(server: Server, parts: Parts) -> tuple[list[float], list[str]]:
    waited: list[float] = []
    told: list[str] = []
    with Client() as client:
        pusher = Pusher(client, tell=told.append, progress=lambda *_: None, wait=waited.append)
        pusher.push(server.url("/start"), parts)
    return waited, told


def in_turn(*handlers: Handler) -> Handler:
    """The handlers one after the other, the last for ever."""
    left = list(handlers)

    def handle(request: Request, send: Send) -> None:
        (left.pop(0) if len(left) > 1 else left[0])(request, send)

    return handle


def answer(status: int, body: bytes = b"") -> Handler:
    return lambda _request, send: send(head(status, {"Content-Length": str(len(body))}) + body)


def cut(_request: Request, _send: Send) -> None:
    raise ConnectionAbortedError


def test_the_order_of_the_protocol(server: Server, parts: Parts) -> None:
    assert push(server, parts)[0] == []
    sent = [(request.method, request.path, request.body) for request in server.requests]
    assert sent == [
        ("POST", "/start", b""),
        ("PUT", "/manifest", b"{}"),
        ("PUT", "/signature", b"signature"),
        ("PUT", "/aci", IMAGE),
        ("POST", "/complete", b'{"success":true}'),
    ]


def test_an_unsigned_image_goes_without(server: Server, parts: Parts) -> None:
    push(server, parts._replace(signature=None))
    assert "/signature" not in server.paths()


def test_what_passes_is_tried_again_and_the_image_from_its_start(server: Server, parts: Parts) -> None:
    server.pages["/start"] = in_turn(answer(503), server.pages["/start"])
    server.pages["/manifest"] = in_turn(cut, answer(200))
    server.pages["/aci"] = in_turn(cut, cut, answer(200))
    waited, told = push(server, parts)
    assert waited == [1, 1, 1, 2]
    assert server.requests[-2].body == IMAGE
    assert any("again in 2 s" in line for line in told)


def test_a_lost_answer_to_the_last_request_means_pushing_once_more(server: Server, parts: Parts) -> None:
    server.pages["/complete"] = in_turn(cut, answer(404), answer(200, b'{"success": true}'))
    push(server, parts)
    assert server.paths("POST").count("/start") == 2


def test_a_server_that_is_away_for_long_is_given_up(server: Server, parts: Parts) -> None:
    server.pages["/aci"] = cut
    with pytest.raises(Unreachable):
        push(server, parts)
    assert server.paths().count("/aci") == 5
    assert json.loads(server.requests[-1].body)["success"] is False


@pytest.mark.parametrize(
    ("status", "body", "told"),
    [
        (413, b"an image may have 5 bytes\n", "413: an image may have 5 bytes"),
        (403, b"no\x1b[31m", "403: no?[31m"),
        (418, b"", "418"),
    ],
)
def test_a_refusal_is_final_and_says_why(
    server: Server, parts: Parts, status: int, body: bytes, told: str
) -> None:
    server.pages["/aci"] = answer(status, body)
    with pytest.raises(BadStatus) as refused:
        push(server, parts)
    assert str(refused.value).endswith(told)
    assert server.paths().count("/aci") == 1


@pytest.mark.parametrize(
    ("reply", "told"),
    [
        ('{"success": false, "reason": "r", "server_reason": "because"}', "because"),
        ('{"success": 1}', "gives no reason"),
        ("{}", "gives no reason"),
        ("<html>", "no JSON"),
        ("[]", "no JSON"),
    ],
)
def test_only_the_word_success_is_success(server: Server, parts: Parts, reply: str, told: str) -> None:
    server.page("/complete", reply)
    with pytest.raises(PushError, match=told):
        push(server, parts)


def test_an_answer_that_is_none_of_a_push(server: Server, parts: Parts) -> None:
    server.page("/start", '{"upload_manifest_url": 3}')
    with pytest.raises(PushError, match=r"upload_manifest_url.*completed_url"):
        push(server, parts)


def test_a_put_is_never_redirected(server: Server, parts: Parts) -> None:
    server.redirect("/aci", "https://example.com/")
    with pytest.raises(Refused):
        push(server, parts)


def test_credentials_of_the_command_line_stay_with_their_host() -> None:
    given = ("example.com", Basic("user", "secret"))
    for plain in (False, True):
        credentials = Credentials(everywhere=given, plain=plain)
        assert credentials.for_url(parse("https://example.com:3000/x")) is given[1]
        assert (credentials.for_url(parse("http://example.com:3000/x")) is not None) is plain
        assert credentials.for_url(parse("https://www.example.com/x")) is None
        assert "secret" in credentials.secrets()
