"""Images of other people's tools are read, and ours by them: skopeo, umoci, buildah, podman, GNU tar."""

from __future__ import annotations

import io
import json
import os
import shutil
import stat
import subprocess
import tarfile
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from appc.aci import reader
from appc.aci.extract import extract
from appc.schema.image import ImageManifest
from fixtures.imagetools import Buildah, tool
from oci import docker_archive, layout, source
from oci.convert import to_image
from oci.image import Image
from oci.layers import flatten
from oci.layers.flatten import Source
from oci.types import media
from oci.types.platform import Platform
from oci.types.reference import Reference

if TYPE_CHECKING:
    from collections.abc import Iterator

HOST = Platform.of_host()
pytestmark = pytest.mark.usefixtures("root")


@pytest.fixture
def rootfs(tmp_path: Path, busybox: Path) -> Path:
    """Something of everything that a layer can hold."""
    top = tmp_path / "rootfs"
    for directory in ("bin", "etc", "opt/deep/er", "tmp"):
        (top / directory).mkdir(parents=True)
    shutil.copy2(busybox, top / "bin/busybox")
    (top / "bin/sh").symlink_to("busybox")
    (top / "etc/passwd").write_text("root:x:0:0::/:/bin/sh\nuser:x:1000:100::/:/bin/sh\n")
    (top / "etc/link").symlink_to("/etc/passwd")
    (top / "opt/a").write_text("a")
    os.link(top / "opt/a", top / "opt/b")
    (top / "opt/set").write_text("s")
    (top / "opt/set").chmod(0o4755)
    os.chown(top / "opt/deep", 1000, 100)
    (top / "opt/deep").chmod(0o750)
    (top / "tmp").chmod(0o1777)
    os.setxattr(top / "opt/a", "user.mine", b"1")
    os.mkfifo(top / "opt/fifo")
    (top / ("opt/" + "long" * 40)).write_text("long")
    (top / "opt/ünï").write_text("u")
    for path in sorted(top.rglob("*"), reverse=True):
        os.utime(path, (1_400_000_000, 1_400_000_000), follow_symlinks=False)
    return top


def listing(top: Path, *, xattrs: bool = True) -> dict[str, tuple[object, ...]]:
    found: dict[str, tuple[object, ...]] = {}
    for directory, names, files in os.walk(top):
        for name in names + files:
            path = Path(directory, name)
            status = path.lstat()
            kind = stat.S_IFMT(status.st_mode)
            content: object = None
            if kind == stat.S_IFREG:
                content = path.read_bytes(), status.st_nlink
            elif kind == stat.S_IFLNK:
                content = os.readlink(path)
            attributes = os.listxattr(path, follow_symlinks=False) if xattrs else []
            when = int(status.st_mtime)
            found[str(path.relative_to(top))] = (
                status.st_mode, status.st_uid, status.st_gid, when, content, attributes,
            )  # fmt: skip
    return found


def flattened(image: Image, directory: Path) -> Path:
    directory.mkdir()
    files = [image.open_layer(layer) for layer in image.layers]
    try:
        sources = [Source(file, layer.diff_id) for file, layer in zip(files, image.layers, strict=True)]
        flatten.to_directory(sources, str(directory))
    finally:
        for file in files:
            file.close()
    return directory


@pytest.fixture
def buildah(tmp_path: Path) -> Buildah:
    return Buildah(tmp_path / "buildah")


@pytest.fixture
def built(buildah: Buildah, rootfs: Path) -> Iterator[tuple[Buildah, str]]:
    """A container of buildah's whose layers add, change and delete."""
    first = buildah("from", "scratch")
    buildah("copy", first, rootfs, "/")
    buildah("config", "--entrypoint", '["/bin/sh", "-c"]', "--cmd", "id", "--user", "user", first)
    buildah(
        "config", "--env", "A=b c", "--workingdir", "/opt", "--volume", "/data", "--port", "80/tcp", first
    )
    buildah("config", "--label", "team=x", first)
    buildah("commit", "-q", first, "base")
    second = buildah("from", "--pull-never", "localhost/base")
    mounted = Path(buildah("mount", second))
    (mounted / "opt/set").unlink()
    (mounted / "etc/passwd").write_text("root:x:0:0::/:/bin/sh\nuser:x:1000:101::/:/bin/sh\n")
    shutil.rmtree(mounted / "opt/deep")
    (mounted / "opt/deep").write_text("now a file")
    buildah("umount", second)
    yield buildah, second
    buildah("rm", "-a")


@pytest.mark.parametrize("form", ["oci", "oci-archive", "docker-archive", "zstd"])
def test_images_of_buildah(
    built: tuple[Buildah, str], rootfs: Path, tmp_path: Path, form: str, checkout: Path
) -> None:
    buildah, container = built
    path = tmp_path / ("image" if form == "oci" else "image.tar")
    expected = tmp_path / "expected"
    mounted = Path(buildah("mount", container))
    tool("cp", "-a", mounted, expected)
    buildah("umount", container)
    if form == "zstd":
        path = tmp_path / "image"
        buildah("commit", "-q", container, f"oci:{tmp_path}/gzip:v1")
        words = ("skopeo", "copy", "-q", "--dest-compress-format=zstd", "--dest-compress")
        tool(*words, f"oci:{tmp_path}/gzip:v1", f"dir:{tmp_path}/dir")
        tool("skopeo", "copy", "-q", f"dir:{tmp_path}/dir", f"oci:{path}:v1")
    else:
        name = "localhost/team/app:v1" if form == "docker-archive" else "v1"
        buildah("commit", "-q", container, f"{form}:{path}:{name}")
    with source.opened(str(path), None, HOST) as found:
        assert found.names[0].endswith("v1")
        process = found.image.config.process
        assert process is not None
        assert process.entrypoint == ("/bin/sh", "-c")
        assert process.command == ("/bin/sh", "-c", "id")
        assert process.volumes == ("/data",)
        assert "A=b c" in process.env
        kinds = {layer.descriptor.media_type for layer in found.image.layers}
        assert form != "zstd" or kinds == {media.OCI_LAYER_ZSTD}
        tree = flattened(found.image, tmp_path / "tree")
    wanted = listing(expected)
    wanted.pop("data", None)  # the mount point that buildah makes in the container
    got = listing(tree)
    assert got.keys() == wanted.keys()
    for name in wanted:
        if name not in {"opt", "etc", "opt/deep"}:  # directories and files that were changed just now
            assert got[name] == wanted[name], name

    words = [checkout / "bin/docker2aci", path]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    aci = next(tmp_path.glob("*.aci"))
    with open(aci, "rb") as file:
        manifest = ImageManifest.parse(reader.read_manifest(file))
        (tmp_path / "aci").mkdir()
        extract(file, str(tmp_path / "aci"))
    assert manifest.app is not None
    assert (manifest.app.user, manifest.app.group) == ("user", "101")  # its primary group, by the top layer
    assert manifest.app.working_directory == "/opt"
    assert manifest.app.user_labels["team"] == "x"
    assert [point.path for point in manifest.app.mount_points] == ["/data"]
    assert {name: one for name, one in listing(tmp_path / "aci").items() if not name.startswith("dev")} == got


def test_two_conversions_are_one_image(built: tuple[Buildah, str], tmp_path: Path, checkout: Path) -> None:
    buildah, container = built
    buildah("commit", "-q", container, f"docker-archive:{tmp_path}/x.tar:x:1")
    images = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        words = [checkout / "bin/docker2aci", tmp_path / "x.tar"]
        subprocess.run(words, cwd=tmp_path / name, capture_output=True, check=True)
        images.append((tmp_path / name / "library-x-1.aci").read_bytes())
    assert images[0] == images[1]


# --- ours, read by others


def an_image(rootfs: Path, directory: Path, notes: list[str]) -> tuple[layout.LayoutDirectory, Image]:
    """The root filesystem as an OCI image in a layout."""
    manifest = ImageManifest.parse(
        json.dumps({
            "acKind": "ImageManifest",
            "acVersion": "0.8.11",
            "name": "example.com/app",
            "app": {
                "exec": ["/bin/sh", "-c", "echo $A"],
                "user": "1000",
                "group": "100",
                "workingDirectory": "/opt",
                "environment": [{"name": "A", "value": "from us"}],
                "mountPoints": [{"name": "data", "path": "/data"}],
                "ports": [{"name": "p", "protocol": "tcp", "port": 80}],
                "isolators": [{"name": "os/linux/no-new-privileges", "value": True}],
            },
        }).encode()
    )
    made = layout.LayoutDirectory(str(directory))
    fd = os.open(rootfs, os.O_RDONLY)
    try:
        image = to_image.from_tree(fd, manifest, made.blobs, notes, latest=1_500_000_000)
    finally:
        os.close(fd)
    made.add(image, "v1")
    return made, image


def test_our_layout_with_skopeo_and_umoci(rootfs: Path, tmp_path: Path) -> None:
    notes: list[str] = []
    _, image = an_image(rootfs, tmp_path / "ours", notes)
    assert notes == ["isolators: left out, OCI configurations have none"]
    assert not (tmp_path / "ours/.partial").exists()
    inspected = json.loads(tool("skopeo", "inspect", f"oci:{tmp_path}/ours:v1"))
    assert inspected["Digest"] == image.descriptor.digest
    assert inspected["Env"] == ["A=from us"]
    tool("umoci", "unpack", "--image", f"{tmp_path}/ours:v1", tmp_path / "bundle")
    wanted, got = listing(rootfs), listing(tmp_path / "bundle/rootfs")
    assert got == wanted
    config = json.loads((tmp_path / "bundle/config.json").read_text())
    assert config["process"]["args"] == ["/bin/sh", "-c", "echo $A"]
    assert config["process"]["user"] == {"uid": 1000, "gid": 100}
    # The same again: nothing new, and the same bytes in an archive.
    made, again = an_image(rootfs, tmp_path / "ours", notes)
    assert again.descriptor == image.descriptor
    archives = []
    for _ in range(2):
        out = io.BytesIO()
        layout.write_archive([(layout.read_directory(made.path).image("v1", HOST), "v1")], out)
        archives.append(out.getvalue())
    assert archives[0] == archives[1]
    (tmp_path / "ours.tar").write_bytes(archives[0])
    again_inspected = json.loads(tool("skopeo", "inspect", f"oci-archive:{tmp_path}/ours.tar:v1"))
    assert again_inspected["Digest"] == inspected["Digest"]


def test_our_docker_archive_with_skopeo_and_podman(rootfs: Path, tmp_path: Path) -> None:
    _, image = an_image(rootfs, tmp_path / "ours", [])
    names = (Reference.parse("localhost/team/app:v1"), Reference.parse("busy:2"))
    with open(tmp_path / "ours.tar", "wb") as out:
        docker_archive.write([(image, names)], out)
    tool("skopeo", "copy", "-q", f"docker-archive:{tmp_path}/ours.tar", f"oci:{tmp_path}/copied:v1")
    copied = layout.read_directory(str(tmp_path / "copied")).image("v1", HOST)
    assert copied.config.process == image.config.process
    assert copied.config.diff_ids == image.config.diff_ids
    assert listing(flattened(copied, tmp_path / "tree")) == listing(rootfs)
    # Without manifest.json it is what docker wrote in the beginning.
    with tarfile.open(tmp_path / "ours.tar") as whole, tarfile.open(tmp_path / "old.tar", "w") as old:
        for member in whole:
            if not member.name.endswith(".json"):
                old.addfile(member, whole.extractfile(member))
            if member.name == "manifest.json":
                tags = json.loads(whole.extractfile(member).read())[0]["RepoTags"]  # type: ignore[union-attr]
    assert tags == ["localhost/team/app:v1", "busy:2"]
    with source.opened(str(tmp_path / "old.tar"), Reference.parse("busy:2"), HOST) as found:
        assert len(found.chain) == 1
        assert listing(flattened(found.image, tmp_path / "oldtree")) == listing(rootfs)


@pytest.mark.parametrize("form", ["docker-archive", "oci-archive"])
def test_podman_runs_our_image(rootfs: Path, tmp_path: Path, form: str) -> None:
    _, image = an_image(rootfs, tmp_path / "ours", [])
    with open(tmp_path / "ours.tar", "wb") as out:
        if form == "docker-archive":
            docker_archive.write([(image, (Reference.parse("localhost/ours:v1"),))], out)
        else:
            layout.write_archive([(image, "localhost/ours:v1")], out)
    with tempfile.TemporaryDirectory(dir="/run") as top:  # podman allows 50 characters
        options = [f"--root={tmp_path}/pods", f"--runroot={top}/run", f"--tmpdir={top}/tmp"]
        options += ["--storage-driver=vfs", "--cgroup-manager=cgroupfs", "--events-backend=none"]
        tool("podman", *options, "load", "-q", "-i", tmp_path / "ours.tar")
        try:
            flags = ["--ulimit=nofile=1024:1024", "--ulimit=nproc=4096:4096", "--net=none"]
            flags += ["--rm", "--runtime=runc", "--log-driver=none"]
            assert tool("podman", *options, "run", *flags, "localhost/ours:v1") == "from us\n"
        finally:
            tool("podman", *options, "rmi", "-f", "-a")
            for pattern in ("*/libpod_parent/conmon", "*/libpod_parent"):
                for group in Path("/sys/fs/cgroup").glob(pattern):
                    with suppress(OSError):  # another podman's pods may be in it
                        group.rmdir()


def test_docker_save_with_linked_layers(rootfs: Path, tmp_path: Path) -> None:
    """skopeo writes `ID/layer.tar` as a link to `DIGEST.tar` (D1), and only manifest.json is needed (D7)."""
    an_image(rootfs, tmp_path / "ours", [])
    tool("skopeo", "copy", "-q", f"oci:{tmp_path}/ours:v1", f"docker-archive:{tmp_path}/linked.tar:a/b:1")
    with tarfile.open(tmp_path / "linked.tar") as archive:
        assert any(member.issym() for member in archive)
        with tarfile.open(tmp_path / "old.tar", "w") as old, tarfile.open(tmp_path / "new.tar", "w") as new:
            for member in archive:
                content = archive.extractfile(member) if member.isreg() else None
                for other, wanted in ((old, member.name != "manifest.json"), (new, "/" not in member.name)):
                    if wanted and member.name != ("repositories" if other is new else ""):
                        if content is not None:
                            content.seek(0)
                        other.addfile(member, content)
    for name in ("linked", "old", "new"):
        with source.opened(str(tmp_path / f"{name}.tar"), None, HOST) as found:
            assert listing(flattened(found.image, tmp_path / name)) == listing(rootfs), name
