"""Names, digests, platforms and documents of images."""

from __future__ import annotations

import json

import pytest

from oci.errors import InvalidImage
from oci.registry import challenge, settings
from oci.registry.settings import Rule, Settings
from oci.types import manifest as manifests
from oci.types import media
from oci.types.config import ImageConfig, Process
from oci.types.descriptor import Descriptor
from oci.types.digest import Digest
from oci.types.manifest import Index
from oci.types.platform import Platform, best
from oci.types.reference import Reference

HEX = "0123456789abcdef" * 4
SHA = f"sha256:{HEX}"


@pytest.mark.parametrize(
    ("text", "registry", "repository", "tag"),
    [
        ("busybox", "docker.io", "library/busybox", ""),
        ("docker://busybox:1.36", "docker.io", "library/busybox", "1.36"),
        ("docker:team/app", "docker.io", "team/app", ""),
        ("index.docker.io/a/b", "docker.io", "a/b", ""),
        ("registry-1.docker.io/library/x:y", "docker.io", "library/x", "y"),
        ("quay.io/a/b/c:v1", "quay.io", "a/b/c", "v1"),
        ("localhost/x", "localhost", "x", ""),
        ("localhost:5000/x:t", "localhost:5000", "x", "t"),
        ("[::1]:5000/x:t", "[::1]:5000", "x", "t"),
        ("[2001:db8::1]/x", "[2001:db8::1]", "x", ""),
        ("192.0.2.1:5000/x__y/z---1", "192.0.2.1:5000", "x__y/z---1", ""),
        ("Host/x", "Host", "x", ""),
    ],
)
def test_references(text: str, registry: str, repository: str, tag: str) -> None:
    found = Reference.parse(text)
    assert (found.registry, found.repository, found.tag) == (registry, repository, tag)
    again = Reference.parse(str(found))
    assert (again.name, again.target) == (found.name, found.target)


def test_references_with_digests() -> None:
    found = Reference.parse(f"a.io/b:1@{SHA}")
    assert (found.tag, found.digest, found.target, found.shown_tag) == ("1", SHA, SHA, "1")
    bare = Reference.parse(f"a.io/b@{SHA}")
    assert (bare.tag, bare.shown_tag, str(bare)) == ("", "", f"a.io/b@{SHA}")
    assert Reference.parse("b").pinned(Digest(SHA)).target == SHA
    assert Reference.parse("busybox").host == "registry-1.docker.io"


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "/",
            "A",
            "a//b",
            "a/",
            "/a",
            "a/../b",
            "a/./b",
            "-a",
            "a.",
            "a..b",
            "a___b",
            "a b",
            "a\nb",
            "é",
        ),
        *("h.io/A", "h.io/a:", "h.io/a:-x", "h.io/a:é", "h.io/a:" + "x" * 129, "h.io/" + "a" * 256),
        *("h.io:99999/a", "h.io:x/a", "user@h.io/a", "h..io/a", "[::1/a", "[zz]/a", "h.io?x=/a", "h.io#/a"),
        *("a@", "a@sha256:", f"a@md5:{HEX}", f"a@{SHA.upper()}", f"a@{SHA}0", "a@sha256:../../../etc", HEX),
        *(f"a@{SHA}@{SHA}", "docker://", "docker:///a"),
    ],
)
def test_what_is_no_reference(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        Reference.parse(text)


@pytest.mark.parametrize(
    "text", ["sha256:" + "g" * 64, "sha256", "", ":", "sha1:" + "0" * 40, SHA + "\n", " " + SHA]
)
def test_cve_2024_3727_what_is_no_digest(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        Digest(text)


def test_digests() -> None:
    assert Digest.of(b"") == "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert Digest("sha512:" + "a" * 128).algorithm == "sha512"


@pytest.mark.parametrize(
    ("wanted", "offered", "expected"),
    [
        ("amd64", ["linux/arm64", "linux/amd64"], "linux/amd64"),
        ("amd64", ["linux/arm64"], None),
        ("amd64", ["windows/amd64"], None),
        ("amd64", ["linux/amd64/v3", "linux/amd64"], "linux/amd64"),
        ("linux/amd64/v3", ["linux/amd64", "linux/amd64/v2", "linux/amd64/v4"], "linux/amd64/v2"),
        ("arm/v7", None, None),
        ("linux/arm/v7", ["linux/arm/v5", "linux/arm/v6", "linux/arm/v8"], "linux/arm/v6"),
        ("linux/arm/v6", ["linux/arm"], None),  # which means v7
        ("linux/arm64", ["linux/arm64/v8"], "linux/arm64/v8"),
        ("linux/aarch64", ["linux/arm64"], "linux/arm64"),
        ("linux/amd64", ["linux/x86_64"], "linux/x86_64"),
    ],
)
def test_platforms(wanted: str, offered: list[str] | None, expected: str | None) -> None:
    if offered is None:
        assert Platform.parse(wanted) != Platform.parse("linux/" + wanted)
        return
    pairs = [(Platform(*text.split("/")), text) for text in offered]
    assert best(Platform.parse(wanted), pairs) == expected


@pytest.mark.parametrize("text", ["", "/", "a/b/c/d", "linux/", "a b/c\n"])
def test_what_is_no_platform(text: str) -> None:
    with pytest.raises(ValueError, match="platform"):
        Platform.parse(text)


def test_an_index_without_platforms_and_one_of_attestations() -> None:
    one = Descriptor(media.OCI_MANIFEST, Digest(SHA), 1)
    assert Index(media.OCI_INDEX, (one,)).choose(Platform("linux", "amd64"), "x") == one
    attestation = one._replace(platform=Platform("unknown", "unknown"))
    with pytest.raises(InvalidImage):
        Index(media.OCI_INDEX, (attestation,)).choose(Platform("linux", "amd64"), "x")


def test_members_that_are_not_known_are_no_fault() -> None:
    value = {
        "schemaVersion": 2,
        "config": {"mediaType": media.OCI_CONFIG, "digest": SHA, "size": 7, "data": "e30=", "new": 1},
        "layers": [
            {"mediaType": media.OCI_LAYER, "digest": SHA, "size": 1, "urls": ["http://evil.example/"]}
        ],
        "subject": {"mediaType": "x", "digest": SHA, "size": 1},
        "whatever": [1],
    }
    found = manifests.parse(json.dumps(value).encode(), "", "x")
    assert isinstance(found, manifests.Manifest)
    assert found.media_type == media.OCI_MANIFEST
    assert b"evil" not in found.encode()
    assert manifests.parse(found.encode(), media.OCI_MANIFEST, "x") == found


def test_more_layers_than_anybody_mounts() -> None:
    layer = {"mediaType": media.OCI_LAYER, "digest": SHA, "size": 1}
    value = {"schemaVersion": 2, "config": layer, "layers": [layer] * 501}
    with pytest.raises(InvalidImage, match="501 layers"):
        manifests.parse(json.dumps(value).encode(), media.OCI_MANIFEST, "x")


def test_configurations_survive_writing_and_reading() -> None:
    process = Process("u:g", ("/a", "b"), ("c",), ("A=b",), "/w", ("/v",), ("80/tcp",), {"k": "v"}, "SIGINT")
    config = ImageConfig(
        Platform("linux", "arm", "v6"), process, (Digest(SHA),), "2020-01-01T00:00:00Z", "me"
    )
    assert ImageConfig.parse(config.encode(), "x") == config
    assert ImageConfig.parse(b'{"architecture":"amd64","os":"linux"}', "x").process is None


@pytest.mark.parametrize(
    "text",
    [
        '{"config":{"Cmd":"x"}}',
        '{"config":{"Env":[1]}}',
        '{"config":{"Volumes":["x"]}}',
        '{"rootfs":{"type":"layers","diff_ids":["x"]}}',
        '{"rootfs":{"type":"other","diff_ids":[]}}',
        '{"config":{"Cmd":["a\\u0000b"]}}',
        "[]",
        "",
    ],
)
def test_broken_configurations(text: str) -> None:
    with pytest.raises(InvalidImage):
        ImageConfig.parse(text.encode(), "x")


# --- what registries and configurations say


REALM = {"realm": "https://a/t", "service": "s", "scope": "a b"}
CHALLENGES = [
    (['Bearer realm="https://a/t",service="s",scope="a b"'], [("bearer", REALM)]),
    (["Basic realm=x"], [("basic", {"realm": "x"})]),
    (
        ['Basic realm="a, b=c", Bearer realm="y"'],
        [("basic", {"realm": "a, b=c"}), ("bearer", {"realm": "y"})],
    ),
    (["Negotiate", 'BASIC REALM="q\\"uote"'], [("negotiate", {}), ("basic", {"realm": 'q"uote'})]),
    ([], []),
]


@pytest.mark.parametrize(("headers", "expected"), CHALLENGES)
def test_challenges(headers: list[str], expected: list[tuple[str, dict[str, str]]]) -> None:
    assert [tuple(one) for one in challenge.parse(headers)] == expected


@pytest.mark.parametrize("text", ['Bearer realm="x', "realm=x", "=", 'B "', "B a=", "x" * 9000])
def test_malformed_challenges(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        challenge.parse([text])


def test_rules_of_registries() -> None:
    content = {"registries": ["docker.io", "localhost:5000"], "mirrors": ["https://m.example/hub"]}
    rules = settings.rules_of({**content, "rktKind": "registries", "rktVersion": "v1"})
    assert rules == dict.fromkeys(("docker.io", "localhost:5000"), Rule(mirrors=("https://m.example/hub",)))
    found = Settings(rules).endpoints(Reference.parse("busybox"))
    assert [(one.base, one.repository) for one in found] == [
        ("https://m.example", "hub/library/busybox"),
        ("https://registry-1.docker.io", "library/busybox"),
    ]
    assert len(Settings(rules).endpoints(Reference.parse("busybox"), mirrors=False)) == 1
    plain = Settings(settings.rules_of({"registries": ["r.io"], "plainHttp": True}))
    assert plain.endpoints(Reference.parse("r.io/a"))[0].base == "http://r.io"


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"registries": []},
        {"registries": ["a/b"]},
        {"registries": ["r.io"], "mirrors": ["ftp://x"]},
        {"registries": ["r.io"], "mirrors": ["https://user:password@x"]},
        {"registries": ["r.io"], "plainHttp": "yes"},
    ],
)
def test_broken_rules(content: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"."):
        settings.rules_of(content)
