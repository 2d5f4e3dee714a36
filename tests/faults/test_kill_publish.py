"""SIGKILL in the middle of `rkt image publish`: old or new, whole and signed; the next one mends it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from fixtures.openpgp import Owner, armor
from fixtures.publisher import MACHINE, small_aci
from fixtures.striking import positions, traced

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Rkt

SAMPLES = 12
pytestmark = [pytest.mark.usefixtures("root")]


@pytest.mark.parametrize(
    "samples", [SAMPLES, pytest.param(10_000, marks=pytest.mark.campaign)], ids=["sample", "every-call"]
)
def test_a_killed_publication_shows_old_or_new_and_is_made_good_by_the_next(
    rkt: Rkt, tmp_path: Path, samples: int
) -> None:
    owner, site = Owner(), tmp_path / "www"
    key = tmp_path / "key.asc"
    key.write_bytes(owner.armored())
    images = [
        small_aci(tmp_path / f"{n}.aci", labels={"version": "1.0"}, content=b"%d\n" % n) for n in range(2)
    ]
    pairs = {}
    for image in images:
        signature = armor(owner.key.signature(image.read_bytes()))
        image.with_name(image.name + ".asc").write_bytes(signature)
        pairs[image.read_bytes()] = signature
    words = ("image", "publish", "--base-url=https://localhost", f"--pubkeys={key}", site)
    rkt(*words, images[0])
    shown = site / f"localhost/app/app-1.0-linux-{MACHINE}.aci"
    count = int(str(traced(rkt.argv(*words, images[1]))["count"]))
    assert count > 20

    for number, place in enumerate(positions(count, samples)):
        next_one = images[number % 2]
        report = traced(rkt.argv(*words, next_one), f"--at={place}", "--action=kill-tree")
        for name in ("1.0", "latest"):
            file = shown.with_name(f"app-{name}-linux-{MACHINE}.aci")
            assert pairs[file.read_bytes()] == file.with_name(file.name + ".asc").read_bytes(), report
        rkt(*words, next_one)
        assert shown.read_bytes() == next_one.read_bytes()
        releases = os.listdir(shown.parent / ".releases")
        assert len(releases) == 3, (report, releases)
        assert not list(site.rglob(".tmp-*")), report
