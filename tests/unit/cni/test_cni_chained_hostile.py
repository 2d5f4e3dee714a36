"""Chained plugins and flannel: any value in any place of their configuration is a clear error or none."""

from __future__ import annotations

import copy
import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cni import plugin, state
from cni.attachment import sysctl
from cni.errors import INTERNAL
from cni.plugins import flannel, tuning
from fixtures.strangevalues import STRANGE, paths, put
from linux.netlink import traffic

if TYPE_CHECKING:
    from pathlib import Path

_NETNS = "/nowhere/of/the/kind"
_PREVIOUS = {
    "cniVersion": "1.1.0",
    "interfaces": [{"name": "veth0", "mac": "02:00:00:00:00:01"}, {"name": "eth0", "sandbox": _NETNS}],
    "ips": [{"address": "10.0.0.2/24", "gateway": "10.0.0.1", "interface": 1}],
    "routes": [{"dst": "0.0.0.0/0", "gw": "10.0.0.1"}],
}
_LIMITS: dict[str, Any] = {"ingressRate": 8, "ingressBurst": 8, "egressRate": 8, "egressBurst": 8}
_SETTINGS: dict[str, Any] = {"sysctl": {"net.core.somaxconn": "1"}, "mac": "02:00:00:00:00:01", "mtu": 1}
_SETTINGS.update(promisc=True, allmulti=False, txQLen=1)
_OWN: dict[str, dict[str, Any]] = {
    "bandwidth": {"runtimeConfig": {"bandwidth": {**_LIMITS, "shapedSubnets": ["10.0.0.0/8"]}}},
    "flannel": {"delegate": {"type": "debug", "mtu": 1}, "ipam": {"type": "x", "routes": [{"dst": "::/0"}]}},
    "sbr": {"table": 100, "gateways": ["10.0.0.1"], "addSourceHints": True},
    "tuning": {**_SETTINGS, "runtimeConfig": {"mac": ""}, "args": {"cni": _SETTINGS}},
    "vrf": {"vrfname": "blue", "table": 7},
}


def _base(kind: str) -> dict[str, Any]:
    common = {"cniVersion": "1.1.0", "name": "n", "type": kind, "prevResult": _PREVIOUS}
    return copy.deepcopy({**common, **_OWN[kind]})


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), kind=st.sampled_from(sorted(_OWN)), strange=STRANGE)
def test_any_value_in_any_place_is_an_error_with_a_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: Any, kind: str, strange: Any
) -> None:
    monkeypatch.setattr(state, "DIRECTORY", str(tmp_path / "records"))
    monkeypatch.setattr(flannel, "DATA_DIRECTORY", str(tmp_path / "flannel"))
    monkeypatch.setattr(flannel, "SUBNET_FILE", str(tmp_path / "subnet.env"))
    monkeypatch.setattr(tuning, "DATA_DIRECTORY", str(tmp_path / "tuning"))
    whole = _base(kind)
    put(whole, data.draw(st.sampled_from(paths(whole))), strange)
    text = json.dumps(whole).encode()
    variables = {"CNI_CONTAINERID": "c", "CNI_NETNS": _NETNS, "CNI_IFNAME": "eth0", "CNI_PATH": "/x"}
    for verb in ("ADD", "CHECK", "DEL", "STATUS"):
        status, answer = plugin.call(kind, {"CNI_COMMAND": verb, **variables}, lambda: text)
        if status:
            assert json.loads(answer)["code"] not in (0, INTERNAL), (verb, answer)
    assert not [each for each in tmp_path.rglob("*") if each.is_file()]


@given(st.text(max_size=40))
def test_no_text_is_a_way_out_of_the_network_settings(key: str) -> None:
    try:
        path = sysctl.setting(key, "eth0")
    except ValueError:
        return
    assert path
    assert not path.startswith("/")
    assert not {"", ".", ".."} & set(path.split("/"))


@pytest.mark.parametrize(
    ("key", "path"),
    [
        ("net.ipv4.conf.IFNAME.forwarding", "ipv4/conf/eth0.5/forwarding"),
        ("net/ipv4/conf/IFNAME/forwarding", "ipv4/conf/eth0.5/forwarding"),
        ("net/ipv4/conf/a.b/forwarding", "ipv4/conf/a.b/forwarding"),
        ("net.ipv4.conf.a/b.forwarding", "ipv4/conf/a.b/forwarding"),
        ("net.IFNAME.IFNAME", "eth0.5/IFNAME"),
    ],
)
def test_keys_are_written_as_in_sysctl_d(key: str, path: str) -> None:
    assert sysctl.setting(key, "eth0.5") == path


@given(st.integers(1, 1 << 61), st.integers(1, (1 << 32) - 1))
def test_any_rate_and_burst_fit_the_message(rate: int, burst: int) -> None:
    traffic.add_tbf(1, rate=rate, burst=burst, limit=rate + burst)
    traffic.add_htb_class(1, parent=1, named=2, rate=rate, burst=burst)


@given(st.text(max_size=120))
def test_any_text_of_flanneld_is_a_subnet_or_a_value_error(text: str) -> None:
    base = "FLANNEL_NETWORK=10.1.0.0/16\nFLANNEL_SUBNET=10.1.17.1/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n"
    for whole in (text, base + text, base.replace("1450", text), base.replace("10.1.17.1/24", text)):
        try:
            assert flannel.Subnet(whole, "x").mtu >= 0
        except ValueError:
            continue
