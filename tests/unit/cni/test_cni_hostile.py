"""Configurations and environments that nobody should write: refused with a code, and nothing left."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cni import config, plugin, state
from cni.errors import INTERNAL, CniError
from cni.types.result import Result
from fixtures.strangevalues import STRANGE, paths, put

_BASE: dict[str, Any] = {
    "cniVersion": "1.1.0",
    "name": "n",
    "type": "x",
    "args": {"cni": {"ips": ["10.0.0.9"]}},
    "runtimeConfig": {"ips": [], "ipRanges": []},
    "prevResult": {"cniVersion": "1.1.0", "ips": [{"address": "10.0.0.2/24"}]},
    "ipam": {
        "type": "host-local",
        "ranges": [[{"subnet": "10.0.0.0/24", "rangeStart": "10.0.0.2", "gateway": "10.0.0.1"}]],
        "routes": [{"dst": "0.0.0.0/0", "gw": "10.0.0.1", "mtu": 1500}],
    },
}


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(path=st.sampled_from(paths(_BASE)), strange=STRANGE)
def test_any_value_in_any_place_is_an_address_or_an_error_with_a_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: tuple[Any, ...], strange: Any
) -> None:
    monkeypatch.setattr(state, "DIRECTORY", str(tmp_path / "records"))
    monkeypatch.setattr("cni.ipam.leases.DIRECTORY", str(tmp_path / "networks"))
    whole = copy.deepcopy(_BASE)
    whole["ipam"]["dataDir"] = str(tmp_path / "networks")
    put(whole, path, strange)
    variables = {"CNI_CONTAINERID": "c", "CNI_NETNS": "/x", "CNI_IFNAME": "eth0", "CNI_PATH": "/x"}

    def call(command: str) -> tuple[int, Any]:
        text = json.dumps(whole).encode()
        status, answer = plugin.call("host-local", {"CNI_COMMAND": command, **variables}, lambda: text)
        return status, json.loads(answer) if answer else None

    status, answer = call("ADD")
    if status == 0:
        assert answer["ips"] if "ips" in answer else answer["ip4"]
    else:
        assert answer["code"] not in (0, INTERNAL), answer
    call("DEL")
    left = [each.name for each in tmp_path.rglob("*") if each.is_file() and each.name != "lock"]
    assert [name for name in left if not name.startswith("last_")] == []


_KEYS = [
    "cniVersion", "ips", "ip4", "ip", "address", "gateway", "interface", "routes", "dst",
    "dns", "name", "plugins", "type", "capabilities", "ipam", "nameservers", "cniVersions", "disableCheck",
]  # fmt: skip
_OBJECTS = st.recursive(
    STRANGE,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(_KEYS),
            inner,
            max_size=4,
        )
    ),
    max_leaves=10,
)


@given(_OBJECTS)
def test_no_result_is_more_than_a_value_error(value: Any) -> None:
    try:
        result = Result.from_json(value)
        for version in ("0.2.0", "0.4.0", "1.1.0"):
            json.dumps(result.to_json(version))
    except ValueError:
        return


@given(_OBJECTS)
def test_no_configuration_is_more_than_a_cni_error(value: Any) -> None:
    data = json.dumps(value).encode()
    for read in (config.parse_list, config.parse_single, config.parse_plugin):
        try:
            read(data)
        except CniError:
            continue
