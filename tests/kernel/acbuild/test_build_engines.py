"""Engines that run a command in an image, on the real kernel: what is there, what stays, what gets out."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from acbuild import engines
from acbuild.engines import NotRun
from acbuild.errors import AcbuildError
from linux import capabilities
from linux.mount import info

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.usefixtures("root")

APPLETS = (
    "sh",
    "cat",
    "ls",
    "rm",
    "mkdir",
    "touch",
    "id",
    "sleep",
    "grep",
    "env",
    "kill",
    "mknod",
    "ip",
    "mv",
    "ln",
)
SOURCES = Path(__file__).parent.parent.parent.parent / "src"
ALL = pytest.mark.parametrize(
    "engine",
    [
        engines.NATIVE,
        engines.CHROOT,
        pytest.param(
            engines.NSPAWN,
            marks=pytest.mark.skipif(not shutil.which("systemd-nspawn"), reason="no systemd-nspawn here"),
        ),
    ],
)
OURS = pytest.mark.parametrize("engine", [engines.NATIVE, engines.CHROOT])


class Image:
    """The directories of an image: its own files and those of one dependency, which has busybox."""

    def __init__(self, directory: Path) -> None:
        self.upper = directory / "rootfs"
        self.lower = directory / "dependency"
        self.scratch = directory / "scratch"
        self.output = directory / "output"
        for path in (self.upper, self.lower / "bin", self.lower / "data/deep"):
            path.mkdir(parents=True)
        shutil.copy("/bin/busybox", self.lower / "bin/busybox")
        for name in APPLETS:
            (self.lower / "bin" / name).symlink_to("busybox")
        for name in ("data/one", "data/two", "data/deep/three"):
            (self.lower / name).write_text("of the dependency\n")
        self.notes: list[str] = []
        self.deleted: set[bytes] = set()

    @property
    def layers(self) -> engines.Layers:
        return engines.Layers((str(self.lower),), str(self.upper), str(self.scratch), self.deleted)

    def run(
        self,
        engine: str,
        script: str,
        *,
        environment: tuple[tuple[str, str], ...] = (),
        working_directory: str = "/",
        network: bool = True,
        argv: tuple[str, ...] = (),
    ) -> int:
        """Run a shell script; its exit code."""
        command = engines.Command(
            argv or ("sh", "-c", script), environment, working_directory=working_directory, network=network
        )
        return engines.run(engine, self.layers, command, say=self.notes.append)

    def told(self, engine: str, script: str, **options: object) -> list[str]:
        """Run a script that leaves its output in the image as /out; its lines."""
        code = self.run(engine, f"{{ {script}\n}} > /out 2>&1", **options)  # type: ignore[arg-type]
        path = self.upper / "out"
        lines = path.read_text().splitlines()
        path.unlink()
        assert code == 0, lines
        return lines

    def files(self) -> set[str]:
        """All that is in the image's own directory."""
        return {str(path.relative_to(self.upper)) for path in self.upper.rglob("*")}


@pytest.fixture
def image(tmp_path: Path) -> Image:
    return Image(tmp_path)


@pytest.fixture
def canary(tmp_path: Path) -> Iterator[Path]:
    """A directory outside of the image that must stay as it is."""
    path = tmp_path / "canary"
    path.mkdir()
    (path / "keep").write_text("as it was")
    yield path
    assert [entry.name for entry in path.iterdir()] == ["keep"]
    assert (path / "keep").read_text() == "as it was"


@ALL
def test_the_exit_code_is_the_command_s_own(image: Image, engine: str) -> None:
    assert image.run(engine, "exit 0") == 0
    assert image.run(engine, "exit 37") == 37


@OURS
def test_a_command_that_a_signal_ends_gives_128_and_the_signal(image: Image, engine: str) -> None:
    assert image.run(engine, "kill -TERM $$; sleep 60") == 128 + signal.SIGTERM


@ALL
def test_arguments_and_environment_arrive_as_they_are(image: Image, engine: str) -> None:
    """appc.md 5.C6: commas, quotes and signs are broken by the reference's chroot engine."""
    words = ("sh", "-c", 'printf "%s\\n" "$@" "$SPICE" > /out', "sh", "a,b", "c 'd\" #", "", "$HOME%n")
    assert image.run(engine, "", argv=words, environment=(("SPICE", "x,y=#'"),)) == 0
    assert (image.upper / "out").read_text().splitlines() == ["a,b", "c 'd\" #", "", "$HOME%n", "x,y=#'"]


@ALL
def test_path_is_set_and_nothing_of_the_builder_s_environment_is(
    image: Image, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_OF_THE_BUILDER", "x")
    lines = image.told(engine, "env")
    assert f"PATH={engines.PATH}" in lines
    assert not [line for line in lines if "SECRET" in line]


@ALL
def test_the_image_s_own_path_counts(image: Image, engine: str) -> None:
    (image.upper / "tools").mkdir()
    tool = image.upper / "tools/tool"
    tool.write_text("#!/bin/sh\nexit 5\n")
    tool.chmod(0o755)
    assert image.run(engine, "", argv=("tool",), environment=(("PATH", "/bin:/tools"),)) == 5


@ALL
def test_proc_sys_and_dev_are_there_and_do_not_stay(image: Image, engine: str) -> None:
    lines = image.told(
        engine, "ls -d /proc/self /sys/class/net /dev/null /dev/pts /dev/shm; echo x > /dev/null"
    )
    assert lines == ["/dev/null", "/dev/pts", "/dev/shm", "/proc/self", "/sys/class/net"]
    assert image.files() == set()


@ALL
def test_the_resolver_is_there_with_the_network_only_and_does_not_stay(image: Image, engine: str) -> None:
    """appc.md 5.C7, containers/build #142: files of the host remain in the image."""
    host = Path("/etc/resolv.conf").read_text().splitlines()
    assert image.told(engine, "cat /etc/resolv.conf") == host
    assert image.files() == set()
    assert image.run(engine, "cat /etc/resolv.conf", network=False) != 0
    assert image.files() == set()


@OURS
def test_what_a_command_writes_to_the_resolver_reaches_neither_host_nor_image(
    image: Image, engine: str
) -> None:
    before = Path("/etc/resolv.conf").read_bytes()
    assert image.run(engine, "echo nameserver 192.0.2.1 > /etc/resolv.conf") == 0
    assert Path("/etc/resolv.conf").read_bytes() == before
    assert "etc/resolv.conf" not in image.files()


@OURS
def test_a_resolver_of_the_image_s_own_stays_as_it_is(image: Image, engine: str) -> None:
    (image.upper / "etc").mkdir()
    (image.upper / "etc/resolv.conf").symlink_to("../run/systemd/resolve/stub-resolv.conf")
    host = Path("/etc/resolv.conf").read_text().splitlines()
    assert image.told(engine, "cat /etc/resolv.conf") == host
    link = image.upper / "etc/resolv.conf"
    assert os.readlink(link) == "../run/systemd/resolve/stub-resolv.conf"


@ALL
def test_without_a_network_there_is_a_loopback_and_nothing_else(image: Image, engine: str) -> None:
    lines = image.told(engine, "ls /sys/class/net; ip addr show lo", network=False)
    assert lines[0] == "lo"
    assert "UP" in lines[1]
    assert not lines[1].startswith("eth")


@ALL
def test_the_working_directory_is_that_of_the_image(image: Image, engine: str) -> None:
    assert image.told(engine, "pwd", working_directory="/data/deep") == ["/data/deep"]


@ALL
def test_a_missing_working_directory_is_told(image: Image, engine: str) -> None:
    if engine == engines.NSPAWN:
        assert image.run(engine, "exit 0", working_directory="/nowhere") != 0
        return
    with pytest.raises(AcbuildError, match="working directory /nowhere: No such file"):
        image.run(engine, "exit 0", working_directory="/nowhere")


@ALL
def test_changes_go_to_the_image_and_the_dependency_stays(image: Image, engine: str) -> None:
    assert image.run(engine, "echo new > /new; echo changed > /data/one; mkdir /data/dir") == 0
    assert (image.upper / "new").read_text() == "new\n"
    assert (image.upper / "data/one").read_text() == "changed\n"
    assert (image.lower / "data/one").read_text() == "of the dependency\n"
    assert not (image.lower / "data/dir").exists()


@ALL
def test_deletions_are_left_as_an_overlay_leaves_them(image: Image, engine: str) -> None:
    assert image.run(engine, "rm /data/one; rm -r /data/deep; mkdir /data/deep; touch /data/deep/new") == 0
    found = (image.upper / "data/one").lstat()
    assert stat.S_ISCHR(found.st_mode)
    assert found.st_rdev == 0
    assert os.getxattr(image.upper / "data/deep", "trusted.overlay.opaque") == b"y"
    assert (image.lower / "data/one").exists()


@ALL
def test_a_second_run_sees_what_the_first_one_left(image: Image, engine: str) -> None:
    assert image.run(engine, "rm /data/one; echo two > /made") == 0
    assert image.told(engine, "cat /made; ls /data") == ["two", "deep", "two"]


@OURS
def test_renaming_a_directory_of_a_dependency_leaves_a_complete_copy(image: Image, engine: str) -> None:
    """Without redirect_dir: the upper directory can be read by who knows nothing of overlays."""
    assert image.run(engine, "mv /data /moved") == 0
    assert (image.upper / "moved/deep/three").read_text() == "of the dependency\n"
    assert stat.S_ISCHR((image.upper / "data").lstat().st_mode)


@ALL
def test_no_mount_and_no_file_is_left(image: Image, engine: str) -> None:
    before = [(entry.target, entry.fstype) for entry in info.mounts()]
    image.run(engine, "exit 3")
    assert [(entry.target, entry.fstype) for entry in info.mounts()] == before
    assert not image.scratch.exists()


@OURS
def test_processes_that_the_command_left_behind_end_with_it(image: Image, engine: str) -> None:
    start = time.monotonic()
    assert image.run(engine, "sleep 100 & sleep 100 & exit 4") == 4
    assert time.monotonic() - start < 60
    assert not _sleepers()


def _sleepers() -> list[str]:
    found = []
    for path in Path("/proc").iterdir():
        if path.name.isdigit():
            try:
                words = (path / "cmdline").read_bytes()
                root = os.readlink(path / "root")
            except OSError:
                continue
            if words.startswith(b"sleep\x00100\x00") and root == "/":
                found.append(path.name)
    return found


def test_the_command_is_confined_as_an_app_is(image: Image) -> None:
    lines = image.told(
        engines.NATIVE, "grep -E '^(Cap|NoNew|Seccomp:)' /proc/self/status; ls /proc/self/fd; id"
    )
    values = dict(line.split(":\t") for line in lines if ":\t" in line)
    held = set(capabilities.names(int(values["CapEff"], 16)))
    assert "CAP_CHOWN" in held
    assert not held & {"CAP_SYS_ADMIN", "CAP_MKNOD", "CAP_NET_RAW", "CAP_NET_ADMIN", "CAP_SYS_PTRACE"}
    assert values["CapBnd"] == values["CapEff"] == values["CapPrm"]
    assert int(values["CapInh"], 16) == int(values["CapAmb"], 16) == 0
    assert values["NoNewPrivs"] == "1"
    assert values["Seccomp"] == "2"
    assert "uid=0 gid=0" in lines[-1]


def test_no_descriptor_of_the_builder_is_the_command_s(image: Image) -> None:
    """CVE-2024-21626: a directory of the host behind /proc/self/fd."""
    fd = os.open("/", os.O_RDONLY)
    os.set_inheritable(fd, True)
    try:
        image.run(engines.NATIVE, "exec > /out 2>&1; exec ls -l /proc/self/fd")
    finally:
        os.close(fd)
    lines = [line for line in (image.upper / "out").read_text().splitlines() if " -> " in line]
    assert {int(line.split()[-3]) for line in lines} == {0, 1, 2}


def test_no_device_can_be_made_or_used(image: Image) -> None:
    assert image.run(engines.NATIVE, "mknod /disk b 8 0") != 0
    os.mknod(image.lower / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    assert image.run(engines.NATIVE, "echo x > /null") != 0  # nodev


def test_the_hostname_is_not_the_host_s_and_the_host_s_stays(image: Image) -> None:
    before = os.uname().nodename
    assert image.told(engines.NATIVE, "cat /proc/sys/kernel/hostname") == ["acbuild"]
    assert os.uname().nodename == before


# What a hostile dependency may try. R6, CVE-2019-19921, CVE-2026-41579: links where mounts go.


@ALL
@pytest.mark.parametrize("name", ["proc", "sys", "dev"])
@pytest.mark.parametrize("above", ["", "../../../../../.."])
def test_a_link_where_a_mount_goes_is_refused(
    image: Image, canary: Path, engine: str, name: str, above: str
) -> None:
    (image.lower / name).symlink_to(f"{above}{canary}")
    with pytest.raises(AcbuildError, match=f"/{name} of the image is no directory: refused"):
        image.run(engine, "exit 0")


@ALL
def test_a_link_at_etc_leads_nowhere_outside(image: Image, canary: Path, engine: str) -> None:
    (image.lower / "etc").symlink_to(canary)
    image.run(engine, "echo x > /etc/resolv.conf; touch /etc/made")


@OURS
def test_a_link_at_the_resolver_is_covered_and_not_followed(image: Image, canary: Path, engine: str) -> None:
    (image.lower / "etc").mkdir()
    (image.lower / "etc/resolv.conf").symlink_to(canary / "keep")
    host = Path("/etc/resolv.conf").read_text().splitlines()
    assert image.told(engine, "cat /etc/resolv.conf") == host


@pytest.mark.parametrize("path", ["/proc/self/fd/7", "/proc/self/cwd", "/proc/1/root"])
def test_a_working_directory_behind_a_magic_link_is_refused(image: Image, path: str) -> None:
    fd = os.open("/", os.O_RDONLY)
    try:
        with pytest.raises(AcbuildError, match="working directory"):
            image.run(engines.NATIVE, "exit 0", working_directory=path)
    finally:
        os.close(fd)


@OURS
def test_a_script_of_proc_self_exe_is_refused(image: Image, engine: str) -> None:
    """CVE-2019-5736: it would be an interpreter of the host's."""
    script = image.lower / "evil"
    script.write_text("#!/proc/self/exe\nprint('outside')\n")
    script.chmod(0o755)
    (image.lower / "link").symlink_to("/proc/self/exe")
    for name in ("/evil", "/link"):
        with pytest.raises(NotRun, match="cannot be used"):
            image.run(engine, "", argv=(name,))


@ALL
def test_a_program_that_is_not_there_is_127_and_a_hint(image: Image, engine: str) -> None:
    with pytest.raises(NotRun, match="nothing-of-the-kind: not found in the image's PATH") as refused:
        image.run(engine, "", argv=("nothing-of-the-kind",))
    assert refused.value.exit_code == 127
    assert refused.value.hint


@OURS
def test_what_cannot_be_executed_is_126_and_says_why(image: Image, engine: str) -> None:
    (image.upper / "text").write_text("no program\n")
    (image.upper / "text").chmod(0o755)
    shutil.copy("/bin/ls", image.upper / "dynamic")
    for name, why in (
        ("/text", "neither a program"),
        ("/data", "is no file"),
        ("/dynamic", "dynamic loader"),
    ):
        with pytest.raises(NotRun, match=why) as refused:
            image.run(engine, "", argv=(name,))
        assert refused.value.exit_code == 126


# Without overlays, as on a builder whose own root is one


@pytest.fixture
def no_overlay(monkeypatch: pytest.MonkeyPatch) -> None:
    from acbuild.engines import root

    def refused(*_: object) -> int:
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(root, "stacked", refused)


@ALL
@pytest.mark.usefixtures("no_overlay")
def test_without_an_overlay_the_image_alone_is_used_and_places_to_mount_on_go_again(
    image: Image, engine: str
) -> None:
    shutil.copytree(image.lower, image.upper, symlinks=True, dirs_exist_ok=True)
    before = image.files()
    alone = image.layers._replace(lowers=())
    command = engines.Command(("sh", "-c", "echo x > /new; ls /proc/self; cat /etc/resolv.conf"))
    assert engines.run(engine, alone, command, say=image.notes.append) == 0
    assert image.files() == before | {"new"}
    assert not image.scratch.exists()


@OURS
@pytest.mark.usefixtures("no_overlay")
def test_without_an_overlay_the_layers_are_copied_and_changes_taken_over(image: Image, engine: str) -> None:
    os.chown(image.lower / "data/deep", 7, 8)
    script = (
        "rm /data/one; rm -r /data/deep; mkdir /data/deep; touch /data/deep/new; "
        "echo x > /data/two; ln /data/two /same; echo y > /top"
    )
    assert image.run(engine, script) == 0
    assert image.notes == ["no overlay is possible here: what the image depends on is copied for the run"]
    assert image.deleted == {b"data/one", b"data/deep/three"}
    assert (image.upper / "data/deep/new").exists()
    assert os.path.samefile(image.upper / "data/two", image.upper / "same")
    assert (image.upper / "top").read_text() == "y\n"
    assert image.files() == {"data", "data/deep", "data/deep/new", "data/two", "same", "top"}
    assert (image.upper / "data/deep").stat().st_uid == 0


@pytest.fixture
def on_an_overlay(tmp_path: Path) -> Iterator[Image]:
    """An image on a filesystem that is an overlay itself, as in most containers."""
    for name in ("lower", "upper", "work", "merged"):
        (tmp_path / name).mkdir()
    options = ",".join(f"{kind}dir={tmp_path / kind}" for kind in ("lower", "upper", "work"))
    merged = tmp_path / "merged"
    subprocess.run(["mount", "-t", "overlay", "-o", options, "acbuild-test", merged], check=True)
    try:
        yield Image(merged)
    finally:
        subprocess.run(["umount", merged], check=True)


@OURS
def test_in_a_container_whose_root_is_an_overlay(on_an_overlay: Image, engine: str) -> None:
    image = on_an_overlay
    assert (
        image.run(engine, "rm /data/one; echo changed > /data/two; cat /etc/resolv.conf /proc/self/stat") == 0
    )
    assert (image.upper / "data/two").read_text() == "changed\n"
    assert image.deleted == {b"data/one"}
    assert {path.name for path in image.upper.iterdir()} == {"data"}


@pytest.fixture
def no_namespaces(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container without CAP_SYS_ADMIN: clone(2) refuses namespaces."""
    from linux import clone

    real = clone.clone

    def refused(flags: int) -> int:
        if flags:
            raise PermissionError(1, "Operation not permitted")
        return real(flags)

    monkeypatch.setattr(clone, "clone", refused)


@pytest.mark.usefixtures("no_namespaces")
def test_where_no_namespaces_are_allowed_chroot_alone_works(image: Image) -> None:
    (image.lower / "etc").mkdir()
    script = "echo x > /made; rm /data/one; cat /etc/resolv.conf > /resolver; exit 9"
    assert image.run(engines.CHROOT, script) == 9
    assert any("no mounts are allowed here" in note for note in image.notes)
    assert (image.upper / "resolver").read_bytes() == Path("/etc/resolv.conf").read_bytes()
    assert image.deleted == {b"data/one"}
    assert not (image.upper / "etc/resolv.conf").exists()
    with pytest.raises(NotRun, match="not found"):
        image.run(engines.CHROOT, "", argv=("nothing-there",))


@pytest.mark.usefixtures("no_namespaces")
def test_where_no_namespaces_are_allowed_confinement_is_refused_with_a_hint(image: Image) -> None:
    with pytest.raises(AcbuildError, match="namespaces cannot be made here") as refused:
        image.run(engines.NATIVE, "exit 0")
    assert "--engine=chroot" in str(refused.value.hint)


# Killed


KILLED = """
import sys
sys.path.insert(0, {sources!r})
from acbuild import engines
layers = engines.Layers(({lower!r},), {upper!r}, {scratch!r}, set())
command = engines.Command(("sh", "-c", "echo started > /started; sleep 100"))
sys.exit(engines.run({engine!r}, layers, command, say=print))
"""


def start(image: Image, engine: str) -> subprocess.Popen[bytes]:
    """A builder of its own, whose command has started."""
    code = KILLED.format(
        sources=str(SOURCES),
        lower=str(image.lower),
        upper=str(image.upper),
        scratch=str(image.scratch),
        engine=engine,
    )
    builder = subprocess.Popen([sys.executable, "-c", code])
    deadline = time.monotonic() + 60
    while not (image.upper / "started").exists() or not (image.upper / "started").stat().st_size:
        assert builder.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return builder


@ALL
def test_killing_acbuild_ends_the_run_and_leaves_no_mount(image: Image, engine: str) -> None:
    before = [(entry.target, entry.fstype) for entry in info.mounts()]
    with start(image, engine) as builder:
        builder.kill()
    deadline = time.monotonic() + 60
    while _sleepers() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not _sleepers()
    assert [(entry.target, entry.fstype) for entry in info.mounts()] == before
    (image.upper / "started").unlink()
    assert image.files() == set()
    assert image.told(engine, "echo again") == ["again"]
    assert not image.scratch.exists()


@OURS
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_are_passed_on_and_decide_the_exit_code(
    image: Image, engine: str, number: signal.Signals
) -> None:
    with start(image, engine) as builder:
        builder.send_signal(number)
        assert builder.wait(60) == 128 + number
    assert not image.scratch.exists()
