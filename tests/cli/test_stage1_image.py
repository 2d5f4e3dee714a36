"""A stage 1 of somebody else's: an image with entry points, run by rkt's stage 1 ABI."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Rkt
    from fixtures.images import MakeAci

pytestmark = [pytest.mark.usefixtures("root")]
IMAGE = "--insecure-options=image"
ABI = "coreos.com/rkt/stage1"
INIT = """#!/bin/sh
echo "cwd: $(pwd)"
echo "arguments: $*"
test -e "/proc/$$/fd/$RKT_LOCK_FD" && echo "lock: kept"
test -s pod && test -s appsinfo/app/manifest && echo "pod: complete"
echo $$ > pid
echo 4 > stage1/rootfs/rkt/status/app
echo "success, stub stage1 would at this point switch to stage2"
exit 4
"""
GC = """#!/bin/sh
echo "collected $*" > ../../../collected
"""


@pytest.fixture
def stub(make_aci: MakeAci, busybox_rootfs: Path) -> Path:
    for name, script in (("init", INIT), ("gc", GC)):
        (busybox_rootfs / name).write_text(script)
        os.chmod(busybox_rootfs / name, 0o755)
    entries = {"run": "/init", "gc": "/gc", "interface-version": "5"}
    annotations = [{"name": f"{ABI}/{name}", "value": value} for name, value in entries.items()]
    return make_aci(["/init"], name="example.com/stub-stage1", annotations=annotations)


def test_an_image_with_entry_points_runs_the_pod(rkt: Rkt, make_aci: MakeAci, stub: Path) -> None:
    app = make_aci(["/bin/true"], name="example.com/app")
    done = rkt(IMAGE, "run", f"--stage1-path={stub}", "--net=none", "--hostname=h", app, code=4)
    lines = done.stdout.splitlines()
    pod = json.loads(rkt("list", "--format=json").stdout)[0]
    assert f"cwd: {rkt.directory}/data/pods/run/{pod['uuid']}" in lines
    assert f"arguments: --net=none --local-config={rkt.directory}/etc --hostname=h" in "\n".join(lines)
    assert {"lock: kept", "pod: complete"} <= set(lines)
    assert "success, stub stage1 would at this point switch to stage2" in lines
    assert "app-app=4" in rkt("status", pod["uuid"]).stdout
    rkt("gc", "--grace-period=0s")
    assert (rkt.directory / "data/collected").read_text().strip().endswith(pod["uuid"])
    (rkt.directory / "data/collected").unlink()


def test_two_stage1_flags_exclude_each_other(rkt: Rkt, true_aci: Path, stub: Path) -> None:
    done = rkt(IMAGE, "run", f"--stage1-path={stub}", "--stage1-name=fly", "--net=none", true_aci, code=254)
    assert "exclusive" in done.stderr


def test_an_image_without_entry_points_is_refused(rkt: Rkt, make_aci: MakeAci, true_aci: Path) -> None:
    done = rkt(IMAGE, "run", f"--stage1-path={true_aci}", "--net=none", true_aci, code=254)
    assert f"{ABI}/run" in done.stderr
    assert "Traceback" not in done.stderr
