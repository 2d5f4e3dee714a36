"""The probes of `rkt doctor`: they tell what is there, what is not, and leave nothing behind."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from linux import capabilities, probes, process

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.usefixtures("root")


def without_admin(name: str, directory: str) -> str:
    """The status of a probe for root without CAP_SYS_ADMIN and CAP_NET_ADMIN."""

    def look() -> bytes:
        kept = capabilities.read().permitted & ~capabilities.mask(("CAP_SYS_ADMIN", "CAP_NET_ADMIN"))
        capabilities.set_all(kept, kept)
        return probes.one(name, directory).status.encode()

    return process.fork_and_read(look).decode()


def test_every_probe_gives_one_finding_of_its_name(tmp_path: Path) -> None:
    findings = probes.all_of(str(tmp_path / "not/there/yet"))

    assert [finding.name for finding in findings] == list(probes.PROBES)
    for finding in findings:
        assert finding.status in (probes.OK, probes.WARN, probes.FAIL)
        assert finding.text
        assert bool(finding.remedy) is (finding.status != probes.OK)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("capabilities", "fail"),
        ("namespaces", "fail"),
        ("network-links", "fail"),
        ("nftables", "fail"),
        ("overlay", "warn"),
        ("idmapped-mounts", "warn"),
        ("clock", "ok"),
    ],
)
def test_what_is_forbidden_is_not_called_possible(name: str, status: str, tmp_path: Path) -> None:
    if probes.one("capabilities", str(tmp_path)).status != "ok":
        pytest.skip("needs CAP_SYS_ADMIN")
    assert without_admin(name, str(tmp_path)) == status


def test_overlay_on_a_filesystem_that_cannot_hold_one() -> None:
    finding = probes.one("overlay", "/proc")

    assert (finding.status, "modprobe overlay" in finding.remedy) == ("warn", True)


def test_a_clock_in_the_past_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time", lambda: 86400.0)

    assert probes.one("clock", "/").status == "fail"


def test_a_full_disk_is_a_warning(tmp_path: Path, small_disk: Callable[[str], Path]) -> None:
    finding = probes.one("disk", str(small_disk("64k")))

    assert (finding.status, "rkt gc" in finding.remedy) == ("warn", True)


@pytest.fixture
def small_disk(tmp_path: Path) -> object:
    from linux.mount import api

    mounted = []

    def make(size: str) -> Path:
        target = tmp_path / "disk"
        target.mkdir()
        api.mount("none", str(target), "tmpfs", 0, f"size={size}")
        mounted.append(target)
        return target

    yield make
    for target in mounted:
        api.umount(str(target))
    assert not any(os.path.ismount(target) for target in mounted)
