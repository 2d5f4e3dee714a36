"""Users and groups of an image (R17), with files that attack whoever reads them (S5, S15)."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from linux.paths import Root
from rkt.errors import RktError
from rkt.stage1 import identity


@pytest.fixture
def rootfs(tmp_path: Path) -> Path:
    etc = tmp_path / "rootfs" / "etc"
    etc.mkdir(parents=True)
    (etc / "passwd").write_text(
        "root:x:0:0:root:/root:/bin/sh\n"
        "user1:x:1000:100:a user:/home/user1:/bin/sh\n"
        "1000:x:0:0:a name of digits:/:/bin/sh\n"
        "short:x\n"
        "wrap:x:4294967296:0::/:\n"
        "wrap:x:0:0::/:\n"
        "max:x:4294967295:0::/:\n"
        "sign:x:-1:0::/:\n"
        "odd:x:7:7::/evil\x01home:/bin/sh\n"
        "relative:x:8:8::home:/bin/sh\n"
    )
    (etc / "group").write_text("root:x:0:\ngroup1:x:100:user1\nwrap:x:4294967296:\nwrap:x:0:\n0:x:7:\n")
    return tmp_path / "rootfs"


def resolve(rootfs: Path, user: str, group: str = "0", *, missing: bool = False) -> tuple[int, int, str]:
    with Root.open(str(rootfs)) as root:
        return tuple(identity.resolve(root, user, group, group_may_be_missing=missing))  # type: ignore[return-value]


def test_names_of_the_image(rootfs: Path) -> None:
    assert resolve(rootfs, "user1", "group1") == (1000, 100, "/home/user1")
    assert resolve(rootfs, "root", "root") == (0, 0, "/root")


def test_runc_cve_2016_3697_digits_are_never_looked_up(rootfs: Path) -> None:
    assert resolve(rootfs, "1000", "0") == (1000, 0, "/home/user1")
    assert resolve(rootfs, "77", "77") == (77, 77, "")
    assert resolve(rootfs, "4294967294", "007") == (4294967294, 7, "")


@pytest.mark.parametrize(
    "user",
    [
        "4294967295", "4294967296", "-1", "+0", " 0", "0 ", "0x0", "1_0", "\u0661", "1" + "0" * 30,
        "9" * 4000, "", "0\n", "nobody-here", "user1:x", "short",
    ],
)  # fmt: skip
def test_containerd_cve_2024_40635_odd_users_are_refused(rootfs: Path, user: str) -> None:
    for words in ((user, "0"), ("0", user)):
        with pytest.raises(RktError, match="invalid"):
            resolve(rootfs, *words)


@pytest.mark.parametrize("name", ["wrap", "max", "sign"])
def test_the_first_line_counts_even_if_it_is_broken(rootfs: Path, name: str) -> None:
    """Podman and docker of Debian 12 run `wrap` as uid 0: the second line says so."""
    with pytest.raises(RktError, match="no proper number"):
        resolve(rootfs, name)
    if name == "wrap":
        with pytest.raises(RktError, match="no proper number"):
            resolve(rootfs, "0", name)


def test_rkts_words(rootfs: Path) -> None:
    with pytest.raises(RktError, match=r'^invalid user "x"$'):
        resolve(rootfs, "x")
    with pytest.raises(RktError, match=r'^invalid group "x"$'):
        resolve(rootfs, "0", "x")


def test_the_owner_of_a_file(rootfs: Path) -> None:
    (rootfs / "dir1").mkdir()
    (rootfs / "dir1/file").write_text("")
    if os.geteuid() == 0:
        os.chown(rootfs / "dir1/file", 500, 501)
    owner = (rootfs / "dir1/file").stat()
    (rootfs / "link").symlink_to("/dir1/file")
    assert resolve(rootfs, "/dir1/file", "/dir1/file")[:2] == (owner.st_uid, owner.st_gid)
    assert resolve(rootfs, "/link", "/link")[:2] == (owner.st_uid, owner.st_gid)
    with pytest.raises(RktError, match="No such file"):
        resolve(rootfs, "/nope")


def test_a_link_to_the_hosts_file_stays_inside(rootfs: Path) -> None:
    (rootfs / "outside").symlink_to("/../../../../../../etc/hostname-of-nobody")
    with pytest.raises(RktError, match="invalid user"):
        resolve(rootfs, "/outside")
    (rootfs / "etc/passwd").unlink()
    (rootfs / "etc/passwd").symlink_to("/../../../../../../../etc/passwd")
    with pytest.raises(RktError, match="invalid user"):
        resolve(rootfs, "daemon")


def test_cve_2024_9676_a_fifo_as_passwd_does_not_hang(rootfs: Path) -> None:
    for name in ("passwd", "group"):
        (rootfs / "etc" / name).unlink()
        os.mkfifo(rootfs / "etc" / name)
    start = time.monotonic()
    for words in (("user1", "0"), ("0", "group1")):
        with pytest.raises(RktError, match=r"cannot be read: .*not a regular file"):
            resolve(rootfs, *words)
    assert resolve(rootfs, "0", "0") == (0, 0, "")
    assert time.monotonic() - start < 5


def test_cve_2026_47262_a_huge_passwd_is_refused(rootfs: Path) -> None:
    with open(rootfs / "etc/passwd", "w") as file:
        file.truncate(1 << 40)
    with pytest.raises(RktError, match="larger than 1048576"):
        resolve(rootfs, "user1")


def test_an_image_without_the_files(tmp_path: Path) -> None:
    assert resolve(tmp_path, "0", "0") == (0, 0, "")
    with pytest.raises(RktError, match="invalid user"):
        resolve(tmp_path, "root")


def test_a_missing_group_of_an_image_from_docker(rootfs: Path) -> None:
    assert resolve(rootfs, "user1", "user1", missing=True)[:2] == (1000, 1000)
    with pytest.raises(RktError, match="no proper number"):
        resolve(rootfs, "user1", "wrap", missing=True)


@pytest.mark.parametrize(("user", "home"), [("odd", ""), ("relative", "")])
def test_crio_cve_2026_15809_an_odd_home_is_not_used(rootfs: Path, user: str, home: str) -> None:
    assert resolve(rootfs, user)[2] == home
