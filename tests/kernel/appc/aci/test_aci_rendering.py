"""Rendering on a real filesystem: later over earlier images, whitelists, links replaced (spec/aci.md)."""

from __future__ import annotations

import os
import stat
import tracemalloc
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

import pytest

from appc.aci import whitelist
from appc.aci.errors import InvalidArchive
from appc.aci.tar import TarReader
from appc.errors import AppcError
from appc.render import MAX_STEPS, Image, Step, flatten, needed, render
from appc.types.image_id import ImageID
from fixtures import tars


def image_id(name: str) -> ImageID:
    return ImageID(f"sha512-{ord(name):0128x}")


def finder(
    dependencies: Mapping[str, str], whitelists: Mapping[str, Sequence[str]] = {}
) -> Callable[[ImageID], Image]:
    """Images named by single letters: ``{"a": "bc"}`` means that a depends on b and then c."""
    images = {
        image_id(name): Image(image_id(name), [image_id(one) for one in needs], whitelists.get(name, ()))
        for name, needs in dependencies.items()
    }
    return images.__getitem__


def order(steps: Sequence[Step]) -> str:
    return "".join(chr(int(step.image_id[7:], 16)) for step in steps)


def test_depth_first_in_the_order_of_the_list() -> None:
    assert order(flatten(image_id("a"), finder({"a": "bc", "b": "", "c": "d", "d": ""}))) == "bdca"


def test_a_diamond_is_applied_twice() -> None:
    steps = flatten(image_id("a"), finder({"a": "bc", "b": "d", "c": "d", "d": ""}))
    assert order(steps) == "dbdca"
    assert order(needed(steps)) == "bdca"


def test_whitelists_meet_along_the_branch() -> None:
    """The reference applies the image's own and the outermost one only."""
    steps = flatten(
        image_id("a"),
        finder({"a": "b", "b": "c", "c": ""}, {"a": ["/1", "/2"], "b": ["/2", "/3"], "c": ["2", "/./3/"]}),
    )
    assert [step.allowed for step in steps] == [{b"2"}, {b"2"}, {b"1", b"2"}]


def test_each_branch_has_its_own_whitelist() -> None:
    steps = flatten(
        image_id("a"), finder({"a": "bc", "b": "d", "c": "d", "d": ""}, {"b": ["/x"], "c": ["/y"]})
    )
    assert order(needed(steps)) == "dbdca"
    assert [step.allowed for step in steps] == [{b"x"}, {b"x"}, {b"y"}, {b"y"}, None]


@pytest.mark.parametrize("images", [{"a": "a"}, {"a": "b", "b": "a"}, {"a": "b", "b": "c", "c": "b"}])
def test_circles_are_an_error(images: Mapping[str, str]) -> None:
    with pytest.raises(AppcError, match="in a circle"):
        flatten(image_id("a"), finder(images))


def test_images_that_multiply_end(tmp_path: Path) -> None:
    letters = "abcdefghijklmnopqrstuvwxyz"
    images = {one: two * 2 for one, two in zip(letters, letters[1:] + "0", strict=True)} | {"0": ""}
    with pytest.raises(AppcError, match=f"more than {MAX_STEPS}"):
        flatten(image_id("a"), finder(images))


def test_a_long_chain_ends() -> None:
    chain = {ImageID(f"sha512-{n:0128x}"): n for n in range(5000)}

    def find(wanted: ImageID) -> Image:
        return Image(wanted, (ImageID(f"sha512-{chain[wanted] + 1:0128x}"),))

    with pytest.raises(AppcError, match="levels deep"):
        flatten(ImageID("sha512-" + "0" * 128), find)


# --- on disk


Layer = tuple[list[bytes], list[str]]


def rendered(tmp_path: Path, *layers: Layer) -> dict[str, str]:
    """Render `layers` (members, whitelist), lowest first, each under those behind it; what is there then."""
    target = tmp_path / "rendered"
    target.mkdir()
    steps = []
    for number, (_, own) in enumerate(layers):
        allowed = whitelist.paths(own)
        for _, above in layers[number + 1 :]:
            allowed = whitelist.both(allowed, whitelist.paths(above))
        steps.append(Step(ImageID(f"sha512-{number:0128x}"), allowed))

    def opened(wanted: ImageID) -> BinaryIO:
        fd = os.open(tmp_path, os.O_TMPFILE | os.O_RDWR, 0o600)
        file = os.fdopen(fd, "w+b")
        file.write(tars.image(*layers[int(wanted[7:], 16)][0]))
        file.flush()
        return file

    render(steps, opened, str(target))
    return listing(target)


def listing(top: Path) -> dict[str, str]:
    found = {}
    for path in sorted(top.rglob("*")):
        status = path.lstat()
        if stat.S_ISLNK(status.st_mode):
            what = f"-> {os.readlink(path)}"
        elif stat.S_ISDIR(status.st_mode):
            what = f"dir {stat.S_IMODE(status.st_mode):o}"
        elif stat.S_ISREG(status.st_mode):
            what = path.read_text()
        else:
            what = "other"
        found[str(path.relative_to(top))] = what
    return found


def test_the_later_image_wins(tmp_path: Path) -> None:
    assert rendered(
        tmp_path,
        ([tars.file(b"rootfs/f", b"low"), tars.file(b"rootfs/only-low", b"1")], []),
        ([tars.file(b"rootfs/f", b"high"), tars.file(b"rootfs/only-high", b"2")], []),
    ) == {"f": "high", "only-low": "1", "only-high": "2"}


def test_directories_merge_and_the_later_mode_counts(tmp_path: Path) -> None:
    assert rendered(
        tmp_path,
        ([tars.directory(b"rootfs/d", 0o700), tars.file(b"rootfs/d/low", b"1")], []),
        ([tars.directory(b"rootfs/d", 0o751), tars.file(b"rootfs/d/high", b"2")], []),
        ([tars.file(b"rootfs/d/implied", b"3")], []),
    ) == {"d": "dir 751", "d/low": "1", "d/high": "2", "d/implied": "3"}


@pytest.mark.parametrize("inside", [False, True])
def test_a_link_of_a_lower_image_is_replaced_never_followed(tmp_path: Path, inside: bool) -> None:
    """rkt's renderer went through it, which the specification forbids."""
    canary = tmp_path / "canary"
    canary.mkdir()
    target = b"etc" if inside else os.fsencode(canary)
    found = rendered(
        tmp_path,
        ([tars.directory(b"rootfs/etc"), tars.symlink(b"rootfs/d", target)], []),
        ([tars.file(b"rootfs/d/x/f", b"new")], []),
    )
    assert found == {"d": "dir 755", "d/x": "dir 755", "d/x/f": "new", "etc": "dir 755"}
    assert list(canary.iterdir()) == []


@pytest.mark.parametrize(
    ("lower", "upper", "expected"),
    [
        (tars.symlink(b"rootfs/d", b"/etc"), tars.directory(b"rootfs/d"), "dir 755"),
        (tars.file(b"rootfs/d", b"x"), tars.directory(b"rootfs/d"), "dir 755"),
        (tars.header(b"rootfs/d", b"6"), tars.directory(b"rootfs/d"), "dir 755"),
        (
            tars.directory(b"rootfs/d") + tars.file(b"rootfs/d/f", b"x"),
            tars.symlink(b"rootfs/d", b"y"),
            "-> y",
        ),
        (tars.directory(b"rootfs/d") + tars.file(b"rootfs/d/f", b"x"), tars.file(b"rootfs/d", b"y"), "y"),
        (tars.symlink(b"rootfs/d", b"x"), tars.file(b"rootfs/d", b"y"), "y"),
        (tars.file(b"rootfs/d", b"x"), tars.header(b"rootfs/d", b"6"), "other"),
    ],
)
def test_another_kind_replaces(tmp_path: Path, lower: bytes, upper: bytes, expected: str) -> None:
    assert rendered(tmp_path, ([lower], []), ([upper], [])) == {"d": expected}


def test_a_device_replaces_by_nothing(tmp_path: Path) -> None:
    found = rendered(
        tmp_path,
        ([tars.file(b"rootfs/null", b"x")], []),
        ([tars.header(b"rootfs/null", b"3", major=1, minor=3)], []),
    )
    assert found == {}


def test_replacing_a_file_does_not_write_through_its_hard_links(tmp_path: Path) -> None:
    found = rendered(
        tmp_path,
        ([tars.file(b"rootfs/a", b"low"), tars.hard_link(b"rootfs/b", b"rootfs/a")], []),
        ([tars.file(b"rootfs/a", b"high", mode=0o600)], []),
    )
    assert found == {"a": "high", "b": "low"}


def test_a_hard_link_to_a_file_of_a_lower_image(tmp_path: Path) -> None:
    found = rendered(
        tmp_path,
        ([tars.file(b"rootfs/a", b"low")], []),
        ([tars.hard_link(b"rootfs/b", b"rootfs/a")], []),
    )
    assert found == {"a": "low", "b": "low"}


def test_a_directory_that_was_replaced_and_is_implied_again_has_no_old_mode(tmp_path: Path) -> None:
    found = rendered(
        tmp_path,
        ([tars.directory(b"rootfs/d", 0o700), tars.directory(b"rootfs/d/e", 0o711)], []),
        ([tars.file(b"rootfs/d", b"x")], []),
        ([tars.file(b"rootfs/d/e/f", b"y")], []),
    )
    assert found == {"d": "dir 755", "d/e": "dir 755", "d/e/f": "y"}


def test_a_whitelist_leaves_the_rest_out(tmp_path: Path) -> None:
    found = rendered(
        tmp_path,
        (
            [
                tars.directory(b"rootfs/d", 0o711),
                tars.file(b"rootfs/d/kept", b"1"),
                tars.file(b"rootfs/d/gone", b"2"),
                tars.directory(b"rootfs/empty"),
                tars.directory(b"rootfs/alone"),
                tars.file(b"rootfs/alone/content", b"3"),
                tars.symlink(b"rootfs/link", b"d"),
            ],
            ["/d/kept", "/alone", "/link"],
        ),
    )
    assert found == {"d": "dir 711", "d/kept": "1", "alone": "dir 755", "link": "-> d"}


def test_the_content_moves_to_a_link_that_is_left(tmp_path: Path) -> None:
    """The reference keeps a hard link whose target is not there."""
    found = rendered(
        tmp_path,
        (
            [
                tars.file(b"rootfs/a", b"content", mode=0o640),
                tars.hard_link(b"rootfs/b", b"rootfs/a"),
                tars.hard_link(b"rootfs/c", b"rootfs/b"),
                tars.hard_link(b"rootfs/d", b"rootfs/a"),
            ],
            ["/c", "/d"],
        ),
    )
    assert found == {"c": "content", "d": "content"}
    top = tmp_path / "rendered"
    assert (top / "c").stat().st_ino == (top / "d").stat().st_ino
    assert stat.S_IMODE((top / "c").stat().st_mode) == 0o640


def test_a_link_whose_content_is_left_out_of_another_image_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InvalidArchive, match="which is left out"):
        rendered(
            tmp_path,
            ([tars.file(b"rootfs/a", b"low")], ["/b"]),
            ([tars.hard_link(b"rootfs/b", b"rootfs/a")], ["/b"]),
        )


def test_directories_above_a_whitelist_pass_and_deep_names_take_no_memory() -> None:
    names = [b"", b"-", b"-b", b".", b"/x", b"0", b"/xy", b"/y"]
    directories = b"".join(tars.directory(b"rootfs/a" + name) for name in names)
    allowed = whitelist.paths(["/a-b/c/d", "/a/x/y/z", *(f"/{n}" + "/d" * 1000 for n in range(200))])
    assert allowed is not None
    tracemalloc.start()
    sieve = whitelist.Sieve(allowed, TarReader(iter([tars.END])))
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()
    entries = [entry._replace(name=entry.name[7:]) for entry in TarReader(iter([directories + tars.END]))]
    assert [entry.name for entry in entries if sieve(entry)] == [b"a", b"a-b", b"a/x"]


def test_whitelists_as_they_are_written() -> None:
    assert whitelist.paths([]) is None
    assert whitelist.paths(["/a/", "b", "/./c/../d", "/../e", "//f//g"]) == {b"a", b"b", b"d", b"e", b"f/g"}


def test_damage_in_any_layer_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InvalidArchive):
        rendered(tmp_path, ([tars.file(b"rootfs/a")], []), ([tars.file(b"elsewhere")], []))
