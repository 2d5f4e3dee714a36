"""The units that packages install are ones that systemd understands."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest


@pytest.mark.usefixtures("root")
def test_units_are_valid(checkout: Path, tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("needs systemd-analyze")
    for unit in (checkout / "dist/systemd").iterdir():
        # rkt is not installed where the tests run.
        (tmp_path / unit.name).write_text(unit.read_text().replace("/usr/bin/rkt", f'"{checkout}/bin/rkt"'))
    units = sorted(str(path) for path in tmp_path.iterdir())

    done = subprocess.run(
        # It writes to /run/systemd, so it gets a /run of its own.
        [
            checkout / "quickstart.d/private-root",
            "--net",
            "systemd-analyze",
            "verify",
            "--man=no",
            "--recursive-errors=one",
            *units,
        ],
        env={"SYSTEMD_UNIT_PATH": f"{tmp_path}:", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )

    complaints = [line for line in done.stderr.splitlines() if "rkt" in line]
    assert not complaints, done.stderr


def test_units_run_verbs_that_exist(checkout: Path) -> None:
    from rkt.cli.main import PROGRAM

    for unit in (checkout / "dist/systemd").glob("*.service"):
        line = next(line for line in unit.read_text().splitlines() if line.startswith("ExecStart="))
        PROGRAM.find(line.split()[1:])
        assert f"Documentation=man:rkt-{line.split()[1]}(1)" in unit.read_text()
