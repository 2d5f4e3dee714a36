"""acbuild run: exit codes, what stays in the image, dependencies below it, deletions that rkt renders."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tarfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from linux.mount import info

if TYPE_CHECKING:
    from conftest import Rkt
    from fixtures.acbuild import Acbuild
    from fixtures.images import MakeAci

pytestmark = pytest.mark.usefixtures("root")

APPLETS = ("sh", "cat", "ls", "rm", "mkdir", "touch", "sleep", "test")
MODES = pytest.mark.parametrize("mode", ["appc", "oci"])


def begun(acbuild: Acbuild, mode: str = "appc") -> Acbuild:
    """A build that has busybox itself."""
    tree = acbuild.directory / "tree"
    (tree / "bin").mkdir(parents=True)
    shutil.copy("/bin/busybox", tree / "bin/busybox")
    for name in APPLETS:
        (tree / "bin" / name).symlink_to("busybox")
    acbuild("begin", f"--build-mode={mode}", "./tree")
    if mode == "appc":
        acbuild("set-name", "example.com/built")
    return acbuild


def below(
    acbuild: Acbuild, rkt: Rkt, make_aci: MakeAci, name: str = "example.com/base", **files: str
) -> list[str]:
    """An image in rkt's store, that the build depends on; the flags that name the store."""
    image = make_aci(["/bin/sh"], name=name, files={f"/{path}": text for path, text in files.items()})
    rkt("--insecure-options=image", "fetch", image)
    return [f"--store={rkt.directory / 'data'}"]


def names(path: Path) -> set[str]:
    with tarfile.open(path) as archive:
        return {entry.name for entry in archive}


@MODES
def test_the_exit_code_passes_through_and_what_was_done_stays(acbuild: Acbuild, mode: str) -> None:
    begun(acbuild, mode)
    done = acbuild("run", "--", "sh", "-c", "echo kept > /kept; exit 37", code=37)
    assert done.stderr == "run: sh: exit code 37\n"
    assert (acbuild.rootfs / "kept").read_text() == "kept\n"
    acbuild("run", "--", "sh", "-c", "kill -KILL $$", code=128 + signal.SIGKILL)
    acbuild("run", "--", "no-such-program", code=127)
    assert "command-2" not in str(acbuild.manifest()) or mode == "oci"


@MODES
def test_a_run_is_part_of_the_history_and_takes_the_image_s_environment(acbuild: Acbuild, mode: str) -> None:
    begun(acbuild, mode)
    acbuild("environment", "add", "COLOUR", "a,b 'c'")
    acbuild("set-working-directory", "/srv")
    acbuild("run", "--working-dir=/", "--", "mkdir", "/srv")
    acbuild("run", "--", "sh", "-c", 'echo "$COLOUR" > file')
    assert (acbuild.rootfs / "srv/file").read_text() == "a,b 'c'\n"
    if mode == "appc":
        history = [one["value"] for one in acbuild.manifest()["annotations"]]
        assert history[-2:] == [
            'acbuild run "mkdir" "/srv"',
            'acbuild run "sh" "-c" "echo \\"$COLOUR\\" > file"',
        ]


@MODES
def test_nothing_of_the_run_is_in_the_image(acbuild: Acbuild, mode: str) -> None:
    begun(acbuild, mode)
    before = {str(path.relative_to(acbuild.rootfs)) for path in acbuild.rootfs.rglob("*")}
    acbuild("run", "--", "sh", "-c", "test -e /proc/self && test -c /dev/null && test -s /etc/resolv.conf")
    assert {str(path.relative_to(acbuild.rootfs)) for path in acbuild.rootfs.rglob("*")} == before
    assert {path.name for path in (acbuild.directory / ".acbuild").iterdir()} <= {
        "buildMode",
        "currentaci",
        "ociblobs",
    }


def test_the_same_commands_on_another_day_give_the_same_image(acbuild: Acbuild) -> None:
    tree = begun(acbuild).directory / "tree"
    ids = []
    for _ in range(2):
        acbuild("run", "--", "sh", "-c", "mkdir /d; echo x > /d/f; rm /d/f; echo y > /d/g; ls / > /dev/null")
        ids.append(acbuild("write", "--overwrite", "out.aci").stdout)
        acbuild("end")
        time.sleep(1.1)  # the times in an archive are whole seconds
        acbuild("begin", tree)
        acbuild("set-name", "example.com/built")
    assert ids[0] == ids[1]


def test_dependencies_lie_below_the_last_one_on_top(acbuild: Acbuild, rkt: Rkt, make_aci: MakeAci) -> None:
    """Defect C2 of the reference: it laid the first dependency on top."""
    for name in ("b", "c"):
        store = below(acbuild, rkt, make_aci, f"example.com/{name}", file=f"of {name}\n")
    acbuild("begin")
    acbuild("set-name", "example.com/top")
    acbuild("dependency", "add", "example.com/b")
    acbuild("dependency", "add", "example.com/c")
    acbuild(*store, "run", "--", "sh", "-c", "cat /file > /seen")
    assert (acbuild.rootfs / "seen").read_text() == "of c\n"
    assert [path.name for path in acbuild.rootfs.iterdir()] == ["seen"]


def test_deletions_of_a_dependency_are_a_whitelist_that_rkt_renders(
    acbuild: Acbuild, rkt: Rkt, make_aci: MakeAci
) -> None:
    """Defect C3 of the reference: the deletion stayed a device, and the image could not be written."""
    store = below(acbuild, rkt, make_aci, **{"data/one": "1\n", "data/two": "2\n", "deep/a/b": "b\n"})
    acbuild("begin")
    acbuild("set-name", "example.com/less")
    acbuild("dependency", "add", "example.com/base")
    acbuild(
        "set-exec", "--", "/bin/sh", "-c", "cd /; for f in data/* deep/* deep/*/* new/*; do echo $f; done"
    )
    acbuild(
        *store, "run", "--", "sh", "-c", "rm /data/one; rm -r /deep; mkdir -p /deep/a; echo c > /deep/a/c"
    )
    acbuild(
        *store, "run", "--", "sh", "-c", "! test -e /data/one && ! test -e /deep/a/b && test -e /data/two"
    )
    (acbuild.directory / "copied").write_text("copied after the deletion\n")
    acbuild("copy", "copied", "/new/copied")
    acbuild("write", "less.aci")
    written = names(acbuild.directory / "less.aci")
    assert "rootfs/data/one" not in written
    assert "rootfs/deep/a/c" in written
    fetch = ("--insecure-options=image", "fetch", "--pull-policy=new", "--full")
    image_id = rkt(*fetch, acbuild.directory / "less.aci").stdout.strip()
    listed = json.loads(rkt("image", "cat-manifest", image_id).stdout)["pathWhitelist"]
    assert "/data/two" in listed
    assert "/data/one" not in listed
    done = rkt("--insecure-options=image", "run", "--net=none", "example.com/less")
    lines = [line.rpartition(": ")[2] for line in done.stdout.splitlines()]
    assert lines == ["data/two", "deep/a", "deep/a/c", "new/copied"]


def test_squash_keeps_deletions(acbuild: Acbuild, rkt: Rkt, make_aci: MakeAci) -> None:
    store = below(acbuild, rkt, make_aci, **{"data/one": "1\n", "data/two": "2\n"})
    acbuild("begin")
    acbuild("dependency", "add", "example.com/base")
    acbuild(*store, "run", "--", "rm", "/data/one")
    acbuild(*store, "squash")
    assert [path.name for path in (acbuild.rootfs / "data").iterdir()] == ["two"]
    assert "pathWhitelist" not in acbuild.manifest()
    assert not (acbuild.directory / ".acbuild/depstore-expanded").exists()


def test_a_whitelist_of_the_user_s_own_loses_what_is_deleted(
    acbuild: Acbuild, rkt: Rkt, make_aci: MakeAci
) -> None:
    store = below(acbuild, rkt, make_aci, **{"data/one": "1\n", "data/two": "2\n"})
    acbuild("begin")
    acbuild("set-name", "example.com/less")
    acbuild("dependency", "add", "example.com/base")
    acbuild("whitelist", "add", "/data/one", "/data/two")
    acbuild(*store, "run", "--", "rm", "/data/one")
    acbuild("write", "less.aci")
    acbuild("end")
    acbuild("begin", "./less.aci")
    assert acbuild.manifest()["pathWhitelist"] == ["/data/two"]


def test_a_deletion_in_a_layer_is_a_whiteout(acbuild: Acbuild) -> None:
    begun(acbuild, "oci")
    acbuild("run", "--", "sh", "-c", "echo 1 > /one; echo 2 > /two")
    acbuild("layer")
    acbuild("run", "--", "rm", "/one")
    acbuild("write", "out.oci")
    found = set()
    with tarfile.open(acbuild.directory / "out.oci") as outer:
        for blob in outer:
            if "blobs" in blob.name and blob.isfile():
                try:
                    with tarfile.open(fileobj=outer.extractfile(blob)) as layer:
                        found |= {entry.name for entry in layer}
                except tarfile.ReadError:
                    continue
    assert ".wh.one" in found
    assert "two" in found


def test_kill_9_in_a_run_leaves_no_mount_and_a_build_that_can_go_on_or_end(acbuild: Acbuild) -> None:
    begun(acbuild)
    before = [(entry.target, entry.fstype) for entry in info.mounts()]
    words = ("run", "--", "sh", "-c", "test -e /again || { echo x > /again; sleep 1000; }")
    with subprocess.Popen(acbuild.argv(*words), cwd=acbuild.directory, env=acbuild.environment) as running:
        while not (acbuild.rootfs / "again").exists():
            assert running.poll() is None
            time.sleep(0.01)
        running.kill()
    assert [(entry.target, entry.fstype) for entry in info.mounts()] == before
    assert "cut short" in acbuild("write", "x.aci", code=1).stderr
    acbuild(*words)
    acbuild("write", "x.aci")
    assert not any("proc" in name or "etc" in name for name in names(acbuild.directory / "x.aci"))
    acbuild("end")
    assert not (acbuild.directory / ".acbuild").exists()


def test_end_after_kill_9_in_a_run(acbuild: Acbuild) -> None:
    begun(acbuild)
    words = ("run", "--", "sh", "-c", "echo x > /again; sleep 1000")
    with subprocess.Popen(acbuild.argv(*words), cwd=acbuild.directory, env=acbuild.environment) as running:
        while not (acbuild.rootfs / "again").exists():
            assert running.poll() is None
            time.sleep(0.01)
        running.kill()
    acbuild("end")
    assert not (acbuild.directory / ".acbuild").exists()


def test_context_free_a_failed_run_writes_nothing(acbuild: Acbuild) -> None:
    begun(acbuild)
    acbuild("write", "base.aci")
    acbuild("end")
    acbuild("--from=base.aci", "--to=next.aci", "run", "--", "sh", "-c", "echo x > /made")
    assert "rootfs/made" in names(acbuild.directory / "next.aci")
    acbuild("--from=base.aci", "--to=bad.aci", "run", "--", "sh", "-c", "exit 5", code=5)
    assert not (acbuild.directory / "bad.aci").exists()


def test_an_unknown_engine_is_an_error_of_the_command(acbuild: Acbuild) -> None:
    acbuild("begin")
    assert "none of native" in acbuild("run", "--engine=docker", "--", "true", code=1).stderr
    acbuild("run", code=1)


def test_a_script_runs_commands(acbuild: Acbuild) -> None:
    begun(acbuild)
    acbuild("end")
    (acbuild.directory / "script").write_text(
        "begin ./tree\nset-name example.com/scripted\nrun --network=none sh -c 'echo \"a, b\" > /made'\n"
        "write out.aci\n"
    )
    acbuild("script", "script")
    with tarfile.open(acbuild.directory / "out.aci") as archive:
        member = archive.extractfile("rootfs/made")
        assert member is not None
        assert member.read() == b"a, b\n"
    os.unlink(acbuild.directory / "out.aci")
