"""linux.files: atomic writes, locks, temporary trees and removal on a real filesystem."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from linux import files


def test_write_atomically_replaces_and_leaves_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "state"
    files.write_atomically(str(target), b"one", mode=0o600)
    files.write_atomically(str(target), b"two", mode=0o640)
    assert target.read_bytes() == b"two"
    assert target.stat().st_mode & 0o7777 == 0o640
    assert os.listdir(tmp_path) == ["state"]


def test_write_atomically_replaces_a_link_instead_of_following_it(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    canary.write_bytes(b"untouched")
    (tmp_path / "link").symlink_to(canary)
    files.write_atomically(str(tmp_path / "link"), b"new")
    assert canary.read_bytes() == b"untouched"
    assert not (tmp_path / "link").is_symlink()


def test_write_atomically_fails_without_leftover(tmp_path: Path) -> None:
    (tmp_path / "directory").mkdir()
    with pytest.raises(OSError, match="directory"):
        files.write_atomically(str(tmp_path / "directory"), b"x")
    assert os.listdir(tmp_path) == ["directory"]


def test_write_atomically_below_a_directory_fd(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        files.write_atomically("name", b"x", dir_fd=fd)
    finally:
        os.close(fd)
    assert (tmp_path / "name").read_bytes() == b"x"


def test_directory_lock_excludes_and_follows_a_rename(tmp_path: Path) -> None:
    pod = tmp_path / "pod"
    pod.mkdir()
    held = files.lock_directory(str(pod), exclusive=True)
    with pytest.raises(BlockingIOError, match="pod"):
        files.lock_directory(str(pod), exclusive=False, blocking=False)
    pod.rename(tmp_path / "moved")
    with pytest.raises(BlockingIOError):
        files.lock_directory(str(tmp_path / "moved"), exclusive=False, blocking=False)
    os.close(held)
    os.close(files.lock_directory(str(tmp_path / "moved"), exclusive=True, blocking=False))


def test_file_lock_is_taken_anew_when_the_file_was_removed_meanwhile(tmp_path: Path) -> None:
    path = tmp_path / "key"
    first = files.lock_file(str(path), exclusive=True)
    got: list[int] = []
    waiter = threading.Thread(target=lambda: got.append(files.lock_file(str(path), exclusive=True)))
    waiter.start()
    path.unlink()
    os.close(first)
    waiter.join(10)
    assert os.path.samestat(path.stat(), os.fstat(got[0]))
    os.close(got[0])


def test_a_temporary_directory_that_cannot_be_made_is_told_by_its_parent(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        files.temporary_directory(str(tmp_path / "missing"))
    assert caught.value.filename == str(tmp_path / "missing")


def test_temporary_directory_is_removed_unless_kept(tmp_path: Path) -> None:
    with files.temporary_directory(str(tmp_path)) as path:
        Path(path, "file").write_bytes(b"x")
    assert os.listdir(tmp_path) == []
    held = files.temporary_directory(str(tmp_path))
    with held as path:
        held.keep()
    assert os.listdir(tmp_path) == [os.path.basename(path)]


def test_collect_temporary_spares_the_living(tmp_path: Path) -> None:
    (tmp_path / "mine").write_bytes(b"")
    with files.temporary_directory(str(tmp_path)) as alive:
        child = os.fork()
        if child == 0:
            files.temporary_directory(str(tmp_path), "dead")
            os._exit(0)  # dies without cleaning up
        os.waitpid(child, 0)
        removed = files.collect_temporary(str(tmp_path))
        assert len(removed) == 1
        assert removed[0].endswith("dead")
        assert os.path.isdir(alive)
    assert os.listdir(tmp_path) == ["mine"]


def test_anonymous_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    fd = files.anonymous_file(str(tmp_path))
    files.write_all(fd, b"blob")
    assert os.listdir(tmp_path) == []
    files.link_into_place(fd, str(tmp_path / "blob"), mode=0o644)
    with pytest.raises(FileExistsError, match="blob"):
        files.link_into_place(fd, str(tmp_path / "blob"))
    os.close(fd)
    assert (tmp_path / "blob").read_bytes() == b"blob"


def test_an_anonymous_file_replaces_one_of_its_name_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "blob").write_bytes(b"old")
    (tmp_path / "directory").mkdir()
    fd = files.anonymous_file(str(tmp_path))
    files.write_all(fd, b"new")
    with pytest.raises(IsADirectoryError, match=r"directory'$"):
        files.link_into_place(fd, str(tmp_path / "directory"), replace=True)
    files.link_into_place(fd, str(tmp_path / "blob"), replace=True)
    os.close(fd)
    assert (tmp_path / "blob").read_bytes() == b"new"
    assert sorted(os.listdir(tmp_path)) == ["blob", "directory"]


def test_remove_tree_takes_deep_trees_odd_modes_and_no_link_targets(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    canary.mkdir()
    (canary / "keep").write_bytes(b"")
    tree = tmp_path / "tree"
    tree.mkdir()
    os.mkfifo(tree / "fifo")
    fd = os.open(tree, os.O_RDONLY)
    for _ in range(3000):  # far beyond PATH_MAX and any fd limit
        os.mkdir("d", dir_fd=fd)
        os.symlink(str(canary), "link", dir_fd=fd)
        below = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.fchmod(fd, 0)
    os.close(fd)
    files.remove_tree(str(tree))
    assert sorted(os.listdir(tmp_path)) == ["canary"]
    assert os.listdir(canary) == ["keep"]
    files.remove_tree(str(tree))  # gone already: no error


def test_remove_tree_of_an_unreadable_directory_as_its_owner(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "a" / "b").mkdir(parents=True)
    (tree / "a" / "b" / "file").write_bytes(b"")
    child = os.fork()
    if child == 0:
        try:
            if os.geteuid() == 0:
                for path in (tmp_path, tree, tree / "a", tree / "a" / "b", tree / "a" / "b" / "file"):
                    os.chown(path, 12345, 12345)
                os.chdir(tmp_path)
                os.setgroups([])
                os.setgid(12345)
                os.setuid(12345)
            else:
                os.chdir(tmp_path)
            os.chmod("tree/a/b", 0)
            os.chmod("tree/a", 0o500)
            files.remove_tree("tree")
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert not tree.exists()
