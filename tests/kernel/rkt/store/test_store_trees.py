"""Rendered trees: made once, complete or not there, verified, collected."""

from __future__ import annotations

import json
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from appc.errors import AppcError
from appc.types.image_id import ImageID
from fixtures import tars
from linux import files
from rkt.errors import RktError
from rkt.store import NoSuchImage, Store, copytree, fsck, gc

Put = Callable[..., ImageID]


def needs(*names: str) -> list[dict[str, str]]:
    return [{"imageName": f"example.com/{name}"} for name in names]


def collect(store: Store, grace: float = 0) -> tuple[list[str], list[str]]:
    trees: list[str] = []
    images: list[str] = []
    gc.collect(
        store,
        grace=grace,
        removed_tree=trees.append,
        removed_image=lambda image: images.append(image.name),
        failed=lambda name, error: pytest.fail(f"{name}: {error}"),
    )
    return trees, images


def test_a_tree_as_rkt_lays_it_out(store: Store, put: Put) -> None:
    image_id = put(tars.file(b"rootfs/a", b"xyz"), tars.directory(b"rootfs/d", 0o700))
    tree = store.tree(image_id)
    top = Path(store.paths.tree(tree.id))
    assert tree.id.startswith("deps-sha512-")
    assert sorted(os.listdir(top)) == ["hash", "image", "manifest", "rendered", "rootfs", "size"]
    assert tree.rootfs_path == str(top / "rootfs")
    assert tree.lowers == (tree.rootfs_path,)
    assert (top / "rootfs/a").read_text() == "xyz"
    assert (top / "manifest").read_bytes() == tars.manifest()
    assert (top / "image").read_text() == image_id
    assert (top / "size").read_text() == "3"
    assert stat.S_IMODE((top / "rootfs").stat().st_mode) == 0o755
    assert os.listdir(store.paths.temporary) == []


def test_a_tree_is_made_once(store: Store, put: Put) -> None:
    image_id = put(tars.file(b"rootfs/a"))
    with pytest.raises(NoSuchImage):
        store.tree(image_id, render=False)
    first = store.tree(image_id)
    inode = os.stat(first.rootfs_path).st_ino
    assert store.tree(image_id) == store.tree(image_id, render=False) == first
    assert os.stat(first.rootfs_path).st_ino == inode


def test_twenty_renderings_at_once_are_one(store: Store, put: Put) -> None:
    image_id = put(*[tars.file(b"rootfs/f%d" % number) for number in range(200)])
    children = []
    for _ in range(20):
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                with Store(store.data_dir) as own:
                    code = 0 if len(os.listdir(own.tree(image_id).rootfs_path)) == 200 else 2
            finally:
                os._exit(code)
        children.append(pid)
    assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children] == [0] * 20
    assert os.listdir(store.paths.temporary) == []


def test_dependencies(store: Store, put: Put) -> None:
    put(tars.file(b"rootfs/who", b"b"), tars.file(b"rootfs/b", b"1"), name="example.com/b")
    put(tars.file(b"rootfs/who", b"d"), tars.file(b"rootfs/d", b"2"), name="example.com/d")
    c_id = put(tars.file(b"rootfs/who", b"c"), name="example.com/c", dependencies=needs("d"))
    a_id = put(
        tars.file(b"rootfs/top", b"a"),
        dependencies=[*needs("b"), {"imageName": "example.com/c", "imageID": c_id}],
    )
    tree = store.tree(a_id)
    rootfs = Path(tree.rootfs_path)
    found = {path.name: path.read_text() for path in rootfs.iterdir()}
    assert found == {"who": "c", "b": "1", "d": "2", "top": "a"}
    # another dependency is another tree
    put(tars.file(b"rootfs/d", b"newer"), name="example.com/d")
    newer = store.tree(a_id)
    assert newer.id != tree.id
    assert (Path(newer.rootfs_path) / "d").read_text() == "newer"


def test_a_missing_dependency_and_a_circle(store: Store, put: Put) -> None:
    image_id = put(name="example.com/a", dependencies=needs("b"))
    with pytest.raises(NoSuchImage, match=r"example\.com/b: a dependency"):
        store.tree(image_id)
    put(name="example.com/b", dependencies=needs("a"))
    with pytest.raises(AppcError, match="in a circle"):
        store.tree(image_id)


def test_whitelists_apply(store: Store, put: Put) -> None:
    put(tars.file(b"rootfs/kept"), tars.file(b"rootfs/gone"), name="example.com/b")
    image_id = put(dependencies=needs("b"), pathWhitelist=["/kept"])
    assert os.listdir(store.tree(image_id).rootfs_path) == ["kept"]


def test_a_damaged_archive_is_not_run_f9(store: Store, put: Put) -> None:
    image_id = put(tars.file(b"rootfs/a", b"content of a"))
    blob = Path(store.paths.blob(image_id))
    blob.write_bytes(blob.read_bytes().replace(b"content of a", b"content of b"))
    with Store(store.data_dir) as fresh, pytest.raises(RktError, match="archive in the store is damaged"):
        fresh.tree(image_id)
    assert store.paths.tree_ids() == []
    assert os.listdir(store.paths.temporary) == []


def test_an_archive_that_cannot_be_unpacked_leaves_nothing(store: Store, put: Put) -> None:
    image_id = put(tars.hard_link(b"rootfs/a", b"rootfs/none"))
    with pytest.raises(AppcError):
        store.tree(image_id)
    assert store.paths.tree_ids() == []
    assert os.listdir(store.paths.temporary) == []


CHANGES: dict[str, Callable[[Path], object]] = {
    "content": lambda top: (top / "d/f").write_text("jello"),
    "a new file": lambda top: (top / "new").touch(),
    "a file less": lambda top: (top / "d/f").unlink(),
    "a name": lambda top: (top / "d/f").rename(top / "d/g"),
    "mode": lambda top: (top / "d/f").chmod(0o755),
    "mode of a directory": lambda top: (top / "d").chmod(0o755),
    "mode of the root": lambda top: top.chmod(0o700),
    "owner": lambda top: os.chown(top / "d/f", 1, 0),
    "group": lambda top: os.chown(top / "d/f", 0, 1),
    "where a link points": lambda top: ((top / "l").unlink(), (top / "l").symlink_to("elsewhere")),
    "a link for a file": lambda top: ((top / "d/f").unlink(), (top / "d/f").symlink_to("f")),
    "an attribute": lambda top: os.setxattr(top / "d/f", "user.x", b"y"),
    "a hard link less": lambda top: ((top / "h").unlink(), shutil.copy2(top / "d/f", top / "h")),
}


@pytest.mark.parametrize("change", CHANGES)
def test_verify_finds_any_change(store: Store, put: Put, change: str) -> None:
    image_id = put(
        tars.directory(b"rootfs/d", 0o711),
        tars.file(b"rootfs/d/f", b"hello"),
        tars.hard_link(b"rootfs/h", b"rootfs/d/f"),
        tars.symlink(b"rootfs/l", b"/etc"),
        tars.header(b"rootfs/p", b"6"),
    )
    tree = store.tree(image_id)
    expected = store.verify(image_id)
    CHANGES[change](Path(tree.rootfs_path))
    with pytest.raises(RktError, match=rf"wrong tree hash: sha512-\w+, expected: {expected}"):
        store.verify(image_id)


def test_verify_does_not_mind_times(store: Store, put: Put) -> None:
    image_id = put(tars.file(b"rootfs/a", b"x"))
    tree = store.tree(image_id)
    os.utime(Path(tree.rootfs_path) / "a", (5, 5))
    store.verify(image_id)


def test_a_copy_is_equal(store: Store, put: Put, tmp_path: Path) -> None:
    image_id = put(
        tars.file(b"rootfs/f", b"x" * 3_000_000, mode=0o4755, uid=5, gid=6, mtime=1_000_000_000),
        tars.hard_link(b"rootfs/h", b"rootfs/f"),
        tars.symlink(b"rootfs/l", b"/etc"),
        tars.pax((b"SCHILY.xattr.user.a", b"b")),
        tars.file(b"rootfs/d/x"),
    )
    tree = store.tree(image_id)
    copytree.copy(tree.rootfs_path, str(tmp_path / "copy"))
    from rkt.store import trees

    assert trees.measure(str(tmp_path / "copy")).hash == store.verify(image_id)
    assert (tmp_path / "copy/f").stat().st_mtime == 1_000_000_000


# --- garbage collection


def pod(store: Store, phase: str, name: str, tree: str = "", image: str = "") -> Path:
    """A pod's directory as far as the store looks at it."""
    top = Path(store.data_dir) / "pods" / phase / name
    (top / "appsinfo/app").mkdir(parents=True)
    (top / "appsinfo/app/treeStoreID").write_text(tree)
    (top / "pod").write_text(json.dumps({"apps": [{"name": "app", "image": {"id": image}}]}))
    return top


def test_gc_removes_what_nothing_uses(store: Store, put: Put) -> None:
    image_id = put()
    tree = store.tree(image_id)
    assert collect(store, grace=3600) == ([tree.id], [])
    assert store.tree(image_id).id == tree.id
    assert collect(store) == ([tree.id], ["example.com/app"])
    assert store.images() == []
    assert store.paths.tree_ids() == []


@pytest.mark.parametrize("phase", ["embryo", "prepare", "prepared", "run", "exited-garbage", "garbage"])
def test_gc_leaves_the_trees_of_pods(store: Store, put: Put, phase: str) -> None:
    image_id = put()
    tree = store.tree(image_id)
    pod(store, phase, "one", tree.id, image_id)
    live = phase not in {"exited-garbage", "garbage"}
    assert collect(store) == ([], [] if live else ["example.com/app"])
    assert os.path.isdir(tree.rootfs_path)


def test_gc_leaves_the_tree_of_a_stage1(store: Store, put: Put) -> None:
    tree = store.tree(put())
    (pod(store, "run", "one") / "stage1TreeStoreID").write_text(tree.id)
    assert collect(store)[0] == []


def test_gc_waits_for_a_pod_that_is_being_prepared(store: Store, put: Put) -> None:
    """Between rendering and the pod's note of it the tree has no user yet."""
    image_id = put()
    tree = store.tree(image_id)
    os.makedirs(f"{store.data_dir}/locks")
    lock = files.lock_file(f"{store.data_dir}/locks/prepareLock", exclusive=False)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.close(lock)
            with Store(store.data_dir) as own:
                code = 0 if collect(own) == ([], []) else 2
        finally:
            os._exit(code)
    pod(store, "prepare", "one", tree.id, image_id)
    assert os.waitpid(child, os.WNOHANG) == (0, 0)
    os.close(lock)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert os.path.isdir(tree.rootfs_path)


def test_gc_collects_what_killed_processes_left(store: Store, put: Put) -> None:
    put()
    left = Path(store.paths.temporary) / ".tmp-999999999-1-abc-tree"
    (left / "rootfs").mkdir(parents=True)
    working = files.temporary_directory(store.paths.temporary)
    with working as path:
        collect(store, grace=3600)
        assert not left.exists()
        assert os.path.isdir(path)


def test_half_a_removal_is_no_tree(store: Store, put: Put) -> None:
    """A tree loses its name before its files: whatever is left of it is no tree."""
    from rkt.store import trees

    image_id = put(tars.file(b"rootfs/a"))
    tree = store.tree(image_id)
    real = files.remove_tree

    def fail(path: str) -> None:
        raise OSError(5, "Input/output error", path)

    files.remove_tree = fail  # type: ignore[assignment]
    try:
        with pytest.raises(OSError, match="Input"):
            trees.remove(store.paths, tree.id)
    finally:
        files.remove_tree = real
    assert store.paths.tree_ids() == []
    assert os.listdir(store.tree(image_id).rootfs_path) == ["a"]


# --- checking the whole store


def check(store: Store, *, repair: bool = False) -> fsck.Findings:
    return fsck.check(store, repair=repair, note=lambda _: None)


def test_fsck_of_a_sound_store(store: Store, put: Put) -> None:
    store.tree(put())
    put(name="example.com/b")
    assert check(store) == fsck.Findings(2, 1, [], [])


def test_fsck_of_no_store(tmp_path: Path) -> None:
    with Store(str(tmp_path / "none")) as store:
        assert check(store) == fsck.Findings(0, 0, [], [])
    assert not (tmp_path / "none").exists()


def test_fsck_makes_the_index_anew(store: Store, put: Put) -> None:
    image_id = put(latest=True)
    store.close()
    for data in (b"", os.urandom(9000)):
        for suffix in ("-wal", "-shm"):
            Path(store.paths.database + suffix).unlink(missing_ok=True)
        Path(store.paths.database).write_bytes(data)
        found = check(store)
        assert "made the index anew from the files" in found.repairs
        assert [row.image_id for row in store.index().named("example.com/app")] == [image_id]
        store.close()
    assert check(store) == fsck.Findings(1, 0, [], [])


def test_fsck_finds_and_removes_damage(store: Store, put: Put) -> None:
    bad, good = put(tars.file(b"rootfs/a", b"1")), put(name="example.com/b")
    tree, used = store.tree(good), store.tree(bad)
    pod(store, "run", "one", used.id)
    for path in (Path(tree.rootfs_path) / "new", Path(used.rootfs_path) / "new"):
        path.touch()
    with open(store.paths.blob(bad), "r+b") as file:
        file.seek(700)
        file.write(b"!")
    Path(store.paths.manifest(good)).write_text("{}")
    found = check(store)
    assert len(found.problems) == 3
    assert found.images == 1
    assert any("wrote its damaged manifest anew" in done for done in found.repairs)
    assert store.manifest(good).name == "example.com/b"
    assert os.path.exists(store.paths.blob(bad))

    found = check(store, repair=True)
    assert not os.path.exists(store.paths.blob(bad))
    assert not os.path.exists(tree.rootfs_path)
    assert os.path.exists(used.rootfs_path)
    assert any("a pod uses it" in problem for problem in found.problems)


def test_fsck_waits_for_writers_and_they_for_it(store: Store, put: Put) -> None:
    put()
    lock = files.lock_directory(store.paths.cas, exclusive=False)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.close(lock)
            with Store(store.data_dir) as own:
                code = 0 if check(own).problems == [] else 2
        finally:
            os._exit(code)
    assert os.waitpid(child, os.WNOHANG) == (0, 0)
    os.close(lock)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
