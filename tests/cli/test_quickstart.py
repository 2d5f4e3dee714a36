"""The quickstart: the tour reaches its end and leaves nothing; it says what is wrong."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from linux.mount import info

needs_everything = pytest.mark.needs("namespaces", "overlay", "nftables", "network-links", "gpgv")


def tour(checkout: Path, tmp_path: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [checkout / "quickstart.d/private-root", "--net", checkout / "quickstart.d/tour"],
        env={
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "TMPDIR": str(tmp_path),
            "HOME": "/root",
            **environment,
        },
        cwd="/",
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@needs_everything
@pytest.mark.usefixtures("root", "busybox")
def test_the_tour_reaches_its_end_and_leaves_nothing(checkout: Path, tmp_path: Path) -> None:
    before = str(info.mounts())

    done = tour(checkout, tmp_path)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "== The end" in done.stdout
    assert done.stdout.count("Hello from a pod.") == 2  # at the pod's address, and at the forwarded port
    assert "app-web=0" in done.stdout
    assert "\x1b" not in done.stdout
    for reason in ("invalid signature", "error opening signature file", "signature made by unknown entity"):
        assert reason in done.stdout
    assert not list(tmp_path.iterdir())
    assert str(info.mounts()) == before


@needs_everything
@pytest.mark.usefixtures("root", "busybox")
def test_a_tour_that_fails_says_so_and_cleans_up(checkout: Path, tmp_path: Path) -> None:
    directory = tmp_path / "bin"
    directory.mkdir()
    broken = tmp_path / "checkout"
    broken.mkdir()
    for name in ("quickstart.d", "src"):
        (broken / name).symlink_to(checkout / name)
    (broken / "bin").mkdir()
    (broken / "bin/actool").symlink_to(checkout / "bin/actool")
    (broken / "bin/rkt").write_text("#!/bin/sh\nexit 3\n")
    (broken / "bin/rkt").chmod(0o755)
    (broken / "quickstart.d").unlink()
    (broken / "quickstart.d").mkdir()
    for name in ("private-root", "publish", "tour"):
        (broken / "quickstart.d" / name).write_bytes((checkout / "quickstart.d" / name).read_bytes())
        (broken / "quickstart.d" / name).chmod(0o755)
    work = tmp_path / "work"
    work.mkdir()

    done = tour(broken, work)

    assert done.returncode == 3, done.stdout + done.stderr
    assert "The tour did not get to its end" in done.stderr
    assert not list(work.iterdir())


def test_an_unknown_argument_is_refused(checkout: Path) -> None:
    done = subprocess.run([checkout / "quickstart", "--bogus"], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr) == (1, "quickstart: unknown argument: --bogus (see --help)\n")


def test_help_needs_no_root_and_installs_nothing(checkout: Path) -> None:
    done = subprocess.run(
        [checkout / "quickstart", "--help"],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": os.defpath},
    )

    assert done.returncode == 0
    assert done.stdout.startswith("usage: ./quickstart")


def test_the_private_root_needs_a_command(checkout: Path) -> None:
    done = subprocess.run(
        [checkout / "quickstart.d/private-root", "--net"], capture_output=True, text=True, check=False
    )

    assert (done.returncode, done.stderr) == (1, "usage: private-root [--net] COMMAND [ARGUMENT...]\n")
