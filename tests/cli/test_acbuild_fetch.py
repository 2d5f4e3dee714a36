"""acbuild with images that are not here yet: rkt's store, discovery, dependencies, registries."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from fixtures.openpgp import Owner, armor

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Rkt
    from fixtures.acbuild import Acbuild
    from fixtures.publisher import Publisher
    from fixtures.registries import Docker

NAME = "localhost/app"


def trusting(acbuild: Acbuild, owner: Owner) -> list[str]:
    """Flags with which acbuild trusts `owner`, and looks at no directory of the host."""
    keys = acbuild.directory / "etc/trustedkeys/prefix.d/localhost"
    keys.mkdir(parents=True, exist_ok=True)
    (keys / owner.fingerprint.lower()).write_bytes(owner.armored())
    (acbuild.directory / "usr").mkdir(exist_ok=True)
    place = acbuild.directory
    return [f"--local-config={place}/etc", f"--system-config={place}/usr", f"--store={place}/rkt"]


def published(publisher: Publisher, owner: Owner | None, name: str = NAME, **more: object) -> Path:
    image = publisher.aci(name, **more)
    made = armor(owner.key.signature(image.read_bytes())) if owner is not None else None
    publisher.publish(image, name, signature=made)
    return image


def test_an_image_found_by_discovery_is_verified_and_kept(acbuild: Acbuild, publisher: Publisher) -> None:
    owner = Owner()
    published(publisher, owner)
    flags = trusting(acbuild, owner)
    acbuild(*flags, "begin", NAME)
    assert (acbuild.rootfs / "file").read_text() == "hello\n"
    assert acbuild.manifest()["name"] == NAME
    acbuild("end")
    publisher.server.page(f"/{NAME}-latest-linux-amd64.aci", b"gone")
    acbuild(*flags, "begin", NAME)
    acbuild("end")


def test_an_image_without_a_good_signature_needs_a_word(acbuild: Acbuild, publisher: Publisher) -> None:
    owner, stranger = Owner(), Owner()
    flags = trusting(acbuild, owner)
    published(publisher, stranger)
    assert "unknown entity" in acbuild(*flags, "begin", NAME, code=1).stderr
    published(publisher, None, "localhost/unsigned")
    acbuild(*flags, "begin", "localhost/unsigned", code=1)
    assert not (acbuild.directory / ".acbuild").exists()
    told = acbuild(*flags, "begin", "--insecure", "localhost/unsigned").stderr
    assert "not checked" in told
    acbuild("end")
    # what was fetched so does not count as verified afterwards
    acbuild(*flags, "begin", "localhost/unsigned", code=1)


def test_a_good_signature_of_other_bytes(acbuild: Acbuild, publisher: Publisher) -> None:
    owner = Owner()
    signed, served = publisher.aci(content=b"signed"), publisher.aci(content=b"served")
    publisher.publish(served, signature=armor(owner.key.signature(signed.read_bytes())))
    assert "invalid signature" in acbuild(*trusting(acbuild, owner), "begin", NAME, code=1).stderr
    assert not list((acbuild.directory / "cache").rglob("sha512-*"))


def test_another_image_than_was_asked_for(acbuild: Acbuild, publisher: Publisher) -> None:
    owner = Owner()
    image = publisher.aci("localhost/other")
    publisher.publish(image, NAME, signature=armor(owner.key.signature(image.read_bytes())))
    assert "expected" in acbuild(*trusting(acbuild, owner), "begin", NAME, code=1).stderr


def test_rkts_store_is_asked_first(acbuild: Acbuild, publisher: Publisher, rkt: Rkt) -> None:
    image = publisher.aci("localhost/stored", content=b"stored\n")
    image_id = rkt("--insecure-options=image", "fetch", "--full", image).stdout.strip()
    store = f"--store={rkt.directory / 'data'}"
    for start in ("localhost/stored", image_id[:20]):
        acbuild(store, "begin", start)
        assert (acbuild.rootfs / "file").read_text() == "stored\n"
        acbuild("end")
    assert "no image" in acbuild(store, "begin", "sha512-" + "0" * 20, code=1).stderr


@pytest.mark.parametrize("order", [("b", "c"), ("c", "b")])
def test_squash_renders_the_last_dependency_on_top(
    acbuild: Acbuild, publisher: Publisher, rkt: Rkt, order: tuple[str, str]
) -> None:
    """Defect C2 of the reference: it laid the first dependency on top."""
    for name in order:
        image = publisher.aci(f"localhost/{name}", content=name.encode())
        rkt("--insecure-options=image", "fetch", image)
    store = f"--store={rkt.directory / 'data'}"
    (acbuild.directory / "own").write_text("own")
    acbuild("begin")
    acbuild("set-name", "example.com/top")
    for name in order:
        acbuild("dependency", "add", f"localhost/{name}")
    acbuild("copy", "own", "/own")
    acbuild("copy", "own", "/left-out")
    acbuild("whitelist", "add", "/own", "/file")
    acbuild(store, "squash")
    assert {path.name: path.read_text() for path in acbuild.rootfs.iterdir()} == {
        "own": "own",
        "file": order[1],
    }
    manifest = acbuild.manifest()
    assert "dependencies" not in manifest
    assert "pathWhitelist" not in manifest
    assert sorted(os.listdir(acbuild.directory / ".acbuild/currentaci")) == ["inputs", "manifest", "rootfs"]


def test_a_dependency_that_is_missing_changes_nothing(acbuild: Acbuild, publisher: Publisher) -> None:
    flags = trusting(acbuild, Owner())
    acbuild("begin")
    acbuild("dependency", "add", "localhost/absent")
    before = acbuild.manifest()
    acbuild(*flags, "squash", code=1)
    assert acbuild.manifest() == before


def test_wrong_id_and_size_of_a_dependency(acbuild: Acbuild, publisher: Publisher) -> None:
    owner = Owner()
    flags = trusting(acbuild, owner)
    published(publisher, owner)
    acbuild("begin")
    acbuild("dependency", "add", NAME, "--image-id", "sha512-" + "0" * 128)
    assert "but the dependency is on" in acbuild(*flags, "squash", code=1).stderr
    acbuild("dependency", "add", NAME, "--size", "10")
    acbuild(*flags, "squash", code=1)
    acbuild("dependency", "add", NAME)
    acbuild(*flags, "squash")
    assert (acbuild.rootfs / "file").exists()


def sent(acbuild: Acbuild, registry: Docker) -> str:
    """An image in `registry`: its name."""
    if shutil.which("skopeo") is None:
        pytest.skip("needs skopeo")
    (acbuild.directory / "tree").mkdir()
    (acbuild.directory / "tree/file").write_text("from a registry\n")
    acbuild("begin", "--build-mode=oci", "./tree")
    acbuild("set-exec", "/file", "argument")
    acbuild("write", "a.tar")
    acbuild("end")
    name = f"{registry.host}/some/image:1.0"
    copy = ["skopeo", "copy", "--quiet", "--dest-tls-verify=false", "oci-archive:a.tar", f"docker://{name}"]
    subprocess.run(copy, cwd=acbuild.directory, check=True)
    return name


@pytest.mark.parametrize("mode", ["appc", "oci"])
def test_an_image_of_a_registry(acbuild: Acbuild, open_registry: Docker, mode: str) -> None:
    name = sent(acbuild, open_registry)
    acbuild("begin", f"--build-mode={mode}", f"docker://{name}", code=1)  # plain http needs a word
    acbuild("begin", f"--build-mode={mode}", "--insecure", f"docker://{name}")
    assert (acbuild.rootfs / "file").read_text() == "from a registry\n"
    if mode == "appc":
        assert acbuild.manifest()["app"]["exec"] == ["/file", "argument"]
    else:
        config = json.loads(acbuild("cat-manifest", "--file=config").stdout)["config"]
        assert (config["Entrypoint"], config["Cmd"]) == (["/file"], ["argument"])
    inputs = (acbuild.directory / ".acbuild/currentaci/inputs").read_text()
    assert f"docker://{name}@sha256:" in inputs
    assert not [entry for entry in os.listdir(acbuild.directory) if entry.startswith("acbuild-")]


def test_registries_are_reached_as_rkt_is_configured(acbuild: Acbuild, open_registry: Docker) -> None:
    """A mirror in registries.d, without TLS, for a registry that is nowhere; then one that is blocked."""
    sent(acbuild, open_registry)
    directory = acbuild.directory / "etc/registries.d"
    directory.mkdir(parents=True)
    rule = {"rktKind": "registries", "rktVersion": "v1", "registries": ["registry.invalid"]}
    local = f"--local-config={acbuild.directory}/etc"
    start = "docker://registry.invalid/image:1.0"
    (directory / "a.json").write_text(json.dumps(rule | {"mirrors": [f"http://{open_registry.host}/some"]}))
    for mode in ("appc", "oci"):
        acbuild(local, "begin", f"--build-mode={mode}", start)
        assert (acbuild.rootfs / "file").read_text() == "from a registry\n"
        acbuild("end")
    (directory / "a.json").write_text(json.dumps(rule | {"blocked": True}))
    assert "blocked" in acbuild(local, "begin", start, code=1).stderr
