"""The server's side of HTTP: requests in any pieces, bodies with and without a length, clients that stall."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from appc.http import stream
from appc.server import wire
from appc.server.wire import BadRequest, Connection, Gone


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, Connection]]:
    client, server = socket.socketpair()
    connection = Connection(server)
    with client, server:
        yield client, connection
        connection._file.close()


def test_two_requests_in_one_packet_and_one_byte_at_a_time(pair: tuple[socket.socket, Connection]) -> None:
    client, connection = pair
    text = b"PUT /a HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabcGET /b?c=d HTTP/1.1\r\nHost: x\r\n\r\n"
    sender = threading.Thread(target=lambda: [client.send(bytes([byte])) for byte in text])
    sender.start()
    requests = connection.requests()
    first = next(requests)
    assert (first.method, first.path, first.body.read(10)) == ("PUT", "/a", b"abc")
    second = next(requests)
    assert (second.method, second.path, second.query, second.body.done) == ("GET", "/b", "c=d", True)
    sender.join()
    client.shutdown(socket.SHUT_WR)
    assert next(requests, None) is None


def test_a_chunked_body_as_gos_client_sends_it(pair: tuple[socket.socket, Connection]) -> None:
    client, connection = pair
    client.sendall(
        b"PUT /aci/1 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"5;ext=1\r\nhello\r\n6\r\n world\r\n0\r\nTrailer: x\r\n\r\n"
    )
    request = next(connection.requests())
    assert request.body.length is None
    assert request.body.read(100) == b"hello world"
    assert request.body.done


@pytest.mark.parametrize("chunks", [b"zz\r\n", b"-1\r\n", b"3\r\nabcd\r\n", b"1" * 20 + b"\r\n"])
def test_malformed_chunks_are_bad_requests(pair: tuple[socket.socket, Connection], chunks: bytes) -> None:
    client, connection = pair
    client.sendall(b"PUT /aci/1 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks)
    with pytest.raises(BadRequest):
        next(connection.requests()).body.read(1 << 60)


def test_the_limit_holds_with_and_without_a_length(pair: tuple[socket.socket, Connection]) -> None:
    client, connection = pair
    client.sendall(b"PUT /a HTTP/1.1\r\nHost: x\r\nContent-Length: 999999999999\r\n\r\n")
    with pytest.raises(BadRequest) as refused:
        next(connection.requests()).body.read(10)
    assert refused.value.status == 413


def test_a_client_that_waits_to_be_told_is_told_but_not_when_it_is_refused(
    pair: tuple[socket.socket, Connection],
) -> None:
    client, connection = pair
    client.sendall(b"PUT /a HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
    request = next(connection.requests())
    client.settimeout(30)
    with pytest.raises(BadRequest):
        request.body.read(2)
    connection.reply(413, {})
    assert client.recv(1000).startswith(b"HTTP/1.1 413 ")
    client.sendall(b"abc")
    assert request.body.read(3) == b"abc"
    assert client.recv(1000).startswith(b"HTTP/1.1 100 ")


def test_a_body_that_was_not_read_ends_the_connection(pair: tuple[socket.socket, Connection]) -> None:
    client, connection = pair
    client.sendall(
        b"PUT /a HTTP/1.1\r\nHost: x\r\nContent-Length: 20\r\n\r\nGET /b HTTP/1.1\r\nHost: x\r\n\r\n"
    )
    requests = connection.requests()
    next(requests)
    assert next(requests, None) is None


def test_silence_in_headers_and_body_is_not_waited_for(
    pair: tuple[socket.socket, Connection], monkeypatch: pytest.MonkeyPatch
) -> None:
    client, connection = pair
    monkeypatch.setattr(wire, "HEADERS", 0.05)
    client.sendall(b"GET / HTTP/1.1\r\nHost")
    with pytest.raises(Gone):
        next(connection.requests())


def test_a_body_that_trickles_is_not_waited_for(
    pair: tuple[socket.socket, Connection], monkeypatch: pytest.MonkeyPatch
) -> None:
    client, connection = pair
    monkeypatch.setattr(stream, "WINDOW", 0.05)
    client.sendall(b"PUT /a HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n")
    request = next(connection.requests())
    done = threading.Event()

    def trickle() -> None:
        while not done.wait(0.01):
            client.send(b"x")

    sender = threading.Thread(target=trickle)
    sender.start()
    try:
        with pytest.raises(Gone):
            request.body.read(1 << 20)
    finally:
        done.set()
        sender.join()


def test_a_reader_that_does_not_read_is_given_up(
    pair: tuple[socket.socket, Connection], monkeypatch: pytest.MonkeyPatch
) -> None:
    _client, connection = pair
    monkeypatch.setattr(wire, "IDLE", 0.05)
    with pytest.raises(Gone):
        connection.reply(200, {}, b"x" * (8 << 20))


def test_a_connection_that_ends_in_a_body_is_gone(pair: tuple[socket.socket, Connection]) -> None:
    client, connection = pair
    client.sendall(b"PUT /a HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nab")
    client.shutdown(socket.SHUT_WR)
    with pytest.raises(Gone):
        next(connection.requests()).body.read(10)
