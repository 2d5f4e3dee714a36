"""The metadata service as a process: registration, answers, tokens, addresses, floods (R28, S32)."""

from __future__ import annotations

import base64
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import pytest

from rkt.errors import RktError
from rkt.metadata import client

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import Rkt

UUID = "5bc080ca-9e32-4d1f-9d1a-5f3f5c2f7d5a"
OTHER = "00000000-0000-4000-8000-000000000001"
IMAGE_ID = "sha512-" + "a" * 128
JSON, TEXT = "application/json", "text/plain; charset=us-ascii"
BASE = "/acMetadata/v1"


def pod_manifest(**more: Any) -> bytes:
    app = {"name": "main", "image": {"id": IMAGE_ID}, "annotations": more.pop("app_annotations", [])}
    manifest = {"acVersion": "0.8.11", "acKind": "PodManifest", "apps": [app], **more}
    return json.dumps(manifest).encode()


def image_manifest(annotations: list[dict[str, str]]) -> bytes:
    return json.dumps({
        "acVersion": "0.8.11",
        "acKind": "ImageManifest",
        "name": "example.com/main",
        "annotations": annotations,
    }).encode()


class Service:
    """A running service with a socket of its own, on a port of its own."""

    def __init__(self, rkt: Rkt) -> None:
        self._rkt = rkt
        self.socket = str(rkt.directory / "run/metadata-svc.sock")
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = probe.getsockname()[1]
        self.start()

    def start(self) -> None:
        argv = self._rkt.argv("metadata-service", f"--socket={self.socket}", f"--listen-port={self.port}")
        self.process = subprocess.Popen(argv, stderr=subprocess.PIPE, text=True)
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                time.sleep(0.02)
        self.stop()
        raise AssertionError("the service does not come up")

    def stop(self, number: int = signal.SIGTERM) -> str:
        self.process.send_signal(number)
        _, errors = self.process.communicate(timeout=10)
        self.log = errors
        return errors

    def register(self, token: str, uuid: str = UUID, **more: Any) -> int:
        images = more.pop("images", {"main": image_manifest([])})
        manifest = more.pop("manifest", pod_manifest())
        return client.register(uuid, token, manifest, images, path=self.socket, **more)

    def ask(
        self,
        path: str,
        *,
        method: str = "GET",
        body: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> tuple[int, str, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return answer.status, answer.headers["Content-Type"], answer.read()
        finally:
            connection.close()

    def post(self, path: str, **fields: str) -> tuple[int, str, bytes]:
        return self.ask(path, method="POST", body=urlencode(fields))


@pytest.fixture
def service(rkt: Rkt) -> Iterator[Service]:
    made = Service(rkt)
    yield made
    if made.process.poll() is None:
        made.stop()
    assert "Traceback" not in made.log


def test_every_answer_has_its_exact_type(service: Service) -> None:
    token = client.new_token()
    manifest = pod_manifest(
        annotations=[{"name": "a", "value": "1"}],
        app_annotations=[{"name": "second", "value": "pod"}, {"name": "new", "value": "x"}],
    )
    image = image_manifest([
        {"name": "first", "value": "image"},
        {"name": "second", "value": "image"},
        {"name": "third", "value": "image"},
    ])
    assert service.register(token, manifest=manifest, images={"main": image}) == service.port
    base = f"/{token}{BASE}"
    assert service.ask(f"{base}/pod/manifest") == (200, JSON, manifest)
    assert service.ask(f"{base}/pod/uuid") == (200, TEXT, UUID.encode())
    status, kind, body = service.ask(f"{base}/pod/annotations")
    assert (status, kind, json.loads(body)) == (200, JSON, [{"name": "a", "value": "1"}])
    assert service.ask(f"{base}/pod/annotations/a") == (200, TEXT, b"1")
    assert service.ask(f"{base}/apps/main/image/manifest") == (200, JSON, image)
    assert service.ask(f"{base}/apps/main/image/id") == (200, TEXT, IMAGE_ID.encode())
    status, kind, body = service.ask(f"{base}/apps/main/annotations")
    assert (status, kind) == (200, JSON)
    assert json.loads(body) == [
        {"name": "first", "value": "image"},
        {"name": "second", "value": "pod"},
        {"name": "third", "value": "image"},
        {"name": "new", "value": "x"},
    ]
    assert service.ask(f"{base}/apps/main/annotations/second") == (200, TEXT, b"pod")
    status, kind, signature = service.post(f"{base}/pod/hmac/sign", content="Old MacDonald")
    assert (status, kind, len(base64.b64decode(signature))) == (200, TEXT, 64)
    fields = {"content": "Old MacDonald", "uuid": UUID, "signature": signature.decode()}
    assert service.post(f"{base}/pod/hmac/verify", **fields) == (200, TEXT, b"")


def test_absent_annotations_are_null_and_empty_ones_are_empty(service: Service) -> None:
    token, other = client.new_token(), client.new_token()
    service.register(token)
    service.register(other, OTHER, manifest=pod_manifest(annotations=[]))
    assert service.ask(f"/{token}{BASE}/pod/annotations")[2] == b"null"
    assert service.ask(f"/{other}{BASE}/pod/annotations")[2] == b"[]"
    assert service.ask(f"/{token}{BASE}/apps/main/annotations")[2] == b"[]"


def test_what_is_not_there(service: Service) -> None:
    token = client.new_token()
    service.register(token)
    base = f"/{token}{BASE}"
    for path, status in (
        ("/", 401),
        (f"/{'0' * 64}{BASE}/pod/uuid", 401),
        (f"/{token[:-1]}{BASE}/pod/uuid", 401),
        (f"/{UUID}{BASE}/pod/uuid", 401),
        (f"/{token}/", 404),
        (f"{base}/pod/nothing", 404),
        (f"{base}/pod/annotations/x", 404),
        (f"{base}/apps/other/image/id", 404),
        (f"{base}/apps/main", 404),
        (f"{base}/apps/main/annotations/x", 404),
        (f"{base}/../pod/uuid", 404),
        (f"{base}/pod/hmac/sign", 405),
    ):
        assert service.ask(path)[0] == status, path
    assert service.post(f"{base}/pod/uuid")[0] == 405
    assert service.post(f"{base}/pod/hmac/other", content="x")[0] == 404


def test_signatures_are_the_pods_own(service: Service) -> None:
    """A cannot sign for B, and a signature is good for its content and pod alone."""
    a, b = client.new_token(), client.new_token()
    service.register(a)
    service.register(b, OTHER)
    signature = service.post(f"/{a}{BASE}/pod/hmac/sign", content="x", uuid=OTHER)[2].decode()
    verify = f"/{b}{BASE}/pod/hmac/verify"
    assert service.post(verify, content="x", uuid=UUID, signature=signature)[0] == 200
    assert service.post(verify, content="x", uuid=OTHER, signature=signature)[0] == 403
    assert service.post(verify, content="y", uuid=UUID, signature=signature)[0] == 403
    assert service.post(verify, content="x", uuid=UUID, signature="AAAA")[0] == 403
    for bad in (
        {"content": "x", "uuid": UUID, "signature": "!"},
        {"content": "x", "uuid": "no", "signature": signature},
        {"content": "", "uuid": UUID, "signature": signature},
        {"uuid": UUID, "signature": signature},
    ):
        assert service.post(verify, **bad)[0] == 400
    assert service.post(f"/{a}{BASE}/pod/hmac/sign")[0] == 400


def test_content_may_be_any_bytes(service: Service) -> None:
    token = client.new_token()
    service.register(token)
    signatures = {
        service.ask(f"/{token}{BASE}/pod/hmac/sign", method="POST", body=f"content={text}")[2]
        for text in ("%00%ff+x", "%00%FF%20x", "%00%fe+x")
    }
    assert len(signatures) == 2


def test_answers_take_well_under_100_ms(service: Service) -> None:
    token = client.new_token()
    service.register(token)
    times = []
    for _ in range(30):
        started = time.monotonic()
        service.ask(f"/{token}{BASE}/apps/main/annotations")
        times.append(time.monotonic() - started)
    assert sorted(times)[len(times) // 2] < 0.1


def test_a_restart_loses_neither_pods_nor_signatures(service: Service) -> None:
    token, gone = client.new_token(), client.new_token()
    service.register(token)
    service.register(gone, OTHER)
    client.unregister(OTHER, path=service.socket)
    signature = service.post(f"/{token}{BASE}/pod/hmac/sign", content="x")[2].decode()
    service.stop(signal.SIGKILL)
    service.start()
    assert service.ask(f"/{token}{BASE}/pod/uuid")[2] == UUID.encode()
    assert service.ask(f"/{gone}{BASE}/pod/uuid")[0] == 401
    fields = {"content": "x", "uuid": UUID, "signature": signature}
    assert service.post(f"/{token}{BASE}/pod/hmac/verify", **fields)[0] == 200


def test_files_and_socket_are_roots_alone(service: Service) -> None:
    service.register(client.new_token())
    state = Path(service.socket).with_suffix("")
    assert Path(service.socket).stat().st_mode & 0o777 == 0o600
    assert Path(service.socket).parent.stat().st_mode & 0o777 == 0o700
    assert state.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in state.iterdir()} == {0o600}
    assert {path.name for path in state.iterdir()} == {"hmac.key", f"{UUID}.json"}


def test_other_users_cannot_register(root: None, service: Service) -> None:
    # The directory would keep them out already: opened wide here, the service itself must refuse.
    os.chmod(Path(service.socket).parent, 0o755)
    os.chmod(service.socket, 0o666)
    for parent in Path(service.socket).parents:
        os.chmod(parent, os.stat(parent).st_mode | 0o011)
    code = (
        "import os, socket, sys\n"
        "os.setgid(65534); os.setuid(65534)\n"
        "s = socket.socket(socket.AF_UNIX); s.settimeout(5); s.connect(sys.argv[1])\n"
        "try: s.sendall(b'DELETE /pods/x HTTP/1.1\\r\\n\\r\\n'); print(s.recv(100))\n"
        "except ConnectionError: print(b'')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, service.socket], capture_output=True, text=True, check=True
    )
    assert done.stdout == "b''\n"


@pytest.mark.parametrize(
    ("token", "manifest", "problem"),
    [
        ("short", None, "token must have"),
        ("a" * 31 + "/", None, "token must have"),
        ("", None, "token"),
        (None, b"{", "refuses"),
        (None, b'{"acKind":"ImageManifest"}', "refuses"),
        (None, b"", "refuses"),
    ],
)
def test_bad_registrations_are_refused(
    service: Service, token: str | None, manifest: bytes | None, problem: str
) -> None:
    with pytest.raises(RktError, match=problem):
        service.register(
            client.new_token() if token is None else token,
            manifest=pod_manifest() if manifest is None else manifest,
        )


def test_a_token_cannot_be_taken_over_and_apps_need_their_pod(service: Service) -> None:
    token = client.new_token()
    service.register(token)
    with pytest.raises(RktError, match="another pod's"):
        service.register(token, OTHER)
    with pytest.raises(RktError, match="not found"):
        client._request("PUT", f"/pods/{OTHER}/main", image_manifest([]), service.socket)
    with pytest.raises(RktError, match="refuses"):
        client._request("PUT", f"/pods/{UUID}/..", image_manifest([]), service.socket)
    again = client.new_token()
    service.register(again)
    assert service.ask(f"/{token}{BASE}/pod/uuid")[0] == 401
    assert service.ask(f"/{again}{BASE}/pod/uuid")[0] == 200


def test_without_a_service_the_error_says_what_to_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "_PAUSE", 0.01)
    with pytest.raises(RktError, match="failed to register pod") as failed:
        client.register(UUID, client.new_token(), b"", {}, path=str(tmp_path / "none.sock"))
    assert "metadata-service" in (failed.value.hint or "")
    client.unregister(UUID, path=str(tmp_path / "none.sock"))


def test_a_token_is_good_from_the_pods_addresses_alone(service: Service, tmp_path: Path) -> None:
    info = tmp_path / "net-info.json"
    token = client.new_token()
    service.register(token, net_info=str(info))
    path = f"/{token}{BASE}/pod/uuid"
    with pytest.raises((ConnectionError, http.client.HTTPException)):
        service.ask(path)  # no registered pod is at 127.0.0.1: it is not even listened to
    info.write_text(json.dumps([{"ip": "127.0.0.1"}]))
    assert service.ask(path)[0] == 200
    stranger = client.new_token()
    (tmp_path / "other.json").write_text(json.dumps([{"ip": "192.0.2.1", "ip6": "2001:db8::1"}]))
    service.register(stranger, OTHER, net_info=str(tmp_path / "other.json"))
    assert service.ask(f"/{stranger}{BASE}/pod/uuid")[0] == 401


def test_a_pod_in_the_hosts_network_is_heard_from_the_host(service: Service) -> None:
    token = client.new_token()
    service.register(token, local=True)
    assert service.ask(f"/{token}{BASE}/pod/uuid")[0] == 200


def test_another_namespace_with_a_stolen_token_is_not_heard(
    root: None, service: Service, netns: Path, tmp_path: Path
) -> None:
    """Pod A at 10.97.0.2 uses the token of pod B at 10.97.0.3: 401, and its own token works."""
    pid = netns.parts[2]
    for words in (
        f"ip link add mdstest type veth peer name eth0 netns {pid}",
        "ip address add 10.97.0.1/24 dev mdstest",
        "ip link set mdstest up",
        f"nsenter --net={netns} ip address add 10.97.0.2/24 dev eth0",
        f"nsenter --net={netns} ip link set eth0 up",
    ):
        subprocess.run(words.split(), check=True)
    try:
        tokens = {}
        for uuid, address in ((UUID, "10.97.0.2"), (OTHER, "10.97.0.3")):
            info = tmp_path / f"{uuid}.json"
            info.write_text(json.dumps([{"ip": address}]))
            tokens[address] = client.new_token()
            service.register(tokens[address], uuid, net_info=str(info))
        code = (
            "import sys, http.client\n"
            "c = http.client.HTTPConnection('10.97.0.1', int(sys.argv[1]), timeout=5)\n"
            "for p in sys.argv[2:]:\n"
            "    c.request('GET', p); a = c.getresponse(); a.read(); print(a.status)\n"
        )
        paths = [f"/{token}{BASE}/pod/uuid" for token in tokens.values()]
        done = subprocess.run(
            ["nsenter", f"--net={netns}", sys.executable, "-c", code, str(service.port), *paths],
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.split() == ["200", "401"]
    finally:
        subprocess.run(["ip", "link", "del", "mdstest"], check=True)


def test_cve_2018_1002103_a_web_sites_name_as_host_is_refused(service: Service) -> None:
    token = client.new_token()
    service.register(token)
    path = f"/{token}{BASE}/pod/uuid"
    for host, status in (
        ("evil.example.com", 403),
        (f"evil.example.com:{service.port}", 403),
        ("10.0.0.1", 403),
        (f"127.0.0.1:{service.port}", 200),
        (f"localhost:{service.port}", 200),
    ):
        assert service.ask(path, headers={"Host": host})[0] == status


def raw(service: Service, data: bytes, timeout: float = 8) -> bytes:
    with socket.create_connection(("127.0.0.1", service.port), timeout=timeout) as sock:
        sock.sendall(data)
        answer = b""
        try:
            while part := sock.recv(65536):
                answer += part
        except OSError:
            pass
        return answer


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"rubbish\r\n\r\n", b"400"),
        (b"GET /x HTTP/2.0\r\n\r\n", b"400"),
        (b"GET  /x HTTP/1.1\r\n\r\n", b"400"),
        (b"GET /\x01 HTTP/1.1\r\n\r\n", b"400"),
        (b"GET /x HTTP/1.1\r\nbad header\r\n\r\n", b"400"),
        (b"GET /x HTTP/1.1\r\nA: b\r\n c\r\n\r\n", b"400"),
        (b"GET /x HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", b"400"),
        (b"POST /x HTTP/1.1\r\nContent-Length: -1\r\n\r\n", b"400"),
        (b"POST /x HTTP/1.1\r\nContent-Length: 65537\r\n\r\n", b"413"),
        (b"POST /x HTTP/1.1\r\nContent-Length: 999999999999\r\n\r\n", b"413"),
        (b"POST /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", b"411"),
        (b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\n\r\n", b"400"),
        (b"GET /x HTTP/1.1\r\n" + b"A: b\r\n" * 20_000 + b"\r\n", b"431"),
    ],
    ids=[
        "no request",
        "another version",
        "two spaces",
        "control character",
        "no colon",
        "folded header",
        "two hosts",
        "negative length",
        "one byte too long",
        "much too long",
        "chunked",
        "long path",
        "many headers",
    ],
)
def test_malformed_and_large_requests(service: Service, data: bytes, status: bytes) -> None:
    token = client.new_token()
    service.register(token)
    answer = raw(service, data)
    assert answer[9:12] in {status, b""}  # a reset may overtake the answer
    assert service.ask(f"/{token}{BASE}/pod/uuid")[0] == 200


def test_expect_continue_is_answered(service: Service) -> None:
    token = client.new_token()
    service.register(token)
    head = f"POST /{token}{BASE}/pod/hmac/sign HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n"
    with socket.create_connection(("127.0.0.1", service.port), timeout=5) as sock:
        sock.sendall(head.encode())
        assert sock.recv(1000).startswith(b"HTTP/1.1 100 ")
        sock.sendall(b"content=x")
        assert sock.recv(1000).startswith(b"HTTP/1.1 200 ")


def test_a_flood_of_connections_keeps_nobody_else_waiting(service: Service, tmp_path: Path) -> None:
    """S32: 5,000 connections from one address; a pod at another one is answered."""
    for uuid, address in ((UUID, "127.0.0.1"), (OTHER, "127.0.0.2")):
        info = tmp_path / f"{uuid}.json"
        info.write_text(json.dumps([{"ip": address}]))
        service.register(uuid.replace("-", "") * 2, uuid, net_info=str(info))
    flood: list[socket.socket] = []
    try:
        for _ in range(5000):
            try:
                sock = socket.create_connection(("127.0.0.1", service.port), timeout=2)
            except OSError:
                break
            flood.append(sock)
            if len(flood) >= 700:  # our own descriptors
                flood.pop(0).close()
        started = time.monotonic()
        connection = http.client.HTTPConnection(
            "127.0.0.1", service.port, timeout=5, source_address=("127.0.0.2", 0)
        )
        connection.request("GET", f"/{OTHER.replace('-', '') * 2}{BASE}/pod/uuid")
        answer = connection.getresponse()
        assert (answer.status, answer.read()) == (200, OTHER.encode())
        connection.close()
        assert time.monotonic() - started < 5
        with open(f"/proc/{service.process.pid}/status", encoding="ascii") as status:
            rss = next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))
        assert rss < 150_000
        assert len(os.listdir(f"/proc/{service.process.pid}/fd")) < 200
    finally:
        for sock in flood:
            sock.close()


def test_a_slow_request_ends(service: Service) -> None:
    token = client.new_token()
    service.register(token)
    started = time.monotonic()
    assert raw(service, b"GET /x HTTP/1.1\r\nA: ", timeout=20) == b""
    assert time.monotonic() - started < 12


def test_tokens_are_in_no_log_line(service: Service) -> None:
    token = client.new_token()
    service.register(token)
    service.ask(f"/{token}{BASE}/pod/uuid")
    log = service.stop()
    assert token not in log
    assert "GET /…/acMetadata/v1/pod/uuid - 200" in log
    assert f"PUT /pods/{UUID} - 200" in log
    assert not Path(service.socket).exists()


def test_a_second_service_does_not_take_the_place_of_the_first(service: Service, rkt: Rkt) -> None:
    done = rkt("metadata-service", f"--socket={service.socket}", "--listen-port=0", code=254)
    assert "another metadata service is running" in done.stderr
    other = str(rkt.directory / "other/x.sock")
    done = rkt("metadata-service", f"--socket={other}", f"--listen-port={service.port}", code=254)
    assert f"error listening on port {service.port}" in done.stderr


def test_sockets_may_be_passed_by_a_service_manager(rkt: Rkt, tmp_path: Path) -> None:
    path = str(tmp_path / "passed.sock")
    notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    with notify, socket.socket(socket.AF_UNIX) as unix, socket.create_server(("127.0.0.1", 0)) as tcp:
        notify.bind(str(tmp_path / "notify"))
        notify.settimeout(10)
        unix.bind(path)
        unix.listen()
        argv = rkt.argv("metadata-service", f"--socket={rkt.directory / 'run/unused.sock'}")
        code = (
            "import fcntl, os, sys\n"
            "a, b = (fcntl.fcntl(int(fd), fcntl.F_DUPFD, 50) for fd in sys.argv[1:3])\n"
            "os.dup2(a, 3); os.dup2(b, 4)\n"
            "os.environ.update(LISTEN_FDS='2', LISTEN_PID=str(os.getpid()), NOTIFY_SOCKET=sys.argv[3])\n"
            "os.execv(sys.argv[4], sys.argv[4:])\n"
        )
        fds = (unix.fileno(), tcp.fileno())
        process = subprocess.Popen(
            [sys.executable, "-c", code, *map(str, fds), str(tmp_path / "notify"), *argv],
            pass_fds=fds,
            stderr=subprocess.DEVNULL,
        )
        try:
            assert notify.recv(100) == b"READY=1"
            assert (
                client.register(UUID, client.new_token(), pod_manifest(), {}, path=path)
                == tcp.getsockname()[1]
            )
        finally:
            process.terminate()
            process.wait(10)
    assert Path(path).exists()
