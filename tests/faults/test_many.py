"""Many pods and many commands at once: no failure, nothing shared that must not be, nothing left."""

from __future__ import annotations

import json
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Rkt
    from fixtures.images import MakeAci

pytestmark = [pytest.mark.usefixtures("root")]
IMAGE = "--insecure-options=image"


def _start(argv: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_fifty_runs_of_an_image_nobody_has_make_one_blob(rkt: Rkt, true_aci: Path) -> None:
    runs = [_start(rkt.argv(IMAGE, "run", "--net=none", true_aci)) for _ in range(50)]
    results = [(process.communicate(timeout=240), process.returncode) for process in runs]
    assert [code for _, code in results] == [0] * 50, [output for output, code in results if code]
    assert len(json.loads(rkt("image", "list", "--format=json").stdout)) == 1
    blobs = [path for path in (rkt.directory / "data/cas/blob").rglob("sha512-*") if path.is_file()]
    assert len(blobs) == 1
    rkt("gc", "--grace-period=0s")
    assert rkt("list", "--no-legend").stdout == ""


@pytest.mark.parametrize("count", [40, pytest.param(200, marks=pytest.mark.campaign)])
def test_pods_at_once_have_addresses_of_their_own(rkt: Rkt, make_aci: MakeAci, count: int) -> None:
    image = make_aci(["/bin/sleep", "600"], name="example.com/sleeper")
    rkt(IMAGE, "fetch", image)
    runs = [_start(rkt.argv(IMAGE, "run", "--detach", image)) for _ in range(count)]
    try:
        outputs = [process.communicate(timeout=900) for process in runs]
        assert [process.returncode for process in runs] == [0] * count, [err for _, err in outputs if err]
        begun = time.monotonic()
        pods = json.loads(rkt("list", "--format=json").stdout)
        print(f"list of {count} pods: {time.monotonic() - begun:.3f} s")
        addresses = {pod["networks"][0]["ip"] for pod in pods}
        assert len(addresses) == count
        assert {pod["state"] for pod in pods} == {"running"}
        ranges = list((rkt.directory / "data/uid-ranges").iterdir())
        assert len(ranges) == count
    finally:
        uuids = rkt("list", "--no-legend", "--full").stdout.split()[0::1]
        names = [word for word in uuids if len(word) == 36]
        begun = time.monotonic()
        rkt("stop", "--force", *names, code=None, timeout=600)
    rkt("rm", *names, timeout=600)
    print(f"removal of {count} pods: {time.monotonic() - begun:.1f} s")
    assert rkt("list", "--no-legend").stdout == ""
