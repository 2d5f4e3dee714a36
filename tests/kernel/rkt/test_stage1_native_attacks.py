"""The native stage 1 under attack from inside: races in shared volumes, host executables, floods."""

from __future__ import annotations

import hashlib
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from linux.mount import info

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import MakePod

# Swaps a directory and a link to / as fast as it can (renameat2 with RENAME_EXCHANGE), until told to stop.
_SWAPPER = r"""
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>
int main(void)
{
    puts("swapping");
    fflush(stdout);
    while (access("/shared/stop", F_OK))
        for (int i = 0; i < 100; i++)
            renameat2(AT_FDCWD, "/shared/sub", AT_FDCWD, "/shared/link", RENAME_EXCHANGE);
    return 0;
}
"""
# Opens the executable of every process that it sees for writing, until one is writable.
_WRITER = r"""
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <time.h>
int main(void)
{
    char path[300];
    time_t end = time(0) + 3;
    puts("looking");
    fflush(stdout);
    while (time(0) < end) {
        DIR *proc = opendir("/proc");
        struct dirent *entry;
        while ((entry = readdir(proc))) {
            snprintf(path, sizeof path, "/proc/%s/exe", entry->d_name);
            int fd = open(path, O_WRONLY);
            if (fd >= 0)
                printf("writable %s\n", path);
            snprintf(path, sizeof path, "/proc/%s/root/etc/shadow", entry->d_name);
            fd = open(path, O_RDONLY);
            if (fd >= 0)
                printf("readable %s\n", path);
        }
        closedir(proc);
    }
    puts("done");
    return 0;
}
"""


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The two attackers as static programs."""
    import shutil
    import subprocess

    if shutil.which("gcc") is None:
        pytest.skip("needs gcc")
    made = {}
    for name, source in (("swapper", _SWAPPER), ("writer", _WRITER)):
        path = tmp_path_factory.mktemp("attackers") / name
        command = ["gcc", "-static", "-O1", "-x", "c", "-", "-o", str(path)]
        subprocess.run(command, input=source.encode(), check=True)
        made[name] = path
    return made


@pytest.fixture
def unchanged() -> Iterator[None]:
    """What the host has mounted, its interpreter and our own files are as before."""
    from rkt.stage1.native import stage1

    def look() -> list[object]:
        files = (os.path.realpath(sys.executable), stage1.__file__)
        hashes = [hashlib.sha256(Path(path).read_bytes()).hexdigest() for path in files]
        return [hashes, [(entry.id, entry.target) for entry in info.mounts()]]

    before = look()
    yield
    assert look() == before


def race(make_pod: MakePod, attacker: Path, rootfs: Path, shared: Path, starts: int) -> None:
    (shared / "sub").mkdir(parents=True)
    (shared / "sub/inside").touch()
    (shared / "link").symlink_to("/")
    (rootfs / "bin/swapper").write_bytes(attacker.read_bytes())
    (rootfs / "bin/swapper").chmod(0o755)
    volumes = [{"name": "shared", "kind": "host", "source": str(shared)}]
    swapping = make_pod(
        ["swapper"], volumes=volumes, runtime={"mounts": [{"volume": "shared", "path": "/shared"}]}
    )
    mine = shared.parent / "mine"
    mine.mkdir()
    (mine / "file").touch()
    volumes += [{"name": "mine", "kind": "host", "source": str(mine)}]
    with swapping.start(private_users=[0x70010000, 65536]) as process:
        swapping.await_(lambda: "swapping" in swapping.log(), process)
        seen = set()
        for _ in range(starts):
            mounts = [
                {"volume": "shared", "path": "/shared"},
                {"volume": "mine", "path": "/shared/sub/below"},
            ]
            # Through the link the root of the pod is meant, never the host's: then the mount is at /below.
            script = (
                "ls /shared/sub/below /below 2>/dev/null | grep -c file; ls -d /work /usr /lib64 2>/dev/null"
            )
            pod = make_pod(["sh", "-c", script], volumes=volumes, runtime={"mounts": mounts})
            done = pod.run()
            if done.code == 254:
                seen.add("refused")
            else:
                assert "/usr" not in done.lines, "the host's root is to be seen"
                seen.add("run")
        (shared / "stop").touch()
        process.communicate(timeout=20)
    assert not (Path("/below")).exists()
    assert "run" in seen


def test_cve_2021_30465_a_mount_target_that_is_swapped_meanwhile(
    make_pod: MakePod, compiled: dict[str, Path], busybox_rootfs: Path, tmp_path: Path, unchanged: None
) -> None:
    """S13, a sample: pod A swaps a directory and a link in a volume that pod B mounts below."""
    race(make_pod, compiled["swapper"], busybox_rootfs, tmp_path / "shared", 12)


@pytest.mark.campaign
def test_cve_2021_30465_five_hundred_times(
    make_pod: MakePod, compiled: dict[str, Path], busybox_rootfs: Path, tmp_path: Path, unchanged: None
) -> None:
    race(make_pod, compiled["swapper"], busybox_rootfs, tmp_path / "shared", 500)


@pytest.mark.parametrize("flags", [{}, {"private_users": None}], ids=["userns", "no-userns"])
def test_cve_2019_5736_no_executable_of_the_host_can_be_written(
    make_pod: MakePod,
    compiled: dict[str, Path],
    busybox_rootfs: Path,
    unchanged: None,
    flags: dict[str, object],
) -> None:
    """S12: while apps start all the time, every step of theirs a fork of the host's interpreter."""
    (busybox_rootfs / "bin/writer").write_bytes(compiled["writer"].read_bytes())
    (busybox_rootfs / "bin/writer").chmod(0o755)
    (busybox_rootfs / "bin/self").write_text("#!/proc/self/exe\n")
    (busybox_rootfs / "bin/self").chmod(0o755)
    handler = {"name": "pre-start", "exec": ["/bin/true"]}
    apps: dict[str, dict[str, object]] = {"attacker": {"exec": ["writer"]}}
    for number in range(6):
        apps[f"app{number}"] = {"exec": ["true"], "eventHandlers": [handler]}
    done = make_pod(apps=apps).run(**flags)
    lines = [
        line for line in done.lines if not line.startswith(("writable /proc/self/exe", "looking", "done"))
    ]
    assert not [line for line in lines if "writable" in line or "readable" in line], lines
    assert "done" in done.stdout


def test_a_script_that_is_run_by_its_own_executable(
    make_pod: MakePod, busybox_rootfs: Path, unchanged: None
) -> None:
    (busybox_rootfs / "bin/self").write_text("#!/proc/self/exe\n")
    (busybox_rootfs / "bin/self").chmod(0o755)
    done = make_pod(["self"]).run(timeout=20)
    assert done.code != 0


def test_a_fork_bomb_ends_at_the_pods_limit(make_pod: MakePod) -> None:
    """S19: pids.max, and the whole pod gone at a signal."""
    pod = make_pod(["sh", "-c", "echo up; bomb() { bomb | bomb & }; bomb; sleep 600"])
    with pod.start(grace=0.5) as process:
        pod.await_(lambda: "up" in pod.log(), process)
        time.sleep(1.0)
        start = time.monotonic()
        process.terminate()
        process.communicate(timeout=60)
        assert time.monotonic() - start < 30
    assert not os.path.exists(f"/proc/{(pod.directory / 'pid').read_text().strip()}")


def test_a_hungry_app_is_killed_alone(make_pod: MakePod) -> None:
    limit = {"name": "resource/memory", "value": {"limit": "24M"}}
    apps = {
        "hungry": {"exec": ["sh", "-c", "tail /dev/zero; exit 9"], "isolators": [limit]},
        "other": {"exec": ["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.1; done"]},
    }
    pod = make_pod(apps=apps)
    done = pod.run(timeout=60)
    missed = pod.directory / "not-enforced"
    if missed.exists() and "resource/memory" in missed.read_text():
        pytest.skip("no memory controller here")
    assert done.code in {9, 137}
    assert pod.status("other") == "0"
    assert (pod.directory / "out-of-memory").read_text() == "hungry\n"
    assert "app hungry: the kernel killed processes for lack of memory" in done.stderr
