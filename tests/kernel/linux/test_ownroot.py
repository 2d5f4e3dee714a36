"""A chroot becomes the root of a mount namespace: user namespaces work, the outside is out of reach."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from linux import namespaces, process
from linux.mount import info, ownroot

pytestmark = [pytest.mark.usefixtures("root"), pytest.mark.needs("namespaces")]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "proc").mkdir()
    (tmp_path / "mark").write_text("inside")
    return tmp_path


def test_in_a_chroot_without_proc(tree: Path) -> None:
    def inside() -> bytes:
        os.chroot(tree)
        os.chdir("/")
        with pytest.raises(PermissionError):
            namespaces.unshare(namespaces.NEWUSER)
        ownroot.enter()
        names = ",".join(sorted(os.listdir("/")))
        outside = os.path.exists("/../../../etc/passwd")
        namespaces.unshare(namespaces.NEWUSER)
        return f"{names} {Path('/mark').read_text()} {outside}".encode()

    before = str(info.mounts())
    assert process.fork_and_read(inside) == b"mark,proc inside False"
    assert str(info.mounts()) == before


def test_outside_of_a_chroot_nothing_seems_to_change() -> None:
    def inside() -> bytes:
        before = {entry.target for entry in info.mounts()}
        ownroot.enter()
        after = {entry.target for entry in info.mounts()}
        return str(before == after).encode()

    assert process.fork_and_read(inside) == b"True"
