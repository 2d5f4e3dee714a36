"""As whom apps run when image and command line are hostile, in each stage 1: S5, S15, R17."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Rkt
    from fixtures.images import MakeAci

pytestmark = [pytest.mark.usefixtures("root")]
IMAGE = "--insecure-options=image"
NUMBERS = "grep -E '^(Uid|Gid|Groups):' /proc/self/status"

# What is asked for with --user, and the number that it must then be; None when it must be refused.
USERS: dict[str, int | None] = {
    "0": 0,
    "1000": 1000,
    "user": 1000,
    "65535": 65535,
    "000": 0,
    "65536": None,
    "2147483648": None,
    "4294967294": None,
    "4294967295": None,
    "4294967296": None,
    "10" * 16: None,
    "-1": None,
    "+0": None,
    " 0": None,
    "0 ": None,
    "0\n": None,
    "0x0": None,
    "1_0": None,
    "\u0661": None,
    "\u0660": None,
    "root:x": None,
    "1e3": None,
    "nobody-here": None,
}


def _uid(output: str) -> int | None:
    for line in output.splitlines():
        if "Uid:" in line:
            numbers = line.split("Uid:")[1].split()
            assert len(set(numbers)) == 1
            return int(numbers[0])
    return None


def test_s15_cve_2024_40635_user_strings_are_that_number_or_refused(rkt: Rkt, make_aci: MakeAci) -> None:
    """In one pod all are refused together or none, so each is a run of its own; CVE-2026-46680 too."""
    image = make_aci(["/bin/sh", "-c", NUMBERS])
    for user, wanted in USERS.items():
        done = rkt(IMAGE, "run", "--net=none", image, f"--user={user}", code=None)
        assert _uid(done.stdout) == wanted, (user, done.stdout, done.stderr)
        assert (done.returncode == 0) == (wanted is not None), user
        assert "Traceback" not in done.stdout + done.stderr
        assert "[Errno" not in done.stdout + done.stderr, (user, done.stdout)


def test_s15_without_a_user_namespace_large_numbers_are_exact(rkt: Rkt, make_aci: MakeAci) -> None:
    image = make_aci(["/bin/sh", "-c", NUMBERS])
    for user in ("65536", "2147483648", "4294967294"):
        done = rkt(IMAGE, "run", "--net=none", "--private-users=false", image, f"--user={user}")
        assert _uid(done.stdout) == int(user)


HOSTILE = {
    "overflow, then a second line": ("alice:x:4294967296:0::/:/bin/sh\nalice:x:0:0::/:/bin/sh\n", "alice"),
    "negative": ("alice:x:-1:0::/:/bin/sh\n", "alice"),
    "2^32 - 1": ("alice:x:4294967295:0::/:/bin/sh\n", "alice"),
    "no number": ("alice:x::0::/:/bin/sh\nalice:x:0:0::/:/bin/sh\n", "alice"),
    "foreign digits": ("alice:x:\u0661:0::/:/bin/sh\n", "alice"),
    "cut short": ("alice:x\nalice:x:0:0::/:/bin/sh\n", "alice"),
}


@pytest.mark.parametrize("flavour", ["native", "fly"])
def test_s15_lines_of_passwd_that_are_broken_are_refused(rkt: Rkt, make_aci: MakeAci, flavour: str) -> None:
    """podman and docker ran the user of an overflowing line as root when a second line said so."""
    for name, (passwd, user) in HOSTILE.items():
        image = make_aci(["/bin/sh", "-c", NUMBERS], app={"user": user}, files={"etc/passwd": passwd})
        done = rkt(IMAGE, "run", f"--stage1-name={flavour}", "--net=none", image, code=None)
        assert done.returncode in {203, 254}, name
        assert _uid(done.stdout) is None
        assert 'invalid user "alice"' in done.stdout + done.stderr


def test_cve_2016_3697_a_number_is_never_looked_up(rkt: Rkt, make_aci: MakeAci) -> None:
    passwd = "1000:x:0:0::/:/bin/sh\n"
    image = make_aci(["/bin/sh", "-c", NUMBERS], app={"user": "1000"}, files={"etc/passwd": passwd})
    assert _uid(rkt(IMAGE, "run", "--net=none", image).stdout) == 1000


@pytest.mark.parametrize("name", ["passwd", "group"])
def test_s5_cve_2024_9676_a_fifo_or_a_huge_file_blocks_nobody(
    rkt: Rkt, make_aci: MakeAci, busybox_rootfs: Path, name: str
) -> None:
    """A FIFO as /etc/passwd held rkt, podman, docker and umoci for ever; CVE-2025-4437: a huge one."""
    file = busybox_rootfs / "etc" / name
    app = {"user" if name == "passwd" else "group": "user"}
    for kind in ("fifo", "huge"):
        file.unlink()
        if kind == "fifo":
            os.mkfifo(file)
        else:
            file.write_bytes(b"user:x:1:1::/:\n" * 200_000)
        image = make_aci(["/bin/true"], name=f"example.com/{name}-{kind}", app=app)
        start = time.monotonic()
        done = rkt(IMAGE, "run", "--net=none", image, code=None, timeout=10)
        assert done.returncode in {203, 254}
        assert "cannot be read" in done.stdout + done.stderr
        rkt("gc", "--grace-period=0s", timeout=10)
        assert time.monotonic() - start < 10


def test_cve_2026_15809_a_home_directory_with_a_newline_is_no_environment(
    rkt: Rkt, make_aci: MakeAci
) -> None:
    passwd = "root:x:0:0:root:/root\x0bLD_PRELOAD=/x:/bin/sh\n"
    image = make_aci(["/bin/sh", "-c", "cat -v /proc/self/environ"], files={"etc/passwd": passwd})
    assert "LD_PRELOAD" not in rkt(IMAGE, "run", "--net=none", image).stdout


def test_cve_2022_36109_supplementary_groups_are_the_ones_asked_for(rkt: Rkt, make_aci: MakeAci) -> None:
    """Never the caller's, never those of the image's /etc/group; out of the pod's range is said so."""
    image = make_aci(["/bin/sh", "-c", NUMBERS], files={"etc/group": "root:x:0:root\nadm:x:4:root,user\n"})
    assert "Groups:\t" in rkt(IMAGE, "run", "--net=none", image).stdout
    done = rkt(IMAGE, "run", "--net=none", image, "--supplementary-gids=1000,1001")
    assert "Groups:\t1000 1001" in done.stdout
    assert "\t4 " not in done.stdout
    done = rkt(IMAGE, "run", "--net=none", image, "--supplementary-gids=65536", code=254)
    assert "the pod has no user or group 65536" in done.stdout


def test_s34_seventy_thousand_groups_are_refused_at_once(rkt: Rkt, make_aci: MakeAci) -> None:
    """rkt hung for nine minutes and ignored SIGTERM."""
    image = make_aci(["/bin/true"], app={"supplementaryGIDs": list(range(70_000))})
    done = rkt(IMAGE, "run", "--net=none", image, code=254, timeout=10)
    assert "supplementaryGIDs" in done.stderr
