"""Images whose own directories and mount points lead out of them, in every stage 1: S2, S3, S4, S5, R6, R9.

The canary is a directory of the host. A run may refuse such an image or contain it; it must not change the
canary, the host's /dev, or what is mounted on the host, and neither must stop, gc or image rm afterwards.
"""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from linux.mount import info

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import Rkt
    from fixtures.images import MakeAci

pytestmark = [pytest.mark.usefixtures("root")]
IMAGE = "--insecure-options=image"
FLAVOURS = ("native", "fly")


def _mounts() -> list[tuple[int, str, tuple[str, ...]]]:
    return [(entry.id, entry.target, tuple(entry.options)) for entry in info.mounts()]


def _made_in_dev() -> list[str]:
    """What these images would have had made in the host's /dev; other tests make loop devices there."""
    names = ("hosts", "hostname", "resolv.conf", "mtab", "made", "file")
    return [path for name in names for path in (f"/dev/{name}", f"/dev/shm/{name}") if os.path.lexists(path)]


@pytest.fixture
def canary(tmp_path: Path, rkt: Rkt) -> Iterator[Path]:
    """A directory of the host that stays as it is, as do the host's /dev and mounts; `rkt` leaves nothing."""
    canary = tmp_path / "canary"
    canary.mkdir()
    (canary / "keep").write_bytes(b"host secret")
    (canary / "ptmx").write_bytes(b"")
    (canary / "sub").mkdir(mode=0o711)
    before = _mounts()
    assert not _made_in_dev()
    yield canary
    rkt("gc", "--grace-period=0s", "--expire-prepared=0s")
    rkt("image", "gc", "--grace-period=0s")
    assert sorted(os.listdir(canary)) == ["keep", "ptmx", "sub"]
    assert (canary / "keep").read_bytes() == b"host secret"
    assert stat.S_IMODE((canary / "sub").stat().st_mode) == 0o711
    assert os.listdir(canary / "sub") == []
    assert _mounts() == before
    assert not _made_in_dev()


def _link(rootfs: Path, name: str, target: str) -> None:
    place = rootfs / name
    if place.is_dir() and not place.is_symlink():
        shutil.rmtree(place)
    place.unlink(missing_ok=True)
    place.symlink_to(target)


def _targets(canary: Path, name: str) -> dict[str, str]:
    relative = "../" * 30 + str(canary).lstrip("/")
    return {
        "absolute": str(canary),
        "relative": relative,
        "itself": name,
        "dev": "/dev",
        "dangling": "/dev/made",
        "descriptor": "/proc/self/fd/3",
    }


@pytest.mark.parametrize("name", ["dev", "proc", "sys", "etc", "tmp"])
@pytest.mark.parametrize("flavour", FLAVOURS)
def test_s2_s3_s4_cve_2026_41579_a_directory_of_the_system_is_a_link(
    rkt: Rkt, make_aci: MakeAci, busybox_rootfs: Path, canary: Path, flavour: str, name: str
) -> None:
    """CVE-2026-41579, CVE-2026-47766, CVE-2019-19921, CVE-2024-5154; rkt's fly took ten host mounts away."""
    for kind, target in _targets(canary, name).items():
        if name not in {"etc", "tmp"} and kind not in {"absolute", "relative"}:
            continue
        _link(busybox_rootfs, name, target)
        image = make_aci(["/bin/true"], name=f"example.com/{name}-{kind}")
        done = rkt(IMAGE, "run", f"--stage1-name={flavour}", "--net=none", image, code=None, timeout=30)
        assert "Traceback" not in done.stderr
        assert "internal error" not in done.stderr
        assert done.returncode in {0, 203, 254}, (kind, done.stderr)
        if name in {"dev", "proc", "sys"}:
            assert "not a directory: refused" in done.stderr


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_a_mount_point_is_never_made_in_the_hosts_dev(
    rkt: Rkt, make_aci: MakeAci, busybox_rootfs: Path, canary: Path, tmp_path: Path, flavour: str
) -> None:
    """The image chooses the path; a fly app has the host's own /dev (R6)."""
    source = tmp_path / "source"
    source.mkdir()
    (source / "file").write_text("mine")
    (busybox_rootfs / "link").symlink_to("/dev/made")
    (busybox_rootfs / "deep").symlink_to("/dev")
    for number, path in enumerate(("/dev/made/deep", "/link", "/deep/made/too", "/sys/made", "/deep/file")):
        points = {"mountPoints": [{"name": "data", "path": path}]}
        image = make_aci(["/bin/true"], name=f"example.com/point{number}", app=points)
        for what in (source, source / "file"):
            volume = f"--volume=data,kind=host,source={what}"
            done = rkt(IMAGE, "run", f"--stage1-name={flavour}", "--net=none", volume, image, code=None)
            assert done.returncode in {0, 254}
            if flavour == "fly":
                assert "cannot be made" in done.stderr, path
    assert sorted(os.listdir(source)) == ["file"]


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_what_is_generated_stays_out_of_volumes(
    rkt: Rkt, make_aci: MakeAci, busybox_rootfs: Path, canary: Path, tmp_path: Path, flavour: str
) -> None:
    """A volume at /etc, or an /etc that links to one, belongs to whoever gave it; a file may be one too."""
    etc, resolv = tmp_path / "etc", tmp_path / "resolv"
    etc.mkdir()
    resolv.write_text("nameserver 192.0.2.9\n")
    script = ["/bin/sh", "-c", "cat /etc/resolv.conf 2>/dev/null; exit 0"]
    run = (IMAGE, "run", f"--stage1-name={flavour}", "--net=none", "--dns=192.0.2.1")
    image = make_aci(script, name="example.com/plain")
    rkt(*run, f"--volume=v,kind=host,source={etc}", image, "--mount=volume=v,target=/etc")
    done = rkt(
        *run, f"--volume=v,kind=host,source={resolv}", image, "--mount=volume=v,target=/etc/resolv.conf"
    )
    assert "nameserver 192.0.2.9" in done.stdout
    _link(busybox_rootfs, "etc", "/data")
    image = make_aci(script, name="example.com/linked")
    rkt(*run, f"--volume=v,kind=host,source={etc}", image, "--mount=volume=v,target=/data")
    assert os.listdir(etc) == []
    assert resolv.read_text() == "nameserver 192.0.2.9\n"


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_cve_2026_55686_a_working_directory_that_is_a_link(
    rkt: Rkt, make_aci: MakeAci, busybox_rootfs: Path, canary: Path, flavour: str
) -> None:
    """CVE-2024-21626 too: nothing of the host is listed, wherever the image's links point."""
    (busybox_rootfs / "out").symlink_to("../" * 30 + str(canary).lstrip("/"))
    (busybox_rootfs / "fd").symlink_to("/proc/self/fd/7")
    for number, directory in enumerate(("/out", "/fd", "/proc/self/fd/3", "/proc/self/cwd", "/proc/1/root")):
        app = {"workingDirectory": directory}
        image = make_aci(["/bin/ls", "-la"], name=f"example.com/wd{number}", app=app)
        done = rkt(IMAGE, "run", f"--stage1-name={flavour}", "--net=none", image, code=None)
        assert done.returncode in {203, 254}, directory
        assert "keep" not in done.stdout


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_cve_2019_5736_programs_that_are_the_hosts(
    rkt: Rkt, make_aci: MakeAci, busybox_rootfs: Path, canary: Path, flavour: str
) -> None:
    """S12: `#!/proc/self/exe`, a link to it, and programs below /proc/self/fd and /proc/1/root."""
    (busybox_rootfs / "bin/script").write_text("#!/proc/self/exe\n")
    (busybox_rootfs / "bin/script").chmod(0o755)
    (busybox_rootfs / "bin/self").symlink_to("/proc/self/exe")
    programs = (
        "/bin/script",
        "/bin/self",
        "/proc/self/exe",
        "/proc/self/fd/0",
        "/proc/self/fd/3",
        "/proc/1/exe",
    )
    image = make_aci(["/bin/true"], name="example.com/exe")
    for program in programs:
        done = rkt(
            *(IMAGE, "run", f"--stage1-name={flavour}", "--net=none", image, f"--exec={program}"), code=None
        )
        assert done.returncode in {126, 127, 203, 254}, (program, done)
        assert "Traceback" not in done.stdout + done.stderr
