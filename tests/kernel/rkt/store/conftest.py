"""A store of the test's own, and images to put in."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from appc.types.image_id import ImageID
from fixtures import tars
from rkt.store import Store

Put = Callable[..., ImageID]


@pytest.fixture
def store(tmp_path: Path, root: None) -> Iterator[Store]:
    with Store(str(tmp_path / "data")) as store:
        yield store


@pytest.fixture
def put(store: Store, tmp_path: Path) -> Put:
    """Imports an image of these members; keywords go into its manifest."""

    def put(*members: bytes, name: str = "example.com/app", into: Store = store, **manifest: Any) -> ImageID:
        options = {
            key: manifest.pop(key) for key in ("latest", "remote", "check", "expected") if key in manifest
        }
        data = tars.image(*members, manifest_bytes=tars.manifest(name, **manifest))
        with as_file(gzip.compress(data), tmp_path) as file:
            return into.import_aci(file, **options)

    return put


def as_file(data: bytes, directory: Path) -> BinaryIO:
    fd = os.open(directory, os.O_TMPFILE | os.O_RDWR, 0o600)
    file = os.fdopen(fd, "w+b")
    file.write(data)
    file.flush()
    return file
