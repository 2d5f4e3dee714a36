"""Images that buildah, podman, skopeo and umoci made run under rkt, and say the same as under podman."""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from fixtures.imagetools import Buildah, tool

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import Rkt

pytestmark = [pytest.mark.usefixtures("root"), pytest.mark.needs("namespaces", "overlay")]

#: What the app tells of its surroundings, on lines in a fixed order.
SCRIPT = """\
echo "args: $0 $*"; id -un; id -G; pwd; echo "A=$A B=$B HOME=$HOME"
find /srv /opt /hidden /was /data ! -type d | sort; cat /opt/changed /was 2>/dev/null
ls -ln /srv /data /opt | grep -v total | awk '{print $1, $3, $4, $9}'; echo x > /data/w && cat /data/w
"""


class Podman(NamedTuple):
    """podman with a storage of its own."""

    options: tuple[str, ...]

    def __call__(self, *words: str | Path) -> str:
        return tool("podman", *self.options, *words).strip()

    def run(self, image: str, *args: str) -> str:
        flags = ["--ulimit=nofile=1024:1024", "--ulimit=nproc=4096:4096", "--net=none"]
        return self("run", *flags, "--rm", "--runtime=runc", "--log-driver=none", image, *args)


@pytest.fixture
def podman(tmp_path: Path) -> Iterator[Podman]:
    with tempfile.TemporaryDirectory(dir="/run") as top:  # podman allows 50 characters
        options = (f"--root={tmp_path}/pods", f"--runroot={top}/run", f"--tmpdir={top}/tmp")
        found = Podman((
            *options, "--storage-driver=vfs", "--cgroup-manager=cgroupfs", "--events-backend=none",
        ))  # fmt: skip
        yield found
        found("rmi", "-f", "-a")
        for pattern in ("*/libpod_parent/conmon", "*/libpod_parent"):
            for group in Path("/sys/fs/cgroup").glob(pattern):
                with suppress(OSError):  # another podman's pods may be in it
                    group.rmdir()


@pytest.fixture
def built(tmp_path: Path, busybox_rootfs: Path) -> str:
    """A layout with an image of three layers that add, change, remove and hide; ``oci:PATH:TAG``."""
    base = busybox_rootfs
    for path in ("opt/gone", "opt/changed", "hidden/old", "was/dir/file", "srv/seed", "data/kept"):
        (base / path).parent.mkdir(parents=True, exist_ok=True)
        (base / path).write_text(path)
    (base / "tell").write_text(SCRIPT)
    (base / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\nwww:x:33:34::/srv:/bin/sh\n")
    (base / "etc/group").write_text("root:x:0:\nadm:x:4:root,www\ntape:x:26:www\nother:x:27:root\n")
    (base / "data").chmod(0o777)
    buildah = Buildah(tmp_path / "buildah")
    first = buildah("from", "scratch")
    buildah("copy", first, base, "/")
    for path in ("data", "srv"):
        buildah("copy", "--chown=33:34", first, base / path, f"/{path}")
    buildah("config", "--entrypoint", '["/bin/sh"]', "--cmd", "/tell one two", "--user", "www", first)
    buildah("config", "--env", "A=b c", "--env", "B=", "--workingdir", "/srv", "--volume", "/data", first)
    buildah("config", "--port", "80/tcp", "--label", "team=x", "--stop-signal", "SIGINT", first)
    buildah("commit", "-q", first, "base")
    second = buildah("from", "--pull-never", "localhost/base")
    mounted = Path(buildah("mount", second))
    (mounted / "opt/gone").unlink()
    (mounted / "opt/changed").write_text("by the second layer\n")
    shutil.rmtree(mounted / "was")
    (mounted / "was").write_text("a file now\n")
    shutil.rmtree(mounted / "hidden")
    (mounted / "hidden").mkdir()
    (mounted / "hidden/new").write_text("new")
    buildah("umount", second)
    buildah("commit", "-q", second, f"oci:{tmp_path}/built:v1")
    buildah("rm", "-a")
    return f"oci:{tmp_path}/built:v1"


def said(rkt: Rkt, image: str | Path, *args: str) -> str:
    done = rkt("--insecure-options=image", "run", "--net=none", image, *args)
    return "\n".join(line.partition("]: ")[2] for line in done.stdout.splitlines())


def test_the_same_as_under_podman(rkt: Rkt, built: str, podman: Podman, tmp_path: Path) -> None:
    """One image in every form that there is: the same output, and each layer is stored once."""
    path = built.split(":")[1]
    tool("umoci", "config", "--image", f"{path}:v1", "--tag", "umoci", "--config.env", "B=of umoci")
    (tmp_path / "more").write_text("inserted")
    tool("umoci", "insert", "--image", f"{path}:umoci", tmp_path / "more", "/opt/more")
    tool("umoci", "insert", "--image", f"{path}:umoci", "--whiteout", "/opt/changed")
    podman("pull", "-q", built)
    (image,) = podman("images", "-q").split()
    podman("tag", image, "localhost/team/app:1")
    expected = podman.run("localhost/team/app:1")
    assert "a file now" in expected
    assert "www\n34 4 26\n/srv\n" in expected

    podman("save", "-q", "--format=docker-archive", "-o", tmp_path / "docker.tar", "localhost/team/app:1")
    podman("save", "-q", "--format=oci-archive", "-o", tmp_path / "oci.tar", "localhost/team/app:1")
    tool("skopeo", "copy", "-q", built, f"dir:{tmp_path}/dir")
    tool("skopeo", "copy", "-q", f"dir:{tmp_path}/dir", f"oci:{tmp_path}/copied:x")
    tool("skopeo", "copy", "-q", built, f"docker-archive:{tmp_path}/skopeo.tar:team/app:2")
    forms = {
        "buildah": built,
        "podman save": f"docker-archive:{tmp_path}/docker.tar",
        "podman save --format=oci-archive": f"oci-archive:{tmp_path}/oci.tar",
        "skopeo copy dir:": f"dir:{tmp_path}/dir",
        "skopeo copy dir: oci:": f"oci:{tmp_path}/copied",
        "skopeo copy docker-archive:": f"docker-archive:{tmp_path}/skopeo.tar:team/app:2",
    }
    for form, spelled in forms.items():
        assert said(rkt, spelled) == expected, form
    assert len(os.listdir(rkt.directory / "data/cas/layer")) == 2

    # Arguments take the place of Cmd, and of it alone.
    assert (
        said(rkt, built, "--", "-c", "echo $A")
        == podman.run("localhost/team/app:1", "-c", "echo $A")
        == "b c"
    )

    podman("pull", "-q", f"oci:{path}:umoci")
    other = next(line for line in podman("images", "-q").split() if line != image)
    changed = podman.run(other)
    assert "B=of umoci" in changed
    assert "/opt/more" in changed
    assert said(rkt, f"oci:{path}:umoci") == changed


def test_a_fetched_image_is_theirs_again(rkt: Rkt, built: str, podman: Podman, tmp_path: Path) -> None:
    """What rkt converts and exports is run by podman with the same output."""
    rkt("--insecure-options=image", "fetch", built)
    podman("pull", "-q", built)
    expected = podman.run(podman("images", "-q").split()[0])
    rkt("image", "convert", "built", f"docker-archive:{tmp_path}/ours.tar:team/ours:1")
    rkt("image", "convert", "built", f"oci-archive:{tmp_path}/ours-oci.tar:v9")
    rkt("image", "export", "built", tmp_path / "ours.aci")
    rkt("image", "convert", tmp_path / "ours.aci", f"docker-archive:{tmp_path}/aci.tar:team/aci:1")
    podman("rmi", "-f", "-a")
    for archive in ("ours.tar", "ours-oci.tar", "aci.tar"):
        podman("load", "-q", "-i", tmp_path / archive)
        (image,) = podman("images", "-q").split()
        assert podman.run(image) == expected, archive
        podman("rmi", "-f", "-a")
