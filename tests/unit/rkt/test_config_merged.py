"""Configuration files: kinds, duplicates, what overrides what, and that no message holds a secret."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from appc.http.url import parse
from appc.settings.files import ConfigError
from rkt.config import merged
from rkt.config.kinds import Paths, Stage1

BASIC = {"type": "basic", "credentials": {"user": "me", "password": "SECRET123"}}


class Directories:
    """System, local and user configuration, weakest first."""

    def __init__(self, directory: Path) -> None:
        self.all = [directory / name for name in ("usr", "etc", "home")]
        self.system, self.local, self.user = self.all

    def load(self) -> merged.Config:
        return merged.load(str(directory) for directory in self.all)


@pytest.fixture
def directories(tmp_path: Path) -> Directories:
    return Directories(tmp_path)


def write(directory: Path, file: str, kind: str, /, **content: Any) -> Path:
    path = directory / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"rktVersion": "v1", "rktKind": kind, **content}))
    return path


def test_nothing_is_configured_where_nothing_is(directories: Directories) -> None:
    config = directories.load()
    assert (config.auth, config.docker_auth, config.paths, config.stage1) == ({}, {}, Paths(), Stage1())
    assert [entry["rktKind"] for entry in config.to_json()["stage0"]] == ["paths", "stage1"]  # type: ignore[attr-defined]


def test_stronger_directories_override_domain_by_domain(directories: Directories) -> None:
    write(directories.system, "auth.d/all.json", "auth", domains=["foo.com", "bar.com", "baz.com"], **BASIC)
    write(
        directories.user,
        "auth.d/foo.json",
        "auth",
        domains=["foo.com"],
        type="oauth",
        credentials={"token": "t"},
    )
    entries = directories.load().to_json()["stage0"]
    assert [(e["domains"], e["type"]) for e in entries if e["rktKind"] == "auth"] == [  # type: ignore[attr-defined]
        (["bar.com"], "basic"),
        (["baz.com"], "basic"),
        (["foo.com"], "oauth"),
    ]


def test_registries_are_overridden_one_by_one(directories: Directories) -> None:
    secret = {"user": "a", "password": "b"}
    write(
        directories.system,
        "auth.d/d.json",
        "dockerAuth",
        registries=["quay.io", "gcr.io"],
        credentials=secret,
    )
    other = {"user": "over", "password": "written"}
    write(directories.local, "auth.d/d.json", "dockerAuth", registries=["gcr.io"], credentials=other)
    found = directories.load().docker_auth
    assert found["quay.io"].credentials == secret
    assert found["gcr.io"].credentials == other


def test_paths_and_stage1_are_overridden_field_by_field(directories: Directories) -> None:
    write(directories.system, "paths.d/p.json", "paths", **{"data": "/a", "stage1-images": "/b"})
    write(directories.user, "paths.d/p.json", "paths", data="/c")
    write(directories.system, "stage1.d/s.json", "stage1", name="n", version="1", location="https://x/s.aci")
    write(directories.local, "stage1.d/s.json", "stage1", location="/s.aci")
    config = directories.load()
    assert config.paths == Paths("/c", "/b")
    assert config.stage1 == Stage1("n", "1", "/s.aci")


def test_each_kind_of_credential_becomes_its_headers(directories: Directories) -> None:
    write(directories.local, "auth.d/b.json", "auth", domains=["b.com:8443"], **BASIC)
    write(
        directories.local,
        "auth.d/o.json",
        "auth",
        domains=["o.com"],
        type="oauth",
        credentials={"token": "t"},
    )
    keys = {"accessKeyID": "AK", "secretAccessKey": "SK", "awsRegion": "eu-west-1"}
    write(directories.local, "auth.d/a.json", "auth", domains=["a.com"], type="aws", credentials=keys)
    credentials = directories.load().credentials()
    sent = {}
    for address in ("https://b.com:8443/", "https://b.com/", "https://o.com/", "https://a.com/"):
        url = parse(address)
        credential = credentials.for_url(url)
        sent[address] = credential.headers("GET", url, 0.0)["Authorization"] if credential else ""
    assert sent["https://b.com:8443/"] == "Basic bWU6U0VDUkVUMTIz"
    assert sent["https://b.com/"] == ""
    assert sent["https://o.com/"] == "Bearer t"
    assert sent["https://a.com/"].startswith(
        "AWS4-HMAC-SHA256 Credential=AK/19700101/eu-west-1/s3/aws4_request"
    )


def test_only_regular_json_files_count(directories: Directories) -> None:
    good = write(directories.local, "auth.d/sub/x.json", "auth", domains=["a.com"], **BASIC)
    (directories.local / "auth.d/README").write_text("hello")
    (directories.local / "auth.d/x.notjson").write_text(good.read_text())
    (directories.local / "auth.d/link.json").symlink_to(good)
    os.mkfifo(directories.local / "auth.d/fifo.json")
    assert directories.load().auth == {}


@pytest.mark.parametrize(
    ("first", "second", "problem"),
    [
        (
            ("auth", {"domains": ["a.com"], **BASIC}),
            ("auth", {"domains": ["a.com"], **BASIC}),
            "already specified",
        ),
        (
            ("dockerAuth", {"registries": ["a"], "credentials": BASIC["credentials"]}),
            ("dockerAuth", {"registries": ["a"], "credentials": BASIC["credentials"]}),
            "already specified",
        ),
        (("paths", {"data": "/a"}), ("paths", {"data": "/b"}), "already specified"),
        (("stage1", {"location": "/a"}), ("stage1", {"location": "/b"}), "already specified"),
        (
            ("stage1", {"name": "a", "version": "1"}),
            ("stage1", {"name": "b", "version": "1"}),
            "already specified",
        ),
    ],
)
def test_saying_a_thing_twice_in_one_directory_is_an_error(
    directories: Directories, first: tuple[str, Any], second: tuple[str, Any], problem: str
) -> None:
    folder = {"auth": "auth.d", "dockerAuth": "auth.d", "paths": "paths.d", "stage1": "stage1.d"}[first[0]]
    write(directories.local, f"{folder}/1.json", first[0], **first[1])
    write(directories.local, f"{folder}/2.json", second[0], **second[1])
    with pytest.raises(ConfigError, match=problem):
        directories.load()


@pytest.mark.parametrize(
    ("folder", "content", "problem"),
    [
        ("auth.d", b"{", "line 1"),
        ("auth.d", b"[]", "not an object"),
        ("auth.d", b'{"rktVersion":"v1"}', "no rktKind"),
        ("auth.d", b'{"rktKind":"auth"}', "no rktVersion"),
        ("auth.d", b'{"rktKind":"auth","rktVersion":"v2"}', "of version 'v2'"),
        ("auth.d", b'{"rktKind":"paths","rktVersion":"v1"}', "of kind 'paths'"),
        ("auth.d", b'{"rktKind":"auth","rktKind":"auth","rktVersion":"v1"}', "twice"),
        ("auth.d", b'{"rktKind":"auth","rktVersion":"v1"}', "no domains"),
        ("auth.d", b'{"rktKind":"auth","rktVersion":"v1","domains":["a"]}', "no auth type"),
        ("auth.d", b'{"rktKind":"auth","rktVersion":"v1","domains":["a"],"type":"x"}', "unknown auth type"),
        ("auth.d", b'{"rktKind":"auth","rktVersion":"v1","domains":["a"],"type":"basic"}', "no credentials"),
        (
            "auth.d",
            b'{"rktKind":"auth","rktVersion":"v1","domains":["a"],"type":"basic","credentials":{"user":"u"}}',
            "password not specified",
        ),
        (
            "auth.d",
            b'{"rktKind":"auth","rktVersion":"v1","domains":["a/b"],"type":"oauth","credentials":{"token":"t"}}',
            "domain 'a/b'",
        ),
        ("auth.d", b'{"rktKind":"dockerAuth","rktVersion":"v1"}', "no registries"),
        ("paths.d", b'{"rktKind":"paths","rktVersion":"v1","data":"relative"}', "not absolute"),
        ("paths.d", b'{"rktKind":"paths","rktVersion":"v1","data":7}', "not a string"),
        ("stage1.d", b'{"rktKind":"stage1","rktVersion":"v1","name":"n"}', "version is missing"),
        ("stage1.d", b'{"rktKind":"stage1","rktVersion":"v1","version":"1"}', "name is missing"),
        ("stage1.d", b'{"rktKind":"stage1","rktVersion":"v1","location":"a/b"}', "relative path"),
        ("stage1.d", b'{"rktKind":"stage1","rktVersion":"v1","location":"ftp://a"}', "invalid scheme"),
    ],
)
def test_a_bad_file_is_named_with_what_is_wrong(
    directories: Directories, folder: str, content: bytes, problem: str
) -> None:
    path = directories.local / folder / "x.json"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=problem) as refused:
        directories.load()
    assert str(path) in str(refused.value)


@pytest.mark.parametrize(
    "credentials",
    [
        {"user": "u", "password": ["SECRET123"]},
        {"user": "u", "password": "SECRET123\n"},
        {"user": {"SECRET123": 1}, "password": "x"},
        ["SECRET123"],
        "SECRET123",
    ],
)
def test_no_error_shows_credentials(directories: Directories, credentials: object) -> None:
    write(
        directories.local, "auth.d/x.json", "auth", domains=["a.com"], type="basic", credentials=credentials
    )
    with pytest.raises(ConfigError) as refused:
        directories.load()
    assert "SECRET123" not in f"{refused.value} {refused.value.hint}"


def test_a_file_in_the_place_of_a_directory_is_an_error(directories: Directories) -> None:
    directories.local.mkdir()
    (directories.local / "auth.d").write_text("hello")
    with pytest.raises(ConfigError, match="not a directory"):
        directories.load()


def test_private_users_are_on_until_a_stronger_file_says_otherwise(directories: Directories) -> None:
    assert directories.load().private_users is True
    write(directories.system, "pods.d/p.json", "pods", privateUsers=False)
    config = directories.load()
    assert config.private_users is False
    assert config.to_json()["stage0"][-1]["privateUsers"] is False  # type: ignore[index]
    write(directories.user, "pods.d/p.json", "pods", privateUsers=True)
    assert directories.load().private_users is True
    write(directories.user, "pods.d/q.json", "pods", privateUsers="yes")
    with pytest.raises(ConfigError, match="neither true nor false"):
        directories.load()


def test_limits_of_images_are_the_default_ones_but_for_what_files_say(directories: Directories) -> None:
    assert directories.load().image_limits == {}
    write(directories.system, "images.d/a.json", "images", limits={"size": "64Gi", "entries": 10})
    write(directories.system, "images.d/b.json", "images", limits={"ratio": 200})
    write(directories.user, "images.d/a.json", "images", limits={"entries": 2_000_000})
    config = directories.load()
    assert config.image_limits == {"size": 64 << 30, "entries": 2_000_000, "ratio": 200}
    assert config.to_json()["stage0"][-1]["limits"] == config.image_limits  # type: ignore[index]


@pytest.mark.parametrize(
    ("limits", "problem"),
    [
        ({"memory": "1Gi"}, "there is no limit 'memory' to change: choose from size, entries"),
        ({"size": "big"}, '"big" is not a quantity'),
        ({"size": 0}, "is not a whole number from 1"),
        ({"size": "500m"}, "is not a whole number from 1"),
        ({"size": "1e30"}, "is not a whole number from 1"),
        ({"size": True}, "is not a quantity"),
        ({"ratio": 300}, "the limit 'ratio' is already specified"),
        ([], None),
        (7, "limits is not an object"),
    ],
)
def test_limits_that_are_none(directories: Directories, limits: object, problem: str | None) -> None:
    write(directories.local, "images.d/a.json", "images", limits={"ratio": 200})
    write(directories.local, "images.d/b.json", "images", limits=limits)
    if problem is None:
        directories.load()
        return
    with pytest.raises(ConfigError, match=re.escape(problem)):
        directories.load()
