"""acbuild copy-binary: what it puts into the image runs there, and nothing else comes."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from fixtures.acbuild import Acbuild


def files(acbuild: Acbuild) -> set[str]:
    return {
        str(path.relative_to(acbuild.rootfs))
        for path in acbuild.rootfs.rglob("*")
        if path.is_symlink() or path.is_file()
    }


def compiled(acbuild: Acbuild, name: str, *flags: str) -> None:
    (acbuild.directory / "source.c").write_text(
        '#include <stdio.h>\nint main(void) { return puts("hello") < 0; }'
    )
    command = ["gcc", "-o", name, "source.c", *flags]
    subprocess.run(command, cwd=acbuild.directory, check=True, capture_output=True)


@pytest.mark.usefixtures("root")
@pytest.mark.parametrize("mode", ["appc", "oci"])
def test_a_dynamic_program_runs_in_an_image_that_has_nothing_else(acbuild: Acbuild, mode: str) -> None:
    compiled(acbuild, "hello")
    acbuild("begin", f"--build-mode={mode}")
    acbuild("copy-binary", "./hello", "/usr/bin/hello")
    assert acbuild("run", "--network=none", "--", "hello").stdout == "hello\n"
    found = files(acbuild)
    assert "usr/bin/hello" in found
    assert any("libc.so" in name for name in found)
    assert len(found) <= 8
    if mode == "appc":
        assert (
            acbuild.manifest()["annotations"][0]["value"] == 'acbuild copy-binary "./hello" "/usr/bin/hello"'
        )


def test_a_static_program_comes_alone(acbuild: Acbuild) -> None:
    compiled(acbuild, "solo", "-static")
    acbuild("begin")
    acbuild("copy-binary", "./solo", "/solo")
    assert files(acbuild) == {"solo"}


def test_links_are_kept_and_a_directory_in_place_of_a_link_gets_the_file(acbuild: Acbuild) -> None:
    acbuild("begin")
    acbuild("copy-binary", "ls")
    assert os.path.islink(acbuild.rootfs / "lib64") == os.path.islink("/lib64")
    acbuild("end")
    tree = acbuild.directory / "tree"
    (tree / "lib64").mkdir(parents=True)
    acbuild("begin", "./tree")
    acbuild("copy-binary", "ls")
    assert (acbuild.rootfs / "lib64").is_dir()
    assert not (acbuild.rootfs / "lib64").is_symlink()
    assert (acbuild.rootfs / "lib64/ld-linux-x86-64.so.2").exists() or os.uname().machine != "x86_64"


def test_a_program_for_another_machine_is_refused_with_a_hint(acbuild: Acbuild) -> None:
    acbuild("begin")
    acbuild("label", "add", "arch", "s390x")
    said = acbuild("copy-binary", "/bin/ls", code=1).stderr
    assert "is a program for" in said
    assert "the image is for s390x" in said
    assert files(acbuild) == set()


def test_another_root_is_where_files_come_from(acbuild: Acbuild) -> None:
    compiled(acbuild, "solo", "-static")
    place = acbuild.directory / "debian/usr/bin"
    place.mkdir(parents=True)
    os.rename(acbuild.directory / "solo", place / "tool.real")
    (place / "tool").symlink_to("/usr/bin/tool.real")
    acbuild("begin")
    acbuild("copy-binary", "--root=./debian", "tool")
    assert files(acbuild) == {"usr/bin/tool", "usr/bin/tool.real"}
    assert os.readlink(acbuild.rootfs / "usr/bin/tool") == "/usr/bin/tool.real"
    acbuild("copy-binary", "--root=./debian", "tool", "/tool")
    assert not (acbuild.rootfs / "tool").is_symlink()


def test_the_same_closure_twice_gives_the_same_image(acbuild: Acbuild) -> None:
    ids = []
    for _ in range(2):
        acbuild("begin")
        acbuild("set-name", "example.com/ls")
        acbuild("copy-binary", "--with-nss", "ls")
        ids.append(acbuild("write", "--overwrite", "ls.aci").stdout)
        acbuild("end")
    assert ids[0] == ids[1]


@pytest.mark.skipif(not os.path.isdir("/etc/ssl/certs"), reason="no ca-certificates here")
def test_certificates_come_with_their_links(acbuild: Acbuild) -> None:
    acbuild("begin")
    acbuild("copy-binary", "--with-certs", "ls")
    bundle = acbuild.rootfs / "etc/ssl/certs/ca-certificates.crt"
    assert bundle.read_bytes() == Path("/etc/ssl/certs/ca-certificates.crt").read_bytes()
    for path in (acbuild.rootfs / "etc/ssl/certs").iterdir():
        if path.is_symlink():
            target = os.readlink(path)
            inside = acbuild.rootfs / target.lstrip("/") if target.startswith("/") else path.parent / target
            assert inside.exists() or inside.is_symlink()
