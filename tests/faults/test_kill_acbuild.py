"""SIGKILL in the middle of any command of acbuild: `end` or `begin` goes on from there, nothing is left."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest

from fixtures.striking import positions, traced

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Rkt
    from fixtures.acbuild import Acbuild
    from fixtures.registries import Docker

SAMPLES = 6
pytestmark = [
    pytest.mark.usefixtures("root"),
    pytest.mark.parametrize(
        "samples", [SAMPLES, pytest.param(10_000, marks=pytest.mark.campaign)], ids=["sample", "every-call"]
    ),
]


@pytest.fixture
def tree(acbuild: Acbuild, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Something to copy; the commands run in the directory of the build."""
    monkeypatch.chdir(acbuild.directory)
    for name, value in acbuild.environment.items():
        monkeypatch.setenv(name, value)
    path = acbuild.directory / "tree"
    for name in ("a", "b", "c/d"):
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text(name * 1000)
    return path


def mounts(directory: Path) -> list[str]:
    with open("/proc/self/mountinfo", encoding="utf-8") as file:
        return [line for line in file if str(directory) in line]


def count_of(acbuild: Acbuild, *words: str) -> int:
    return int(str(traced(acbuild.argv(*words))["count"]))


@pytest.mark.parametrize("first", ["end", "begin"])
def test_a_killed_begin_or_end(acbuild: Acbuild, tree: Path, samples: int, first: str) -> None:
    acbuild("--to", "base.aci", "copy", "tree", "/tree")
    begin, end = count_of(acbuild, "begin", "./base.aci"), count_of(acbuild, "end")
    for words, count in ((["begin", "./base.aci"], begin), (["end"], end)):
        for place in positions(count, samples):
            if words == ["end"]:
                acbuild("begin", "./base.aci")
            traced(acbuild.argv(*words), f"--at={place}", "--action=kill-tree")
            if first == "begin":
                done = acbuild("begin", code=None)
                assert done.returncode == 0 or "in progress" in done.stderr
            acbuild("end", code=None if first == "end" else 0)
            assert not (acbuild.directory / ".acbuild").exists()
            assert mounts(acbuild.directory) == []


@pytest.mark.parametrize(
    "words",
    [
        ("copy", "tree", "/there/and/deep"),
        ("remove", "/tree/c"),
        ("set-name", "example.com/other"),
        ("replace-manifest", "m.json"),
        ("copy-binary", "--with-nss", "/bin/true", "/usr/bin/true"),
    ],
    ids=lambda words: words[0],
)
def test_a_killed_change_can_be_made_again(
    acbuild: Acbuild, tree: Path, samples: int, words: tuple[str, ...]
) -> None:
    (acbuild.directory / "m.json").write_text('{"labels": []}')
    acbuild("--to", "base.aci", "copy", "tree", "/tree")
    acbuild("--from=base.aci", "--to=base.aci", "set-name", "example.com/base")
    acbuild("--no-history", "begin", "./base.aci")
    count = count_of(acbuild, "--no-history", *words)
    acbuild("write", "wanted.aci")
    acbuild("end")
    for place in positions(count, samples):
        acbuild("begin", "./base.aci")
        traced(acbuild.argv("--no-history", *words), f"--at={place}", "--action=kill-tree")
        again = acbuild("--no-history", *words, code=None)
        assert again.returncode == 0 or (words[0] == "remove" and again.returncode == 2), again
        acbuild("write", "--overwrite", "found.aci")
        acbuild("end")
        assert (acbuild.directory / "found.aci").read_bytes() == (
            acbuild.directory / "wanted.aci"
        ).read_bytes()


@pytest.mark.parametrize(
    "engine",
    [
        "native",
        "chroot",
        pytest.param(
            "systemd-nspawn",
            marks=pytest.mark.skipif(not shutil.which("systemd-nspawn"), reason="no systemd-nspawn here"),
        ),
    ],
)
@pytest.mark.parametrize("based", [False, True], ids=["alone", "on-another"])
def test_a_killed_run_can_be_made_again_or_given_up(
    acbuild: Acbuild, rkt: Rkt, busybox_rootfs: Path, tree: Path, samples: int, engine: str, based: bool
) -> None:
    """The command writes, replaces and removes; what it did before the kill is no obstacle."""
    acbuild("--to=base.aci", "copy", busybox_rootfs, "/")
    acbuild("--from=base.aci", "--to=base.aci", "set-name", "example.com/base")
    if based:
        rkt("--insecure-options=image", "fetch", acbuild.directory / "base.aci")
        acbuild("--to=top.aci", "dependency", "add", "example.com/base")
        acbuild("--from=top.aci", "--to=top.aci", "set-name", "example.com/top")
    script = "echo new > /new; mkdir -p /d/e; echo f > /d/f; rm -f /etc/passwd; echo g > /etc/group"
    store = f"--store={rkt.directory / 'data'}"
    words = (
        "--no-history",
        store,
        "run",
        f"--engine={engine}",
        "--network=none",
        "--",
        "/bin/sh",
        "-c",
        script,
    )
    start = "./top.aci" if based else "./base.aci"
    acbuild("begin", start)
    count = count_of(acbuild, *words)
    acbuild("write", "wanted.aci")
    acbuild("end")
    assert count > 30
    for number, place in enumerate(positions(count, max(3, samples // 2))):
        acbuild("begin", start)
        traced(acbuild.argv(*words), f"--at={place}", "--action=kill-tree")
        assert mounts(acbuild.directory) == []
        if number % 3 != 2:
            acbuild(*words)
            acbuild("write", "--overwrite", "found.aci")
            assert (acbuild.directory / "found.aci").read_bytes() == (
                acbuild.directory / "wanted.aci"
            ).read_bytes(), place
        acbuild("end")
        assert mounts(acbuild.directory) == []


def test_a_killed_write_keeps_the_old_file(acbuild: Acbuild, tree: Path, samples: int) -> None:
    acbuild("begin", "./tree")
    acbuild("set-name", "example.com/a")
    acbuild("write", "a.aci")
    old = (acbuild.directory / "a.aci").read_bytes()
    acbuild("label", "add", "version", "2")
    acbuild("write", "new.aci")
    new = (acbuild.directory / "new.aci").read_bytes()
    count = count_of(acbuild, "write", "--overwrite", "new.aci")
    for place in positions(count, samples):
        (acbuild.directory / "a.aci").write_bytes(old)
        traced(acbuild.argv("write", "--overwrite", "a.aci"), f"--at={place}", "--action=kill-tree")
        assert (acbuild.directory / "a.aci").read_bytes() in (old, new)
        acbuild("write", "--overwrite", "a.aci")
        assert (acbuild.directory / "a.aci").read_bytes() == new
    acbuild("end")


def test_a_killed_layer_or_squash(acbuild: Acbuild, tree: Path, samples: int) -> None:
    acbuild("begin", "--build-mode=oci", "./tree")
    acbuild("layer")
    acbuild("copy", "tree", "/again")
    acbuild("write", "base.tar")
    for verb in ("layer", "squash"):
        count = 0
        for place in (0, *positions(1000, samples)):
            acbuild("end")
            acbuild("begin", "--build-mode=oci", "./base.tar")
            acbuild("--no-history", "copy", "tree", "/more")
            if not place:
                count = count_of(acbuild, "--no-history", verb)
                acbuild("write", "--overwrite", f"{verb}.tar")
                continue
            place = 1 + place * count // 1001
            traced(acbuild.argv("--no-history", verb), f"--at={place}", "--action=kill-tree")
            acbuild("--no-history", verb)
            acbuild("write", "--overwrite", "found.tar")
            wanted = (acbuild.directory / f"{verb}.tar").read_bytes()
            assert (acbuild.directory / "found.tar").read_bytes() == wanted, place
    acbuild("end")


def test_a_killed_script_leaves_nothing_for_long(acbuild: Acbuild, tree: Path, samples: int) -> None:
    (acbuild.directory / "s.acb").write_text("begin ./tree\nset-name a\nremove /a\nwrite --overwrite s.aci\n")
    count = count_of(acbuild, "script", "s.acb")
    wanted = (acbuild.directory / "s.aci").read_bytes()
    for place in positions(count, samples):
        traced(acbuild.argv("script", "s.acb"), f"--at={place}", "--action=kill-tree")
        assert (acbuild.directory / "s.aci").read_bytes() == wanted
        acbuild("script", "s.acb")
        left = [name for name in os.listdir(acbuild.directory) if name not in ("s.acb", "s.aci", "tree")]
        assert left == []
        assert mounts(acbuild.directory) == []


def test_a_killed_push_leaves_the_build_as_it_was(
    acbuild: Acbuild, tree: Path, samples: int, open_registry: Docker
) -> None:
    """And a registry that takes the same push again."""
    acbuild("begin", "--build-mode=oci")
    acbuild("copy", "tree", "/tree")
    written = acbuild("write", "out.tar").stdout
    words = ("push", "--insecure", f"docker://{open_registry.host}/app")
    digest = acbuild(*words).stdout
    for place in positions(count_of(acbuild, *words), samples):
        other = (*words[:2], f"docker://{open_registry.host}/app-{place}")
        traced(acbuild.argv(*other), f"--at={place}", "--action=kill-tree")
        assert acbuild("write", "--overwrite", "out.tar").stdout == written
        assert acbuild(*other).stdout == digest
    acbuild("end")
    assert mounts(acbuild.directory) == []
