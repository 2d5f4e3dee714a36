"""acserver and acpush as processes: what is pushed is published whole and verified, or not at all."""

from __future__ import annotations

import base64
import http.client
import json
import os
import signal
import socket
import ssl
import subprocess
import threading
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fixtures.acserver import PASSWORD, USER
from fixtures.publisher import MACHINE, small_aci

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import Rkt, SigningKey
    from fixtures.acserver import Acserver
    from fixtures.httpsserver import Authority

CHECKOUT = Path(__file__).parent.parent.parent
AUTHORIZED = {"Authorization": "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()}
PLACE = "localhost/app/app-1.0-linux-" + MACHINE + ".aci"


@pytest.fixture
def image(tmp_path: Path, signing_key: SigningKey) -> Path:
    """A signed image, version 1.0 of localhost/app, and its signature beside it."""
    return signed(tmp_path / "app.aci", signing_key)


def signed(path: Path, key: SigningKey, content: bytes = b"hello\n", name: str = "localhost/app") -> Path:
    small_aci(path, name, labels={"version": "1.0"}, content=content)
    key.sign(path)
    return path


def asc(image: Path) -> Path:
    return image.with_name(image.name + ".asc")


def acpush(
    *words: str | Path, code: int = 0, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    empty = ["--system-conf=/nonexistent", "--local-conf=/nonexistent"]
    options = [] if any(str(word).startswith("--local-conf") for word in words) else empty
    done = subprocess.run(
        [CHECKOUT / "bin/acpush", *options, *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
        env={**os.environ, **(environment or {})},
    )
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done


@pytest.fixture
def password(tmp_path: Path) -> str:
    path = tmp_path / "password"
    path.write_text(PASSWORD + "\n")
    return f"--password-file={path}"


class Talk:
    """Requests by hand, over one connection each."""

    def __init__(self, authority: Authority) -> None:
        self._context = ssl.create_default_context(cafile=str(authority.bundle))

    def connect(self) -> ssl.SSLSocket:
        return self._context.wrap_socket(
            socket.create_connection(("127.0.0.1", 443), timeout=30), server_hostname="localhost"
        )

    def __call__(
        self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPSConnection("localhost", timeout=60, context=self._context)
        with closing(connection):
            connection.request(method, path, body or None, AUTHORIZED if headers is None else headers)
            answer = connection.getresponse()
            return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()

    def upload(self) -> dict[str, str]:
        """A new upload: the path of each of its addresses."""
        status, _, body = self("POST", "/x/startupload")
        assert status == 200
        found = json.loads(body)
        return {key: "/" + str(found[key]).split("/", 3)[3] for key in found if key.endswith("_url")}


@pytest.fixture
def talk(trusted: Authority) -> Talk:
    return Talk(trusted)


def manifest_of(image: Path) -> bytes:
    from appc.aci import reader

    with open(image, "rb") as file:
        return reader.read_manifest(file)


def send_all(talk: Talk, image: Path, signature: bytes | None, **instead: bytes) -> dict[str, object]:
    """A whole push by hand; what the server says in the end."""
    paths = talk.upload()
    parts = {"manifest": manifest_of(image), "signature": signature, "aci": image.read_bytes(), **instead}
    for part, data in parts.items():
        if data is not None:
            assert talk("PUT", paths[f"upload_{part}_url"], data)[0] == 200
    status, _, body = talk("POST", paths["completed_url"], b'{"success": true}')
    assert status == 200
    answer: dict[str, object] = json.loads(body)
    return answer


# Pushed and found


@pytest.mark.usefixtures("root")
def test_a_pushed_image_is_discovered_verified_and_fetched(
    acserver: Acserver, image: Path, password: str, rkt: Rkt
) -> None:
    acpush(f"--username={USER}", password, image, asc(image), "localhost/app")

    rkt("trust", "--prefix=localhost/app", "--skip-fingerprint-review")
    fetched = rkt("fetch", "--no-store", "localhost/app").stdout
    assert fetched.startswith("sha512-")
    assert rkt("fetch", "--no-store", "localhost/app:1.0").stdout == fetched
    assert acserver.images() == [PLACE]
    assert acserver.root.joinpath(PLACE).read_bytes() == image.read_bytes()
    assert PASSWORD not in acserver.log()
    assert not list(acserver.root.glob(".uploads/*"))


@pytest.mark.usefixtures("acserver")
def test_a_redirect_leads_to_the_highest_version_or_nowhere(
    talk: Talk, signing_key: SigningKey, tmp_path: Path
) -> None:
    for version in ("1.9", "1.10"):
        path = small_aci(tmp_path / f"{version}.aci", labels={"version": version})
        assert send_all(talk, path, signing_key.sign(path).read_bytes()) == {"success": True}
    asked = f"/find?name=localhost/app&os=linux&arch={MACHINE}&ext=aci.asc"
    status, headers, _ = talk("GET", asked + "&version=latest", headers={})
    assert status == 302
    assert headers["location"] == f"https://localhost/localhost/app/app-1.10-linux-{MACHINE}.aci.asc"
    for more in ("&version=2", "&version=../x", "&version=latest&name=x"):
        found, _, _ = talk("GET", asked.replace("name=localhost/app", "name=localhost/ap") + more, headers={})
        assert found == 404
    status, _, page = talk("GET", "/app", headers={})  # a name's own page, as any web server would serve it
    assert status == 200
    assert b"https://localhost/{name}/app-{version}-{os}-{arch}.{ext}" in page


@pytest.mark.usefixtures("acserver")
def test_files_are_served_in_parts_and_only_when_changed(talk: Talk, image: Path) -> None:
    assert send_all(talk, image, asc(image).read_bytes()) == {"success": True}
    whole = image.read_bytes()
    status, headers, body = talk("GET", f"/{PLACE}", headers={})
    assert (status, body) == (200, whole)
    part = {"Range": "bytes=10-", "If-Range": headers["etag"]}
    assert talk("GET", f"/{PLACE}", headers=part)[::2] == (206, whole[10:])
    assert talk("GET", f"/{PLACE}", headers={**part, "If-Range": '"other"'})[0] == 200
    assert talk("GET", f"/{PLACE}", headers={"Range": f"bytes={len(whole)}-"})[0] == 416
    assert talk("GET", f"/{PLACE}", headers={"If-None-Match": headers["etag"]})[::2] == (304, b"")
    assert talk("HEAD", f"/{PLACE}", headers={})[1]["content-length"] == str(len(whole))


def test_pushing_the_same_again_is_no_failure(acserver: Acserver, image: Path, password: str) -> None:
    for _ in range(2):
        acpush(f"--username={USER}", password, image, asc(image), "localhost/app")
    assert "was published already" in acserver.log()


def test_acpush_signs_on_the_way(
    acserver: Acserver, image: Path, password: str, signing_key: SigningKey
) -> None:
    asc(image).unlink()
    try:
        acpush(
            *(f"--username={USER}", password, f"--key={signing_key.fingerprint}", image, "localhost/app:1.0"),
            *("--", "--homedir", str(signing_key.home), "--batch"),
        )
    finally:
        signing_key.gpg("--list-keys")  # ends the agent
    assert acserver.images() == [PLACE]


def test_credentials_come_from_auth_d(acserver: Acserver, image: Path, tmp_path: Path) -> None:
    directory = tmp_path / "etc/auth.d"
    directory.mkdir(parents=True)
    (directory / "push.json").write_text(
        json.dumps({
            "rktKind": "auth",
            "rktVersion": "v1",
            "domains": ["localhost"],
            "type": "basic",
            "credentials": {"user": USER, "password": PASSWORD},
        })
    )
    acpush(f"--local-conf={directory.parent}", image, asc(image), "localhost/app")
    assert acserver.images() == [PLACE]


# Refused


def test_without_or_with_wrong_credentials_nothing_is_taken(
    acserver: Acserver, image: Path, talk: Talk
) -> None:
    told = acpush(image, asc(image), "localhost/app", code=1).stderr
    assert "401" in told
    assert "auth.d" in told
    told = acpush("--username=releases", "--password=no", image, asc(image), "localhost/app", code=1).stderr
    assert "403" in told
    assert "Incorrect username/password" in told
    paths = talk.upload()
    for part in ("manifest", "signature", "aci"):  # the token alone opens nothing
        assert talk("PUT", paths[f"upload_{part}_url"], b"x", headers={})[0] == 401
    assert talk("POST", paths["completed_url"], b"{}", headers={})[0] == 401
    assert acserver.images() == []


def test_a_signature_of_somebody_else_or_over_something_else_is_refused(
    acserver: Acserver, talk: Talk, image: Path, tmp_path: Path, signing_key: SigningKey
) -> None:
    other = signed(tmp_path / "other.aci", signing_key, b"other\n")
    answer = send_all(talk, image, asc(other).read_bytes())
    assert answer["success"] is False
    assert "signature" in str(answer["server_reason"])
    assert send_all(talk, image, b"garbage")["success"] is False
    assert send_all(talk, image, None) == {"success": False, "server_reason": "signature wasn't uploaded"}
    (acserver.root / "pubkeys.gpg").unlink()
    assert "no pubkeys.gpg" in str(send_all(talk, image, asc(image).read_bytes())["server_reason"])
    assert acserver.images() == []


def test_another_manifest_or_a_broken_image_is_refused(
    acserver: Acserver, talk: Talk, image: Path, signing_key: SigningKey, tmp_path: Path
) -> None:
    changed = json.loads(manifest_of(image))
    changed["name"] = "localhost/innocent"
    answer = send_all(talk, image, asc(image).read_bytes(), manifest=json.dumps(changed).encode())
    assert answer["server_reason"] == "the manifest that was uploaded is not that of the image"
    spaced = json.dumps(json.loads(manifest_of(image)), indent=4).encode()
    assert send_all(talk, image, asc(image).read_bytes(), manifest=spaced) == {"success": True}
    for data in (b"", b"x" * 5000, image.read_bytes()[:-600]):
        broken = tmp_path / "broken"
        broken.write_bytes(data)
        signature = signing_key.sign(broken).read_bytes()
        answer = send_all(talk, image, signature, aci=data)
        assert answer["success"] is False, data[:10]
    assert acserver.images() == [PLACE]


def test_names_and_versions_that_are_not_ours_or_no_place_are_refused(
    acserver: Acserver, talk: Talk, tmp_path: Path, signing_key: SigningKey
) -> None:
    for name in ("example.com/app", "localhost/index.html", "localhost/x-1.0-linux.aci"):
        path = signed(tmp_path / name.rpartition("/")[2], signing_key, name=name)
        assert send_all(talk, path, asc(path).read_bytes())["success"] is False
    path = small_aci(tmp_path / "x.aci", labels={"version": "../../../../tmp/x"})
    answer = send_all(talk, path, signing_key.sign(path).read_bytes())
    assert "cannot be part of an address" in str(answer["server_reason"])
    assert acserver.images() == []


HIDDEN = (
    "/../../../../etc/passwd",
    "/%2e%2e/%2e%2e/etc/passwd",
    "/localhost/../../log",
    "/..%2flog",
    "/.uploads/",
    "/.site.json",
    "/localhost/app/.releases/",
    "//etc/passwd",
    "/x%00y",
    "/localhost/app/%ff",
    "/link",
)


def test_no_path_leads_out_of_the_root_or_to_what_is_hidden(acserver: Acserver, talk: Talk) -> None:
    (acserver.root / "link").symlink_to("/etc/passwd")
    for target in HIDDEN:
        assert talk("GET", target, headers={})[0] == 404, target


@pytest.mark.usefixtures("acserver")
def test_made_up_uploads_are_not_found(talk: Talk) -> None:
    for token in ("0" * 64, "..", "../../log", "%2e%2e", "", "A" * 64):
        for part in ("manifest", "signature", "aci"):
            assert talk("PUT", f"/{part}/{token}", b"x")[0] == 404, token
        assert talk("POST", f"/complete/{token}", b'{"success": true}')[0] == 404


@pytest.mark.parametrize("acserver", [{"storage": {"maxSize": 5000}}], indirect=True)
def test_what_is_too_large_is_refused_whether_it_says_so_or_not(
    acserver: Acserver, talk: Talk, tmp_path: Path, password: str
) -> None:
    paths = talk.upload()
    assert talk("PUT", paths["upload_aci_url"], b"x" * 5001)[0] == 413
    assert talk("PUT", paths["upload_manifest_url"], b"x" * (5 << 20))[0] == 413
    with talk.connect() as sock:
        head = f"PUT {paths['upload_aci_url']} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in AUTHORIZED.items())
        sock.sendall(head.encode() + b"\r\n" + b"1000\r\n" + b"x" * 4096 + b"\r\n" + b"1000\r\n")
        assert sock.recv(1000).startswith(b"HTTP/1.1 413 ")
    big = small_aci(tmp_path / "big.aci", labels={"version": "1.0"}, content=os.urandom(6000))
    # An unsigned push of ours: the size is refused before anybody asks for a signature.
    told = acpush(f"--username={USER}", password, "--unsigned", big, "localhost/app", code=1).stderr
    assert "413: an image may have 5000 bytes" in told
    assert acserver.images() == []


MALFORMED = (
    b"GET / HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    b'GET / HTTP/1.1\r\nHost: a"><script>\r\n\r\n',
    b"get / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"PUT /aci/x HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"PUT /aci/x HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
    b"PUT /aci/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nbad header\r\n\r\n",
    b"\x16\x03\x01garbage\r\n\r\n",
)


@pytest.mark.usefixtures("acserver")
def test_malformed_requests_are_400(talk: Talk) -> None:
    for text in MALFORMED:
        with talk.connect() as sock:
            sock.sendall(text)
            assert sock.recv(1000).startswith(b"HTTP/1.1 400 "), text


@pytest.mark.usefixtures("acserver")
def test_endless_headers_are_431(talk: Talk) -> None:
    with talk.connect() as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n" + b"".join(b"X-%d: y\r\n" % n for n in range(102)))
        assert sock.recv(1000).startswith(b"HTTP/1.1 431 ")


@pytest.mark.parametrize("acserver", [{"api": {"serverName": ""}}], indirect=True)
@pytest.mark.usefixtures("acserver")
def test_a_host_header_injects_nothing(talk: Talk) -> None:
    status, _, page = talk("GET", "/", headers={"Host": "example.org:8443"})
    assert status == 200
    assert b'content="example.org https://example.org:8443/find?' in page


@pytest.mark.parametrize("acserver", [{"storage": {"allowOverride": False}}], indirect=True)
def test_a_published_image_is_not_replaced_where_that_is_not_allowed(
    acserver: Acserver, talk: Talk, image: Path, tmp_path: Path, signing_key: SigningKey
) -> None:
    assert send_all(talk, image, asc(image).read_bytes()) == {"success": True}
    other = signed(tmp_path / "other.aci", signing_key, b"other\n")
    assert "published already" in str(send_all(talk, other, asc(other).read_bytes())["server_reason"])
    assert acserver.root.joinpath(PLACE).read_bytes() == image.read_bytes()


# Broken off


def test_killed_in_the_middle_of_a_push_nothing_is_served_and_the_next_push_works(
    acserver: Acserver, talk: Talk, image: Path, password: str
) -> None:
    paths = talk.upload()
    talk("PUT", paths["upload_manifest_url"], manifest_of(image))
    talk("PUT", paths["upload_signature_url"], asc(image).read_bytes())
    data = image.read_bytes()
    with talk.connect() as sock:
        lines = [f"PUT {paths['upload_aci_url']} HTTP/1.1", "Host: localhost", f"Content-Length: {len(data)}"]
        lines += [f"{name}: {value}" for name, value in AUTHORIZED.items()]
        sock.sendall("\r\n".join((*lines, "", "")).encode() + data[: len(data) // 2])
        while not list(acserver.root.glob(".uploads/*/image.part")):
            os.sched_yield()
        acserver.kill()
    assert acserver.images() == []
    acserver.start()
    assert talk("GET", f"/{PLACE}", headers={})[0] == 404
    answer = json.loads(talk("POST", paths["completed_url"], b'{"success": true}')[2])
    assert answer == {"success": False, "server_reason": "ACI wasn't uploaded"}
    acpush(f"--username={USER}", password, image, asc(image), "localhost/app")
    assert acserver.images() == [PLACE]


def test_a_cut_upload_goes_on_where_it_was(acserver: Acserver, talk: Talk, image: Path) -> None:
    data, paths = image.read_bytes(), talk.upload()
    talk("PUT", paths["upload_manifest_url"], manifest_of(image))
    talk("PUT", paths["upload_signature_url"], asc(image).read_bytes())
    address, half = paths["upload_aci_url"], len(data) // 2
    first = AUTHORIZED | {"Content-Range": f"bytes 0-{half - 1}/{len(data)}"}
    assert talk("PUT", address, data[:half], first)[0] == 200
    assert talk("HEAD", address)[1]["upload-offset"] == str(half)
    wrong = AUTHORIZED | {"Content-Range": f"bytes {half + 1}-{len(data) - 1}/{len(data)}"}
    status, headers, _ = talk("PUT", address, data[half + 1 :], wrong)
    assert (status, headers["upload-offset"]) == (409, str(half))
    rest = AUTHORIZED | {"Content-Range": f"bytes {half}-{len(data) - 1}/{len(data)}"}
    assert talk("PUT", address, data[half:], rest)[0] == 200
    assert json.loads(talk("POST", paths["completed_url"], b'{"success": true}')[2]) == {"success": True}
    assert acserver.root.joinpath(PLACE).read_bytes() == data


class Cutter:
    """Stands between client and server and cuts the connection with the first large body in its middle."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.cuts = 0
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._join, args=(client,))
            thread.start()
            self._threads.append(thread)

    def _join(self, client: socket.socket) -> None:
        with client, socket.create_connection(("127.0.0.1", 443)) as server:
            back = threading.Thread(target=self._copy, args=(server, client, 1 << 40))
            back.start()
            self._copy(client, server, 40_000)
            back.join()

    def _copy(self, source: socket.socket, target: socket.socket, limit: int) -> None:
        count = 0
        try:
            while data := source.recv(4096):
                count += len(data)
                if count > limit and not self.cuts:
                    self.cuts += 1
                    break
                target.sendall(data)
        except OSError:
            pass
        for sock in (source, target):
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def close(self) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for thread in self._threads:
            thread.join()


@pytest.fixture
def cutter() -> Iterator[Cutter]:
    made = Cutter()
    yield made
    made.close()


@pytest.mark.parametrize("acserver", [{"api": {"serverName": ""}}], indirect=True)
def test_acpush_survives_a_cut_connection(
    acserver: Acserver, cutter: Cutter, password: str, tmp_path: Path, signing_key: SigningKey
) -> None:
    image = signed(tmp_path / "app.aci", signing_key, os.urandom(200_000))
    told = acpush(
        *("--debug", f"--username={USER}", password, f"--port={cutter.port}", image, asc(image)),
        "localhost/app",
    ).stderr
    assert cutter.cuts == 1
    assert "ACI: " in told
    assert "again in 1 s" in told
    assert "going on after" in told
    assert acserver.root.joinpath(PLACE).read_bytes() == image.read_bytes()


# At once


def test_two_pushes_of_one_version_at_once_leave_one_whole_image(
    acserver: Acserver, password: str, tmp_path: Path, signing_key: SigningKey
) -> None:
    images = [signed(tmp_path / f"{n}.aci", signing_key, os.urandom(20_000)) for n in range(2)]
    images += images  # each twice
    running = [
        subprocess.Popen(
            [CHECKOUT / "bin/acpush", f"--username={USER}", password, image, asc(image), "localhost/app"],
            stderr=subprocess.PIPE,
        )
        for image in images
    ]
    for process in running:
        _, told = process.communicate(timeout=100)
        assert process.returncode == 0, told
    shown = acserver.root / PLACE
    image = next(each for each in images if each.read_bytes() == shown.read_bytes())
    assert shown.with_name(shown.name + ".asc").read_bytes() == asc(image).read_bytes()
    assert len(list(shown.parent.glob(".releases/1.0-*@*"))) == 1
    assert not list(acserver.root.glob(".tmp-*"))


def test_one_address_cannot_take_all_connections(acserver: Acserver, talk: Talk) -> None:
    from appc.server.service import PER_ADDRESS

    idle = [socket.create_connection(("127.0.0.1", 443)) for _ in range(PER_ADDRESS)]
    try:
        with socket.create_connection(("127.0.0.1", 443), timeout=30) as sock:
            assert sock.recv(1000).startswith(b"HTTP/1.1 503 ")
    finally:
        for each in idle:
            each.close()
    acserver.stop()
    acserver.start()
    assert talk("GET", "/", headers={})[0] == 200


def test_it_ends_with_a_signal_and_starts_again_at_once(acserver: Acserver, talk: Talk) -> None:
    with talk.connect():
        assert acserver.process is not None
        os.kill(acserver.process.pid, signal.SIGINT)
        assert acserver.process.wait(timeout=30) == 0
    acserver.start()
    assert talk("GET", "/", headers={})[0] == 200


# Command lines


def test_acpush_explains_what_is_wrong(image: Path, tmp_path: Path) -> None:
    assert "acpush IMAGE SIGNATURE NAME" in acpush(image, code=1).stderr
    assert '"localhost/other" expected' in acpush(image, asc(image), "localhost/other", code=1).stderr
    assert 'label "version"' in acpush(image, asc(image), "localhost/app:2.0", code=1).stderr
    assert "No such file" in acpush(tmp_path / "none", asc(image), "localhost/app", code=1).stderr
    told = acpush(image, image, "localhost/app", code=1).stderr
    assert str(image) in told
    assert "localhost: " in acpush(image, asc(image), "localhost/app", code=1).stderr
    told = acpush("--username=x", image, asc(image), "localhost/app", code=1).stderr
    assert "--password-file" in told


def test_both_tell_their_version_and_help() -> None:
    for name in ("acserver", "acpush"):
        for word, text in (("--version", f"{name} version 0.1.0"), ("--help", f"{name} ")):
            done = subprocess.run([CHECKOUT / "bin" / name, word], capture_output=True, text=True, check=True)
            assert text in done.stdout
            assert done.stderr == ""


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("api: {usernme: x}", "api.usernme: there is no such setting"),
        ("api: {username: x}", "belong together"),
        ("api: {port: 0}", "api.port"),
        ("api: {serverName: 'a b'}", "api.serverName"),
        ("storage: {unsigned: maybe}", "storage.unsigned"),
        ("api: [", "is no YAML, line"),
        ("- x", "object"),
        ("api: {certificate: /none}", "/none: No such file"),
    ],
)
def test_a_wrong_configuration_is_explained(tmp_path: Path, text: str, problem: str) -> None:
    config = tmp_path / "acserver.yml"
    config.write_text(text)
    done = subprocess.run(
        [CHECKOUT / "bin/acserver", config], capture_output=True, text=True, check=False, timeout=30
    )
    assert done.returncode == 1
    assert problem in done.stderr
    assert "Traceback" not in done.stderr
