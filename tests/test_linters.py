"""ruff, mypy and shellcheck are tests too; each is skipped where it is not installed."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parent.parent
SCRIPTS = (
    *("bin/rkt", "bin/actool", "bin/cnitool"),
    *("quickstart.d/bundle", "quickstart.d/private-root", "quickstart.d/publish"),
)


def program(name: str) -> str:
    beside = Path(sys.executable).with_name(name)
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def check(*command: str) -> None:
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_ruff() -> None:
    check(program("ruff"), "check", "--no-cache", "--quiet", ".", *SCRIPTS)


def test_mypy(tmp_path: Path) -> None:
    check(program("mypy"), "--cache-dir", str(tmp_path))


def test_shellcheck() -> None:
    check(program("shellcheck"), "quickstart", "quickstart.d/tour", ".ci/run")


def test_scripts_are_posix() -> None:
    check(program("dash"), "-n", "quickstart", "quickstart.d/tour")
