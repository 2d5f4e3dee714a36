"""rkt config: what is in effect, in rkt's shape."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from fixtures.publisher import small_aci

if TYPE_CHECKING:
    from conftest import Rkt


def test_three_domains_and_one_override(rkt: Rkt) -> None:
    def write(directory: str, domains: list[str], user: str) -> None:
        path = rkt.directory / directory / "auth.d/auth.json"
        path.parent.mkdir(parents=True)
        credentials = {"user": user, "password": "pw"}
        content = {"rktKind": "auth", "rktVersion": "v1", "domains": domains, "type": "basic"}
        path.write_text(json.dumps({**content, "credentials": credentials}))

    write("usr", ["foo", "bar", "baz"], "system")
    write("user", ["foo"], "mine")
    done = rkt("config")
    assert done.stdout.startswith('{\n\t"stage0": [\n')
    entries = json.loads(done.stdout)["stage0"]
    assert [(e["domains"], e["credentials"]["user"]) for e in entries if e["rktKind"] == "auth"] == [
        (["bar"], "system"),
        (["baz"], "system"),
        (["foo"], "mine"),
    ]
    assert [e["rktKind"] for e in entries[3:]] == ["paths", "stage1"]
    short = rkt("--debug", "--pretty-print=false", "config").stdout
    assert json.loads(short) == json.loads(done.stdout)
    assert "\n" not in short.strip()


def test_the_configured_data_directory_is_used_unless_another_is_given(rkt: Rkt) -> None:
    path = rkt.directory / "etc/paths.d/paths.json"
    path.parent.mkdir(parents=True)
    data = rkt.directory / "elsewhere"
    path.write_text(json.dumps({"rktKind": "paths", "rktVersion": "v1", "data": str(data)}))
    image = small_aci(rkt.directory / "x.aci")
    rkt("--insecure-options=image", "fetch", image)
    assert not data.exists()
    argv = [
        word for word in rkt.argv("--insecure-options=image", "fetch", image) if not word.startswith("--dir=")
    ]
    subprocess.run(argv, check=True, capture_output=True)
    assert (data / "cas/blob").exists()


def test_a_bad_file_is_a_failure(rkt: Rkt) -> None:
    path = rkt.directory / "etc/auth.d/x.json"
    path.parent.mkdir(parents=True)
    path.write_text("{")
    done = rkt("config", code=254)
    assert str(path) in done.stderr


def test_the_configured_stage1_runs_pods(root: None, rkt: Rkt, true_aci: Path) -> None:
    path = rkt.directory / "etc/stage1.d/stage1.json"
    path.parent.mkdir(parents=True)
    head = {"rktKind": "stage1", "rktVersion": "v1"}
    path.write_text(json.dumps({**head, "name": "coreos.com/rkt/stage1-fly", "version": "1.0"}))
    rkt("--insecure-options=image", "prepare", true_aci)
    [pod] = (rkt.directory / "data/pods/prepared").iterdir()
    assert (pod / "stage1-flavour").read_text().strip() == "fly"
    path.write_text(json.dumps({**head, "location": "/nonexistent/stage1.aci"}))
    assert "/nonexistent/stage1" in rkt("--insecure-options=image", "prepare", true_aci, code=254).stderr
