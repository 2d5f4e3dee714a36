"""acbuild push: to a real registry and to acserver, from a build in progress and from a file."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from fixtures import registries
from fixtures.acserver import PASSWORD, USER

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Rkt, SigningKey
    from fixtures.acbuild import Acbuild
    from fixtures.acserver import Acserver
    from fixtures.httpsserver import Authority
    from fixtures.registries import Docker


@pytest.fixture
def place(acbuild: Acbuild) -> Path:
    """The directory of the build, which has rkt's configuration and nothing of the host's."""
    for name in ("etc/auth.d", "usr"):
        (acbuild.directory / name).mkdir(parents=True)
    (acbuild.directory / "file").write_text("pushed\n")
    return acbuild.directory


def configured(place: Path) -> list[str]:
    return [f"--local-config={place}/etc", f"--system-config={place}/usr", f"--store={place}/rkt"]


def login(place: Path, **content: object) -> None:
    (place / "etc/auth.d/test.json").write_text(json.dumps({"rktVersion": "v1", **content}))


def registry_login(place: Path, registry: Docker, password: str = registries.PASSWORD) -> None:
    credentials = {"user": registries.USER, "password": password}
    login(place, rktKind="dockerAuth", registries=[registry.host], credentials=credentials)


def begin(acbuild: Acbuild, mode: str, name: str = "localhost/app") -> None:
    acbuild("begin", f"--build-mode={mode}")
    acbuild("copy", "file", "/file")
    acbuild("set-exec", "/file", "argument")
    if mode == "appc":
        acbuild("set-name", name)
        acbuild("label", "add", "version", "1.0")


@pytest.mark.parametrize("mode", ["appc", "oci"])
def test_to_a_registry_and_back(acbuild: Acbuild, place: Path, docker_registry: Docker, mode: str) -> None:
    begin(acbuild, mode)
    name = f"docker://{docker_registry.host}/team/app:1.0"
    flags = configured(place)
    lacking = acbuild(*flags, "push", name, code=1)
    assert "wants credentials" in lacking.stderr
    registry_login(place, docker_registry, "Wrong-Word-55")
    refused = acbuild(*flags, "push", name, code=1)
    assert "refuses the credentials" in refused.stderr
    assert "Wrong-Word-55" not in refused.stderr
    registry_login(place, docker_registry)
    digest = acbuild(*flags, "push", name).stdout
    assert digest.startswith("sha256:")
    # What is pushed is what would be written, and the build goes on as if nothing had been.
    image = "out.aci" if mode == "appc" else "out.tar"
    acbuild("write", image)
    assert acbuild(*flags, f"--from={image}", "push", name.replace("1.0", "2.0")).stdout == digest
    assert acbuild(*flags, "push", name).stdout == digest
    acbuild("end")

    acbuild(*flags, "begin", "--build-mode=oci", f"{name.removesuffix(':1.0')}@{digest.strip()}")
    assert (acbuild.rootfs / "file").read_text() == "pushed\n"
    config = json.loads(acbuild("cat-manifest", "--file=config").stdout)["config"]
    assert [*config["Entrypoint"], *(config.get("Cmd") or [])] == ["/file", "argument"]
    acbuild("end")
    left = {"etc", "usr", "cache", "file", image}
    assert set(os.listdir(place)) <= left


def test_only_what_a_registry_lacks_is_sent(
    acbuild: Acbuild, place: Path, docker_registry: Docker, authority: Authority
) -> None:
    """Layers on top of a pulled image; skopeo sees what podman would."""
    if shutil.which("skopeo") is None:
        pytest.skip("needs skopeo")
    registry_login(place, docker_registry)
    flags, base = configured(place), f"docker://{docker_registry.host}/base:1"
    begin(acbuild, "oci")
    acbuild(*flags, "push", base)
    acbuild("end")
    acbuild(*flags, "begin", "--build-mode=oci", base)
    acbuild("copy", "file", "/second")
    acbuild(*flags, "push", f"docker://{docker_registry.host}/top")
    done = subprocess.run(
        ["skopeo", "inspect", f"--creds={registries.USER}:{registries.PASSWORD}",
         f"docker://{docker_registry.host}/top:latest"],
        env={"PATH": os.environ["PATH"], "SSL_CERT_FILE": str(authority.bundle), "HOME": str(place)},
        capture_output=True, check=True,
    )  # fmt: skip
    assert len(json.loads(done.stdout)["Layers"]) == 2
    # the change is in no layer of the build yet
    acbuild("layer")


def test_plain_http_needs_a_word(acbuild: Acbuild, place: Path, open_registry: Docker) -> None:
    begin(acbuild, "appc")
    name = f"docker://{open_registry.host}/app"
    refused = acbuild(*configured(place), "push", name, code=1)
    assert "not TLS" in refused.stderr
    assert "plainHttp" in refused.stderr
    acbuild(*configured(place), "push", "--insecure", name)
    rule = {"rktKind": "registries", "rktVersion": "v1", "registries": [open_registry.host]}
    (place / "etc/registries.d").mkdir()
    (place / "etc/registries.d/a.json").write_text(json.dumps(rule | {"plainHttp": True}))
    acbuild(*configured(place), "push", name)
    (place / "script").write_text(f"begin\ncopy file /file\npush {name}\n")
    assert acbuild(*configured(place), "script", "script").stdout.startswith("sha256:")


@pytest.mark.usefixtures("root")
def test_an_authority_of_ones_own_for_acis(
    acbuild: Acbuild, place: Path, acserver: Acserver, signing_key: SigningKey, authority: Authority, rkt: Rkt
) -> None:
    """What certs.d has for the host lets push, discovery and download through; the system has nothing."""
    stranger = {"SSL_CERT_FILE": str(authority.other_certificate)}
    login(
        place,
        rktKind="auth",
        domains=["localhost"],
        type="basic",
        credentials={"user": USER, "password": PASSWORD},
    )
    begin(acbuild, "appc")
    acbuild("write", "app.aci")
    acbuild("end")
    signing_key.sign(place / "app.aci")
    words = [*configured(place), "--from=app.aci", "push", "localhost/app"]
    assert "certificate is not accepted" in acbuild(*words, environment=stranger, code=1).stderr
    for etc in (place / "etc", rkt.directory / "etc"):
        (etc / "certs.d/localhost").mkdir(parents=True)
        shutil.copy(authority.bundle, etc / "certs.d/localhost/ca.crt")
    acbuild(*words, environment=stranger)
    assert len(acserver.images()) == 1
    rkt("trust", "--prefix=localhost/app", "--skip-fingerprint-review", environment=stranger)
    assert rkt("fetch", "--no-store", "localhost/app", environment=stranger).stdout.startswith("sha512-")


@pytest.mark.usefixtures("root")
def test_a_signed_aci_to_acserver(
    acbuild: Acbuild, place: Path, acserver: Acserver, signing_key: SigningKey, rkt: Rkt
) -> None:
    """Signed now, or as the file beside the image says; then fetched by name, as from any publisher."""
    flags = configured(place)
    gpg = {"GNUPGHOME": str(signing_key.home)}
    words = ["--", "--local-user", signing_key.fingerprint]
    credentials = {"user": USER, "password": PASSWORD}
    begin(acbuild, "appc")
    assert "no signature" in acbuild(*flags, "push", "localhost/app", code=1).stderr
    try:
        refused = acbuild(*flags, "push", "--sign", "localhost/app", *words, environment=gpg, code=1)
        login(place, rktKind="auth", domains=["localhost"], type="basic", credentials=credentials)
        pushed = acbuild(*flags, "push", "--sign", "localhost/app", *words, environment=gpg).stdout
        written = acbuild("write", "--sign", "app.aci", *words, environment=gpg).stdout
    finally:
        signing_key.gpg("--version")  # ends the agent that acbuild's gpg left
    assert "401" in refused.stderr
    assert pushed == written
    acbuild("end")
    assert acbuild(*flags, "--from=app.aci", "push", "localhost/app:1.0").stdout == written
    assert PASSWORD not in acserver.log()
    rkt("trust", "--prefix=localhost/app", "--skip-fingerprint-review")
    fetched = rkt("fetch", "--full", "--no-store", "localhost/app").stdout.strip()
    assert len(fetched) > 60
    assert written.startswith(fetched)
    (place / "app.aci.asc").unlink()
    assert "no signature" in acbuild(*flags, "--from=app.aci", "push", "localhost/app", code=1).stderr


def test_what_cannot_be_pushed_there(acbuild: Acbuild, place: Path) -> None:
    def told(*words: str) -> str:
        return acbuild(*configured(place), *words, code=1).stderr

    registry = "docker://localhost:1/app"
    assert "no build in progress" in told("push", registry)
    begin(acbuild, "oci")
    assert "goes to a registry" in told("push", "--unsigned", "example.com/app")
    acbuild("write", "app.tar")
    assert "is no ACI" in told("--from=app.tar", "push", "--unsigned", "example.com/app")
    assert "for ACIs" in told("push", "--sign", registry)
    assert "cannot connect" in told("push", registry)
    assert "localhost:1" in told("push", "docker://localhost:1/App")
    acbuild("end")
    begin(acbuild, "appc")
    acbuild("dependency", "add", "example.com/below")
    assert "acbuild squash" in told("push", registry)
    assert "cannot be used with --to" in told("--from=app.tar", "--to=x.aci", "push", registry)
    assert "Example.com" in told("push", "--unsigned", "Example.com/App")
