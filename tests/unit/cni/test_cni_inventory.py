"""What is attached, from records and caches: hostile files, and namespaces that cannot be judged."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from cni import inventory, state
from cni.cache import Attachment, Cache
from cni.request import Request

RESULT: dict[str, object] = {"cniVersion": "1.0.0", "ips": [{"address": "10.0.0.2/24"}]}
LIST = json.dumps({
    "cniVersion": "1.0.0",
    "name": "n",
    "plugins": [{"type": "bridge"}, {"type": "x"}],
}).encode()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cache:
    monkeypatch.setattr(state, "DIRECTORY", str(tmp_path / "records"))
    return Cache(str(tmp_path / "cache"))


def _record(plugin: str, container: str, made: dict[str, object], **more: Any) -> None:
    request = Request(config={"name": "n", "type": plugin}, container_id=container, ifname="eth0", **more)
    state.save(request, plugin, made)


def test_records_and_results_of_one_attachment_are_one(cache: Cache) -> None:
    cache.store("n", Attachment("c1", "eth0", netns="/proc/self/ns/net"), LIST, RESULT)
    _record("bridge", "c1", {"ips": ["10.0.0.2/24"]}, netns="/proc/self/ns/net")
    _record("host-local", "c1", {})
    _record("bridge", "c2", {"ips": ["10.0.0.3/24"]}, netns="/nonexistent/ns")
    one, two = inventory.attachments([cache, cache])
    assert one.to_json() == {
        "network": "n",
        "container": "c1",
        "interface": "eth0",
        "addresses": ["10.0.0.2/24"],
        "netns": "/proc/self/ns/net",
        "alive": True,
        "plugins": ["bridge", "x", "host-local"],
        "recorded": ["bridge", "host-local"],
        "cached": True,
    }
    assert (two.container_id, two.addresses, two.lives, two.cached) == ("c2", ("10.0.0.3/24",), False, None)
    assert inventory.attachments([cache], network="other") == []


def test_the_namespace_of_a_cache_that_keeps_none_is_that_of_the_records_or_the_result(cache: Cache) -> None:
    """As podman 4 keeps its results: CHECK and GC of its containers need one all the same."""
    sandbox = {"name": "eth0", "sandbox": "/run/netns/c2"}
    cache.store("n", Attachment("c1", "eth0", args=[("K", "V")]), LIST, RESULT)
    cache.store("n", Attachment("c2", "eth0"), LIST, {**RESULT, "interfaces": [{"name": "br0"}, sandbox]})
    cache.store("n", Attachment("c3", "eth0"), LIST, {**RESULT, "interfaces": [{**sandbox, "name": "eth1"}]})
    _record("bridge", "c1", {}, netns="/proc/self/ns/net")
    one, two, three = inventory.attachments([cache])
    assert (one.lives, one.attachment.netns, one.attachment.args) == (
        True,
        "/proc/self/ns/net",
        (("K", "V"),),
    )
    assert (two.lives, two.attachment.netns) == (False, "/run/netns/c2")
    assert (three.lives, three.attachment.netns) == (None, "")


def test_a_namespace_is_dead_only_when_nothing_is_there(tmp_path: Path) -> None:
    pin = tmp_path / "pin"
    pin.touch()
    assert inventory.namespace_lives("/proc/self/ns/net") is True
    assert inventory.namespace_lives(str(pin)) is None
    assert inventory.namespace_lives(str(pin / "x")) is False
    assert inventory.namespace_lives(str(tmp_path / "gone")) is False
    assert inventory.namespace_lives("/a\0b") is None
    assert inventory.Known("n", "c", "eth0").lives is None


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        b"[" * 5000,
        b'{"kind": "cniCacheV1", "config": "!"}',
        b'{"kind": "cniCacheV1", "networkName": "../../x", "containerId": "c", "ifName": "eth0"}',
        b'{"kind": "cniCacheV1", "config": "", "result": {"ips": 5}}',
        b'{"boot": "x", "config": []}',
    ],
)
def test_whatever_stands_in_a_file_the_others_are_shown(cache: Cache, tmp_path: Path, content: bytes) -> None:
    cache.store("n", Attachment("c1", "eth0"), LIST, RESULT)
    _record("bridge", "c2", {})
    (tmp_path / "cache/results/n-c9-eth0").write_bytes(content)
    (tmp_path / "records/n/bridge:c9:eth0").write_bytes(content)
    (tmp_path / "records/odd").write_bytes(content)
    assert [each.container_id for each in inventory.attachments([cache])] == ["c1", "c2"]
    assert {os.path.basename(path) for path in state.damaged()} == {"bridge:c9:eth0", "odd"}
