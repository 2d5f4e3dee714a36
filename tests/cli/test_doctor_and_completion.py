"""rkt doctor, and what completion offers from what exists on the host."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from linux import probes

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Rkt

pytestmark = pytest.mark.usefixtures("root")


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
    import subprocess

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
