"""acbuild in mode oci: what other people's tools make of the images, and the other way round."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from fixtures.acbuild import Acbuild


def needs(program: str) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"needs {program}")


def config(acbuild: Acbuild) -> dict[str, Any]:
    return json.loads(acbuild("cat-manifest", "--file=config").stdout)  # type: ignore[no-any-return]


def unpacked(acbuild: Acbuild, archive: str) -> Path:
    """The root filesystem of an image as umoci makes it."""
    needs("skopeo")
    needs("umoci")
    layout, bundle = acbuild.directory / f"{archive}.d", acbuild.directory / f"{archive}.bundle"
    copy = ["skopeo", "copy", "--quiet", f"oci-archive:{archive}", f"oci:{layout}:x"]
    subprocess.run(copy, cwd=acbuild.directory, check=True)
    subprocess.run(["umoci", "unpack", "--image", f"{layout}:x", bundle], check=True, capture_output=True)
    return bundle / "rootfs"


def listing(root: Path) -> dict[str, tuple[int, int, int, int, bytes]]:
    found = {}
    for path in sorted([root, *root.rglob("*")]):
        status = path.lstat()
        content = path.read_bytes() if stat.S_ISREG(status.st_mode) else b""
        if path.is_symlink():
            content = os.fsencode(os.readlink(path))
        key = (status.st_mode, status.st_uid, status.st_gid, int(status.st_mtime), content)
        found[str(path.relative_to(root))] = key
    return found


@pytest.fixture
def tree(acbuild: Acbuild) -> Path:
    path = acbuild.directory / "tree"
    (path / "etc/conf.d").mkdir(parents=True)
    (path / "tmp").mkdir()
    (path / "tmp").chmod(0o1777)
    for name in ("etc/one", "etc/two", "etc/conf.d/three"):
        (path / name).write_text(name)
    (path / "usr/lib").mkdir(parents=True)
    (path / "lib").symlink_to("usr/lib")
    os.link(path / "etc/one", path / "usr/lib/hard")
    return path


def test_layers_say_what_is_new_and_what_is_gone(acbuild: Acbuild, tree: Path, root: None) -> None:
    (acbuild.directory / "f").write_text("f")
    acbuild("begin", "--build-mode", "oci", "./tree")
    acbuild("set-tag", "1.0")
    acbuild("layer")
    acbuild("copy", "f", "/tmp/f")
    acbuild("copy", "f", "/lib/f")  # through the link of the layer below
    acbuild("copy", "f", "/etc/two")
    acbuild("remove", "/etc/conf.d")
    assert acbuild("write", "a.tar").stdout == (
        f"sha512-{hashlib.sha512((acbuild.directory / 'a.tar').read_bytes()).hexdigest()}\n"
    )
    rootfs = unpacked(acbuild, "a.tar")
    assert listing(rootfs) == listing(acbuild.rootfs)
    assert (rootfs / "tmp").stat().st_mode == stat.S_IFDIR | 0o1777
    assert (rootfs / "lib").is_symlink()
    assert not (rootfs / "etc/conf.d").exists()

    acbuild("layer")
    acbuild("write", "b.tar")
    assert (acbuild.directory / "b.tar").read_bytes() != (acbuild.directory / "a.tar").read_bytes()
    assert "nothing was changed" in acbuild("layer").stderr
    acbuild("squash")
    acbuild("write", "c.tar")
    assert len(config(acbuild)["rootfs"]["diff_ids"]) == 1
    assert listing(unpacked(acbuild, "c.tar")) == listing(rootfs)


def test_what_is_below_is_kept_as_it_is(acbuild: Acbuild, tree: Path, root: None) -> None:
    acbuild("begin", "--build-mode=oci", "./tree")
    acbuild("set-exec", "/bin/a", "b")
    acbuild("write", "base.tar")
    acbuild("end")
    acbuild("begin", "--build-mode=oci", "./base.tar")
    lower = config(acbuild)["rootfs"]["diff_ids"]
    acbuild("write", "same.tar")
    assert (acbuild.directory / "same.tar").read_bytes() == (acbuild.directory / "base.tar").read_bytes()
    acbuild("copy", "tree/etc/one", "/new")
    acbuild("write", "more.tar")
    acbuild("end")
    acbuild("begin", "--build-mode=oci", "./more.tar")
    found = config(acbuild)
    assert found["rootfs"]["diff_ids"][: len(lower)] == lower
    assert len(found["rootfs"]["diff_ids"]) == len(lower) + 1
    assert found["config"] == {"Entrypoint": ["/bin/a"], "Cmd": ["b"]}
    layers = [step for step in found["history"] if not step.get("empty_layer")]
    assert len(layers) == len(lower) + 1


def test_images_of_others_can_be_built_upon(acbuild: Acbuild, tree: Path, root: None) -> None:
    needs("skopeo")
    acbuild("begin", "--build-mode=oci", "./tree")
    acbuild("set-user", "7")
    acbuild("write", "a.tar")
    wanted = listing(acbuild.rootfs)
    acbuild("end")
    for target, start in (
        ("oci:other:x", "./other"),
        ("docker-archive:saved.tar:example.com/x:1", "./saved.tar"),
        ("oci-archive:other.tar:y", "./other.tar"),
    ):
        copy = ["skopeo", "copy", "--quiet", "oci-archive:a.tar", target]
        subprocess.run(copy, cwd=acbuild.directory, check=True)
        acbuild("begin", "--build-mode=oci", start)
        assert listing(acbuild.rootfs) == wanted
        assert config(acbuild)["config"]["User"] == "7"
        acbuild("end")


def test_edits_of_the_configuration(acbuild: Acbuild) -> None:
    acbuild("begin", "--build-mode=oci")
    for words in (
        ["set-exec", "--", "/bin/sh", "-c", "x"],
        ["set-group", "g"],
        ["set-user", "u"],
        ["set-wd", "/srv"],
        ["environment", "add", "A", "1"],
        ["environment", "add", "B", "2"],
        ["environment", "add", "A", "3"],
        ["environment", "rm", "B"],
        ["mount", "add", "data", "/old"],
        ["mount", "add", "data", "/data"],
        ["port", "add", "http", "tcp", "80"],
        ["port", "add", "http", "tcp", "8080"],
        ["port", "add", "dns", "udp", "53"],
        ["port", "rm", "53"],
        ["annotation", "add", "org.example", "yes"],
    ):
        acbuild("--no-history", *words)
    assert config(acbuild)["config"] == {
        "User": "u:g",
        "ExposedPorts": {"8080/tcp": {}},
        "Env": ["A=3"],
        "Entrypoint": ["/bin/sh"],
        "Cmd": ["-c", "x"],
        "Volumes": {"/data": {}},
        "WorkingDir": "/srv",
    }
    assert acbuild.manifest()["annotations"] == {
        "coreos.com/acbuild/mount/data": "path:/data",
        "coreos.com/acbuild/port/http": "number:8080 protocol:tcp",
        "org.example": "yes",
    }
    for words in (
        ["mount", "rm", "x"],
        ["port", "rm", "x"],
        ["environment", "rm", "x"],
        ["annotation", "rm", "x"],
    ):
        acbuild(*words, code=2)
    for words in (
        ["set-name", "x"],
        ["label", "add", "a", "b"],
        ["dependency", "add", "a"],
        ["set-supp-groups", "1"],
        ["whitelist", "add", "/a"],
    ):
        assert "not supported in builds of mode oci" in acbuild(*words, code=1).stderr
    blobs = os.listdir(acbuild.directory / ".acbuild/currentaci/blobs/sha256")
    assert len(blobs) == 2  # manifest and configuration: earlier ones are gone


def test_names_that_share_a_path_or_a_port(acbuild: Acbuild) -> None:
    """A path has one name, the last one; a port goes when none of its names is left."""
    acbuild("begin", "--build-mode=oci")
    for words in (
        ["mount", "add", "a", "/one"],
        ["mount", "add", "b", "/one"],
        ["mount", "add", "a", "/two"],
        ["port", "add", "a", "tcp", "80"],
        ["port", "add", "b", "tcp", "80"],
        ["port", "add", "a", "tcp", "81"],
    ):
        acbuild("--no-history", *words)
    found = config(acbuild)["config"]
    assert found["Volumes"] == {"/one": {}, "/two": {}}
    assert found["ExposedPorts"] == {"80/tcp": {}, "81/tcp": {}}
    acbuild("port", "add", "b", "tcp", "82")
    assert config(acbuild)["config"]["ExposedPorts"] == {"81/tcp": {}, "82/tcp": {}}


def test_an_archive_of_an_image_is_no_root_filesystem_and_that_is_said(acbuild: Acbuild) -> None:
    """In mode appc; acbuild 0.4 took it for one without a word."""
    acbuild("begin", "--build-mode=oci")
    acbuild("write", "image.tar")
    acbuild("end")
    assert "use --build-mode=oci" in acbuild("begin", "./image.tar").stderr
    acbuild("end")
    (acbuild.directory / "tree/etc").mkdir(parents=True)
    (acbuild.directory / "tree/manifest.json").touch()
    assert acbuild("begin", "./tree").stderr == ""


def test_a_configuration_is_merged_into_the_old_one(acbuild: Acbuild) -> None:
    acbuild("begin", "--build-mode=oci")
    for words in (
        ["set-user", "u"],
        ["set-wd", "/srv"],
        ["port", "add", "http", "tcp", "80"],
        ["port", "add", "dns", "udp", "53"],
        ["port", "rm", "53/udp"],
    ):
        acbuild(*words)
    (acbuild.directory / "c.json").write_text(
        '{"author": "me", "config": {"Cmd": ["x"], "WorkingDir": "", "ExposedPorts": {"81/tcp": {}}}}'
    )
    acbuild("replace-manifest", "c.json")
    assert config(acbuild)["author"] == "me"
    assert config(acbuild)["config"] == {
        "User": "u",
        "Cmd": ["x"],
        "ExposedPorts": {"80/tcp": {}, "81/tcp": {}},
    }
    acbuild("set-wd", "/srv")
    acbuild("set-wd", "")
    assert "WorkingDir" not in config(acbuild)["config"]


def test_one_command_on_an_oci_image(acbuild: Acbuild, tree: Path) -> None:
    acbuild("begin", "--build-mode=oci", "./tree")
    acbuild("write", "a.tar")
    acbuild("end")
    acbuild("--modify-oci=a.tar", "set-exec", "/bin/x")
    acbuild("--from=a.tar", "--to=b.tar", "environment", "add", "A", "b")
    found = json.loads(acbuild("--from=b.tar", "cat-manifest", "--file=config").stdout)
    assert found["config"] == {"Env": ["A=b"], "Entrypoint": ["/bin/x"]}


def test_what_is_changed_in_place_stays_what_it_is(acbuild: Acbuild) -> None:
    acbuild("--to=a.aci", "set-name", "example.com/a")
    acbuild("begin", "--build-mode=oci")
    acbuild("write", "o.tar")
    acbuild("end")
    for flag, name, said in (
        ("--modify-appc", "o.tar", "is no ACI"),
        ("--modify-oci", "a.aci", "is no OCI image"),
    ):
        before = (acbuild.directory / name).read_bytes()
        assert said in acbuild(flag, name, "set-user", "u", code=1).stderr
        assert (acbuild.directory / name).read_bytes() == before


def test_podman_runs_it(acbuild: Acbuild, busybox_rootfs: Path, root: None) -> None:
    needs("podman")
    acbuild("begin", "--build-mode=oci", busybox_rootfs)
    acbuild("set-exec", "--", "/bin/echo", "hello")
    acbuild("write", "a.tar")
    run_root = Path(tempfile.mkdtemp(prefix="p", dir="/tmp"))  # its path may have 50 characters
    storage = ["--root", str(acbuild.directory / "storage"), "--runroot", str(run_root)]
    podman = ["podman", *storage, "--storage-driver=vfs", "--cgroup-manager=cgroupfs", "--runtime=runc"]
    try:
        loaded = subprocess.run(
            [*podman, "pull", "--quiet", f"oci-archive:{acbuild.directory / 'a.tar'}"],
            check=False,
            capture_output=True,
            text=True,
        )
        assert loaded.returncode == 0, loaded.stderr
        limits = ["--ulimit=nofile=1024:1024", "--ulimit=nproc=1024:1024"]
        run = [*podman, "run", "--rm", "--network=none", *limits, loaded.stdout.strip(), "world"]
        done = subprocess.run(run, capture_output=True, text=True, check=False)
        if "world" not in done.stdout and "cgroup" in done.stderr:
            pytest.skip(f"podman cannot run here: {done.stderr.strip()[:200]}")
        assert done.stdout == "world\n", done  # in place of the arguments of set-exec
    finally:
        subprocess.run([*podman, "system", "reset", "--force"], check=False, capture_output=True)
        shutil.rmtree(run_root, ignore_errors=True)


@pytest.mark.parametrize(("mode", "besides"), [("appc", {"ctypes"}), ("oci", set())])
def test_an_edit_loads_no_heavy_module(acbuild: Acbuild, mode: str, besides: set[str]) -> None:
    acbuild("begin", "--build-mode", mode)
    argv = ["/usr/bin/python3", "-ISs", "-X", "importtime", *acbuild.argv("environment", "add", "A", "b")]
    told = subprocess.run(argv, cwd=acbuild.directory, capture_output=True, text=True, check=True).stderr
    loaded = {line.rpartition("|")[2].strip() for line in told.splitlines()}
    assert "acbuild.context" in loaded, "the trace is of the command itself"
    heavy = {"argparse", "collections", "contextlib", "enum", "json", "re", "signal", "typing"}
    assert not loaded & (heavy | besides)
