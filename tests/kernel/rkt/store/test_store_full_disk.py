"""A store on a full disk: nothing half done stays, reading works, removing works (rkt could not, #2782)."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from appc.types.image_id import ImageID
from fixtures import tars
from rkt.store import Store, gc

pytestmark = pytest.mark.usefixtures("root")


@pytest.fixture(params=["size", "inodes"])
def disk(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A filesystem of 16 MiB and 300 inodes, which `fill` uses up."""
    where = tmp_path / "disk"
    where.mkdir()
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16m,nr_inodes=300,mode=700", "tmpfs", where], check=True
    )
    yield where
    subprocess.run(["umount", where], check=True)


def fill(disk: Path, what: str) -> None:
    def use_up() -> None:
        if what == "size":
            with open(disk / "filler", "wb", buffering=0) as file:
                while True:
                    file.write(bytes(4096))
        for number in range(1000):
            (disk / f"filler{number}").touch()

    with pytest.raises(OSError, match="No space left"):
        use_up()


def bring(store: Store, path: Path, *members: bytes, name: str = "example.com/app") -> ImageID:
    path.write_bytes(tars.image(*members, manifest_bytes=tars.manifest(name)))
    with open(path, "rb") as file:
        return store.import_aci(file)


def test_a_full_disk(disk: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    what = request.node.callspec.params["disk"]
    image = tmp_path / "image.aci"
    with Store(str(disk / "data")) as store:
        first = bring(store, image, tars.file(b"rootfs/a", os.urandom(100_000)))
        tree = store.tree(first)
        store.close()
        fill(disk, what)

        with pytest.raises(OSError, match="No space left"):
            bring(store, image, tars.file(b"rootfs/b", os.urandom(2_000_000)), name="example.com/b")
        assert os.listdir(store.paths.temporary) == []
        assert [one.id for one in store.images()] == [first]
        assert store.find("example.com/app") == first
        assert store.tree(first) == tree

        removed: list[str] = []
        gc.collect(
            store,
            grace=3600,
            removed_tree=removed.append,
            removed_image=lambda image: pytest.fail(image.name),
            failed=lambda name, error: pytest.fail(f"{name}: {error}"),
        )
        assert removed == [tree.id]
        fill(disk, what)
        store.remove(first)
        assert store.images() == []
        for path in disk.glob("filler*"):
            path.unlink()
        assert bring(store, image, tars.file(b"rootfs/c")) in {one.id for one in store.images()}


def test_rendering_on_a_full_disk_leaves_nothing(
    tmp_path: Path, disk: Path, request: pytest.FixtureRequest
) -> None:
    what = request.node.callspec.params["disk"]
    image = tmp_path / "image.aci"
    members = [tars.file(b"rootfs/f%d" % number, os.urandom(40_000)) for number in range(150)]
    with Store(str(disk / "data")) as store:
        image_id = bring(store, image, *members)
        if what == "size":
            (disk / "half").write_bytes(bytes(6 << 20))
        else:
            for number in range(160):
                (disk / f"half{number}").touch()
        with pytest.raises(OSError, match="No space left"):
            store.tree(image_id)
        assert store.paths.tree_ids() == []
        assert os.listdir(store.paths.temporary) == []
        for path in disk.glob("half*"):
            path.unlink()
        assert len(os.listdir(store.tree(image_id).rootfs_path)) == 150
