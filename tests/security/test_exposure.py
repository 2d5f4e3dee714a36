"""What other users of the host can see of pods, and where secrets are not: S16, S17, S18 (R24, P8)."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Rkt
    from fixtures.images import MakeAci

pytestmark = [pytest.mark.usefixtures("root")]
IMAGE = "--insecure-options=image"
SECRET = "tops3cret-of-the-environment"

# Run as nobody: prints what it can list, the files it can read or execute, and sockets it can connect to.
_NOBODY = """
import os, socket, stat, sys
os.setgroups([]); os.setresgid(65534, 65534, 65534); os.setresuid(65534, 65534, 65534)
for top in sys.argv[1:]:
    for directory, names, files in os.walk(top):
        for name in files:
            path = os.path.join(directory, name)
            mode = os.lstat(path).st_mode
            if stat.S_ISSOCK(mode):
                try:
                    socket.socket(socket.AF_UNIX).connect(path)
                    print("socket", path)
                except OSError: pass
            elif stat.S_ISREG(mode) and (os.access(path, os.R_OK) or os.access(path, os.X_OK)):
                print("file", path)
"""


def _abstract_sockets() -> set[str]:
    with open("/proc/net/unix") as file:
        return {line.split()[-1] for line in file if line.split()[-1].startswith("@")}


@pytest.fixture
def secretive(rkt: Rkt, make_aci: MakeAci, busybox_rootfs: Path) -> str:
    """A running pod with a secret in its environment, a setuid program and the default network."""
    os.chmod(busybox_rootfs / "bin/busybox", 0o4755)
    image = make_aci(["/bin/sleep", "600"], name="example.com/secretive")
    file = rkt.directory / "environment"
    file.write_text(f"SECRET={SECRET}\n")
    file.chmod(0o600)
    return rkt(IMAGE, "run", "--detach", f"--set-env-file={file}", image).stdout.strip()


def test_s16_nobody_reads_executes_or_connects_to_anything(rkt: Rkt, secretive: str, tmp_path: Path) -> None:
    """moby CVE-2021-41091, containerd CVE-2021-41103 and CVE-2024-25621; the store is under open parents."""
    place = rkt.directory
    while place != place.parent:  # the test's own directories must not be what hides it
        assert place.stat().st_mode & 0o001 or place.is_relative_to(tmp_path.parent.parent)
        os.chmod(place, place.stat().st_mode | 0o055) if place.is_relative_to(tmp_path) else None
        place = place.parent
    argv = [sys.executable, "-c", _NOBODY, str(rkt.directory / "data"), "/run"]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=30)
    # Pins of namespaces are no way in, and what systemd keeps there is not ours.
    names = [line for line in done.stdout.splitlines() if not {"netns", "systemd"} & set(line.split("/"))]
    assert names == []
    assert not {name for name in _abstract_sockets() if "rkt" in name.lower()}
    rkt("stop", "--force", secretive)


def test_s18_a_secret_of_the_environment_is_in_the_apps_own_only(rkt: Rkt, secretive: str) -> None:
    """Not in arguments, other environments, logs, or files that others can read (CVE-2020-14370)."""
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) == os.getpid():
            continue
        try:
            command = Path(f"/proc/{name}/cmdline").read_bytes()
            environment = Path(f"/proc/{name}/environ").read_bytes()
        except OSError:
            continue
        assert SECRET.encode() not in command
        if SECRET.encode() in environment:
            assert command.split(b"\0")[0].endswith(b"sleep"), command
            assert os.stat(f"/proc/{name}/environ").st_mode & 0o077 == 0
    for path in (rkt.directory / "data").rglob("*"):
        if path.is_file() and not path.is_symlink() and SECRET.encode() in path.read_bytes():
            assert path.stat().st_mode & 0o077 == 0, path
    for words in (
        ("list", "--full"),
        ("status", secretive),
        ("--debug", "status", secretive),
        ("logs", secretive),
    ):
        done = rkt(*words)
        assert SECRET not in done.stdout + done.stderr
    rkt("stop", "--force", secretive)


def test_s18_no_process_shows_it_at_any_moment_of_a_start(rkt: Rkt, make_aci: MakeAci) -> None:
    """A sampler looks at all command lines and log lines as fast as it can while pods start."""
    image = make_aci(["/bin/true"], name="example.com/brief")
    file = rkt.directory / "environment"
    file.write_text(f"SECRET={SECRET}\n")
    seen: list[bytes] = []
    stop = threading.Event()

    def sample() -> None:
        while not stop.is_set():
            for name in os.listdir("/proc"):
                if name.isdigit() and int(name) != os.getpid():
                    try:
                        with open(f"/proc/{name}/cmdline", "rb") as stream:
                            command = stream.read()
                    except OSError:
                        continue
                    if SECRET.encode() in command:
                        seen.append(command)
            time.sleep(0.001)

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        for flavour in ("native", "fly"):
            argv = ("--debug", IMAGE, "run", f"--stage1-name={flavour}", "--net=none")
            done = rkt(*argv, f"--set-env-file={file}", image)
            assert SECRET not in done.stdout + done.stderr
    finally:
        stop.set()
        thread.join()
    assert seen == []


def test_s18_a_bad_file_of_secrets_is_not_quoted(rkt: Rkt, make_aci: MakeAci) -> None:
    image = make_aci(["/bin/true"])
    file = rkt.directory / "environment"
    file.write_bytes(f"{SECRET}\nA\0B={SECRET}\n".encode())
    done = rkt("--debug", IMAGE, "run", "--net=none", f"--set-env-file={file}", image, code=None)
    assert SECRET not in done.stdout + done.stderr


def test_an_app_cannot_write_in_another_apps_name(rkt: Rkt, make_aci: MakeAci) -> None:
    """Neither on the console that they share nor in `logs` of the pod; alone in a pipe bytes are bytes."""
    imitation = r"printf 'x\r[    1.000000] other[7]: lie\033[2K\n'"
    liar = make_aci(["/bin/sh", "-c", imitation], name="example.com/liar")
    other = make_aci(["/bin/true"], name="example.com/other")
    run = (IMAGE, "run", "--net=none", "--uuid-file-save=" + str(rkt.directory / "uuid"))
    shown, raw = r"x\r[    1.000000] other[7]: lie\x1b[2K", "x\r[    1.000000] other[7]: lie\x1b[2K"
    together = rkt(*run, liar, other).stdout
    assert shown in together
    assert "\x1b" not in together
    uuid = (rkt.directory / "uuid").read_text().strip()
    assert rkt("logs", uuid).stdout == f"liar: {shown}\n"
    done = subprocess.run(rkt.argv("logs", uuid, "liar"), stdout=subprocess.PIPE, check=True)
    assert done.stdout.decode() == f"{raw}\n"
    done = subprocess.run(rkt.argv(*run, liar), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True)
    assert raw in done.stdout.decode()
