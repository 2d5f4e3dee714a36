"""SIGKILL in the middle of a signed fetch over HTTPS and of `rkt trust`: the next attempt works."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

import pytest

from fixtures.openpgp import Owner, armor
from fixtures.striking import positions, traced

if TYPE_CHECKING:
    from conftest import Rkt
    from fixtures.publisher import Publisher

SAMPLES = 8
pytestmark = [pytest.mark.usefixtures("root")]


def temporary(rkt: Rkt) -> list[str]:
    directory = rkt.directory / "data/cas/tmp"
    return sorted(os.listdir(directory)) if directory.exists() else []


def forget_everything(rkt: Rkt) -> None:
    rkt("image", "gc", "--grace-period=0s")


@pytest.mark.parametrize(
    "samples", [SAMPLES, pytest.param(10_000, marks=pytest.mark.campaign)], ids=["sample", "every-call"]
)
def test_a_killed_fetch_is_made_good_by_the_next(publisher: Publisher, rkt: Rkt, samples: int) -> None:
    owner, image = Owner(), publisher.aci(content=os.urandom(200_000))
    keys = rkt.directory / "etc/trustedkeys/root.d"
    keys.mkdir(parents=True)
    (keys / owner.fingerprint.lower()).write_bytes(owner.armored())
    publisher.publish(image, signature=armor(owner.key.signature(image.read_bytes())))
    argv = rkt.argv("fetch", "localhost/app")
    count = int(str(traced(argv)["count"]))
    assert count > 20
    for place in positions(count, samples):
        forget_everything(rkt)
        report = traced(argv, f"--at={place}", "--action=kill-tree")
        left = [name for name in temporary(rkt) if not re.fullmatch(r"[0-9a-f]{128}(\.etag)?", name)]
        listed = rkt("image", "list", "--no-legend").stdout
        rkt("gc")  # collects what nobody will come back for; an unfinished download may stay
        done = rkt("fetch", "--full", "localhost/app")
        assert temporary(rkt) == [], (report, left)
        rkt("image", "verify", done.stdout.strip())
        assert listed.count("localhost/app") <= 1


@pytest.mark.parametrize(
    "samples", [SAMPLES, pytest.param(10_000, marks=pytest.mark.campaign)], ids=["sample", "every-call"]
)
def test_a_killed_trust_leaves_a_whole_key_or_none(rkt: Rkt, samples: int) -> None:
    owner = Owner()
    key = rkt.directory / "key.asc"
    key.write_bytes(owner.armored())
    argv = rkt.argv("trust", "--prefix=example.com/app", "--skip-fingerprint-review", key)
    place_of_key = rkt.directory / "etc/trustedkeys/prefix.d/example.com/app" / owner.fingerprint.lower()
    count = int(str(traced(argv)["count"]))
    assert place_of_key.exists()
    for place in positions(count, samples):
        place_of_key.unlink(missing_ok=True)
        traced(argv, f"--at={place}", "--action=kill-tree")
        assert not place_of_key.exists() or place_of_key.read_bytes() == owner.armored()
        rkt("trust", "--prefix=example.com/app", "--skip-fingerprint-review", key)
        assert place_of_key.read_bytes() == owner.armored()
