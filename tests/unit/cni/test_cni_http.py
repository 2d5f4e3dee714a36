"""http: addresses from a service, the reference one and ones that mean us harm or are not well."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from cni import plugin, state
from cni.errors import DECODING_FAILURE, INVALID_CONFIG, PLUGIN_NOT_AVAILABLE, TRY_AGAIN_LATER
from cni.ipam.http import client
from fixtures.ipamnode import IpamNode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fixtures.httpsserver import Authority, Server
    from fixtures.httpsserver import Request as Seen

VALID = "cni.dev/valid-attachments"
SERVICE = Path(__file__).parents[2] / "fixtures/ipamserver.py"
GOOD = {"ips": [{"address": "10.33.0.2/24", "gateway": "10.33.0.1"}], "routes": [{"dst": "0.0.0.0/0"}]}
LEASES = "/v1/networks/net1/leases"
LEASE = f"{LEASES}/node1/a/eth0"
NOBODY = {"error": "no-lease", "message": "a eth0 has no address"}


class Node(IpamNode):
    """A host with one network whose addresses a service gives out."""

    def __init__(self, url: str, node: str = "node1", **ipam: Any) -> None:
        super().__init__(**{"type": "http", "url": url, "node": node, "subnets": ["10.33.0.0/16"], **ipam})


@contextmanager
def service(*words: str) -> Iterator[int]:
    """The reference service in a process; its port."""
    command = [sys.executable, str(SERVICE), *words]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.stdin.close()


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "_FIRST_PAUSE", 0.01)


def secret(path: Path, text: str) -> str:
    path.write_text(text + "\n")
    path.chmod(0o600)
    return str(path)


def test_add_check_del_gc_status_with_tls_a_client_certificate_and_a_token(
    authority: Authority, tmp_path: Path
) -> None:
    pem = str(authority.certificate)
    words = ("--certificate", pem, "--client-ca", str(authority.bundle), "--token", "s3cret")
    with service(*words, "10.33.0.0/29") as port:
        node = Node(f"https://localhost:{port}/", ca=str(authority.bundle), certificate=pem, key=pem)
        node.ipam["tokenFile"] = secret(tmp_path / "token", "s3cret")
        result = plugin.perform("http", node.request("ADD"))
        assert result is not None
        assert result.to_json("1.1.0") == {
            "cniVersion": "1.1.0",
            "ips": [{"address": "10.33.0.2/29", "gateway": "10.33.0.1"}],
            "routes": [{"dst": "0.0.0.0/0"}],
        }
        assert node.call("ADD") == ["10.33.0.2/29"], "the same key, the same answer"
        assert node.call("ADD", "b", runtimeConfig={"ips": ["10.33.0.5"]}) == ["10.33.0.5/29"]
        taken = node.refused("ADD", "c", cni_args="IP=10.33.0.5")
        assert (taken.code, "in-use" in taken.msg) == (INVALID_CONFIG, True)
        node.call("CHECK", prevResult=result.to_json("1.1.0"))
        other = {"cniVersion": "1.1.0", "ips": [{"address": "10.33.0.7/29"}]}
        assert node.refused("CHECK", prevResult=other).code == 100
        node.call("DEL")
        node.call("DEL")
        assert node.refused("CHECK").code == 100
        for name in "cdef":
            node.call("ADD", name)
        assert node.refused("ADD", "g").code == TRY_AGAIN_LATER
        assert node.refused("STATUS").code == PLUGIN_NOT_AVAILABLE
        node.call("GC", **{VALID: [{"containerID": "b", "ifname": "eth0"}]})
        node.call("STATUS")
        node.call("CHECK", "b")
        assert node.refused("CHECK", "c").code == 100

        del node.ipam["certificate"], node.ipam["key"]
        assert node.refused("STATUS").code == PLUGIN_NOT_AVAILABLE
        node.ipam |= {"certificate": pem, "key": pem, "tokenFile": secret(tmp_path / "wrong", "guess")}
        refused = node.refused("STATUS")
        assert refused.code == INVALID_CONFIG
        assert "guess" not in str(refused)
    assert node.refused("ADD").code == TRY_AGAIN_LATER
    assert node.refused("DEL").code == TRY_AGAIN_LATER
    assert node.refused("STATUS").code == PLUGIN_NOT_AVAILABLE


def test_another_boot_frees_what_the_last_one_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with service("10.33.0.0/30") as port:
        node = Node(f"http://127.0.0.1:{port}")
        assert node.call("ADD", "before") == ["10.33.0.2/30"]
        assert node.refused("ADD", "other").code == TRY_AGAIN_LATER
        (tmp_path / "boot_id").write_text("11111111-2222-3333-4444-555555555555\n")
        monkeypatch.setattr(state, "BOOT_ID", str(tmp_path / "boot_id"))
        assert node.call("ADD", "other") == ["10.33.0.2/30"]


def test_eight_processes_get_different_addresses() -> None:
    with service("10.33.0.0/24") as port:
        node = Node(f"http://127.0.0.1:{port}")
        reading, writing = os.pipe()
        children = []
        for worker in range(8):
            child = os.fork()
            if child == 0:
                code = 1
                try:
                    for number in range(6):
                        os.write(writing, node.call("ADD", f"w{worker}-{number}")[0].encode() + b"\n")
                    code = 0
                finally:
                    os._exit(code)
            children.append(child)
        assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0] * 8
        os.close(writing)
        with open(reading) as file:
            assert len(set(file.read().split())) == 48


def test_the_service_in_the_documentation_is_the_one_that_runs_here(checkout: Path) -> None:
    page = (checkout / "docs/reference/http-ipam.md").read_text()
    assert f"```python\n{SERVICE.read_text()}```" in page


# What is sent


class Body:
    """Handlers that read what was sent; the test server's own do not."""

    def __init__(self, server: Server) -> None:
        self.seen: list[tuple[str, str, dict[str, str]]] = []
        self._server = server

    def answer(self, path: str, *answers: tuple[int, object]) -> None:
        """These answers in turn, the last one for ever."""
        left = list(answers)

        def handler(request: Seen, send: Callable[[bytes], None]) -> None:
            self.seen.append((request.method, request.target, request.headers))
            status, body = left.pop(0) if len(left) > 1 else left[0]
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            head = f"HTTP/1.1 {status} X\r\nContent-Length: {len(data)}\r\nConnection: close\r\n\r\n"
            send(head.encode() + data)
            raise ConnectionAbortedError

        self._server.pages[path] = handler


@pytest.fixture
def answers(https_server: Server) -> Body:
    return Body(https_server)


@pytest.fixture
def node(https_server: Server, authority: Authority) -> Node:
    return Node(https_server.url("/v1"), ca=str(authority.bundle), timeout=5)


def test_a_retry_carries_the_same_key(node: Node, answers: Body) -> None:
    answers.answer(LEASES, (503, b"<html>"), (500, b""), (200, GOOD))
    assert node.call("ADD") == ["10.33.0.2/24"]
    assert node.call("ADD") == ["10.33.0.2/24"]
    keys = Counter(headers["idempotency-key"] for _, _, headers in answers.seen)
    assert list(keys.values()) == [4]
    node.call("ADD", "b")
    assert len({headers["idempotency-key"] for _, _, headers in answers.seen}) == 2


@pytest.mark.parametrize(
    ("status", "body", "code", "attempts"),
    [
        (503, b"", TRY_AGAIN_LATER, 5),
        (429, b"", TRY_AGAIN_LATER, 5),
        (503, {"error": "unavailable"}, TRY_AGAIN_LATER, 5),
        (409, {"error": "exhausted"}, TRY_AGAIN_LATER, 1),
        (503, {"error": "exhausted"}, TRY_AGAIN_LATER, 1),
        (409, {"error": "in-use"}, INVALID_CONFIG, 1),
        (400, {"error": "bad-request"}, INVALID_CONFIG, 1),
        (400, b"[" * 100000, INVALID_CONFIG, 1),
        (401, b"", INVALID_CONFIG, 1),
        (403, {"error": "new-word"}, INVALID_CONFIG, 1),
        (404, b"not here", INVALID_CONFIG, 1),
        (302, b"", INVALID_CONFIG, 1),
    ],
)
def test_what_the_service_says_becomes_a_code(
    node: Node, answers: Body, status: int, body: object, code: int, attempts: int
) -> None:
    answers.answer(LEASES, (status, body))
    answers.answer("/v1/networks/net1/status", (status, body))
    assert node.refused("ADD").code == code
    assert len(answers.seen) == attempts
    assert node.refused("STATUS").code == (PLUGIN_NOT_AVAILABLE if code == TRY_AGAIN_LATER else code)


def test_del_believes_no_lease_and_nothing_less(node: Node, answers: Body) -> None:
    """A wrong URL says 404, too: the lease is still there, and DEL says so."""
    answers.answer(LEASE, (404, b"not found"))
    assert node.refused("DEL").code == INVALID_CONFIG
    answers.answer(LEASE, (404, NOBODY))
    node.call("DEL")
    answers.answer(LEASE, (204, b""))
    node.call("DEL")


def test_credentials_go_to_nobody_else(
    node: Node, answers: Body, https_server: Server, second_server: Server, tmp_path: Path
) -> None:
    node.ipam["tokenFile"] = secret(tmp_path / "token", "s3cret")
    https_server.redirect(LEASES, second_server.url(LEASES), status=307)
    refused = node.refused("ADD")
    assert "redirects" in refused.msg
    assert not second_server.requests
    assert https_server.requests[0].headers["authorization"] == "Bearer s3cret"
    node.ipam |= {"tokenFile": "", "username": "me", "passwordFile": node.ipam["tokenFile"]}
    answers.answer(LEASES, (200, GOOD))
    node.call("ADD")
    assert answers.seen[-1][2]["authorization"] == "Basic bWU6czNjcmV0"


def test_a_proxy_in_the_environment_is_not_asked(
    node: Node, answers: Body, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "https_proxy", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    answers.answer(LEASES, (200, GOOD))
    assert node.call("ADD") == ["10.33.0.2/24"]


def test_a_server_that_cannot_prove_its_name_gets_nothing(
    node: Node,
    https_server: Server,
    authority: Authority,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    node.ipam["tokenFile"] = secret(tmp_path / "token", "s3cret")
    node.ipam["ca"] = ""
    monkeypatch.delenv("SSL_CERT_FILE")
    refused = node.refused("ADD")
    assert refused.code == TRY_AGAIN_LATER
    assert "certificate" in refused.details.lower()
    node.ipam["ca"] = str(authority.bundle)
    node.ipam["url"] = node.ipam["url"].replace("localhost", "127.0.0.2")
    assert node.refused("ADD").code == TRY_AGAIN_LATER
    assert not https_server.requests


def test_names_are_encoded_in_paths(node: Node, answers: Body) -> None:
    path = f"{LEASES}/a%2F..%2Fb%20%C3%A9/c.1/e%3Fth%23"
    answers.answer(path, (204, b""))
    node.ipam["node"] = "a/../b é"
    node.call("DEL", "c.1", "e?th#")
    assert answers.seen[-1][:2] == ("DELETE", path)


def test_a_socket_of_this_host(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        child = os.fork()
        if child == 0:
            try:
                connection, _ = listener.accept()
                while b"}}" not in connection.recv(65536):
                    pass
                data = json.dumps(GOOD).encode()
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(data) + data)
                connection.close()
            finally:
                os._exit(0)
        node = Node("http://ipam.example", socket=path)
        assert node.call("ADD") == ["10.33.0.2/24"]
        os.waitpid(child, 0)


def test_a_peer_that_hangs_up_while_we_write_is_an_error_like_others(tmp_path: Path) -> None:
    """Not a SIGPIPE."""
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        child = os.fork()
        if child == 0:
            try:
                for _ in range(5):
                    listener.accept()[0].close()
            finally:
                os._exit(0)
        node = Node("http://ipam.example", socket=path, parameters={"large": "x" * 1_000_000})
        refused = node.refused("ADD")
        assert (refused.code, "away" in refused.msg) == (TRY_AGAIN_LATER, True)
        os.waitpid(child, 0)


# Hostile answers


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ({}, "0 addresses"),
        ({"ips": []}, "0 addresses"),
        ({"ips": [{"address": f"10.33.0.{n}/24"} for n in range(2, 20)]}, "18 addresses"),
        ({"ips": [{"address": "10.33.0.2/24"}] * 2}, "twice"),
        ({"ips": [{"address": "10.34.0.2/24"}]}, "10.34.0.2/24 is not in 10.33.0.0/16"),
        ({"ips": [{"address": "10.33.0.2/8"}]}, "10.33.0.2/8 is not in"),
        ({"ips": [{"address": "10.33.0.2/0"}]}, "is not in"),
        ({"ips": [{"address": "10.33.0.0/24"}]}, "address of a network"),
        ({"ips": [{"address": "10.33.0.255/24"}]}, "of a broadcast"),
        ({"ips": [{"address": "fd00::2/64"}]}, "is not in"),
        ({"ips": [{"address": "10.33.0.2"}]}, "prefix length"),
        ({"ips": [{"address": "10.33.0.2/24", "gateway": "8.8.8.8"}]}, "gateway 8.8.8.8"),
        ({"ips": [{"address": "10.33.0.2/24", "gateway": "10.33.0.2"}]}, "gateway 10.33.0.2"),
        ({"ips": [{"address": "10.33.0.2/24", "interface": 0}]}, "interface"),
        ({"ips": "10.33.0.2/24"}, "not a list"),
        ({**GOOD, "routes": [{"dst": "::/0"}]}, "without an address of its family"),
        ({**GOOD, "routes": [{"dst": "0.0.0.0/0", "gw": "8.8.8.8"}]}, "through 8.8.8.8"),
        ({**GOOD, "routes": [{"dst": "0.0.0.0/0", "table": 255}]}, "table"),
        ({**GOOD, "routes": [{"dst": "0.0.0.0/0", "mtu": -1}]}, "mtu -1"),
        ({**GOOD, "routes": [{"dst": "0.0.0.0/0"}] * 300}, "300 routes"),
        ({**GOOD, "dns": {"nameservers": ["10.33.0.1\noptions x"]}}, "not an IP address"),
        ({**GOOD, "dns": {"search": ["a\nnameserver 6.6.6.6"]}}, "resolv.conf"),
        ({**GOOD, "dns": {"domain": "x y"}}, "resolv.conf"),
        ({**GOOD, "dns": {"options": ["x"] * 99}}, "100 words"),
    ],
)
def test_a_hostile_answer_is_refused_and_given_back(
    node: Node, answers: Body, body: object, why: str
) -> None:
    answers.answer(LEASES, (200, body))
    answers.answer(LEASE, (204, b""))
    refused = node.refused("ADD")
    assert refused.code == DECODING_FAILURE
    assert why in refused.details
    assert [method for method, _, _ in answers.seen] == ["POST", "DELETE"]


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"[]", "not a JSON object"),
        (b'"x"', "not a JSON object"),
        (b"{", "property name"),
        (b"\xff\xfe", "decode"),
        (b"{" + b" " * (client.LIMIT + 5) + b"}", "more than"),
        (b"[" * 200000, "nested too deeply"),
    ],
)
def test_an_answer_that_is_no_json_is_refused(node: Node, answers: Body, body: bytes, why: str) -> None:
    answers.answer(LEASE, (200, body))
    refused = node.refused("CHECK")
    assert refused.code == DECODING_FAILURE
    assert why in refused.details


def test_what_was_asked_for_is_what_is_taken(node: Node, answers: Body) -> None:
    answers.answer(LEASES, (200, GOOD))
    answers.answer(LEASE, (503, b""))
    refused = node.refused("ADD", cni_args="IP=10.33.0.9")
    assert "not the requested 10.33.0.9" in refused.details
    assert "giving it back failed" in refused.details


def test_old_versions_have_room_for_one_address_a_family(node: Node, answers: Body) -> None:
    answers.answer(LEASES, (200, {"ips": [{"address": "10.33.0.2/24"}, {"address": "10.33.1.2/24"}]}))
    answers.answer(LEASE, (204, b""))
    assert node.call("ADD") == ["10.33.0.2/24", "10.33.1.2/24"]
    node.version = "0.2.0"
    assert "more than 1 address per family" in node.refused("ADD").details


@pytest.mark.parametrize(
    "pieces",
    [
        [],
        [b"HTTP/1.1 200 OK\r\n"],
        [b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"],
        [b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 9 for _ in range(1)],
        [b"HTTP/1.1 100 Continue\r\n\r\n"] * 50,
    ],
    ids=["silence", "no-head", "no-end", "no-body", "only-continue"],
)
def test_a_slow_server_cannot_hold_us(node: Node, https_server: Server, pieces: list[bytes]) -> None:
    https_server.raw("/v1/networks/net1/status", *pieces, hold=True)
    node.ipam["timeout"] = 1
    assert node.refused("STATUS").code == PLUGIN_NOT_AVAILABLE


@pytest.mark.parametrize(
    "piece",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 200 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nA: " + b"b" * 70000 + b"\r\n\r\n",
        b"garbage\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"",
    ],
)
def test_a_broken_answer_is_tried_again_and_then_code_11(
    node: Node, https_server: Server, piece: bytes
) -> None:
    def handler(_request: Seen, send: Callable[[bytes], None]) -> None:
        send(piece)
        raise ConnectionAbortedError

    https_server.pages[LEASES] = handler
    assert node.refused("ADD").code == TRY_AGAIN_LATER
    assert len(https_server.requests) == 5


def test_what_a_service_says_cannot_write_on_a_terminal(node: Node, answers: Body) -> None:
    answers.answer(LEASES, (400, {"error": "bad-request", "message": "\x1b[2Jgone\n" + "x" * 9999}))
    refused = node.refused("ADD")
    assert "\x1b" not in refused.details
    assert len(refused.details) < 300


# Configurations


@pytest.mark.parametrize(
    ("ipam", "message"),
    [
        ({"url": ""}, "url is missing"),
        ({"url": "ftp://x/"}, "not an http or https URL"),
        ({"url": "https://me:secret@x/"}, "holds a user"),
        ({"url": "https://x:port/"}, "not a URL"),
        ({"url": "https://x/?secret"}, "a query"),
        ({"url": "https://x/a b"}, "percent-encoded"),
        ({"url": "http://ipam.example/"}, "without TLS"),
        ({"url": "http://127.0.0.1.example/"}, "without TLS"),
        ({"subnets": []}, "subnets is missing"),
        ({"subnets": ["10.33.0.1/16"]}, "host bits"),
        ({"token": "secret"}, "tokenFile"),
        ({"password": "secret"}, "passwordFile"),
        ({"username": "x"}, "go together"),
        ({"certificate": "x"}, "go together"),
        ({"username": "a:b", "passwordFile": "/x"}, "colon"),
        ({"tokenFile": "/x", "username": "x", "passwordFile": "/x"}, "exclude each other"),
        ({"tokenFile": "/nonexistent"}, "No such file"),
        ({"ca": "/nonexistent"}, "cannot be used"),
        ({"timeout": 1000}, "between 1 and 300"),
        ({"parameters": 7}, "not a JSON object"),
    ],
)
def test_a_bad_configuration_is_refused_with_code_7(ipam: dict[str, Any], message: str) -> None:
    node = Node("https://localhost:1/")
    node.ipam |= ipam
    refused = node.refused("ADD")
    assert refused.code == INVALID_CONFIG
    assert message in refused.details
    assert "secret" not in str(refused).replace("a secret in the configuration", "")
