"""A real registry with TLS and passwords: push and pull, checked by skopeo; docker2aci as users type it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from appc.aci import reader
from appc.schema.image import ImageManifest
from fixtures import registries
from oci.blobs import BlobDirectory
from oci.errors import Unauthorized
from oci.image import assemble
from oci.layers import write
from oci.registry.logins import Login, Logins
from oci.registry.pull import pull
from oci.registry.push import push
from oci.registry.settings import Rule, Settings
from oci.types.config import ImageConfig, Process
from oci.types.platform import Platform
from oci.types.reference import Reference

if TYPE_CHECKING:
    from fixtures.httpsserver import Authority
    from fixtures.registries import Docker
    from oci.image import Image

HOST = Platform("linux", "amd64")


@pytest.fixture
def image(tmp_path: Path) -> Image:
    """Two layers: one of many small bytes, one of a megabyte that does not compress."""
    blobs = BlobDirectory(str(tmp_path / "made"))
    layers = []
    for name, data in (("small", b"hello\n"), ("large", os.urandom(1 << 20))):
        top = tmp_path / name
        top.mkdir()
        (top / name).write_bytes(data)
        fd = os.open(top, os.O_RDONLY)
        layers.append(write.from_directory(fd, blobs, latest=0))
        os.close(fd)
    config = ImageConfig(
        HOST,
        Process(cmd=("/small",), env=("A=b",), user="5"),
        tuple(layer.diff_id for layer in layers if layer.diff_id),
    )
    return assemble(blobs, config, layers)


def logins(registry: Docker) -> Logins:
    return Logins({registry.host: Login(registries.USER, registries.PASSWORD)}, files=False)


def skopeo(*words: str, authority: Authority | None = None) -> str:
    if shutil.which("skopeo") is None:
        pytest.skip("needs skopeo")
    environment = {"PATH": os.environ["PATH"], "HOME": os.environ["TMPDIR"], "TMPDIR": os.environ["TMPDIR"]}
    if authority is not None:
        environment["SSL_CERT_FILE"] = str(authority.bundle)
    done = subprocess.run(
        ["skopeo", *words], capture_output=True, text=True, check=False, env=environment, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("chunk", [0, 100_000])
def test_push_pull_and_skopeo(
    docker_registry: Docker, image: Image, tmp_path: Path, authority: Authority, chunk: int
) -> None:
    reference = Reference.parse(f"{docker_registry.host}/team/app:1")
    done: list[tuple[int, int]] = []
    digest = push(
        reference,
        image,
        logins=logins(docker_registry),
        chunk=chunk,
        progress=lambda count, total: done.append((count, total)),
    )
    assert sum(count for count, _ in done) == done[0][1]

    blobs = BlobDirectory(str(tmp_path / "pulled"))
    pulled = pull(reference, blobs, HOST, logins=logins(docker_registry))
    assert pulled.image.descriptor.digest == digest == image.descriptor.digest
    assert pulled.image.config == image.config

    credentials = f"--creds={registries.USER}:{registries.PASSWORD}"
    inspected = json.loads(skopeo("inspect", credentials, f"docker://{reference}", authority=authority))
    assert inspected["Digest"] == digest
    assert inspected["Layers"] == [layer.descriptor.digest for layer in image.layers]


def test_what_is_there_is_not_sent_again(docker_registry: Docker, image: Image) -> None:
    reference = Reference.parse(f"{docker_registry.host}/a/one:1")
    push(reference, image, logins=logins(docker_registry))
    # A mount from the other repository needs no content: the blobs may not even be opened.
    closed = image._replace(blobs=OnlyDocuments(image))
    other = Reference.parse(f"{docker_registry.host}/b/two:1")
    push(other, closed, logins=logins(docker_registry), mount_from=[reference])
    push(reference, closed, logins=logins(docker_registry))


class OnlyDocuments:
    """The blobs of an image, of which only the manifest may be opened."""

    def __init__(self, image: Image) -> None:
        self.image = image

    def has(self, _descriptor: object) -> bool:
        return True

    def open(self, descriptor):  # type: ignore[no-untyped-def]
        assert descriptor == self.image.descriptor, "a blob was sent that is there"
        return self.image.blobs.open(descriptor)


def test_passwords(docker_registry: Docker, image: Image) -> None:
    reference = Reference.parse(f"{docker_registry.host}/team/app:1")
    with pytest.raises(Unauthorized):
        push(reference, image, logins=Logins(files=False))
    wrong = Logins({docker_registry.host: Login(registries.USER, "Wrong-Word-55")}, files=False)
    with pytest.raises(Unauthorized) as refused:
        push(reference, image, logins=wrong)
    assert "Wrong-Word-55" not in str(refused.value)


def test_plain_http_on_loopback(open_registry: Docker, image: Image, tmp_path: Path) -> None:
    reference = Reference.parse(f"{open_registry.host}/app")
    settings = Settings({open_registry.host: Rule(plain_http=True)})
    push(reference, image, settings=settings, logins=Logins(files=False))
    blobs = BlobDirectory(str(tmp_path / "pulled"))
    pulled = pull(reference, blobs, HOST, settings=settings, logins=Logins(files=False))
    assert pulled.image.config == image.config


def test_plain_http_where_https_fails(open_registry: Docker, image: Image, tmp_path: Path) -> None:
    """`-insecure-allow-http`: https is tried first, and its answer counts."""
    reference = Reference.parse(f"{open_registry.host}/app")
    settings = Settings(plain_http=True)
    push(reference, image, settings=settings, logins=Logins(files=False))
    blobs = BlobDirectory(str(tmp_path / "pulled"))
    pulled = pull(reference, blobs, HOST, settings=settings, logins=Logins(files=False))
    assert pulled.endpoint == f"http://{open_registry.host}"


def docker2aci(
    checkout: Path, directory: Path, *words: str, code: int = 0, **environment: str
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [checkout / "bin/docker2aci", *words],
        cwd=directory,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, "HOME": str(directory), **environment},
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert registries.PASSWORD not in done.stdout + done.stderr
    return done


def test_docker2aci_from_a_registry(
    docker_registry: Docker, image: Image, login_file: Path, checkout: Path, tmp_path: Path
) -> None:
    reference = Reference.parse(f"{docker_registry.host}/team/app:1")
    push(reference, image, logins=logins(docker_registry))
    url = f"docker://{reference}"

    refused = docker2aci(checkout, tmp_path, url, code=1, DOCKER_CONFIG=str(tmp_path / "none"))
    assert "wants credentials" in refused.stderr

    done = docker2aci(checkout, tmp_path, "-debug", url, DOCKER_CONFIG=str(login_file))
    assert done.stdout.splitlines() == ["", "Generated ACI(s):", "team-app-1.aci"]
    with open(tmp_path / "team-app-1.aci", "rb") as file:
        manifest = ImageManifest.parse(reader.read(file).manifest)
    annotations = manifest.annotations.as_dict()
    assert manifest.name == f"{docker_registry.host.replace(':', '_')}/team/app"
    assert annotations["appc.io/docker/registryurl"] == docker_registry.host
    assert annotations["appc.io/docker/originalname"] == str(reference)
    assert annotations["appc.io/docker/manifesthash"] == image.descriptor.digest
    first = (tmp_path / "team-app-1.aci").read_bytes()
    docker2aci(checkout, tmp_path, f"{url}@{image.descriptor.digest}", DOCKER_CONFIG=str(login_file))
    assert sorted(path.name for path in tmp_path.glob("*.aci")) == ["team-app-1.aci"]
    with open(tmp_path / "team-app-1.aci", "rb") as file:
        again = ImageManifest.parse(reader.read(file).manifest)
    assert again.app == manifest.app
    docker2aci(checkout, tmp_path, url, DOCKER_CONFIG=str(login_file))
    assert (tmp_path / "team-app-1.aci").read_bytes() == first


def test_docker2aci_asks_a_credential_helper(
    docker_registry: Docker, image: Image, checkout: Path, tmp_path: Path
) -> None:
    push(Reference.parse(f"{docker_registry.host}/x:1"), image, logins=logins(docker_registry))
    programs = tmp_path / "bin"
    programs.mkdir()
    helper = programs / "docker-credential-tests"
    answer = json.dumps({"Username": registries.USER, "Secret": registries.PASSWORD})
    question = f'[ "$1" = get ] && [ "$(cat)" = {docker_registry.host} ] || exit 3'
    helper.write_text(f"#!/bin/sh\n{question}\necho '{answer}'\n")
    helper.chmod(0o755)
    config = tmp_path / "docker"
    config.mkdir()
    (config / "config.json").write_text(json.dumps({"credHelpers": {docker_registry.host: "tests"}}))
    path = f"{programs}:{os.environ['PATH']}"
    docker2aci(
        checkout, tmp_path, f"docker://{docker_registry.host}/x:1", DOCKER_CONFIG=str(config), PATH=path
    )
    assert (tmp_path / "x-1.aci").exists()


def test_the_command_line(checkout: Path, tmp_path: Path) -> None:
    assert docker2aci(checkout, tmp_path, "-version").stdout.startswith("docker2aci version ")
    assert "usage: docker2aci [flags]" in docker2aci(checkout, tmp_path, "--help").stdout
    assert docker2aci(checkout, tmp_path, code=2).stderr.startswith("Error: missing argument")
    assert "unknown flag" in docker2aci(checkout, tmp_path, "-bogus", "x", code=2).stderr
    assert (
        "unknown compression method: xz"
        in docker2aci(checkout, tmp_path, "-compression=xz", "x", code=1).stderr
    )
    assert "No such file" in docker2aci(checkout, tmp_path, "absent.tar", code=1).stderr
    (tmp_path / "text").write_text("no archive")
    assert "is no tar archive" in docker2aci(checkout, tmp_path, "text", code=1).stderr
    told = docker2aci(checkout, tmp_path, "docker://a/../b", code=1).stderr
    assert "is no name of an image" in told
    assert not list(tmp_path.glob("*.aci"))
