"""rkt doctor, and what completion offers from what exists on the host."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from linux import probes

if TYPE_CHECKING:
    from conftest import Rkt

pytestmark = pytest.mark.usefixtures("root")
CHECKOUT = Path(__file__).parent.parent.parent


def test_doctor_tells_all_probes_and_the_keys(rkt: Rkt) -> None:
    shown = json.loads(rkt("doctor", "--format=json", code=None).stdout)

    assert [finding["name"] for finding in shown] == [*probes.PROBES, "trusted-keys"]
    assert shown[-1]["status"] == "warn"
    assert "rkt trust" in shown[-1]["remedy"]
    lines = rkt("doctor", "--format={status} {name}", code=None).stdout.splitlines()
    assert lines == [f"{finding['status']} {finding['name']}" for finding in shown]
    text = rkt("doctor", code=None).stdout
    assert text.count("to mend: ") == sum(bool(finding["remedy"]) for finding in shown)


def test_doctor_counts_trusted_keys(rkt: Rkt) -> None:
    directory = rkt.directory / "etc/trustedkeys/prefix.d/example.com"
    directory.mkdir(parents=True)
    (directory / ("a" * 40)).write_text("key")

    shown = json.loads(rkt("doctor", "--format=json", code=None).stdout)

    assert (shown[-1]["status"], shown[-1]["text"]) == ("ok", "1 keys may sign images")


def test_doctor_exits_with_254_if_anything_fails(rkt: Rkt, tmp_path: Path) -> None:
    # Without network administration no pod gets a network.
    done = subprocess.run(
        [
            "setpriv",
            "--bounding-set=-net_admin",
            "--inh-caps=-net_admin",
            *rkt.argv("doctor", "--format=json"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )

    failed = [finding["name"] for finding in json.loads(done.stdout) if finding["status"] == "fail"]
    assert (done.returncode, "capabilities" in failed, "network-links" in failed) == (254, True, True)


# What runs behind it finds no system call of number ARGV[1] or later: what they are is the same everywhere.
OLD_KERNEL = """
import os, struct, sys
from linux import seccomp
steps = ((0x20, 0, 0, 0), (0x35, 0, 1, int(sys.argv[1])), (0x06, 0, 0, 0x50026), (0x06, 0, 0, 0x7FFF0000))
seccomp.install(b"".join(struct.pack("=HBBI", *step) for step in steps))
os.execv(sys.argv[2], sys.argv[2:])
"""
MOUNT_SETATTR, LANDLOCK = 442, 444


def on_a_kernel_without(number: int, *argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", OLD_KERNEL, str(number), *argv],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(CHECKOUT / "src")},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.needs("namespaces", "overlay")
@pytest.mark.parametrize("flavour", ["native", "fly"])
def test_the_oldest_kernel_is_the_one_that_doctor_tells(rkt: Rkt, true_aci: Path, flavour: str) -> None:
    net = "host" if flavour == "fly" else "none"
    run = rkt.argv("--insecure-options=image", "run", f"--stage1-name={flavour}", f"--net={net}", true_aci)
    doctor = rkt.argv("doctor", "--format={status} {name}")

    assert on_a_kernel_without(LANDLOCK, *run).returncode == 0
    assert "ok kernel\nok namespaces" in on_a_kernel_without(LANDLOCK, *doctor).stdout
    failed = on_a_kernel_without(MOUNT_SETATTR, *run)
    assert failed.returncode == 254
    assert "Function not implemented\nhint: pods need Linux 5.12 or later" in failed.stderr
    assert "Errno" not in failed.stderr
    assert "fail kernel\n" in on_a_kernel_without(MOUNT_SETATTR, *doctor).stdout


def test_a_wrong_template_is_refused_before_anything_is_tried(rkt: Rkt) -> None:
    refused = rkt("doctor", "--format={stats}", code=254)

    assert refused.stderr == "doctor: --format: unknown name {stats}\nhint: did you mean {status}?\n"


def test_completion_of_a_host_without_state_makes_none(rkt: Rkt) -> None:
    for words in (("status", ""), ("image", "rm", ""), ("run", "")):
        assert rkt("__complete", *words).stdout == ""
    assert not list((rkt.directory / "data").iterdir())


def test_completion_knows_pods_images_and_networks(rkt: Rkt, true_aci: Path) -> None:
    networks = rkt.directory / "etc/net.d"
    networks.mkdir()
    (networks / "10-mine.conf").write_text('{"name": "mine", "type": "bridge"}')
    (networks / "20-broken.conf").write_text("{")
    image = rkt("--insecure-options=image", "image", "list", code=None)
    assert image.returncode == 0
    uuid = rkt("--insecure-options=image", "prepare", true_aci).stdout.strip()
    options = [word for word in rkt.argv() if word.startswith("--")]

    def candidates(*words: str) -> list[str]:
        return [line.split("\t")[0] for line in rkt("__complete", *options, *words).stdout.splitlines()]

    assert candidates("status", uuid[:4]) == [uuid]
    assert candidates("status", "zzz") == []
    (name,) = candidates("image", "rm", "")
    assert rkt("image", "cat-manifest", name).stdout
    assert candidates("run", "--net=") == [
        f"--net={network}" for network in ("none", "host", "default", "default-restricted", "mine")
    ]
    rkt("rm", uuid)
