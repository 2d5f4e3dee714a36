"""static: where its addresses come from, which place wins, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from cni import plugin
from cni.errors import DECODING_FAILURE, INVALID_CONFIG, INVALID_ENVIRONMENT, CniError
from cni.ipam import static
from cni.request import Request

CONFIGURED = {
    "addresses": [
        {"address": "10.10.0.1/24", "gateway": "10.10.0.254"},
        {"address": "3ffe:ffff:0:01ff::1/64", "gateway": "3ffe:ffff:0::1"},
    ],
    "routes": [{"dst": "0.0.0.0/0"}],
    "dns": {"nameservers": ["8.8.8.8"], "domain": "example.com"},
}


def call(command: str = "ADD", ipam: Any = CONFIGURED, version: str = "1.1.0", **config: Any) -> Any:
    args = config.pop("cni_args", "")
    whole: dict[str, object] = {"cniVersion": version, "name": "net1", "type": "x", **config}
    if ipam is not None:
        whole["ipam"] = {"type": "static", **ipam}
    result = plugin.perform("static", Request(command, whole, container_id="a", ifname="eth0", args=args))
    return None if result is None else result.to_json(version)


def ips(**options: Any) -> list[tuple[str, str]]:
    return [(each["address"], each.get("gateway", "")) for each in call(**options).get("ips", ())]


def test_what_is_configured() -> None:
    assert call() == {
        "cniVersion": "1.1.0",
        "ips": [
            {"address": "10.10.0.1/24", "gateway": "10.10.0.254"},
            {"address": "3ffe:ffff:0:1ff::1/64", "gateway": "3ffe:ffff::1"},
        ],
        "routes": [{"dst": "0.0.0.0/0"}],
        "dns": {"nameservers": ["8.8.8.8"], "domain": "example.com"},
    }


def test_arguments_are_added_and_their_gateways_go_to_the_subnets_that_hold_them() -> None:
    arguments = "IP=10.10.0.7/24,10.11.0.7/24;GATEWAY=10.10.0.253,10.11.0.254"
    assert ips(ipam={}, cni_args=arguments) == [
        ("10.10.0.7/24", "10.10.0.253"),
        ("10.11.0.7/24", "10.11.0.254"),
    ]
    assert ips(cni_args="GATEWAY=10.10.0.253")[0] == ("10.10.0.1/24", "10.10.0.253")


def test_the_runtime_s_wish_wins_over_args_and_args_over_the_configuration() -> None:
    args = {"cni": {"ips": ["10.66.0.2/24"]}}
    assert ips(args=args) == [("10.66.0.2/24", "")]
    assert ips(args=args, runtimeConfig={"ips": ["10.67.0.2/24"]}) == [("10.67.0.2/24", "")]


def test_no_address_at_all_is_a_result_without_any() -> None:
    assert call(ipam={}) == {"cniVersion": "1.1.0"}


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        ({"ipam": None}, INVALID_CONFIG, "missing 'ipam' key"),
        ({"ipam": {}, "cni_args": "IP=10.10.0.7"}, INVALID_CONFIG, "prefix length"),
        ({"ipam": {}, "cni_args": "GATEWAY=x"}, INVALID_CONFIG, "not an IP address"),
        ({"cni_args": "COLOUR=red"}, INVALID_ENVIRONMENT, "unknown CNI_ARGS"),
        ({"ipam": {"addresses": [{"address": "10.0.0.1"}]}}, INVALID_CONFIG, "prefix length"),
        ({"ipam": {"addresses": [{"address": "10.0.0.1/24", "gateway": "x"}]}}, INVALID_CONFIG, "IP address"),
        ({"ipam": {"addresses": ["10.0.0.1/24"]}}, INVALID_CONFIG, "not a JSON object"),
        ({"runtimeConfig": {"ips": ["10.0.0.300/24"]}}, INVALID_CONFIG, "not an IP address"),
        ({"ipam": {"routes": [{"dst": "10.0.0.0"}]}}, INVALID_CONFIG, "prefix length"),
        ({"command": "CHECK"}, INVALID_CONFIG, "needs prevResult"),
        ({"command": "CHECK", "prevResult": {"ips": [{"address": "x"}]}}, DECODING_FAILURE, "prevResult"),
        ({"command": "STATUS", "ipam": {"addresses": [{"address": "x"}]}}, INVALID_CONFIG, "prefix length"),
    ],
)
def test_what_is_refused(options: dict[str, Any], code: int, message: str) -> None:
    with pytest.raises(CniError) as refused:
        call(**options)
    assert refused.value.code == code
    assert message in str(refused.value)


def test_old_versions_have_room_for_one_address_a_family() -> None:
    with pytest.raises(CniError, match="more than 1 address per family"):
        call(version="0.2.0", cni_args="IP=10.10.0.7/24")
    assert call(version="0.2.0")["ip4"] == {
        "ip": "10.10.0.1/24",
        "gateway": "10.10.0.254",
        "routes": [{"dst": "0.0.0.0/0"}],
    }


def test_check_compares_gateways_of_the_addresses_that_are_still_there() -> None:
    call("CHECK", prevResult=call())
    call("CHECK", prevResult={"ips": [{"address": "10.99.0.1/24"}]})
    changed = {"ips": [{"address": "10.10.0.1/24", "gateway": "10.10.0.7"}]}
    with pytest.raises(CniError, match=r"10\.10\.0\.7 instead of 10\.10\.0\.254") as different:
        call("CHECK", prevResult=changed)
    assert different.value.code == static.GATEWAY_CHANGED


@pytest.mark.parametrize("command", ["DEL", "GC", "STATUS"])
def test_there_is_nothing_to_give_back_or_to_run_out_of(command: str) -> None:
    assert call(command) is None
    assert call(command) is None
