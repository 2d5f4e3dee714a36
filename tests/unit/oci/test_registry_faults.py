"""Pulling from a registry that misbehaves: the right image or a clear error, and no secret goes astray."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import threading
from pathlib import Path

import pytest

from appc.http.errors import HttpError
from fixtures import registries
from fixtures.httpsserver import Server
from fixtures.registries import PASSWORD, USER, Mock, answer, cut, status
from oci.blobs import BlobDirectory
from oci.errors import DigestMismatch, InvalidImage, NoSuchImage, OciError, RegistryError, Unauthorized
from oci.registry.logins import Login, Logins
from oci.registry.pull import Pulled, pull
from oci.registry.settings import Rule, Settings
from oci.types import media
from oci.types.platform import Platform
from oci.types.reference import Reference

HOST = Platform("linux", "amd64")
CHART = {"mediaType": "application/vnd.cncf.helm.config.v1+json"}
DIGEST = "sha256:" + "0" * 64


def layer(content: bytes) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        info = tarfile.TarInfo("file")
        info.size = len(content)
        archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


LAYERS = [layer(bytes([n]) * 200_000) for n in range(1, 5)]


@pytest.fixture
def image(mock_registry: Mock) -> list[dict[str, object]]:
    """An image of four layers at `app:1`; the descriptors of the layers."""
    return publish(mock_registry)


def publish(mock: Mock, tag: str = "1") -> list[dict[str, object]]:
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Cmd": ["/file"]},
        "rootfs": {
            "type": "layers",
            "diff_ids": ["sha256:" + hashlib.sha256(one).hexdigest() for one in LAYERS],
        },
    }
    layers = [mock.put_blob(one, media.OCI_LAYER) for one in LAYERS]
    manifest = {
        "schemaVersion": 2,
        "mediaType": media.OCI_MANIFEST,
        "config": mock.put_blob(json.dumps(config).encode(), media.OCI_CONFIG),
        "layers": layers,
    }
    mock.put_manifest(tag, manifest, media.OCI_MANIFEST)
    return layers


class Puller:
    """Pulls `app:1` into a directory of its own, and notes how long it was told to wait."""

    def __init__(self, mock: Mock, directory: Path) -> None:
        self.mock = mock
        self.blobs = BlobDirectory(str(directory / "blobs"))
        self.waits: list[float] = []
        self.login: Login | None = Login(USER, PASSWORD)
        self.settings = Settings()

    def __call__(self, name: str = "app:1", *, host: str = "", threads: int = 3) -> Pulled:
        logins = Logins({self.mock.host: self.login} if self.login else {}, files=False)
        reference = Reference.parse(f"{host or self.mock.host}/{name}")
        before = threading.active_count()
        try:
            return pull(
                reference,
                self.blobs,
                HOST,
                settings=self.settings,
                logins=logins,
                threads=threads,
                wait=self.waits.append,
            )
        finally:
            assert threading.active_count() <= before + len(self.mock.server._open) + 8

    def blob_path(self, one: dict[str, object]) -> str:
        return f"/v2/app/blobs/{one['digest']}"


@pytest.fixture
def puller(mock_registry: Mock, tmp_path: Path) -> Puller:
    return Puller(mock_registry, tmp_path)


def contents(pulled: Pulled) -> list[bytes]:
    found = []
    for one in pulled.image.layers:
        with pulled.image.open_layer(one) as file:
            found.append(file.read())
    return found


@pytest.mark.usefixtures("image")
def test_pull_with_a_token(puller: Puller) -> None:
    pulled = puller()
    assert contents(pulled) == LAYERS
    assert pulled.image.config.process is not None
    assert pulled.image.config.process.command == ("/file",)
    asked = [request.target for request in puller.mock.server.requests if request.path == "/token"]
    assert len(asked) == 1
    assert "scope=repository%3Aapp%3Apull" in asked[0]
    # What is there is not fetched again.
    before = len(puller.mock.server.requests)
    puller()
    later = [request.path for request in puller.mock.server.requests[before:]]
    assert not [path for path in later if "/blobs/" in path]


@pytest.mark.usefixtures("image")
def test_no_login_and_a_wrong_one(puller: Puller) -> None:
    puller.login = None
    with pytest.raises(Unauthorized) as refused:
        puller()
    assert "log in" in (refused.value.hint or "")
    puller.login = Login(USER, "Wrong-Word-1234")
    with pytest.raises(Unauthorized) as refused:
        puller()
    assert "Wrong-Word-1234" not in str(refused.value)


def test_a_cut_at_half_goes_on(puller: Puller, image: list[dict[str, object]]) -> None:
    one = image[1]
    puller.mock.fault(puller.blob_path(one), cut(LAYERS[1], len(LAYERS[1]) // 2))
    assert contents(puller()) == LAYERS
    asked = [r for r in puller.mock.server.requests if r.path == puller.blob_path(one)]
    assert asked[-1].headers["range"] == f"bytes={len(LAYERS[1]) // 2}-"


def status_ok() -> registries.Fault:
    """No fault: the next one is for the request after it."""
    return lambda request, send: False


def test_a_pull_that_ended_is_taken_up_by_the_next(puller: Puller, image: list[dict[str, object]]) -> None:
    path = puller.blob_path(image[0])
    half = len(LAYERS[0]) // 2
    puller.mock.fault(path, cut(LAYERS[0], half), status(404))
    with pytest.raises(NoSuchImage):
        puller(threads=1)
    puller.mock.faults.clear()
    assert contents(puller()) == LAYERS
    asked = [r.headers.get("range") for r in puller.mock.server.requests if r.path == path]
    assert asked[-1] == f"bytes={half}-"
    assert not list((puller_path := __import__("pathlib").Path(puller.blobs.path)).glob(".partial/*")), (
        puller_path
    )


def test_a_server_without_ranges_starts_over(puller: Puller, image: list[dict[str, object]]) -> None:
    path = puller.blob_path(image[2])

    def whole(_request: object, send: registries.Send) -> bool:
        answer(send, 200, LAYERS[2])
        return True

    puller.mock.fault(path, cut(LAYERS[2], 1000), whole, whole)
    assert contents(puller()) == LAYERS


def test_the_same_cut_for_ever_ends(puller: Puller, image: list[dict[str, object]]) -> None:
    path = puller.blob_path(image[0])
    puller.mock.fault(path, *[cut(LAYERS[0], 1000)] * 50)
    with pytest.raises(HttpError, match="broke"):
        puller()
    assert len([r for r in puller.mock.server.requests if r.path == path]) < 20


def test_a_wrong_part_from_before_is_thrown_away(puller: Puller, image: list[dict[str, object]]) -> None:
    digest = str(image[0]["digest"])
    partial = Path(puller.blobs.path) / ".partial"
    partial.mkdir(parents=True)
    (partial / digest.replace(":", "-")).write_bytes(b"x" * 1000)
    assert contents(puller()) == LAYERS


def test_a_wrong_digest_is_refused_and_not_kept(puller: Puller, image: list[dict[str, object]]) -> None:
    wrong = bytearray(LAYERS[3])
    wrong[600] ^= 1
    puller.mock.blobs[str(image[3]["digest"])] = bytes(wrong)
    with pytest.raises(DigestMismatch):
        puller()
    place = puller.blobs.place(Reference.parse(f"a/b@{image[3]['digest']}").digest)  # type: ignore[arg-type]
    assert not Path(place).exists()
    puller.mock.blobs[str(image[3]["digest"])] = LAYERS[3]
    assert contents(puller()) == LAYERS


@pytest.mark.parametrize("change", [b"", b"more"])
def test_a_wrong_size_is_refused(puller: Puller, image: list[dict[str, object]], change: bytes) -> None:
    digest = str(image[3]["digest"])
    puller.mock.blobs[digest] = LAYERS[3] + change if change else LAYERS[3][:-1000]
    with pytest.raises(Exception, match=r"bytes"):
        puller()


def test_a_digest_reference_is_checked(puller: Puller) -> None:
    layers = publish(puller.mock)
    digest = next(name for name in puller.mock.manifests if name.startswith("sha256:"))
    assert puller(f"app@{digest}").image.descriptor.digest == digest
    puller.mock.manifests[digest] = (media.OCI_MANIFEST, puller.mock.manifests["1"][1] + b" ")
    with pytest.raises(DigestMismatch):
        puller(f"app@{digest}")
    assert layers


@pytest.mark.usefixtures("image")
def test_an_expired_token_is_renewed(puller: Puller) -> None:
    config = puller.mock.manifests["1"][1]
    path = f"/v2/app/blobs/{json.loads(config)['config']['digest']}"

    def expire(_request: object, _send: object) -> bool:
        puller.mock.tokens.clear()
        return False

    puller.mock.fault(path, expire)
    assert contents(puller()) == LAYERS
    assert puller.mock.issued >= 2


@pytest.mark.usefixtures("image")
def test_for_ever_401_ends(puller: Puller) -> None:
    realm = f'Bearer realm="{puller.mock.realm}",service="s"'
    puller.mock.fault("/v2/app/manifests/1", *[status(401, WWW_Authenticate=realm)] * 20)
    with pytest.raises(Unauthorized):
        puller()
    assert puller.mock.issued <= 3


@pytest.mark.usefixtures("image")
def test_429_is_waited_for_as_long_as_it_says(puller: Puller) -> None:
    busy = status(429, Retry_After="7")
    puller.mock.fault("/v2/app/manifests/1", status_ok(), busy, status(503), busy)
    assert contents(puller()) == LAYERS
    assert puller.waits == [7.0, 2.0, 7.0]


@pytest.mark.usefixtures("image")
def test_429_for_ever_ends(puller: Puller) -> None:
    puller.mock.fault("/v2/app/manifests/1", *[status(429, Retry_After="999999")] * 50)
    with pytest.raises(RegistryError) as refused:
        puller()
    assert refused.value.status == 429
    assert sum(puller.waits) <= 400


def test_cve_2020_15157_a_redirect_takes_no_credential_along(
    puller: Puller, image: list[dict[str, object]], second_server: Server
) -> None:
    second_server.page("/elsewhere", LAYERS[0])

    def redirect(_request: object, send: registries.Send) -> bool:
        answer(send, 307, b"", {"Location": second_server.url("/elsewhere")})
        return True

    path = puller.blob_path(image[0])
    puller.mock.fault(path, redirect)
    assert contents(puller()) == LAYERS
    assert [request.headers.get("authorization") for request in second_server.requests] == [None]


def test_a_redirected_host_that_asks_for_credentials_gets_none(
    puller: Puller, image: list[dict[str, object]], second_server: Server
) -> None:
    challenge = f'Basic realm="x", Bearer realm="{second_server.url("/token")}"'
    second_server.page("/elsewhere", b"", status=401, headers={"WWW-Authenticate": challenge})

    def redirect(_request: object, send: registries.Send) -> bool:
        answer(send, 307, b"", {"Location": second_server.url("/elsewhere")})
        return True

    puller.mock.fault(puller.blob_path(image[0]), redirect)
    with pytest.raises(RegistryError):
        puller()
    assert second_server.paths() == ["/elsewhere"]
    assert all("authorization" not in request.headers for request in second_server.requests)


@pytest.mark.usefixtures("image")
def test_cve_2019_10214_no_credential_to_a_token_server_over_http(
    puller: Puller, http_server: Server
) -> None:
    puller.mock.realm = http_server.url("/token")
    with pytest.raises(RegistryError, match="plain http"):
        puller()
    assert not http_server.requests


@pytest.mark.usefixtures("image")
def test_a_token_servers_redirect_gets_no_credential(puller: Puller, second_server: Server) -> None:
    second_server.page("/steal", b'{"token": "stolen"}')
    puller.mock.fault(
        "/token", lambda _request, send: not answer(send, 302, b"", {"Location": second_server.url("/steal")})
    )
    assert contents(puller()) == LAYERS  # the stolen token is none, and the second one is asked for
    assert second_server.paths() == ["/steal"]
    assert all("authorization" not in request.headers for request in second_server.requests)


@pytest.mark.usefixtures("image")
def test_an_identity_token_goes_in_the_body(puller: Puller) -> None:
    puller.login = Login(identity_token="Identity-Secret-9")
    puller.mock.fault("/token", lambda _request, send: not answer(send, 200, b'{"access_token": "Token-id"}'))
    puller.mock.tokens.add("Token-id")
    assert contents(puller()) == LAYERS
    asked = next(request for request in puller.mock.server.requests if request.path == "/token")
    assert asked.method == "POST"
    assert "Identity-Secret-9" not in asked.target
    assert "authorization" not in asked.headers


def test_no_secret_in_any_error(puller: Puller, image: list[dict[str, object]]) -> None:
    def echo(request: registries.Request, send: registries.Send) -> bool:
        secret = request.headers.get("authorization", "")
        told = json.dumps({"errors": [{"message": f"bad {secret}"}]}).encode()
        answer(send, 500, told)
        return True

    puller.mock.fault(puller.blob_path(image[0]), echo)
    with pytest.raises(RegistryError) as failed:
        puller(threads=1)
    assert "Token-" not in str(failed.value)


@pytest.mark.usefixtures("image")
def test_mirrors_first_then_the_registry(puller: Puller, second_server: Server) -> None:
    mirror = Mock(second_server, protected=False)
    mirror.start()
    rule = Rule(mirrors=(f"https://{mirror.host}/hub",))
    puller.settings = Settings({puller.mock.host: rule})
    assert contents(puller()) == LAYERS  # the mirror has nothing
    assert second_server.paths()[0] == "/v2/hub/app/manifests/1"
    assert all("authorization" not in request.headers for request in second_server.requests)
    publish(mirror, "2")
    pulled = puller("app:2")
    assert pulled.endpoint == f"https://{mirror.host}"


def test_a_blocked_registry_is_not_asked(puller: Puller) -> None:
    puller.settings = Settings({puller.mock.host: Rule(blocked=True)})
    with pytest.raises(OciError, match="blocked"):
        puller()
    assert not puller.mock.server.requests


def test_an_index_gives_the_image_of_the_platform(puller: Puller) -> None:
    publish(puller.mock)
    one = {**json.loads(json.dumps({"mediaType": media.OCI_MANIFEST}))}
    media_type, data = puller.mock.manifests["1"]
    one |= {"digest": "sha256:" + hashlib.sha256(data).hexdigest(), "size": len(data)}
    other = puller.mock.put_manifest("x", {"schemaVersion": 2, "config": one, "layers": []}, media_type)
    entries = [
        {**other, "platform": {"os": "linux", "architecture": "arm64"}},
        {**one, "platform": {"os": "linux", "architecture": "amd64"}},
        {**other, "platform": {"os": "unknown", "architecture": "unknown"}},
    ]
    index = {"schemaVersion": 2, "mediaType": media.OCI_INDEX, "manifests": entries}
    top = puller.mock.put_manifest("multi", index, media.OCI_INDEX)
    pulled = puller("app:multi")
    assert pulled.top.digest == top["digest"]
    assert contents(pulled) == LAYERS
    index["manifests"] = entries[:1]
    puller.mock.put_manifest("multi", index, media.OCI_INDEX)
    with pytest.raises(InvalidImage) as refused:
        puller("app:multi")
    assert "linux/arm64" in (refused.value.hint or "")


@pytest.mark.parametrize(
    ("document", "kind", "message"),
    [
        ({"schemaVersion": 1, "name": "app", "fsLayers": []}, min(media.SCHEMA_1), "schema 1"),
        ({"schemaVersion": 2, "manifests": [], "layers": []}, media.OCI_INDEX, "both"),
        ({"schemaVersion": 2, "mediaType": media.OCI_INDEX}, media.OCI_MANIFEST, "announced"),
        (b"<html>", "text/html", "invalid manifest"),
        (b'{"schemaVersion":2,"schemaVersion":2}', media.OCI_MANIFEST, "twice"),
        (b"[" * 100_000, media.OCI_MANIFEST, "deep"),
        (
            {"schemaVersion": 2, "config": {**CHART, "digest": DIGEST, "size": 1}, "layers": []},
            media.OCI_MANIFEST,
            "no container image",
        ),
        (
            {"schemaVersion": 2, "config": {**CHART, "digest": "sha256:../../x", "size": 1}, "layers": []},
            media.OCI_MANIFEST,
            "lower-case",
        ),
        (
            {"schemaVersion": 2, "config": {**CHART, "digest": DIGEST, "size": -1}, "layers": []},
            media.OCI_MANIFEST,
            "not between",
        ),
    ],
)
def test_documents_that_are_refused(puller: Puller, document: object, kind: str, message: str) -> None:
    data = document if isinstance(document, bytes) else json.dumps(document).encode()
    puller.mock.manifests["1"] = kind, data
    with pytest.raises(InvalidImage, match=message):
        puller()


def test_a_manifest_above_the_limit_is_not_read(puller: Puller) -> None:
    puller.mock.manifests["1"] = media.OCI_MANIFEST, b" " * (5 << 20)
    with pytest.raises(Exception, match="limit"):
        puller()


def test_plain_http_needs_a_word(puller: Puller, http_server: Server) -> None:
    mock = Mock(http_server, protected=False)
    mock.start()
    publish(mock)
    with pytest.raises(Exception, match="TLS"):
        puller(host=mock.host)
    puller.settings = Settings({mock.host: Rule(plain_http=True)})
    assert contents(puller(host=mock.host)) == LAYERS


def test_an_answer_over_https_is_not_asked_for_again_over_http(puller: Puller) -> None:
    puller.settings = Settings(plain_http=True)
    with pytest.raises(NoSuchImage):
        puller("app:absent")
    assert puller.mock.server.requests
