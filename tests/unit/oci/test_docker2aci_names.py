"""docker2aci in this process: what the files are called that it writes, and what makes no name."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from typing import TYPE_CHECKING

import pytest

from appc.aci import reader
from appc.schema.image import ImageManifest
from console.output import Output
from fixtures import tars
from oci.cli.main import main

if TYPE_CHECKING:
    from pathlib import Path

    from fixtures.layouts import MakeLayout


def converted(*arguments: str) -> tuple[int, list[str], str]:
    """The status of docker2aci, the files that it lists, and what it says on standard error."""
    out, err = io.TextIOWrapper(io.BytesIO(), encoding="utf-8"), io.StringIO()
    code = main(list(arguments), Output(out, err))
    out.flush()
    listed = out.buffer.getvalue().decode().partition("Generated ACI(s):\n")[2]
    return code, listed.splitlines(), err.getvalue()


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory that is written to."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    path = tmp_path / "out"
    path.mkdir()
    monkeypatch.chdir(path)
    return path


def saved(path: Path, *tags: str) -> str:
    """What docker save writes of an image with one layer."""
    layer = tars.file(b"a", b"x") + tars.END
    diff_id = "sha256:" + hashlib.sha256(layer).hexdigest()
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Cmd": ["x"]},
        "rootfs": {"type": "layers", "diff_ids": [diff_id]},
    }
    manifest = [{"Config": "c.json", "RepoTags": list(tags) or None, "Layers": ["l/layer.tar"]}]
    with tarfile.open(path, "w") as archive:
        for name, data in (
            ("c.json", json.dumps(config).encode()),
            ("l/layer.tar", layer),
            ("manifest.json", json.dumps(manifest).encode()),
        ):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return str(path)


def test_a_layer_that_comes_again_is_an_image_of_its_own(here: Path, make_layout: MakeLayout) -> None:
    """Empty layers do, in images that everyone has: one file would take the place of the other."""
    empty, other = [tars.directory(b"d")], [tars.file(b"f", b"1")]
    path = make_layout(empty, other, empty).split(":")[1]
    code, files, _ = converted("-nosquash", path)
    assert code == 0
    assert len(set(files)) == 3
    assert sorted(files) == sorted(one.name for one in here.iterdir())
    manifests = []
    for name in files:
        with open(name, "rb") as file:
            manifests.append(ImageManifest.parse(reader.read_manifest(file)))
    names = [one.name for one in manifests]
    assert len(set(names)) == 3
    assert names[2] == f"{names[0]}.2"
    assert [[each.image_name for each in one.dependencies] for one in manifests] == [
        [],
        names[:1],
        names[1:2],
    ]


@pytest.mark.parametrize("tag", ["a b", "a\nb", "\x1b[31mred", "é", "-x", "x" * 129])
def test_a_tag_that_is_none_makes_no_file(here: Path, make_layout: MakeLayout, tag: str) -> None:
    path = make_layout([tars.file(b"f", b"1")], tag=tag).split(":")[1]
    code, _, said = converted(path)
    assert code == 1
    assert "is no tag" in said
    assert "\x1b" not in said
    assert list(here.iterdir()) == []


def test_a_layout_s_tag_may_have_a_plus(here: Path, make_layout: MakeLayout) -> None:
    path = make_layout([tars.file(b"f", b"1")], tag="1.0+b2").split(":")[1]
    assert converted(path)[:2] == (0, ["layout-1.0+b2.aci"])


def test_an_image_without_a_name_gets_the_user_s(here: Path) -> None:
    archive = saved(here.parent / "é.tar")
    code, _, said = converted(archive)
    assert code == 1
    assert "--image" in said
    assert converted("-image", "example.com/a/b:1", archive)[:2] == (0, ["a-b-1.aci"])
    named = saved(here.parent / "named.tar", "a/b:2")
    assert "there is no image" in converted("-image", "example.com/a/b:1", named)[2]
