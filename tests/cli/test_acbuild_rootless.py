"""acbuild for a user who is not root: in a user namespace, with subordinate IDs and without."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fixtures import registries

if TYPE_CHECKING:
    from collections.abc import Callable

    from fixtures.acbuild import Acbuild
    from fixtures.httpsserver import Authority
    from fixtures.registries import Docker

pytestmark = [
    pytest.mark.usefixtures("root"),
    pytest.mark.skipif(not shutil.which("newuidmap"), reason="no newuidmap here (package uidmap)"),
]

USER = "daemon"
SUBORDINATE = f"{USER}:200000:65536\n"
CHECKOUT = Path(__file__).parent.parent.parent


def user(acbuild: Acbuild, subordinate: str) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs acbuild as USER, whose subordinate IDs are those, on a build directory of the user's own."""
    directory = acbuild.directory
    for parent in (directory, *directory.parents):
        if not parent.stat().st_mode & stat.S_IXOTH:
            parent.chmod(parent.stat().st_mode | 0o011)
    ids = directory.parent / "subordinate"
    ids.write_text(subordinate)
    ids.chmod(0o644)
    tree = directory / "tree"
    (tree / "bin").mkdir(parents=True)
    shutil.copy("/bin/busybox", tree / "bin/busybox")
    for name in ("sh", "id", "chown", "cat", "rm", "mkdir", "touch", "chmod"):
        (tree / "bin" / name).symlink_to("busybox")
    shutil.chown(directory, USER)
    shutil.chown(tree, USER)
    # The checkout may lie where only root gets, and so may this test's directory.
    reachable = Path("/mnt")
    become = f'''mount --bind "{ids}" /etc/subuid && mount --bind "{ids}" /etc/subgid &&
        mount --bind "{CHECKOUT}" "{reachable}" && exec "$@"'''
    prefix = ["unshare", "-m", "sh", "-c", become, "sh", "setpriv", f"--reuid={USER}", f"--regid={USER}"]
    environment = {"PATH": os.environ["PATH"], "HOME": str(directory), "TMPDIR": str(directory)}

    def call(*words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [*prefix, "--clear-groups", reachable / "bin/acbuild", *acbuild.argv(*words)[1:]],
            cwd=directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done

    return call


def test_a_user_with_subordinate_ids_builds_an_image_with_any_owners(acbuild: Acbuild) -> None:
    call = user(acbuild, SUBORDINATE)
    call("begin", "./tree")
    call("set-name", "example.com/user")
    assert call("run", "--", "id").stdout == "uid=0 gid=0\n"
    call("run", "--network=none", "--", "sh", "-c", "touch /f; chown 33:44 /f; chmod 600 /f; exit 6", code=6)
    status = (acbuild.rootfs / "f").stat()
    assert (status.st_uid, status.st_gid) == (200_032, 200_043)
    call("copy", "/etc/passwd", "/etc/passwd")
    call("write", "out.aci")
    with tarfile.open(acbuild.directory / "out.aci") as archive:
        owners = {member.name: (member.uid, member.gid) for member in archive}
    assert owners["rootfs/f"] == (33, 44)
    assert owners["rootfs/etc/passwd"] == owners["rootfs/bin/busybox"] == (0, 0)
    call("end")
    assert not (acbuild.directory / ".acbuild").exists()


def test_a_begun_image_keeps_its_owners(acbuild: Acbuild) -> None:
    call = user(acbuild, SUBORDINATE)
    call("begin", "./tree")
    call("set-name", "example.com/user")
    call("run", "--", "sh", "-c", "touch /f; chown 33:44 /f")
    first = call("write", "--overwrite", "out.aci").stdout
    call("end")
    call("begin", "./out.aci")
    assert call("write", "again.aci").stdout == first
    call("end")


def test_context_free_runs_and_scripts_too(acbuild: Acbuild) -> None:
    call = user(acbuild, SUBORDINATE)
    (acbuild.directory / "script").write_text(
        "begin ./tree\nset-name example.com/user\nrun -- sh -c 'touch /f; chown 33:44 /f'\nwrite base.aci\n"
    )
    call("script", "script")
    call("--from=base.aci", "--to=next.aci", "run", "--", "rm", "/f")
    with tarfile.open(acbuild.directory / "next.aci") as archive:
        assert "rootfs/f" not in archive.getnames()
    left = {path.name for path in acbuild.directory.iterdir()}
    assert left == {"tree", "script", "base.aci", "next.aci"}


def test_a_user_without_subordinate_ids_has_one_and_is_told(acbuild: Acbuild) -> None:
    call = user(acbuild, "")
    call("begin", "./tree")
    call("set-name", "example.com/user")
    done = call("run", "--", "sh", "-c", "id; mkdir /made")
    assert done.stdout == "uid=0 gid=0\n"
    assert "no subordinate IDs" in done.stderr
    assert call("run", "--", "chown", "33", "/made", code=1).returncode == 1
    call("write", "out.aci")
    with tarfile.open(acbuild.directory / "out.aci") as archive:
        assert {(member.uid, member.gid) for member in archive} == {(0, 0)}
    call("end")


def test_systemd_nspawn_is_for_root(acbuild: Acbuild) -> None:
    call = user(acbuild, SUBORDINATE)
    call("begin", "./tree")
    if shutil.which("systemd-nspawn"):
        said = call("run", "--engine=systemd-nspawn", "--", "id", code=1).stderr
        assert "works for root only" in said
        assert "--engine=native" in said
    call("end")


def test_an_ordinary_user_pushes_with_a_login_of_their_own(
    acbuild: Acbuild, docker_registry: Docker, authority: Authority
) -> None:
    """What root has in auth.d and certs.d for itself alone is not there; what all may read is."""
    call = user(acbuild, SUBORDINATE)
    etc = acbuild.directory / "etc"
    certificates = etc / "certs.d" / docker_registry.host
    certificates.mkdir(parents=True)
    (etc / "auth.d").mkdir()
    secret = etc / "auth.d/roots.json"
    secret.write_text("{ only root reads this")
    key = certificates / "client.key"
    key.write_text("nor this")
    for path in (secret, key):
        path.chmod(0o600)
    (certificates / "client.cert").write_bytes(authority.certificate.read_bytes())
    (certificates / "ca.crt").write_bytes(authority.bundle.read_bytes())
    flags = [f"--local-config={etc}", "--system-config=/nonexistent"]
    name = f"docker://{docker_registry.host}/a"
    call("begin", "./tree")
    call("set-name", "example.com/user")
    call("run", "--", "sh", "-c", "echo > /f; chown 33:44 /f")
    assert "wants credentials" in call(*flags, "push", name, code=1).stderr
    login = registries.write_login(acbuild.directory / ".docker", docker_registry.host)
    shutil.chown(login / "config.json", USER)
    digest = call(*flags, "push", name).stdout
    call("write", "out.aci")
    assert call(*flags, "--from=out.aci", "push", name).stdout == digest
    call("end")
    call(*flags, "begin", f"{name}@{digest.strip()}")
    status = (acbuild.rootfs / "f").stat()
    assert (status.st_uid, status.st_gid) == (200_032, 200_043)
    call("end")
