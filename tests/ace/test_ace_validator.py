"""The executor conformance scenario of the appc specification: main and sidekick, handlers, metadata."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from appc.aci import writer
from fixtures.compiled import compiled
from fixtures.publisher import PLATFORM

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import Rkt

SOURCE = Path(__file__).parent / "validator.c"
# The specification gives each answer 100 ms. A machine that tests in parallel is allowed more.
LIMIT_MS = "2000"

MAIN: dict[str, Any] = {
    "name": "coreos.com/ace-validator-main",
    "app": {
        "exec": ["/ace-validator", "main"],
        "user": "0",
        "group": "0",
        "eventHandlers": [
            {"name": "pre-start", "exec": ["/ace-validator", "prestart"]},
            {"name": "post-stop", "exec": ["/ace-validator", "poststop"]},
        ],
        "workingDirectory": "/opt/acvalidator",
        "environment": [
            {"name": "IN_ACE_VALIDATOR", "value": "correct"},
            {"name": "ACE_LIMIT_MS", "value": LIMIT_MS},
        ],
        "isolators": [{"name": "resource/memory", "value": {"limit": "1G"}}],
        "mountPoints": [{"name": "database", "path": "/db"}],
        "ports": [{"name": "www", "protocol": "tcp", "port": 80}],
    },
    "annotations": [
        {"name": "authors", "value": "Somebody <somebody@example.com>"},
        {"name": "created", "value": "2014-10-27T19:32:27Z"},
        {"name": "documentation", "value": "https://example.com/doc"},
        {"name": "homepage", "value": "https://example.com"},
        {"name": "lorem", "value": "ipsum"},
    ],
}
SIDEKICK: dict[str, Any] = {
    "name": "coreos.com/ace-validator-sidekick",
    "app": {
        "exec": ["/ace-validator", "sidekick"],
        "user": "0",
        "group": "0",
        "mountPoints": [{"name": "database", "path": "/db"}],
    },
}


@pytest.fixture(scope="session")
def validator(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The validator, compiled."""
    return compiled(SOURCE, tmp_path_factory.mktemp("ace"))


class Images:
    """The two images, and others like them."""

    def __init__(self, validator: Path, directory: Path) -> None:
        self._directory = directory
        self._rootfs = directory / "rootfs"
        (self._rootfs / "opt/acvalidator").mkdir(parents=True)
        (self._rootfs / "db").mkdir()
        shutil.copy2(validator, self._rootfs / "ace-validator")

    def make(self, manifest: dict[str, Any]) -> Path:
        labels = [{"name": name, "value": value} for name, value in PLATFORM.items()]
        whole = {"acKind": "ImageManifest", "acVersion": "0.8.11", "labels": labels, **manifest}
        out = io.BytesIO()
        writer.build(str(self._rootfs), json.dumps(whole).encode(), out, owner_root=True)
        path = self._directory / f"{manifest['name'].rpartition('/')[2]}.aci"
        path.write_bytes(out.getvalue())
        return path


@pytest.fixture
def images(validator: Path, tmp_path: Path) -> Images:
    return Images(validator, tmp_path)


@pytest.fixture
def metadata_service(root: None, rkt: Rkt) -> Iterator[None]:
    """A service at its usual places, in the tests' own /run/rkt."""
    directory = Path("/run/rkt")
    made = not directory.exists()
    directory.mkdir(mode=0o700, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=700", "tests", directory], check=True)
    try:
        process = subprocess.Popen(rkt.argv("metadata-service"), stderr=subprocess.DEVNULL)
        try:
            deadline = time.monotonic() + 10
            while not (directory / "metadata-svc.sock").exists():
                assert time.monotonic() < deadline, "the metadata service does not start"
                time.sleep(0.02)
            yield
        finally:
            process.terminate()
            process.wait(10)
    finally:
        subprocess.run(["umount", directory], check=True)
        if made:
            directory.rmdir()


def run_pod(rkt: Rkt, database: Path, *arguments: str | Path, code: int | None = 0) -> str:
    volume = f"--volume=database,kind=host,source={database}"
    done = rkt("--insecure-options=image", "run", "--mds-register", volume, *arguments, code=code)
    return done.stdout + done.stderr


@pytest.fixture
def database(tmp_path: Path) -> Path:
    directory = tmp_path / "database"
    directory.mkdir()
    directory.chmod(0o777)
    return directory


def test_all_four_are_content(metadata_service: None, rkt: Rkt, images: Images, database: Path) -> None:
    output = run_pod(rkt, database, images.make(MAIN), images.make(SIDEKICK))
    for mode in ("prestart", "main", "sidekick", "poststop"):
        assert f"{mode} OK" in output, output
    assert "FAIL" not in output
    assert sorted(os.listdir(database)) == ["main", "sidekick"]


def test_pod_annotations_override_the_images(
    metadata_service: None, rkt: Rkt, images: Images, database: Path
) -> None:
    overriding = ["--annotation=lorem=other", "--annotation=new=one"]
    output = run_pod(rkt, database, images.make(MAIN), *overriding, "---", images.make(SIDEKICK))
    assert "main OK" in output, output


def test_the_validator_sees_what_is_wrong(
    metadata_service: None, rkt: Rkt, images: Images, database: Path
) -> None:
    """Each violation gives its reason: a validator that is content with everything proves nothing."""
    bare = {**MAIN, "app": {**MAIN["app"], "eventHandlers": [], "workingDirectory": "/", "environment": []}}
    output = run_pod(rkt, database, images.make(bare), images.make(SIDEKICK), code=None)
    assert "main FAIL" in output
    for reason in ("/prestart does not exist", "the working directory is not", "IN_ACE_VALIDATOR is"):
        assert f"==> {reason}" in output, output


def test_a_pod_is_forgotten_with_its_directory(
    metadata_service: None, rkt: Rkt, images: Images, database: Path
) -> None:
    run_pod(rkt, database, images.make(MAIN), images.make(SIDEKICK))
    registered = Path("/run/rkt/metadata-svc")
    assert len(list(registered.glob("*.json"))) == 1
    rkt("gc", "--grace-period=0s")
    assert list(registered.glob("*.json")) == []


def test_without_a_service_the_pod_does_not_run(rkt: Rkt, images: Images, database: Path) -> None:
    if Path("/run/rkt/metadata-svc.sock").exists():
        pytest.skip("a metadata service runs on this host")
    output = run_pod(rkt, database, images.make(MAIN), images.make(SIDEKICK), code=254)
    assert "failed to register pod" in output
    assert "hint: is `rkt metadata-service` running?" in output
    assert os.listdir(database) == []
