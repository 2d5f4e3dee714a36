"""SIGKILL in the middle of a fetch of an image of layers: the next one works, and one gc leaves nothing."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from fixtures import tars
from fixtures.layouts import base
from fixtures.striking import positions, traced

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Rkt
    from fixtures.layouts import MakeLayout

SAMPLES = 7
ANY = "--insecure-options=image"
pytestmark = [pytest.mark.usefixtures("root"), pytest.mark.needs("overlay")]


def names(rkt: Rkt, directory: str) -> list[str]:
    place = rkt.directory / "data/cas" / directory
    return sorted(os.listdir(place)) if place.exists() else []


@pytest.mark.parametrize(
    "samples", [SAMPLES, pytest.param(10_000, marks=pytest.mark.campaign)], ids=["sample", "every-call"]
)
def test_a_killed_fetch_is_made_good(rkt: Rkt, make_layout: MakeLayout, busybox: Path, samples: int) -> None:
    image = make_layout(
        base(busybox),
        [tars.file(b"big", os.urandom(200_000)), tars.file(b"etc/.wh.passwd")],
        [tars.file(b"last", b"3")],
        Cmd=["/bin/echo", "whole"],
    )
    argv = rkt.argv(ANY, "fetch", image)
    count = int(str(traced(argv)["count"]))
    whole = {name: names(rkt, name) for name in ("layer", "tree", "oci/sha256")}
    assert count > 40
    for place in positions(count, samples):
        rkt("image", "rm", "layout", code=None)
        rkt("image", "gc", "--grace-period=0s")
        assert names(rkt, "layer") == []
        report = traced(argv, f"--at={place}", "--action=kill-tree")
        # What is listed is whole: its layers are, and its blobs.
        listed = rkt("image", "list", "--no-legend", "--fields=name").stdout.split()
        assert listed in ([], ["layout:v1"]), report
        if listed:
            rkt("image", "verify", "layout")
        assert set(names(rkt, "layer")) <= set(whole["layer"]), report
        rkt("image", "gc", "--grace-period=0s")
        assert names(rkt, "tmp") == [], report
        rkt(ANY, "fetch", image)
        assert {name: names(rkt, name) for name in whole} == whole, report
        rkt("image", "verify", "layout")
        assert names(rkt, "tmp") == []
    assert "0 problem(s)" in rkt("image", "fsck").stdout


@pytest.mark.parametrize(
    "samples", [4, pytest.param(10_000, marks=pytest.mark.campaign)], ids=["sample", "every-call"]
)
def test_a_killed_collection_is_made_good(
    rkt: Rkt, make_layout: MakeLayout, busybox: Path, samples: int
) -> None:
    """Layers and blobs lose their names before their files; what another image has stays."""
    kept = make_layout(base(busybox), tag="kept")
    goes = make_layout(base(busybox), [tars.file(b"x", b"1"), tars.file(b"y", b"2")], tag="goes")
    argv = rkt.argv("image", "gc", "--grace-period=24h")

    def prepare() -> None:
        rkt(ANY, "fetch", kept, goes)
        rkt("image", "rm", "layout:goes")

    prepare()
    count = int(str(traced(argv)["count"]))
    for place in positions(count, samples):
        prepare()
        report = traced(argv, f"--at={place}", "--action=kill-tree")
        rkt("image", "verify", "layout:kept")
        rkt("image", "gc", "--grace-period=24h")
        rkt(ANY, "fetch", kept)
        assert len(names(rkt, "layer")) == 1, report
        assert len(names(rkt, "oci/sha256")) == 3, report
        assert names(rkt, "tmp") == [], report
