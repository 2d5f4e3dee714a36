"""rkt and a real registry (Debian's, with TLS and passwords): fetch, policies, signatures, push."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fixtures import registries, tars
from fixtures.layouts import base, digest_of

if TYPE_CHECKING:
    from conftest import MakeKey, Rkt
    from fixtures.httpsserver import Authority
    from fixtures.layouts import MakeLayout
    from fixtures.registries import Docker

F = tars.file
ANY = "--insecure-options=image"
pytestmark = [pytest.mark.usefixtures("root"), pytest.mark.needs("namespaces", "overlay")]


class Host:
    """rkt with the credentials of auth.d, and images that are sent to the registry."""

    def __init__(self, rkt: Rkt, registry: Docker) -> None:
        self.rkt = rkt
        self.registry = registry
        self.etc = rkt.directory / "etc"
        self.configure(
            "auth.d",
            rktKind="dockerAuth",
            registries=[registry.host],
            credentials={"user": registries.USER, "password": registries.PASSWORD},
        )

    def configure(self, directory: str, **content: object) -> None:
        (self.etc / directory).mkdir(exist_ok=True)
        text = json.dumps({"rktVersion": "v1", **content})
        (self.etc / directory / "test.json").write_text(text)

    def name(self, rest: str) -> str:
        return f"docker://{self.registry.host}/{rest}"

    def send(self, image: str, rest: str) -> str:
        """Push the image ``oci:…`` from a store of its own; its digest."""
        layout_name = image.rpartition("/")[2].partition(":")[0]
        self.rkt(ANY, "fetch", image)
        tag = image.rpartition(":")[2]
        done = self.rkt("image", "push", f"{layout_name}:{tag}", self.name(rest))
        self.rkt("image", "rm", f"{layout_name}:{tag}")
        return done.stdout.strip()

    def said(self, *words: str) -> list[str]:
        done = self.rkt("run", "--net=none", *words)
        return [line.partition("]: ")[2] for line in done.stdout.splitlines()]


@pytest.fixture
def host(rkt: Rkt, docker_registry: Docker, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Host:
    monkeypatch.setenv("HOME", str(tmp_path))
    return Host(rkt, docker_registry)


def test_fetch_run_and_the_pull_policies(host: Host, make_layout: MakeLayout, busybox: Path) -> None:
    first = make_layout(base(busybox), tag="one", Cmd=["/bin/echo", "first"])
    second = make_layout(base(busybox), [F(b"x")], tag="two", Cmd=["/bin/echo", "second"])
    digest = host.send(first, "team/app:1")
    assert digest == digest_of(first)  # it goes as it came
    name = host.name("team/app:1")
    never = host.rkt(ANY, "run", "--pull-policy=never", name, code=254)
    assert "unable to fetch image from docker URL" in never.stderr
    refused = host.rkt("run", name, code=254)
    assert "nobody vouches for the image" in refused.stderr
    assert host.said(ANY, name) == ["first"]

    host.send(second, "team/app:1")
    assert host.said(name) == ["first"]  # `new`: the store has it
    assert host.said(name, "--pull-policy=never") == ["first"]
    assert host.said(ANY, name, "--pull-policy=update") == ["second"]
    assert host.said(name) == ["second"]

    # A digest says which it is, needs no other word, and no network once it is there.
    pinned = host.name(f"team/app@{digest}")
    assert host.said(pinned) == ["first"]
    (host.etc / "auth.d/test.json").unlink()
    assert host.said(pinned, "--pull-policy=update") == ["first"]
    assert json.loads(host.rkt("image", "inspect", "--format=json", pinned).stdout)["digest"] == digest
    lacking = host.rkt(ANY, "fetch", name, code=254)
    assert registries.PASSWORD not in lacking.stderr


def test_credentials_of_docker_login(
    host: Host, make_layout: MakeLayout, busybox: Path, tmp_path: Path
) -> None:
    """auth.d comes first; where it says nothing, the files of docker and podman do."""
    host.send(make_layout(base(busybox), Cmd=["/bin/echo", "in"]), "team/app:1")
    name = host.name("team/app:1")
    host.configure(
        "auth.d",
        rktKind="dockerAuth",
        registries=[host.registry.host],
        credentials={"user": registries.USER, "password": "wrong"},
    )
    login = registries.write_login(tmp_path / "docker", host.registry.host)
    environment = {"DOCKER_CONFIG": str(login)}
    assert "refuses the credentials" in host.rkt(ANY, "fetch", name, environment=environment, code=254).stderr
    (host.etc / "auth.d/test.json").unlink()
    assert host.rkt(ANY, "fetch", name, environment=environment).stdout.startswith("sha512-")
    assert "docker login" in host.rkt(ANY, "fetch", name, code=254).stderr


def test_an_aci_is_pushed_and_comes_back(host: Host, rkt: Rkt, tmp_path: Path, busybox: Path) -> None:
    aci = tmp_path / "app.aci"
    app = {"exec": ["/bin/busybox", "echo", "from an ACI"], "user": "0", "group": "0"}
    members = [tars.directory(b"rootfs/bin"), F(b"rootfs/bin/busybox", busybox.read_bytes(), mode=0o755)]
    aci.write_bytes(tars.image(*members, manifest_bytes=tars.manifest("example.com/app", app=app)))
    rkt(ANY, "fetch", aci)
    assert "no name of a registry" in rkt("image", "push", "example.com/app", code=254).stderr
    one = rkt("image", "push", "example.com/app", host.name("made/app:1")).stdout
    assert one == rkt("image", "push", "example.com/app", host.name("made/app:2")).stdout
    assert host.said(ANY, host.name("made/app:1")) == ["from an ACI"]
    # Named by its own reference it goes there again.
    assert rkt("image", "push", host.name("made/app:1")).stdout == one


def test_the_policy_of_the_host(host: Host, make_layout: MakeLayout, busybox: Path) -> None:
    image = make_layout(base(busybox), Cmd=["/bin/echo", "ran"])
    digest = host.send(image, "team/app:1")
    name, pinned = host.name("team/app:1"), host.name(f"team/app@{digest}")
    place = f"{host.registry.host}/team"
    host.configure("policy.d", rktKind="imagePolicy", names=[place], accept=["anything"])
    fetched = host.rkt("fetch", name)
    assert "accepts anything" in fetched.stderr
    host.configure("policy.d", rktKind="imagePolicy", names=[place], accept=["signature"])
    assert "nobody vouches" in host.rkt("fetch", pinned.replace("app@", "app:1@"), code=254).stderr
    host.configure("policy.d", rktKind="imagePolicy", names=[host.registry.host], accept=[])
    assert "accepts no image" in host.rkt("fetch", name, code=254).stderr
    assert host.said(name) == ["ran"]  # what is in the store was accepted when it came
    host.configure("policy.d", rktKind="imagePolicy", names=[place], accept=["everything"])
    assert "unknown word" in host.rkt("fetch", name, code=254).stderr
    host.configure("policy.d", rktKind="imagePolicy", names=[place], accept=["digest"], lookaside="x")
    assert "lookaside" in host.rkt("config", code=254).stderr
    (host.etc / "policy.d/test.json").unlink()
    host.configure("registries.d", rktKind="registries", registries=[host.registry.host], blocked=True)
    assert "blocked" in host.rkt(ANY, "fetch", name, code=254).stderr
    shown = json.loads(host.rkt("config").stdout)["stage0"]
    assert [one["blocked"] for one in shown if one["rktKind"] == "registries"] == [True]


def test_an_authority_of_ones_own_in_certs_d(
    host: Host, make_layout: MakeLayout, busybox: Path, authority: Authority
) -> None:
    """For this host alone, for fetch and for push; the system does not know it."""
    host.send(make_layout(base(busybox), Cmd=["/bin/echo", "ran"]), "team/app:1")
    name = host.name("team/app:1")
    stranger = {"SSL_CERT_FILE": str(authority.other_certificate)}
    refused = host.rkt(ANY, "fetch", name, environment=stranger, code=254)
    assert "certificate is not accepted" in refused.stderr
    assert "certs.d" in refused.stderr
    place = host.etc / "certs.d" / host.registry.host
    place.mkdir(parents=True)
    (place / "ours.crt").write_bytes(authority.bundle.read_bytes())
    host.rkt(ANY, "fetch", name, environment=stranger)
    host.rkt("image", "push", name, host.name("team/app:2"), environment=stranger)
    (place / "ours.crt").write_text("nothing of the kind")
    assert f"{place}/ours.crt: is no certificate" in host.rkt(ANY, "fetch", name, code=254).stderr


def test_signatures_made_by_skopeo(
    host: Host,
    make_layout: MakeLayout,
    make_signing_key: MakeKey,
    busybox: Path,
    tmp_path: Path,
    authority: Authority,
) -> None:
    """Simple signing: verified with the keys of `rkt trust`, for this name and this manifest alone (R23)."""
    if shutil.which("skopeo") is None:
        pytest.skip("needs skopeo")
    key = make_signing_key("Release <release@example.com>")
    image = make_layout(base(busybox), Cmd=["/bin/echo", "signed"])
    other = make_layout(base(busybox), [F(b"x")], tag="other")
    signatures = tmp_path / "signatures"
    (tmp_path / "registries.d").mkdir()
    (tmp_path / "registries.d/default.yaml").write_text(
        f"default-docker:\n  sigstore-staging: file://{signatures}\n"
    )
    creds = f"--dest-creds={registries.USER}:{registries.PASSWORD}"
    words = ["skopeo", "--insecure-policy", f"--registries.d={tmp_path}/registries.d", "copy", "-q", creds]
    destination = host.name("team/app:1")
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "TMPDIR": str(tmp_path),
        "GNUPGHOME": str(key.home),
        "SSL_CERT_FILE": str(authority.bundle),
    }
    try:
        subprocess.run(
            [*words, f"--sign-by={key.fingerprint}", image, destination],
            env=environment,
            check=True,
            capture_output=True,
        )
    finally:
        key.gpg("--version")  # ends the agent that skopeo's gpg left
    place = f"{host.registry.host}/team"
    host.configure(
        "policy.d",
        rktKind="imagePolicy",
        names=[place],
        accept=["signature"],
        lookaside=f"file://{signatures}",
    )

    unknown = host.rkt("fetch", destination, code=254).stderr
    assert "signature made by unknown entity" in unknown
    prefix = place.replace(":", "_")
    assert f"rkt trust --prefix={prefix}/app" in unknown
    host.rkt("trust", f"--prefix={prefix}/ap", "--skip-fingerprint-review", key.public)
    assert "unknown entity" in host.rkt("fetch", destination, code=254).stderr
    host.rkt("trust", f"--prefix={prefix}", "--skip-fingerprint-review", key.public)
    verified = host.rkt("fetch", destination)
    assert "signature verified" in verified.stderr
    assert "Release <release@example.com>" in verified.stderr
    assert host.said(destination) == ["signed"]
    (made,) = signatures.glob("team/*/signature-1")

    # Another tag, another image under the name, a changed signature, and one in a file of the user's.
    host.rkt("image", "push", destination, host.name("team/app:2"))
    assert "is for" in host.rkt("fetch", host.name("team/app:2"), code=254).stderr
    host.send(other, "team/app:1")
    assert "no signature for the image" in host.rkt("fetch", destination, code=254).stderr
    digest = digest_of(other).replace(":", "=")
    (signatures / f"team/app@{digest}").mkdir()
    shutil.copy(made, signatures / f"team/app@{digest}/signature-1")
    assert "is for the manifest" in host.rkt("fetch", destination, code=254).stderr
    host.rkt("image", "push", destination)
    copy = tmp_path / "copy.sig"
    data = bytearray(made.read_bytes())
    copy.write_bytes(data)
    host.rkt("fetch", destination, f"--signature={copy}")
    for position in (1, len(data) // 2, len(data) - 3):
        data[position] ^= 0x10
        copy.write_bytes(data)
        host.rkt("fetch", destination, f"--signature={copy}", code=254)
        data[position] ^= 0x10


def test_a_whole_store_comes_once(host: Host, make_layout: MakeLayout, busybox: Path) -> None:
    """The second image brings only the layer that the first has not got."""
    one = make_layout(base(busybox), [F(b"one", b"1")], tag="one")
    two = make_layout(base(busybox), [F(b"two", b"2")], tag="two")
    host.send(one, "a/one:1")
    host.send(two, "a/two:1")
    host.rkt("image", "gc", "--grace-period=0s")
    layers = host.rkt.directory / "data/cas/layer"
    assert os.listdir(layers) == []
    host.rkt(ANY, "fetch", host.name("a/one:1"), host.name("a/two:1"))
    assert len(os.listdir(layers)) == 3
    told = host.rkt("image", "tree", host.name("a/one:1")).stdout
    assert told.count("(in 2 images)") == 1
