"""What tests under a booted systemd share: rkt in the guest, and images with a program of systemd's kind."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from fixtures import systemdguest
from fixtures.compiled import compiled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fixtures.images import MakeAci
    from fixtures.systemdguest import Guest

UNTIL_TERM = "trap 'echo bye; exit 0' TERM; while :; do sleep 0.05; done"


@pytest.fixture(scope="session")
def unified_guest(debian_with_systemd: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guest]:
    """A guest that sees version 2 control groups alone, whatever this machine has (without controllers)."""
    with systemdguest.booted(debian_with_systemd, tmp_path_factory.mktemp("v2"), unified=True) as guest:
        yield guest


class GuestRkt(NamedTuple):
    """rkt in a guest, on a data directory of the test's own in the shared directory."""

    guest: Guest
    directory: str

    def argv(self, *words: str | Path) -> list[str]:
        """The command line of rkt in the guest."""
        options = [f"--dir={self.directory}", "--insecure-options=image"]
        return [f"{systemdguest.RKT}/bin/rkt", *options, *map(str, words)]

    def __call__(self, *words: str | Path, code: int | None = 0) -> str:
        """Run a command in a unit of its own, and give what it printed."""
        run = ("systemd-run", "--quiet", "--pipe", "--wait", "--collect")
        return self.guest(*run, *self.argv(*words), code=code).stdout

    def serve(self, unit: str, *words: str | Path, properties: tuple[str, ...] = ()) -> None:
        """Run a pod as a service with Type=notify; returns when it is ready."""
        options = ("Type=notify", "KillMode=mixed", *properties)
        self.guest.unit(unit, *self.argv(*words), properties=options)

    def image(self, path: Path) -> str:
        """Carry an image into the guest; where it is there."""
        shutil.copy(path, self.guest.shared)
        return f"{systemdguest.SHARED}/{path.name}"

    def running(self) -> str:
        """The UUID of the only pod that runs."""
        (line,) = [line for line in self("list", "--full", "--no-legend").splitlines() if "running" in line]
        return line.split()[0]

    def machines(self) -> list[str]:
        """What machined knows."""
        listed = self.guest("machinectl", "list", "--no-legend").stdout.splitlines()
        return [line.split()[0] for line in listed if line.strip()]

    def journal(self, *options: str) -> list[str]:
        """Messages in the journal."""
        return self.guest("journalctl", "--output=cat", "--no-pager", *options).stdout.splitlines()


@pytest.fixture
def guest_rkt(systemd_guest: Guest, request: pytest.FixtureRequest) -> Iterator[GuestRkt]:
    """rkt on the guest that is laid out as this machine."""
    yield from _rkt_in(systemd_guest, request)


@pytest.fixture
def unified_rkt(unified_guest: Guest, request: pytest.FixtureRequest) -> Iterator[GuestRkt]:
    """rkt on the guest with version 2 control groups."""
    yield from _rkt_in(unified_guest, request)


def _rkt_in(guest: Guest, request: pytest.FixtureRequest) -> Iterator[GuestRkt]:
    name = request.node.name.partition("[")[0]
    (guest.shared / name).mkdir()
    rkt = GuestRkt(guest, f"{systemdguest.SHARED}/{name}")
    yield rkt
    for line in rkt("list", "--full", "--no-legend").splitlines():
        if "running" in line:
            rkt("stop", "--force", line.split()[0], code=None)
    rkt("gc", "--grace-period=0s", code=None)
    guest("systemctl", "reset-failed")
    assert rkt.machines() == []
    shutil.rmtree(guest.shared / name)


@pytest.fixture(scope="session")
def activated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The compiled program; see its source."""
    return compiled(Path(__file__).parent / "activated.c", tmp_path_factory.mktemp("activated"))


@pytest.fixture
def make_activated_aci(make_aci: MakeAci, activated: Path, busybox_rootfs: Path) -> MakeAci:
    """Makes images that have the program as /bin/activated."""
    shutil.copy2(activated, busybox_rootfs / "bin/activated")
    return make_aci


@pytest.fixture
def eventually() -> Callable[[Callable[[], object]], None]:
    """Wait until a condition holds, at most ten seconds."""

    def wait(condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + 10
        while not condition():
            assert time.monotonic() < deadline, "it did not come to that"
            time.sleep(0.05)

    return wait
