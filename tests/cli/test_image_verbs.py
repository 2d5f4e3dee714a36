"""The verbs of `rkt image` as users type them: outputs, columns, JSON, exit codes of rkt 1.30."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from fixtures import tars
from rkt.store import Store

if TYPE_CHECKING:
    from conftest import Rkt
    from fixtures.images import MakeAci

pytestmark = pytest.mark.usefixtures("root")
Put = Callable[..., str]


@pytest.fixture
def put(rkt: Rkt, tmp_path: Path) -> Put:
    """Puts an image of these members into the store; its ID."""

    def put(*members: bytes, name: str = "example.com/app", version: str = "", **manifest: Any) -> str:
        labels = [{"name": "os", "value": "linux"}, {"name": "arch", "value": tars.MACHINE}]
        if version:
            labels.append({"name": "version", "value": version})
        path = tmp_path / "image"
        path.write_bytes(tars.image(*members, manifest_bytes=tars.manifest(name, labels=labels, **manifest)))
        with Store(str(rkt.directory / "data")) as store, open(path, "rb") as file:
            return store.import_aci(file)

    return put


def test_list(rkt: Rkt, put: Put) -> None:
    assert rkt("image", "list").stdout.split("\n")[0].split("\t") == [
        *("ID", "NAME", "SIZE", "IMPORT TIME", "LAST USED"),
    ]
    one, two = put(version="1.0"), put(tars.file(b"rootfs/a", bytes(5000)), name="example.com/b")
    lines = rkt("image", "list").stdout.splitlines()
    cells = [[cell for cell in line.split("\t") if cell] for line in lines]
    assert cells[0] == ["ID", "NAME", "SIZE", "IMPORT TIME", "LAST USED"]
    assert [row[:3] for row in cells[1:]] == [
        [one[:39], "example.com/app:1.0", "2.5KiB"],
        [two[:39], "example.com/b", "8.0KiB"],
    ]
    assert re.fullmatch(r"now|\d+ seconds? ago", cells[1][3])

    full = rkt("image", "list", "--full", "--no-legend").stdout.splitlines()
    assert len(full) == 2
    assert re.match(
        rf"{one[:71]}\t.*example\.com/app:1\.0\t+2560\t+\d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d", full[0]
    )

    named = rkt("image", "list", "--fields=name,id", "--sort=name", "--order=desc", "--no-legend").stdout
    assert [line.split("\t")[0] for line in named.splitlines()] == ["example.com/b", "example.com/app:1.0"]
    assert (
        rkt("image", "list", "--format={name} {size}", "--full").stdout.splitlines()[0]
        == "example.com/app:1.0 2560"
    )
    assert "unknown field" in rkt("image", "list", "--fields=id,latest", code=254).stderr
    assert "unknown field" in rkt("image", "list", "--sort=x", code=254).stderr


def test_list_as_json(rkt: Rkt, put: Put) -> None:
    assert json.loads(rkt("image", "list", "--format=json").stdout) == []
    image_id = put()
    for form in ("json", "json-pretty"):
        (entry,) = json.loads(rkt("image", "list", f"--format={form}").stdout)
        assert sorted(entry) == ["id", "import_time", "last_used_time", "name", "size"]
        assert (entry["id"], entry["name"], entry["size"]) == (image_id[:71], "example.com/app", 2560)
        assert 1_600_000_000 * 10**9 < entry["import_time"] <= entry["last_used_time"]
    assert rkt("image", "list", "--format=json", "--fields=id").stdout == f'[{{"id":"{image_id[:71]}"}}]\n'


def test_cat_manifest(rkt: Rkt, put: Put) -> None:
    image_id = put(version="1.0")
    pretty = rkt("image", "cat-manifest", "example.com/app:1.0").stdout
    assert pretty.startswith('{\n\t"acKind": "ImageManifest",\n')
    plain = rkt("image", "cat-manifest", "--pretty-print=false", image_id[:20]).stdout
    assert json.loads(plain) == json.loads(pretty)
    assert plain.count("\n") == 1
    assert "no such image" in rkt("image", "cat-manifest", "example.com/app:2.0", code=254).stderr


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "cannot be empty"),
        ("sha512-", "too short"),
        ("sha512-xyz", "no image ID"),
        ("BAD", "no AC identifier"),
        ("a:b:c", "colon"),
        ("example.com/none", "no such image"),
    ],
)
def test_words_that_mean_no_image(rkt: Rkt, text: str, told: str) -> None:
    assert told in rkt("image", "cat-manifest", text, code=254).stderr


def test_export(rkt: Rkt, put: Put, tmp_path: Path) -> None:
    image_id = put(tars.file(b"rootfs/a", b"x" * 9999))
    target = tmp_path / "out.aci"
    rkt("image", "export", "example.com/app", target)
    assert image_id == "sha512-" + hashlib.sha512(target.read_bytes()).hexdigest()
    target.write_text("mine")
    assert "output file exists" in rkt("image", "export", "example.com/app", target, code=254).stderr
    assert target.read_text() == "mine"
    rkt("image", "export", "--overwrite", "example.com/app", target)
    assert target.read_bytes()[:8] == b"manifest"
    assert (
        "extension must be .aci"
        in rkt("image", "export", "example.com/app", tmp_path / "out", code=254).stderr
    )


def test_extract_and_render(rkt: Rkt, put: Put, tmp_path: Path) -> None:
    put(tars.file(b"rootfs/low"), tars.file(b"rootfs/gone"), name="example.com/base")
    put(
        tars.file(b"rootfs/d/high", mode=0o640, uid=5),
        dependencies=[{"imageName": "example.com/base"}],
        pathWhitelist=["/d/high", "/low"],
    )
    target = tmp_path / "out"

    def found() -> list[str]:
        return sorted(str(path.relative_to(target)) for path in target.rglob("*") if path.is_file())

    rkt("image", "extract", "example.com/app", target)
    assert found() == ["manifest", "rootfs/d/high"]
    assert json.loads((target / "manifest").read_text())["name"] == "example.com/app"
    assert "output directory exists" in rkt("image", "render", "example.com/app", target, code=254).stderr
    rkt("image", "render", "--overwrite", "example.com/app", target)
    assert found() == ["manifest", "rootfs/d/high", "rootfs/low"]
    assert (target / "rootfs/d/high").stat().st_uid == 5
    rkt("image", "render", "--overwrite", "--rootfs-only", "example.com/app", target)
    assert found() == ["d/high", "low"]
    rkt("image", "extract", "--overwrite", "--rootfs-only", "example.com/app", target)
    assert found() == ["d/high"]
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_extract_tells_what_it_left_out(rkt: Rkt, put: Put, tmp_path: Path) -> None:
    put(tars.header(b"rootfs/null", b"3", major=1, minor=3))
    told = rkt("image", "extract", "example.com/app", tmp_path / "out").stderr
    assert "1 device node(s) left out" in told


def test_verify(rkt: Rkt, put: Put) -> None:
    image_id = put(tars.file(b"rootfs/a", b"x"))
    told = rkt("image", "verify", "example.com/app").stdout
    assert told == f'successfully verified checksum for image: "example.com/app" ("{image_id[:71]}")\n'
    (file,) = (rkt.directory / "data/cas/tree").glob("*/rootfs/a")
    file.write_bytes(b"y")
    assert "wrong tree hash" in rkt("image", "verify", image_id, code=254).stderr


def test_rm(rkt: Rkt, put: Put) -> None:
    one, two = put(version="1"), put(name="example.com/b")
    done = rkt("image", "rm", one[:20], "example.com/b", "example.com/b")
    assert done.stdout == (
        f'successfully removed aci for image: "{one[:71]}" ("example.com/app")\n'
        f'successfully removed aci for image: "{two[:71]}" ("example.com/b")\n'
    )
    assert done.stderr == "rm: 2 image(s) successfully removed\n"
    three = put()
    done = rkt("image", "rm", "example.com/none", three, code=254)
    assert "rm: 1 image(s) successfully removed\n" in done.stderr
    assert "rm: 1 image(s) cannot be removed\n" in done.stderr
    assert rkt("image", "list", "--no-legend").stdout == ""


def test_gc(rkt: Rkt, put: Put) -> None:
    image_id = put()
    with Store(str(rkt.directory / "data")) as store:
        tree = store.tree(image_id)
    done = rkt("image", "gc")
    assert (done.stdout, done.stderr) == ("", f'gc: removed treestore "{tree.id}"\n')
    done = rkt("image", "gc", "--grace-period=0s")
    assert done.stdout == f'successfully removed aci for image: "{image_id[:71]}" ("example.com/app")\n'
    assert "not a duration" in rkt("image", "gc", "--grace-period=soon", code=254).stderr


def test_fsck(rkt: Rkt, put: Put) -> None:
    assert rkt("image", "fsck").stdout == "0 image(s) and 0 tree(s) checked, 0 problem(s)\n"
    image_id = put(tars.file(b"rootfs/a", b"x" * 600))
    assert rkt("image", "fsck").stdout == "1 image(s) and 0 tree(s) checked, 0 problem(s)\n"
    blob = rkt.directory / f"data/cas/blob/sha512/{image_id[7:9]}/{image_id}"
    blob.write_bytes(blob.read_bytes().replace(b"xxx", b"xyx"))
    done = rkt("image", "fsck", code=254).stdout
    assert f"problem: image {image_id[:39]}: the archive is damaged" in done
    report = json.loads(rkt("image", "fsck", "--repair", "--format=json", code=254).stdout)
    assert sorted(report) == ["images", "problems", "repairs", "trees"]
    assert rkt("image", "fsck").stdout == "0 image(s) and 0 tree(s) checked, 0 problem(s)\n"


def test_fsck_tells_what_cannot_be_read_by_its_path(rkt: Rkt, put: Put) -> None:
    put(name="example.com/app")
    (blob,) = (rkt.directory / "data/cas/blob").rglob("sha512-*")
    blob.unlink()
    blob.mkdir()
    assert f"{blob}: Is a directory\n" in rkt("image", "fsck", code=254).stdout


@pytest.mark.parametrize(
    "verb", ["list", "rm", "gc", "cat-manifest", "export", "extract", "render", "verify", "fsck"]
)
def test_help(rkt: Rkt, verb: str) -> None:
    assert f"rkt image {verb}" in rkt("image", verb, "--help").stdout


def test_nothing_is_made_by_looking(rkt: Rkt) -> None:
    rkt("image", "list")
    rkt("image", "rm", "example.com/x", code=254)
    assert not (rkt.directory / "data/cas").exists()


def test_an_ordinary_user_gets_a_clear_answer(rkt: Rkt, put: Put, open_checkout: Path) -> None:
    put()
    argv = [str(open_checkout / "bin/rkt"), *rkt.argv("image", "list")[1:]]
    done = subprocess.run(
        ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *argv],
        capture_output=True,
        text=True,
        check=False,
        env=dict(os.environ),
    )
    assert "Traceback" not in done.stderr
    assert done.returncode in {0, 254}


def test_r4_limits_of_images_are_configured(rkt: Rkt, make_aci: MakeAci) -> None:
    """Beyond the default depth of 256 directories: refused, and with another limit fetched, rendered, run."""
    image = make_aci(["/bin/true"], name="example.com/deep", files={"d/" * 300 + "file": "x"})
    fetch = ("--insecure-options=image", "fetch", image)
    refused = rkt(*fetch, code=254).stderr
    assert "directories deep" in refused
    assert "hint: if it is to be trusted, raise the limit: `images.d` for rkt" in refused
    limits = rkt.directory / "etc/images.d/limits.json"
    limits.parent.mkdir()
    limits.write_text(json.dumps({"rktKind": "images", "rktVersion": "v1", "limits": {"depth": 400}}))
    found = rkt(*fetch).stdout.strip()
    rkt("--insecure-options=image", "run", "--net=none", found)
    rkt("image", "rm", found)
    limits.write_text(json.dumps({"rktKind": "images", "rktVersion": "v1", "limits": {"entries": 2}}))
    assert "more than 2 entries" in rkt(*fetch, code=254).stderr
    limits.write_text(json.dumps({"rktKind": "images", "rktVersion": "v1", "limits": {"size": "1"}}))
    assert "more than 1 bytes when uncompressed" in rkt(*fetch, code=254).stderr
