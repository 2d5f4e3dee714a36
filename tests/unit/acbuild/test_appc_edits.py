"""Edits of a manifest: what takes whose place, what is refused, what the history says."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from acbuild.errors import AcbuildError, NotFound
from acbuild.image import quoted
from acbuild.image.appc import AppcImage, empty, write_manifest
from appc.errors import InvalidManifest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ID = "sha512-" + "ab" * 64


@pytest.fixture
def image(tmp_path: Path) -> AppcImage:
    write_manifest(str(tmp_path), empty())
    return AppcImage.load(str(tmp_path))


def test_an_element_takes_the_place_of_its_like_at_the_end(image: AppcImage) -> None:
    image.add_label("a", "1")
    image.add_label("b", "2")
    image.add_label("a", "3")
    assert [(one.name, one.value) for one in image.manifest.labels][-2:] == [("b", "2"), ("a", "3")]
    image.add_mount("one", "/1", read_only=False)
    image.add_mount("two", "/2", read_only=True)
    image.add_mount("three", "/1", read_only=False)
    assert image.manifest.app is not None
    assert [(one.name, one.path) for one in image.manifest.app.mount_points] == [
        ("two", "/2"),
        ("three", "/1"),
    ]
    image.remove_mount("/2")
    image.remove_mount("three")
    with pytest.raises(NotFound):
        image.remove_mount("three")


def test_the_groups_of_a_docker_images_user_are_not_the_next_ones(image: AppcImage) -> None:
    image.set_supplementary_groups(["10", "20"])
    image.set_user("7")
    assert image.manifest.app is not None
    assert image.manifest.app.supplementary_gids == (10, 20)
    image.add_annotation("appc.io/docker/repository", "library/alpine")
    image.set_user("8")
    assert image.manifest.app.supplementary_gids == ()
    image.set_supplementary_groups(["30"])
    assert image.manifest.app.supplementary_gids == (30,)


def test_what_is_wrong_changes_nothing(image: AppcImage, tmp_path: Path) -> None:
    before = (tmp_path / "manifest").read_bytes()
    changes: tuple[Callable[[], None], ...] = (
        lambda: image.set_name("UPPER"),
        lambda: image.set_group(""),
        lambda: image.set_supplementary_groups(["-1"]),
        lambda: image.set_event_handler("mid-way", ["/x"]),
        lambda: image.add_environment("1", "x"),
        lambda: image.add_port("p", "tcp", "0", count=1, activated=False),
        lambda: image.add_port("p", "tcp", "65535", count=2, activated=False),
        lambda: image.add_port("p", "tcp", "x", count=1, activated=False),
        lambda: image.add_isolator("resource/memory", b"{}x"),
        lambda: image.add_isolator("os/linux/oom-score-adj", b"1001"),
        lambda: image.add_dependency("example.com/a:1,version=2", [], "", 0),
        lambda: image.add_dependency("example.com/a", ["version=1", "version=2"], "", 0),
        lambda: image.add_annotation("homepage", "ftp://x"),
        lambda: image.replace_manifest(b'{"labels": [{"name": "os", "value": "plan9"}]}'),
        lambda: image.replace_manifest(b'{"acKind": "PodManifest"}'),
    )
    for change in changes:
        with pytest.raises((ValueError, AcbuildError)):
            change()
    image.save()
    assert (tmp_path / "manifest").read_bytes() == before


def test_the_whole_manifest_is_checked_when_it_is_saved(image: AppcImage, tmp_path: Path) -> None:
    before = (tmp_path / "manifest").read_bytes()
    image.set_working_directory("srv")
    with pytest.raises(InvalidManifest):
        image.save()
    assert (tmp_path / "manifest").read_bytes() == before


def test_dependencies_by_all_their_flags(image: AppcImage) -> None:
    image.add_dependency("example.com/b:1.0,channel=alpha", ["os=linux", "of=a,b=c"], ID, 5)
    image.save()
    [dependency] = image.manifest.dependencies
    assert dependency.to_json() == {
        "imageName": "example.com/b",
        "imageID": ID,
        "labels": [
            {"name": "os", "value": "linux"},
            {"name": "of", "value": "a,b=c"},
            {"name": "version", "value": "1.0"},
            {"name": "channel", "value": "alpha"},
        ],
        "size": 5,
    }
    with pytest.raises(ValueError, match="version"):
        image.add_dependency("example.com/b:1.0", ["version=2"], ID, 5)


def test_variables_and_annotations_stay_in_their_place(image: AppcImage) -> None:
    """Unlike all else, which goes to the end when it is added again: so acbuild 0.4 has it."""
    for value in ("1", "2"):
        image.add_environment("A", value)
        image.add_environment("B", "")
        image.add_annotation("a", value)
        image.add_annotation("b", "")
    app = image.manifest.app
    assert app is not None
    assert list(app.environment.as_dict().items()) == [("A", "2"), ("B", "")]
    assert list(image.manifest.annotations.as_dict().items()) == [("a", "2"), ("b", "")]


def test_what_cannot_be_a_name_is_not_looked_for(image: AppcImage) -> None:
    """Status 1, not that of an element which is not there."""
    for remove in (
        image.remove_label,
        image.remove_annotation,
        image.remove_dependency,
        image.remove_isolator,
        image.remove_port,
    ):
        with pytest.raises(ValueError, match="BAD"):
            remove("BAD")
        with pytest.raises(NotFound):
            remove("good")


def test_null_in_a_manifest_is_nothing(image: AppcImage) -> None:
    image.set_user("7")
    image.replace_manifest(b'{"app": null, "labels": null}')
    assert image.manifest.app is None
    assert not image.manifest.labels
    with pytest.raises(InvalidManifest):
        image.replace_manifest(b'{"name": null}')


def test_a_manifest_is_merged_into_the_old_one(image: AppcImage) -> None:
    image.set_exec(["/bin/a"])
    image.set_user("7")
    image.replace_manifest(b'{"NAME": "example.com/new", "app": {"exec": ["/bin/b"]}, "labels": []}')
    image.save()
    assert image.manifest.to_json() == {
        "acKind": "ImageManifest",
        "acVersion": "0.8.11",
        "name": "example.com/new",
        "app": {"exec": ["/bin/b"], "user": "7", "group": "0"},
    }


def test_the_history_goes_on_behind_the_highest_number(image: AppcImage) -> None:
    image.add_annotation("coreos.com/acbuild/command-9", "acbuild begin")
    image.add_annotation("coreos.com/acbuild/command-x", "no number")
    image.record("acbuild layer", changes_files=False)
    assert image.history() == ["acbuild begin", "acbuild layer"]
    assert image.manifest.annotations.as_dict()["coreos.com/acbuild/command-10"] == "acbuild layer"


def test_words_are_written_as_go_does() -> None:
    assert quoted(["a b", 'say "x"', "\n\t\x01", "\\", "é\u200b", "\udcff"]) == (
        ' "a b" "say \\"x\\"" "\\n\\t\\x01" "\\\\" "é\\u200b" "\\xff"'
    )


def test_the_whitelist_is_clean_and_without_doubles(image: AppcImage) -> None:
    image.add_whitelist(["/a//b/", "/c/../d", "/a/b"])
    assert image.manifest.path_whitelist == ("/a/b", "/d")
    with pytest.raises(NotFound):
        image.remove_whitelist(["/d", "/e"])
    assert image.manifest.path_whitelist == ("/a/b", "/d")
