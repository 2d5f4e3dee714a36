"""What an image may hold: the layout rules, and all problems at once."""

from __future__ import annotations

import io

import pytest

from appc.aci import reader, validate
from appc.aci.errors import InvalidArchive, LimitExceeded
from appc.aci.limits import Limits
from fixtures import tars


def problems(data: bytes) -> list[str]:
    return validate.image_problems(io.BytesIO(data))


@pytest.mark.parametrize(
    "data",
    [
        tars.image(),
        tars.image(tars.file(b"rootfs/a", b"x"), tars.symlink(b"rootfs/l", b"/etc/passwd")),
        tars.image(tars.file(b"rootfs/a/b/c", b"x")),
        tars.directory(b"./")
        + tars.directory(b"./rootfs")
        + tars.file(b"./manifest", tars.manifest())
        + tars.END,
        tars.image(tars.file(b"rootfs/a/b"), tars.directory(b"rootfs/a")),
        tars.image(tars.file(b"rootfs/a"), tars.hard_link(b"rootfs/b", b"rootfs/a")),
        tars.image(tars.hard_link(b"rootfs/b", b"rootfs/in-a-dependency")),
        tars.image(tars.header(b"rootfs/dev/null", b"3", major=1, minor=3), tars.header(b"rootfs/f", b"6")),
        tars.image(tars.file(b"rootfs/rootfs/manifest", b"anything")),
    ],
)
def test_valid(data: bytes) -> None:
    assert problems(data) == []


def test_implied_directories_are_bounded_too() -> None:
    deep = [tars.file(b"rootfs/%d/" % number + b"d/" * 50 + b"f") for number in range(41)]
    long = [tars.file(b"rootfs/" + b"%04d" % number * 900) for number in range(80)]
    for entries, told in ((deep, "more than 2000 files and"), (long, "names of more than 256000")):
        with pytest.raises(LimitExceeded, match=told):
            reader.read(io.BytesIO(tars.image(*entries)), limits=Limits(entries=2000))
        reader.read(io.BytesIO(tars.image(*entries[:9])), limits=Limits(entries=2000))


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (tars.directory(b"rootfs") + tars.END, "no manifest"),
        (tars.file(b"manifest", tars.manifest()) + tars.END, "no rootfs"),
        (tars.image(tars.file(b"rootfs/a/b/c", b"x"), rootfs=False), "no rootfs: only what is in it"),
        (tars.file(b"manifest", tars.manifest()) + tars.file(b"rootfs") + tars.END, "not a directory"),
        (tars.image(tars.directory(b"extra")), "extra: only manifest and rootfs"),
        (tars.image(tars.directory(b"rootfs2")), "rootfs2: only"),
        (tars.image(tars.file(b"rootfsx/y")), "rootfsx/y: only"),
        (tars.image(tars.directory(b"rootfs")), "rootfs occurs twice"),
        (tars.image(tars.file(b"manifest", tars.manifest())), "manifest occurs twice"),
        (tars.image(tars.file(b"rootfs/a"), tars.file(b"rootfs/a")), "rootfs/a occurs twice"),
        (tars.image(tars.file(b"rootfs/a"), tars.file(b"rootfs/./a")), "rootfs/a occurs twice"),
        (tars.image(tars.directory(b"rootfs/a"), tars.directory(b"rootfs/a/")), "rootfs/a occurs twice"),
        (tars.image(tars.directory(b"rootfs/a"), tars.file(b"rootfs/a")), "rootfs/a occurs twice"),
        (
            tars.symlink(b"manifest", b"rootfs/x") + tars.directory(b"rootfs") + tars.END,
            "manifest is a symbolic link",
        ),
        (tars.symlink(b".", b"/etc") + tars.image(), "root of the archive"),
        (
            tars.image(tars.symlink(b"rootfs/d", b"/etc"), tars.file(b"rootfs/d/passwd")),
            "parent rootfs/d is no directory",
        ),
        (tars.image(tars.file(b"rootfs/d"), tars.file(b"rootfs/d/f")), "parent rootfs/d is no directory"),
        (
            tars.image(tars.file(b"rootfs/d/x/f"), tars.symlink(b"rootfs/d", b"/etc")),
            "something lies below it",
        ),
        (
            tars.image(
                tars.symlink(b"rootfs/d", b"/"), tars.file(b"rootfs/d/a"), tars.file(b"rootfs/d/b/c/e")
            ),
            "rootfs/d/b/c/e: its parent rootfs/d is no directory",
        ),
        (tars.image(tars.hard_link(b"rootfs/b", b"manifest")), "outside rootfs"),
        (tars.image(tars.hard_link(b"rootfs/b", b"rootfs/b")), "to itself"),
        (
            tars.image(tars.directory(b"rootfs/d"), tars.hard_link(b"rootfs/b", b"rootfs/d")),
            "to the directory",
        ),
        (tars.image(manifest_bytes=b""), "manifest: "),
        (tars.image(manifest_bytes=b"not json"), "manifest: "),
        (
            tars.image(manifest_bytes=b'{"acKind":"PodManifest","acVersion":"0.8.11","name":"a"}'),
            "bad ACKind",
        ),
        (tars.image(tars.file(b"/etc/passwd")), "absolute"),
    ],
)
def test_invalid(data: bytes, told: str) -> None:
    assert any(told in problem for problem in problems(data)), problems(data)


def test_every_problem_is_told_at_once() -> None:
    found = problems(
        tars.image(
            tars.directory(b"extra"),
            tars.file(b"rootfs/a"),
            tars.file(b"rootfs/a"),
            manifest_bytes=b'{"acKind":"ImageManifest","acVersion":"0.8.11","name":"BAD"}',
        )
    )
    assert len(found) == 3


def test_thousands_of_problems_are_not_kept() -> None:
    data = tars.image(*[tars.file(b"extra%d" % number) for number in range(5000)])
    with pytest.raises(InvalidArchive) as refused:
        reader.read(io.BytesIO(data))
    assert len(str(refused.value)) < 5000


def test_a_manifest_over_the_limit_is_not_read() -> None:
    data = tars.image(manifest_bytes=b" " * (4 << 20) + tars.manifest())
    with pytest.raises(InvalidArchive, match="a manifest of"):
        reader.read(io.BytesIO(data))
    with pytest.raises(InvalidArchive, match="a manifest of"):
        reader.read_manifest(io.BytesIO(data))


def test_read_gives_id_manifest_and_size() -> None:
    import hashlib

    data = tars.image(tars.file(b"rootfs/a", b"x" * 100_000))
    seen = bytearray()
    found = reader.read(io.BytesIO(data), sink=seen.extend)
    assert found.image_id == "sha512-" + hashlib.sha512(data).hexdigest()
    assert (found.manifest, found.size, found.entries, bytes(seen)) == (tars.manifest(), len(data), 3, data)


def test_the_id_covers_everything_to_the_last_byte() -> None:
    data = tars.image(tars.file(b"rootfs/a", b"x"))
    one, other = (reader.read(io.BytesIO(data + bytes(more))).image_id for more in (0, 512))
    assert one != other


def test_the_manifest_may_be_anywhere() -> None:
    data = (
        tars.directory(b"rootfs")
        + tars.file(b"rootfs/a", b"x" * 9999)
        + tars.file(b"manifest", b"{}")
        + tars.END
    )
    assert reader.read_manifest(io.BytesIO(data)) == b"{}"


def test_an_image_without_manifest_has_none_to_print() -> None:
    with pytest.raises(InvalidArchive, match="no manifest"):
        reader.read_manifest(io.BytesIO(tars.directory(b"rootfs") + tars.END))
