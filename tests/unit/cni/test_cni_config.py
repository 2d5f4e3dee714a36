"""Configuration files and directories, and the result cache."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cni import config
from cni.cache import Attachment, Cache
from cni.errors import CniError
from cni.types.result import Result

_LIST = {"cniVersion": "1.0.0", "name": "n", "plugins": [{"type": "bridge", "capabilities": {"mac": True}}]}
_RESULT = {"cniVersion": "1.0.0", "ips": [{"address": "10.0.0.2/24"}]}


def test_a_broken_file_hides_no_network_when_tolerant(tmp_path: Path) -> None:
    (tmp_path / "10.conflist").write_text("{")
    (tmp_path / "20.conflist").write_text(json.dumps(_LIST))
    with pytest.raises(CniError, match="error parsing"):
        config.load(str(tmp_path), "n")
    assert config.load(str(tmp_path), "n", strict=False).plugins[0].capabilities == {"mac"}
    with pytest.raises(CniError, match=r"no net configuration with name \"m\".*10\.conflist") as failed:
        config.load(str(tmp_path), "m", strict=False)
    assert failed.value.hint == "there are: n"


def test_a_broken_file_is_told_of_unless_it_is_the_wanted_one(tmp_path: Path) -> None:
    (tmp_path / "10.conflist").write_text('{"name": "m", "plugins": 5}')
    (tmp_path / "20.conflist").write_text(json.dumps(_LIST))
    (tmp_path / "30.conflist").write_text(json.dumps({**_LIST, "name": "m"}))
    told: list[str] = []
    assert config.load(str(tmp_path), "n", strict=False, warn=told.append).name == "n"
    assert [line.partition(":")[0] for line in told] == [str(tmp_path / "10.conflist")]
    with pytest.raises(CniError, match="plugins is not a list"):
        config.load(str(tmp_path), "m", strict=False)


def test_all_networks_of_a_directory_and_what_is_wrong_with_others(tmp_path: Path) -> None:
    for name, text in (
        ("10.conflist", json.dumps(_LIST)),
        ("20.conflist", "{"),
        ("30.conf", json.dumps({"name": "n", "type": "bridge"})),
        ("40.conf", json.dumps({"name": "single", "type": "ptp"})),
        ("50.conf", json.dumps({"name": "../x", "type": "ptp"})),
        ("60.conflist", json.dumps({**_LIST, "name": "sibling"})),
        ("sibling/10.conf", "["),
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    found, problems = config.available(str(tmp_path))
    assert [each.name for each in found] == ["n", "single"]
    assert [Path(line.partition(": ")[0]).name for line in problems] == [
        "20.conflist",
        "60.conflist",
        "30.conf",
        "50.conf",
    ]
    assert "sibling/10.conf" in problems[1]
    assert config.available(str(tmp_path / "absent")) == ([], [])


def test_a_broken_plugin_beside_another_network_ends_a_strict_search_alone(tmp_path: Path) -> None:
    (tmp_path / "10.conflist").write_text(json.dumps({"name": "other"}))
    (tmp_path / "20.conflist").write_text(json.dumps(_LIST))
    with pytest.raises(CniError, match="no plugin configs found"):
        config.load(str(tmp_path), "n")
    assert config.load(str(tmp_path), "n", strict=False).name == "n"


@pytest.mark.parametrize(
    "change",
    [
        {"name": None},
        {"cniVersion": None},
        {"cniVersions": None},
        {"disableCheck": None},
        {"disableGC": "yes"},
        {"plugins": None},
        {"cniVersion": "x", "cniVersions": ["1.0.0"]},
        {"plugins": [{"type": "bridge", "prevResult": "x"}]},
    ],
)
def test_what_a_list_cannot_say(change: dict[str, object]) -> None:
    with pytest.raises(CniError, match="error parsing"):
        config.parse_list(json.dumps({**_LIST, **change}).encode())


def test_a_list_is_named_by_its_own_spelling_of_the_keys_and_judged_when_it_runs() -> None:
    with pytest.raises(CniError, match="no name"):
        config.parse_list(b'{"Name": "n", "plugins": [{"type": "bridge"}]}')
    assert config.parse_list(b'{"name": "", "CNIVersion": "1.0.0", "plugins": [{"TYPE": "b"}]}').version == ""
    assert config.parse_list(b'{"name": "n", "cniVersion": "x", "plugins": [{"type": "b"}]}').version == "x"


def test_a_directory_that_cannot_be_read_is_an_error_of_ours(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CniError, match="Not a directory"):
        config.load(str(tmp_path / "file"), "n")


def test_a_network_name_is_no_way_out_of_the_directory(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "10.conf").write_text('{"type": "evil"}')
    directory = tmp_path / "net.d"
    directory.mkdir()
    (directory / "a.conflist").write_text(json.dumps({**_LIST, "name": "../outside"}))
    assert [each.type for each in config.load(str(directory), "../outside").plugins] == ["bridge"]


def test_the_cache_is_private_and_keeps_everything(tmp_path: Path) -> None:
    cache = Cache(str(tmp_path / "cni"))
    attachment = Attachment(
        "c1", "eth0", netns="/run/netns/x", args=[("A", "1")], capability_args={"mac": "0a:00:00:00:00:01"}
    )
    cache.store("n", attachment, b'{"name": "n"}', _RESULT)
    file = tmp_path / "cni/results/n-c1-eth0"
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700
    kept = json.loads(file.read_text())
    assert (kept["kind"], kept["cniArgs"], kept["networkName"]) == ("cniCacheV1", [["A", "1"]], "n")
    found = cache.read("n", attachment)
    assert found is not None
    assert found.attachment == attachment
    assert found.config == b'{"name": "n"}'
    assert found.result == Result.from_json(_RESULT)
    assert [each.network for each in cache.attachments(network="n")] == ["n"]
    assert not list(cache.attachments(container_id="c2"))
    cache.remove("n", attachment)
    cache.remove("n", attachment)
    assert cache.read("n", attachment) is None


def test_attachments_whose_file_names_collide_are_told_apart(tmp_path: Path) -> None:
    cache = Cache(str(tmp_path))
    cache.store("a", Attachment("b-c", "eth0"), b"{}", _RESULT)
    assert cache.read("a-b", Attachment("c", "eth0")) is None
    cache.remove("a-b", Attachment("c", "eth0"))
    assert cache.read("a", Attachment("b-c", "eth0")) is not None


def test_a_file_that_says_it_is_another_is_passed_over(tmp_path: Path) -> None:
    cache = Cache(str(tmp_path))
    cache.store("n", Attachment("c1", "eth0"), b"{}", _RESULT)
    (tmp_path / "results/n-c1-eth0").rename(tmp_path / "results/n-c2-eth0")
    assert not list(cache.attachments())
    assert cache.read("n", Attachment("c2", "eth0")) is None


def test_an_old_file_is_a_bare_result(tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    (tmp_path / "results/n-c1-eth0").write_text(json.dumps(_RESULT))
    found = Cache(str(tmp_path)).read("n", Attachment("c1", "eth0"))
    assert found is not None
    assert found.result == Result.from_json(_RESULT)


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"kind": "cniCacheV9"}', '{"kind": "cniCacheV1", "config": 5}']
)
def test_a_damaged_file_is_an_error_for_readers_who_care(tmp_path: Path, content: str) -> None:
    (tmp_path / "results").mkdir()
    (tmp_path / "results/n-c1-eth0").write_text(content)
    cache = Cache(str(tmp_path))
    with pytest.raises(ValueError):  # noqa: PT011
        cache.read("n", Attachment("c1", "eth0"))
    assert not list(cache.attachments())
