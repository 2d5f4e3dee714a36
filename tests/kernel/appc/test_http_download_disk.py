"""A download onto a disk that is too small for it."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from appc.http.client import Client
from appc.http.download import Download

if TYPE_CHECKING:
    from pathlib import Path

    from fixtures.httpsserver import Server


def test_a_full_disk_is_an_error_and_leaves_it_empty(
    root: None, https_server: Server, tmp_path: Path
) -> None:
    https_server.resource("/x.aci", bytes(300_000), etag='"one"')
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128k", "tests", tmp_path], check=True)
    try:
        fd = os.open(tmp_path / "part", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
        try:
            with Client() as client, pytest.raises(OSError, match="No space left"):
                Download(client, https_server.url("/x.aci"), fd, limit=1 << 20).run()
            assert os.fstat(fd).st_size == 0
        finally:
            os.close(fd)
        assert os.statvfs(tmp_path).f_bfree > 0
    finally:
        subprocess.run(["umount", tmp_path], check=True)
