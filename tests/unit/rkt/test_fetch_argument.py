"""The grammar of image arguments, in rkt's order."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from rkt.errors import RktError
from rkt.fetch.argument import DOCKER, DOCKER_ARCHIVE, FILE, HASH, NAME, OCI, URL, parse


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("sha512-ab", HASH, "sha512-ab"),
        ("sha512-ABCDEF01", HASH, "sha512-ABCDEF01"),
        ("sha512-xyz", NAME, "sha512-xyz"),
        ("docker://busybox", DOCKER, "busybox"),
        ("docker:busybox:latest", DOCKER, "busybox:latest"),
        ("docker://quay.io/a/b:1", DOCKER, "quay.io/a/b:1"),
        ("https://example.com/a.aci", URL, "https://example.com/a.aci"),
        ("HTTP://example.com/a.aci?x=1", URL, "HTTP://example.com/a.aci?x=1"),
        ("file:///tmp/a%20b.aci", FILE, "/tmp/a b.aci"),
        ("/tmp/anything", FILE, "/tmp/anything"),
        ("./app", FILE, "./app"),
        ("../app", FILE, "../app"),
        ("app.aci", FILE, "app.aci"),
        ("dir/app.aci", FILE, "dir/app.aci"),
        ("example.com/app", NAME, "example.com/app"),
        ("example.com/app:1.0", NAME, "example.com/app"),
        ("example.com:1.0", NAME, "example.com"),
        ("example.com/app:1.0,os=linux", NAME, "example.com/app"),
        ("cimd:aci-archive:v=0:https%3A%2F%2Fexample.com%2Fa.aci", URL, "https://example.com/a.aci"),
        ("cimd:aci-archive:v=0:file%3A%2F%2F%2Ftmp%2Fa.aci", FILE, "/tmp/a.aci"),
        ("cimd:appc:v=0:example.com/app?version=1.0&os=linux", NAME, "example.com/app"),
        ("cimd:docker:v=0:busybox", DOCKER, "busybox"),
    ],
)
def test_what_an_argument_means(text: str, kind: str, value: str) -> None:
    source = parse(text)
    assert (source.kind, source.value, source.text) == (kind, value, text)


@pytest.mark.parametrize(
    ("text", "kind", "parts"),
    [
        ("oci:/a/b", OCI, ("/a/b", "", "")),
        ("oci:./a:1.0", OCI, ("./a", "1.0", "")),
        ("oci-archive:../a.tar:x:y", OCI, ("../a.tar", "x:y", "")),
        ("oci:/a/b@sha256:00", OCI, ("/a/b", "", "sha256:00")),
        ("docker-archive:/a.tar:host:5000/x:1", DOCKER_ARCHIVE, ("/a.tar", "host:5000/x:1", "")),
        ("docker-archive:there.tar:x", DOCKER_ARCHIVE, ("there.tar", "x", "")),
        ("docker-archive:with:colon.tar:x", DOCKER_ARCHIVE, ("with:colon.tar", "x", "")),
        ("oci:1.0", NAME, ("oci", "", "")),
        ("dir:/a/b", OCI, ("/a/b", "", "")),
        ("oci:missing:1.0", OCI, ("missing", "1.0", "")),
        ("oci:build/missing", OCI, ("build/missing", "", "")),
        ("docker-archive:missing.tar", DOCKER_ARCHIVE, ("missing.tar", "", "")),
    ],
)
def test_images_of_layers_in_files(
    text: str, kind: str, parts: tuple[str, str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An image may be called ``oci``: only what is a path is taken for one."""
    monkeypatch.chdir(tmp_path)
    for name in ("there.tar", "with:colon.tar"):
        (tmp_path / name).write_text("")
    source = parse(text)
    assert (source.kind, (source.value, source.inside, source.digest)) == (kind, parts)


def test_labels_come_with_the_name() -> None:
    assert parse("example.com/app:1.0,os=linux").labels == {"version": "1.0", "os": "linux"}
    assert parse("cimd:appc:v=0:example.com/app?version=1.0").labels == {"version": "1.0"}


def test_an_existing_file_is_a_file_whatever_it_is_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert parse("example.com").kind == NAME
    (tmp_path / "example.com").write_text("")
    assert parse("example.com").kind == FILE


def test_a_colon_is_for_versions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert parse("example.com/app:./x").kind == NAME
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        "https://example.com/app",
        "https://example.com/a.aci.asc",
        "file://host/a.aci",
        "file:a.aci",
        "aci://example.com/app",
        "Example.com/App",
        "example.com/app:1:2",
        "example.com//app",
        "example.com/app:1,os",
        "cimd:appc:v=1:example.com/app",
        "cimd:other:v=0:x",
        "cimd:aci-archive:v=0:ftp%3A%2F%2Fx%2Fa.aci",
        "-x",
    ],
)
def test_what_means_nothing(text: str) -> None:
    with pytest.raises(RktError):
        parse(text)
