"""The conformance cases beside the repository, as tests; skipped where that folder is absent."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).resolve().parent
VECTORS = HERE.parent.parent.parent / "shared" / "vectors"

needs_vectors = pytest.mark.skipif(not VECTORS.is_dir(), reason=f"the shared cases are not at {VECTORS}")


@pytest.fixture(autouse=True)
def _no_empty_state() -> Iterator[None]:
    """Plugins keep records in /run; the directories that stay when those are gone are not for long."""
    yield
    for directory in ("/run/rkt-platform/cni", "/run/rkt-platform"):
        with suppress(OSError):
            os.rmdir(directory)


def conformance(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(HERE), *arguments], capture_output=True, text=True, check=False, timeout=600
    )


@needs_vectors
def test_every_shared_case_passes_or_is_skipped_for_a_reason() -> None:
    result = conformance(str(VECTORS))
    assert result.returncode == 0, result.stdout + result.stderr
    last = result.stdout.splitlines()[-1].split()
    assert last[1::2] == ["passed,", "failed,", "skipped"]
    assert int(last[0]) >= 600


def test_a_wrong_case_is_shown_with_its_place_and_fails(tmp_path: Path) -> None:
    (tmp_path / "appc").mkdir()
    good = '{"kind": "acname", "input": "a", "valid": true, "normalized": "a"}'
    bad = '{"kind": "acname", "input": "a--b", "valid": true}'
    (tmp_path / "appc" / "acname.json").write_text(f"[\n{good},\n{bad}\n]\n")
    result = conformance(str(tmp_path))
    assert result.returncode == 1
    assert 'appc/acname.json:3: acname: "a--b"' in result.stdout
    assert result.stdout.splitlines()[-1] == "1 passed, 1 failed, 0 skipped"


def test_a_wrong_normal_form_fails(tmp_path: Path) -> None:
    (tmp_path / "appc").mkdir()
    case = '{"kind": "quantity", "input": "1.5", "valid": true, "canonical": "1501m"}'
    (tmp_path / "appc" / "quantity.json").write_text(f"[\n{case}\n]\n")
    result = conformance(str(tmp_path))
    assert result.returncode == 1
    assert "expected canonical 1501m" in result.stdout


def test_no_directory_is_no_success(tmp_path: Path) -> None:
    result = conformance(str(tmp_path / "absent"))
    assert result.returncode == 2
    assert "is not a directory" in result.stderr
