"""Files of docker and podman with credentials, and the helpers that they name."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from oci.errors import OciError
from oci.registry import logins as module
from oci.registry.logins import Login, Logins, ask_helper

if TYPE_CHECKING:
    from collections.abc import Callable

    Find = Callable[..., Login | None]


@pytest.fixture
def find(tmp_path: Path) -> Find:
    """A function that writes docker's configuration and looks for a login in it."""

    def look(config: object, registry: str, repository: str = "", **more: str) -> Login | None:
        (tmp_path / "config.json").write_text(config if isinstance(config, str) else json.dumps(config))
        environ = {"DOCKER_CONFIG": str(tmp_path), "PATH": f"{tmp_path}:{os.environ['PATH']}", **more}
        return Logins(environ=environ).find(registry, repository)

    return look


ALICE = {"auth": "YWxpY2U6c2VjcmV0OndpdGg6Y29sb25z"}  # alice:secret:with:colons
LOGIN = Login("alice", "secret:with:colons")


@pytest.mark.parametrize(
    ("key", "registry"),
    [
        ("example.com", "example.com"),
        ("https://example.com/v1/", "example.com"),
        ("https://example.com", "example.com"),
        ("localhost:5000", "localhost:5000"),
        ("https://index.docker.io/v1/", "docker.io"),
        ("docker.io", "docker.io"),
    ],
)
def test_keys(find: Find, key: str, registry: str) -> None:
    assert find({"auths": {key: ALICE}}, registry) == LOGIN
    assert find({"auths": {key: ALICE}}, "other.example") is None
    assert find({"auths": {key: ALICE}}, registry + ":1") is None


def test_the_closest_namespace_wins(find: Find) -> None:
    auths = {"r.io": {"auth": "YTox"}, "r.io/team": {"auth": "Yjoy"}, "r.io/team/app": {"auth": "Yzoz"}}
    assert find({"auths": auths}, "r.io", "other/app") == Login("a", "1")
    assert find({"auths": auths}, "r.io", "team/x") == Login("b", "2")
    assert find({"auths": auths}, "r.io", "team/app") == Login("c", "3")


def test_tokens_and_plain_members(find: Find) -> None:
    assert find({"auths": {"r.io": {"identitytoken": "t"}}}, "r.io") == Login(identity_token="t")
    assert find({"auths": {"r.io": {"username": "u", "password": "p"}}}, "r.io") == Login("u", "p")
    assert find({"auths": {"r.io": {}}}, "r.io") is None
    assert find({}, "r.io") is None
    assert find("", "r.io") is None


@pytest.mark.parametrize(
    "config",
    ['{"auths": {"r.io": {"auth": "!"}}}', '{"auths": []}', "Secret-x", '{"auths":{"r.io":3}}'],
)
def test_broken_files_are_named_and_not_shown(find: Find, config: str) -> None:
    with pytest.raises(OciError) as refused:
        find(config, "r.io")
    assert "config.json" in str(refused.value)
    assert "Secret" not in str(refused.value)


def test_podmans_file_goes_first(find: Find, tmp_path: Path) -> None:
    other = tmp_path / "auth.json"
    other.write_text(json.dumps({"auths": {"r.io": {"auth": "cG9kOm1hbg=="}}}))
    assert find({"auths": {"r.io": ALICE}}, "r.io", REGISTRY_AUTH_FILE=str(other)) == Login("pod", "man")


def test_what_the_caller_gives_goes_before_files() -> None:
    given = Logins({"https://r.io": Login("x", "y")}, files=False)
    assert given.find("r.io", "a/b") == Login("x", "y")
    assert given.find("s.io") is None


# --- helpers


@pytest.fixture
def helper(tmp_path: Path) -> Callable[[str], dict[str, str]]:
    """A function that makes `docker-credential-x` of a script, and gives the environment to find it in."""

    def make(script: str) -> dict[str, str]:
        program = tmp_path / "docker-credential-x"
        program.write_text("#!/bin/sh\n" + script)
        program.chmod(0o755)
        return {"PATH": f"{tmp_path}:{os.environ['PATH']}"}

    return make


def test_a_helper_is_asked(find: Find, helper: Callable[[str], dict[str, str]]) -> None:
    helper('read -r host || :\n[ "$1" = get ] && echo "{\\"Username\\":\\"$host\\",\\"Secret\\":\\"s\\"}"')
    assert find({"credsStore": "x", "auths": {"r.io": {}}}, "r.io") == Login("r.io", "s")
    assert find({"credHelpers": {"r.io": "x"}}, "r.io") == Login("r.io", "s")
    assert find({"credHelpers": {"r.io": "x"}}, "s.io") is None
    assert find({"credsStore": "x"}, "docker.io") == Login("https://index.docker.io/v1/", "s")


def test_answers_of_helpers(helper: Callable[[str], dict[str, str]]) -> None:
    environ = helper("echo 'credentials not found in native keychain'; exit 1")
    assert ask_helper("x", "r.io", environ) is None
    environ = helper('cat >/dev/null; echo \'{"Username":"<token>","Secret":"t"}\'')
    assert ask_helper("x", "r.io", environ) == Login(identity_token="t")


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("exit 7", "status 7"),
        ("echo no json", "not what such helpers say"),
        ("exec yes", "more than"),
        ("echo Secret-Text; exit 2", "status 2"),
    ],
)
def test_helpers_that_misbehave(helper: Callable[[str], dict[str, str]], script: str, message: str) -> None:
    with pytest.raises(OciError, match=message) as refused:
        ask_helper("x", "r.io", helper(script))
    assert "Secret-Text" not in str(refused.value)


def test_a_silent_helper_is_not_waited_for(
    helper: Callable[[str], dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PATIENCE", 0.3)
    with pytest.raises(OciError, match="no answer"):
        ask_helper("x", "r.io", helper("sleep 60"))


@pytest.mark.parametrize("name", ["", "../x", "a b", "x;y", "é"])
def test_names_of_helpers(name: str) -> None:
    with pytest.raises(OciError):
        ask_helper(name, "r.io", {})


def test_a_missing_helper() -> None:
    with pytest.raises(OciError, match="not installed"):
        ask_helper("absent-one", "r.io", {"PATH": "/nonexistent"})
