"""The units that packages install are ones that systemd understands."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest


@pytest.mark.usefixtures("root")
def test_units_are_valid(checkout: Path, tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("needs systemd-analyze")
    for unit in (checkout / "dist/systemd").iterdir():
        # The programs are not installed where the tests run.
        text = re.sub(r"/usr/bin/(rkt|acserver)", rf'"{checkout}/bin/\1"', unit.read_text())
        text = re.sub(r"/usr/lib/rkt/plugins/net/(\w+)", rf'"{checkout}/lib/cni/\1"', text)
        (tmp_path / unit.name).write_text(text)
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

    complaints = [line for line in done.stderr.splitlines() if "rkt" in line or "acserver" in line]
    assert not complaints, done.stderr


def test_units_run_verbs_that_exist(checkout: Path) -> None:
    from rkt.cli.main import PROGRAM

    for unit in (checkout / "dist/systemd").glob("*.service"):
        text = unit.read_text()
        program, *words = (
            next(line for line in text.splitlines() if line.startswith("ExecStart="))
            .removeprefix("ExecStart=")
            .split()
        )
        name = Path(program).name
        if program == "/usr/bin/rkt":
            PROGRAM.find(words)
            name = f"rkt-{words[0]}"
        elif program.startswith("/usr/lib/rkt/plugins/net/"):
            assert (checkout / "lib/cni" / name).exists()
            continue
        else:
            assert (checkout / "bin" / name).exists()
        assert f"Documentation=man:{name}(1)" in text
