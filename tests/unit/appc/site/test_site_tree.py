"""The published tree: one rename shows image and signature, crashes leave nothing that is not swept."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import pytest

from appc.discovery import page, templates
from appc.schema.image import ImageManifest
from appc.site import release, tree
from appc.site.release import Release, Unpublishable
from appc.site.tree import AlreadyPublished, Site


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(str(tmp_path), "https://example.com")


def publish(
    site: Site,
    version: str = "1.0",
    image: bytes = b"image",
    signature: bytes | None = b"signature",
    *,
    name: str = "example.com/app",
    replace: bool = True,
) -> bool:
    draft = site.draft()
    with draft as directory:
        Path(directory, tree.IMAGE).write_bytes(image)
        if signature is not None:
            Path(directory, tree.SIGNATURE).write_bytes(signature)
        return site.publish(Release(name, version, "linux", "amd64"), draft, replace=replace)


def content(site: Site, file: str) -> bytes:
    return Path(site.root, "example.com/app", file).read_bytes()


def everything(site: Site) -> set[str]:
    return {str(path.relative_to(site.root)) for path in Path(site.root).rglob("*")}


def test_image_signature_and_latest_are_there(site: Site) -> None:
    assert publish(site)
    for version in ("1.0", "latest"):
        assert content(site, f"app-{version}-linux-amd64.aci") == b"image"
        assert content(site, f"app-{version}-linux-amd64.aci.asc") == b"signature"
    mode = os.stat(f"{site.root}/example.com/app/app-1.0-linux-amd64.aci").st_mode
    assert mode & 0o777 == 0o644


def test_a_web_server_may_read_it_all_whatever_the_umask(tmp_path: Path) -> None:
    old = os.umask(0o077)
    try:
        root = tmp_path / "site"
        root.mkdir(0o755)
        publish(Site(str(root), "https://example.com"))
    finally:
        os.umask(old)
    for path in root.rglob("*"):
        assert path.stat().st_mode & 0o044 == 0o044, path


def test_publishing_twice_changes_nothing(site: Site) -> None:
    publish(site)
    before = {path: os.lstat(f"{site.root}/{path}").st_mtime_ns for path in everything(site)}
    before.pop("example.com/app", None)
    assert not publish(site)
    after = {path: os.lstat(f"{site.root}/{path}").st_mtime_ns for path in everything(site)}
    assert {path: after[path] for path in before} == before
    assert set(after) - set(before) <= {"example.com/app"}


def test_latest_is_the_highest_version_of_the_platform(site: Site) -> None:
    for version in ("1.10", "1.9", "1.2"):
        publish(site, version, version.encode())
    assert content(site, "app-latest-linux-amd64.aci") == b"1.10"
    found = site.find("example.com/app", "latest", "linux", "amd64")
    assert found is not None
    assert found.version == "1.10"
    assert site.find("example.com/app", "", "linux", "arm64") is None


def test_an_image_that_calls_itself_latest_is_latest(site: Site) -> None:
    publish(site, "latest", b"own")
    publish(site, "7", b"seven")
    assert content(site, "app-latest-linux-amd64.aci") == b"own"
    assert [each.version for each in site.releases("example.com/app")] == ["7", "latest"]


def test_another_image_replaces_both_files_at_once_or_is_refused(site: Site) -> None:
    publish(site)
    with pytest.raises(AlreadyPublished):
        publish(site, image=b"other", replace=False)
    assert content(site, "app-1.0-linux-amd64.aci") == b"image"
    publish(site, image=b"other", signature=None)
    assert content(site, "app-latest-linux-amd64.aci") == b"other"
    assert not os.path.exists(f"{site.root}/example.com/app/app-1.0-linux-amd64.aci.asc")
    assert len([name for name in os.listdir(f"{site.root}/example.com/app/.releases") if "@" in name]) == 1


@pytest.mark.parametrize("call", ["rename", "symlink", "fsync", "mkdir", "unlink"])
def test_a_failure_anywhere_shows_the_old_or_the_new(
    site: Site, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the k-th rename, link and so on; afterwards the next publication works and leaves nothing over."""
    publish(site)
    real = getattr(os, call)
    for count in range(1, 60):
        left = [count]

        def failing(*arguments: object, left: list[int] = left, **keywords: object) -> object:
            left[0] -= 1
            if left[0] == 0:
                raise OSError(28, "No space left on device")
            return real(*arguments, **keywords)

        monkeypatch.setattr(os, call, failing)
        old = content(site, "app-1.0-linux-amd64.aci")
        new = b"image %d" % count
        try:
            publish(site, image=new, signature=b"of " + new)
        except OSError:
            pass
        monkeypatch.setattr(os, call, real)
        image = content(site, "app-1.0-linux-amd64.aci")
        assert image in {old, new}
        if image == new:
            assert content(site, "app-1.0-linux-amd64.aci.asc") == b"of " + new
        if left[0] > 0:
            break
    publish(site, image=b"last", signature=b"of last")
    names = os.listdir(f"{site.root}/example.com/app/.releases")
    assert len(names) == 3
    assert not [path for path in everything(site) if ".tmp-" in path]


def test_the_page_of_the_name_leads_to_the_files_and_keys(site: Site) -> None:
    Path(site.root, "pubkeys.gpg").touch()
    publish(site)
    found = page.metas(Path(site.root, "app/index.html").read_bytes())
    assert {meta.prefix for meta in found} == {"example.com/app"}
    by_name = {meta.name: meta.uri for meta in found}
    endpoint = templates.endpoint(
        by_name["ac-discovery"], "example.com/app", {"os": "linux", "arch": "amd64", "version": "1.0"}
    )
    assert endpoint is not None
    path = endpoint.aci.removeprefix("https://example.com/")
    assert Path(site.root, path).read_bytes() == b"image"
    assert Path(site.root, path + ".asc").read_bytes() == b"signature"
    assert by_name["ac-discovery-pubkeys"] == "https://example.com/pubkeys.gpg"


@pytest.mark.parametrize(
    ("base", "name", "where"),
    [
        ("https://example.com", "example.com/app", "app"),
        ("https://example.com:8443", "example.com/a/b", "a/b"),
        ("https://example.com", "example.com", ""),
        ("https://example.com/images", "example.com/images/app", "app"),
        ("https://example.com/images", "example.com/images", ""),
        ("https://example.com/images", "example.com/app", None),
        ("https://example.com/images", "example.com/images2/app", None),
        ("https://cdn.example.net/x", "example.com/app", "app"),
        ("https://[::1]:8443", "example.com/app", "app"),
    ],
)
def test_where_the_page_of_a_name_is(tmp_path: Path, base: str, name: str, where: str | None) -> None:
    assert Site(str(tmp_path), base).page_of(name) == where


def test_names_of_two_hosts_share_a_page(tmp_path: Path) -> None:
    site = Site(str(tmp_path), "https://example.com")
    publish(site)
    publish(site, name="example.org/app")
    found = page.metas(Path(site.root, "app/index.html").read_bytes())
    assert {meta.prefix for meta in found} == {"example.com/app", "example.org/app"}


def test_plain_files_of_acserver_of_old_are_listed(site: Site) -> None:
    directory = Path(site.root, "example.com/old")
    directory.mkdir(parents=True)
    (directory / "old-1.2-rc1-linux-amd64.aci").write_bytes(b"x")
    (directory / "notes.txt").write_bytes(b"x")
    assert site.names() == ["example.com/old"]
    found = site.find("example.com/old", "latest", "linux", "amd64")
    assert found == Release("example.com/old", "1.2-rc1", "linux", "amd64")


def test_what_the_operator_took_away_goes_with_the_next_publication(site: Site) -> None:
    publish(site, "1")
    publish(site, "2")
    for ending in ("", ".asc"):
        os.unlink(f"{site.root}/example.com/app/app-2-linux-amd64.aci{ending}")
    publish(site, "0.5")
    assert content(site, "app-latest-linux-amd64.aci") == b"image"
    assert [each.version for each in site.releases("example.com/app")] == ["1", "0.5"]
    found = site.find("example.com/app", "latest", "linux", "amd64")
    assert found is not None
    assert found.version == "1"


def manifest(name: str = "example.com/app", **labels: str) -> ImageManifest:
    values = {"version": "1.0", "os": "linux", "arch": "amd64", **labels}
    return ImageManifest.from_json({
        "acKind": "ImageManifest",
        "acVersion": "0.8.11",
        "name": name,
        "labels": [{"name": key, "value": value} for key, value in values.items() if value],
    })


def test_a_release_is_what_the_manifest_says() -> None:
    assert release.of_manifest(manifest(version="1.30.0+git")).path == (
        "example.com/app/app-1.30.0+git-linux-amd64.aci"
    )


@pytest.mark.parametrize(
    "labels",
    [
        {"version": ""},
        {"version": "../../etc/passwd"},
        {"version": "a/b"},
        {"version": ".hidden"},
        {"version": "1@2"},
        {"version": "1\n2"},
        {"version": "{name}"},
        {"version": "x" * 200},
    ],
)
def test_labels_that_cannot_be_part_of_an_address_are_refused(labels: dict[str, str]) -> None:
    with pytest.raises(Unpublishable):
        release.of_manifest(manifest(**labels))


@pytest.mark.parametrize(
    "name", ["example.com/index.html", "example.com/app-1-linux-amd64.aci", "example.com/pubkeys.gpg/app"]
)
def test_names_that_are_file_names_are_refused(name: str) -> None:
    with pytest.raises(Unpublishable):
        release.of_manifest(manifest(name))


@pytest.mark.parametrize("name", ["example.com", "a~b.c/d", "localhost/x"])
def test_names_that_crashed_acserver_are_names(name: str) -> None:
    assert release.of_manifest(manifest(name)).name == name


def test_a_file_name_is_taken_apart_as_it_was_put_together() -> None:
    for version in ("1", "1.0-rc1", "1-linux-amd64", "2.0+a_b~c"):
        made = Release("example.com/a-b", version, "linux", "aarch64_be")
        assert release.from_file(made.name, made.file) == made
    for wrong in ("app.aci", "a-b-1-linux.aci", "a-b-1-linux-amd64.aci.asc", "a-b-.x-linux-amd64.aci"):
        assert release.from_file("example.com/a-b", wrong) is None


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("https://example.com/", True),
        ("http://localhost:8000/x/", True),
        ("ftp://example.com", False),
        ("https://user@example.com", False),
        ("https://example.com/?a", False),
        ("https://example.com/{name}", False),
        ("example.com", False),
    ],
)
def test_base_addresses(text: str, good: bool) -> None:
    if good:
        assert tree.checked_base(text) == text.rstrip("/")
    else:
        with pytest.raises(ValueError, match=r"."):
            tree.checked_base(text)


def test_a_version_is_compared_by_numbers_then_suffix() -> None:
    ordered = ["latest", "0.1", "1", "1-a", "1-b", "1.0.0.1", "1.0.2", "1.1", "1.10", "99999999999999999999"]
    for low, high in itertools.pairwise(ordered):
        assert release.compare_versions(low, high) == -1, (low, high)
        assert release.compare_versions(high, low) == 1
