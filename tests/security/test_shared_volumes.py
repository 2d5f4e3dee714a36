"""Races in what a pod can rearrange while others look: shared volumes and exports (S13, S14, R8, R15)."""

from __future__ import annotations

import ctypes
import os
import tarfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from linux.mount import info

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from conftest import Rkt
    from fixtures.images import MakeAci

pytestmark = [pytest.mark.usefixtures("root")]
IMAGE = "--insecure-options=image"
RENAME_EXCHANGE = 2
AT_FDCWD = -100


@pytest.fixture
def exchange() -> Iterator[Callable[[Path, Path], None]]:
    """Starts threads that swap two names as fast as they can, as an app with the volume could."""
    native = ctypes.CDLL(None, use_errno=True)
    stop = threading.Event()
    threads: list[threading.Thread] = []
    swaps = [0]

    def start(one: Path, other: Path) -> None:
        first, second = os.fsencode(one), os.fsencode(other)

        def loop() -> None:
            while not stop.is_set():
                swaps[0] += not native.renameat2(AT_FDCWD, first, AT_FDCWD, second, RENAME_EXCHANGE)

        threads.append(threading.Thread(target=loop))
        threads[-1].start()

    yield start
    stop.set()
    for thread in threads:
        thread.join()
    assert swaps[0] > 100, "the race was none"


@pytest.mark.parametrize("flavour", ["native", "fly"])
def test_s13_cve_2021_30465_a_mount_target_is_swapped_for_a_link(
    rkt: Rkt,
    make_aci: MakeAci,
    tmp_path: Path,
    exchange: Callable[[Path, Path], None],
    flavour: str,
) -> None:
    """Fifty mounts below a directory that is a link to the host half of the time; native has them in pods of
    ten apps. CVE-2017-1002101 and CVE-2021-25741 are the same of kubelets.
    """
    shared, inner, canary = tmp_path / "shared", tmp_path / "inner", tmp_path / "canary"
    for directory in (shared / "sub", inner, canary):
        directory.mkdir(parents=True)
    (canary / "keep").write_text("host secret")
    (inner / "mine").touch()
    (shared / "link").symlink_to("../" * 30 + str(canary).lstrip("/"))
    before = [(entry.id, entry.target) for entry in info.mounts()]
    exchange(shared / "sub", shared / "link")
    image = make_aci(["/bin/sh", "-c", "exec 2>/dev/null; ls -R /shared/sub/; cat /shared/sub/keep; exit 0"])
    runs, apps = (5, 10) if flavour == "native" else (12, 1)
    volumes = [f"--volume=s,kind=host,source={shared}", f"--volume=i,kind=host,source={inner}"]
    mounts = ["--mount=volume=s,target=/shared", "--mount=volume=i,target=/shared/sub/deep"]
    codes = []
    for _ in range(runs):
        words: list[str] = []
        for number in range(apps):
            words += [str(image), f"--name=a{number}", *([] if number == apps - 1 else ["---"])]
        argv = (IMAGE, "run", f"--stage1-name={flavour}", "--net=none", *volumes, *mounts, *words)
        done = rkt(*argv, code=None, timeout=60)
        codes.append(done.returncode)
        assert "host secret" not in done.stdout
        assert "keep" not in done.stdout
        assert "Traceback" not in done.stderr
        assert "internal error" not in done.stderr
    assert set(codes) <= {0, 254}, codes
    print(f"{codes.count(0)} of {runs} pods started")
    assert os.listdir(canary) == ["keep"]
    assert [(entry.id, entry.target) for entry in info.mounts()] == before


def test_s14_an_export_holds_no_byte_of_the_host(
    rkt: Rkt, make_aci: MakeAci, tmp_path: Path, exchange: Callable[[Path, Path], None]
) -> None:
    """CVE-2018-15664, CVE-2019-14271: the pod's files are swapped for links to the host meanwhile.

    Only exited pods are exported, so nobody of the pod could; the layer is rearranged by its back door.
    """
    secret = tmp_path / "shadow"
    secret.write_text("host secret")
    script = (
        f"echo mine > /file; mkdir /dir; echo mine > /dir/shadow; ln -s {secret} /link; ln -s {tmp_path} /out"
    )
    image = make_aci(["/bin/sh", "-c", script])
    uuid = rkt(IMAGE, "prepare", "--quiet", image).stdout.strip()
    rkt("run-prepared", "--net=none", uuid)
    (upper,) = (rkt.directory / f"data/pods/run/{uuid}/overlay").glob("*/upper/*")
    exchange(upper / "file", upper / "link")
    exchange(upper / "dir", upper / "out")
    exported = 0
    for number in range(15):
        out = tmp_path / f"out{number}.aci"
        done = rkt("export", uuid, out, code=None)
        assert "Traceback" not in done.stderr
        if done.returncode:
            assert done.returncode == 254
            assert not out.exists()
            continue
        exported += 1
        with tarfile.open(out) as archive:
            for member in archive:
                if member.isfile() and member.size < 100:
                    stream = archive.extractfile(member)
                    assert stream is not None
                    assert stream.read() != b"host secret"
    assert list(tmp_path.glob(".*")) == []
    assert exported, "no export came to its end: nothing was looked at"


def test_s14_a_running_pod_is_not_exported(rkt: Rkt, make_aci: MakeAci, tmp_path: Path) -> None:
    image = make_aci(["/bin/sleep", "60"])
    uuid = rkt(IMAGE, "run", "--detach", "--net=none", image).stdout.strip()
    done = rkt("export", uuid, tmp_path / "out.aci", code=254)
    assert "pod is not exited. Only exited pods can be exported" in done.stderr
    rkt("stop", "--force", uuid)
