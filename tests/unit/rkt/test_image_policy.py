"""What vouches for images of layers: policies by name, claims of signatures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from appc.settings.files import ConfigError
from oci.registry.configured import read_rules
from rkt.config.policies import Policy, policy_for, read_policies
from rkt.fetch.simplesigning import Claim


def write(directory: Path, name: str, **content: object) -> None:
    directory.mkdir(exist_ok=True)
    (directory / name).write_text(json.dumps({"rktVersion": "v1", **content}))


def test_the_longest_name_holds() -> None:
    policies = {
        "docker.io": Policy(("digest",)),
        "docker.io/library": Policy(("anything",)),
        "docker.io/library/busybox": Policy(()),
    }
    assert policy_for(policies, "docker.io/library/busybox").accept == ()
    assert policy_for(policies, "docker.io/library/busybox2").accept == ("anything",)
    assert policy_for(policies, "docker.io/library2/a").accept == ("digest",)
    assert policy_for(policies, "docker.io.example.com/a") == Policy()
    assert policy_for(policies, "") == Policy()


def test_files_of_policies(tmp_path: Path) -> None:
    directory = tmp_path / "policy.d"
    write(directory, "a.json", rktKind="imagePolicy", names=["a.example/"], accept=["digest"])
    assert read_policies(str(tmp_path))["a.example"].accept == ("digest",)
    write(directory, "b.json", rktKind="imagePolicy", names=["a.example"], accept=[])
    with pytest.raises(ConfigError, match="already specified"):
        read_policies(str(tmp_path))
    for wrong in ({"names": []}, {"names": ["x"]}, {"names": ["x"], "accept": "digest"},
                  {"names": ["x"], "accept": ["sig"]}, {"names": ["x"], "accept": [], "lookaside": "ftp://x"},
                  {"names": ["x"], "accept": [], "lookaside": "file://x"}):  # fmt: skip
        write(directory, "b.json", rktKind="imagePolicy", **wrong)
        with pytest.raises(ConfigError):
            read_policies(str(tmp_path))


def test_files_of_registries(tmp_path: Path) -> None:
    directory = tmp_path / "registries.d"
    write(directory, "a.json", rktKind="registries", registries=["a.example"], plainHttp=True)
    assert read_rules(str(tmp_path))["a.example"].plain_http
    write(directory, "b.json", rktKind="registries", registries=["a.example"], blocked=True)
    with pytest.raises(ConfigError, match="already specified"):
        read_rules(str(tmp_path))
    write(directory, "b.json", rktKind="registries", registries=["b.example"], mirrors=["x"])
    with pytest.raises(ConfigError, match="mirrors"):
        read_rules(str(tmp_path))


GOOD = {
    "critical": {
        "type": "atomic container signature",
        "identity": {"docker-reference": "docker.io/library/busybox:latest"},
        "image": {"docker-manifest-digest": "sha256:" + "0" * 64},
    },
    "optional": {"creator": "x", "timestamp": 1},
}


def test_a_claim() -> None:
    claim = Claim.parse(json.dumps(GOOD).encode())
    assert claim.reference == "docker.io/library/busybox:latest"
    assert claim.digest.hex == "0" * 64


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("more",), 1),
        (("critical", "more"), 1),
        (("critical", "image", "more"), 1),
        (("critical", "identity", "more"), 1),
        (("critical", "type"), "something else"),
        (("critical", "image"), {}),
        (("critical", "identity"), None),
        (("critical", "image", "docker-manifest-digest"), "sha256:../../x"),
        (("critical",), []),
    ],
)
def test_claims_with_something_else_in_a_critical_place(path: tuple[str, ...], value: object) -> None:
    whole = json.loads(json.dumps(GOOD))
    place = whole
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = value
    with pytest.raises(ValueError, match=r"claim|is not|expected|must|digest|object|null|algorithm"):
        Claim.parse(json.dumps(whole).encode())
