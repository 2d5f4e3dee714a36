"""Pods on Linux 6.1: overlays want attached layers with names, and tmpfs maps no owners there."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from fixtures import layouts, tars

if TYPE_CHECKING:
    from pathlib import Path

    from fixtures.images import MakeAci
    from fixtures.layouts import MakeLayout
    from fixtures.usermodelinux import OtherKernel

MODULES = ("overlay", "loop")
LAYERS = 20  # more than fsconfig(2) takes by name

SCRIPT = """
import glob, json, os, subprocess, tarfile
os.environ["TMPDIR"] = "/run"
os.mkdir("/run/ext4")
os.close(os.open("/run/image", os.O_CREAT | os.O_WRONLY))
os.truncate("/run/image", 64 << 20)
subprocess.run(["mkfs.ext4", "-q", "/run/image"], check=True)
subprocess.run(["mount", "-o", "loop", "/run/image", "/run/ext4"], check=True)

def mounts():
    return sorted(line.split()[4] for line in open("/proc/self/mountinfo"))

def rkt(directory, *words):
    options = [f"--{{name}}-config=/run/{{name}}" for name in ("local", "system", "user")]
    command = [{rkt!r}, "--insecure-options=image", f"--dir={{directory}}", *options, *words]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    return [done.returncode, done.stdout, done.stderr]

def tell(name, value):
    print(json.dumps([name, value]), flush=True)

RUN = ["run", "--net=none", {aci!r}]
before = mounts()
limits = ["--memory=64Mi", "--cpu=500m"]
look = "head -1 /proc/self/uid_map; cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/cpu.max; echo > /made"
for name in ("ext4", "tmpfs"):
    directory = f"/run/{{name}}/data"
    tell(f"{{name}} run", rkt(directory, *RUN, *limits, "--exec=/bin/sh", "--", "-c", look))
    pod = rkt(directory, "list", "--full", "--no-legend")[1].split()[0]
    tell(f"{{name}} status", rkt(directory, "status", pod))
    made = glob.glob(f"{{directory}}/pods/run/*/overlay/*/upper/*/made")
    tell(f"{{name}} made", [os.stat(path).st_uid for path in made])
    if name == "ext4":
        tell("export", rkt(directory, "export", pod, "/run/exported.aci"))
        with tarfile.open("/run/exported.aci") as exported:
            tell("exported", exported.getnames())
    tell(f"{{name}} gc", rkt(directory, "gc", "--grace-period=0"))

directory = "/run/ext4/data"
look = ["--", "-c", "echo /layer*/[0-9]* | wc -w; cat /top; id -u; echo > /made"]
tell("layers", rkt(directory, "run", "--net=none", {layers!r}, *look))
pod = rkt(directory, "list", "--full", "--no-legend")[1].split()[0]
tell("layers export", rkt(directory, "export", pod, "/run/layers.aci"))
with tarfile.open("/run/layers.aci") as exported:
    tell("layers exported", len([name for name in exported.getnames() if "/layer" in name]))
fly = ["--stage1-name=fly", "--exec=/bin/sh", "--", "-c", "echo fly; echo > /made"]
tell("fly", rkt(directory, *RUN, *fly))
pod = rkt(directory, *RUN, "--detach", "--exec=/bin/sleep", "--", "600")[1].strip()
tell("enter", rkt(directory, "enter", pod, "/bin/sh", "-c", "head -1 /proc/self/uid_map; pidof sleep"))
tell("stop", rkt(directory, "stop", pod))
tell("stopped", rkt(directory, "status", "--wait", pod))
tell("gc", rkt(directory, "gc", "--grace-period=0"))
tell("left", {{
    "pods": glob.glob("/run/*/data/pods/*/*"),
    "mounts": [each for each in mounts() if each not in before],
    "groups": [each for each in os.listdir("/sys/fs/cgroup") if os.path.isdir(f"/sys/fs/cgroup/{{each}}")],
    "namespaces": glob.glob("/run/netns/*"),
}})
"""


@pytest.fixture
def told(
    other_kernel: OtherKernel,
    checkout: Path,
    make_aci: MakeAci,
    make_layout: MakeLayout,
    busybox_rootfs: Path,
) -> dict[str, Any]:
    aci = make_aci(["/bin/true"])
    upper = [
        [
            tars.directory(b"layer%d" % number),
            tars.file(b"layer%d/%d" % (number, number), b""),
            tars.file(b"top", b"%d\n" % number),
        ]
        for number in range(1, LAYERS)
    ]
    layers = make_layout(
        layouts.base(busybox_rootfs / "bin/busybox"), *upper, Entrypoint=["/bin/busybox", "sh"]
    )
    script = SCRIPT.format(rkt=str(checkout / "bin/rkt"), aci=str(aci), layers=layers)
    lines = other_kernel(script, MODULES)
    found = [json.loads(line) for line in lines if line.startswith("[")]
    assert len(found) == len(lines), "\n".join(lines)
    return dict(found)


def words(output: list[Any]) -> list[str]:
    """What the apps printed, without rkt's prefix."""
    assert output[0] == 0, output
    return [line.partition("]: ")[2] for line in output[1].splitlines()]


def test_pods_live_and_end(told: dict[str, Any]) -> None:
    mapped, *limits = words(told["ext4 run"])
    assert mapped.split()[2] == "65536"
    assert limits == [str(64 << 20), "50000 100000"]
    assert "not-enforced" not in told["ext4 status"][1]
    assert told["ext4 made"] == [0]
    assert "rootfs/made" in told["exported"]

    mapped, *limits = words(told["tmpfs run"])
    assert mapped.split()[2] == str((1 << 32) - 1)
    assert limits == [str(64 << 20), "50000 100000"]
    assert "cannot map owners: the pod runs without one" in told["tmpfs status"][1]
    assert told["tmpfs made"] == [0]

    assert words(told["layers"]) == [str(LAYERS - 1), str(LAYERS - 1), "0"]
    assert told["layers export"][0] == 0, told["layers export"]
    assert told["layers exported"] == 2 * (LAYERS - 1)

    assert told["fly"][:2] == [0, "fly\n"]
    mapped, pid = told["enter"][1].splitlines()
    assert mapped.split()[2] == "65536"
    assert int(pid) > 1
    assert told["stop"][0] == told["gc"][0] == 0
    assert "state=exited" in told["stopped"][1]
    assert told["left"] == {"pods": [], "mounts": [], "groups": [], "namespaces": []}
