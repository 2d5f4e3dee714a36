"""JSON text, fields, addresses, versions, names and results of CNI."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cni import jsontext
from cni.errors import INVALID_CONFIG, INVALID_ENVIRONMENT, UNKNOWN_CONTAINER, CniError
from cni.fields import Fields
from cni.request import Request
from cni.types import names, version
from cni.types.address import Cidr, format_ip, parse_ip
from cni.types.result import DNS, Interface, IPConfig, Result, Route

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(_JSON, st.sampled_from([None, 2, 4]))
def test_json_text_is_the_same_to_the_json_package(value: object, indent: int | None) -> None:
    text = jsontext.dumps(value, indent)
    assert text == json.dumps(value, indent=indent)
    assert jsontext.loads(text) == value


@pytest.mark.parametrize(
    "text",
    ["", "{", "[1,]", "{} {}", "nul", "NaN", "-Infinity", "1e999", '{"a": Infinity}', b"\xff", "[" * 100_000],
)
def test_what_is_not_json_is_refused(text: str | bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  the texts are the interpreter's
        jsontext.loads(text)


def test_json_above_the_limit_is_refused_unread() -> None:
    with pytest.raises(ValueError, match="more than the 4 allowed"):
        jsontext.loads("     1", limit=4)


def test_big_integers_are_kept_exactly() -> None:
    assert jsontext.loads(str(2**53 + 1)) == 2**53 + 1


def test_fields_are_found_in_any_case_and_judged_by_type() -> None:
    fields = Fields({"isGateWay": True, "mtu": 1500.0, "name": None, "ipam": {"type": 5}, "list": ["a", 1]})
    assert fields.boolean("isGateway")
    assert fields.integer("MTU", high=65535) == 1500
    assert fields.string("name", "default") == "default"
    for read in (
        lambda: fields.mapping("ipam").string("type"),
        lambda: fields.strings("list"),
        lambda: fields.integer("isGateWay"),
        lambda: fields.integer("mtu", high=1499),
        lambda: fields.mapping("list"),
        lambda: fields.boolean("mtu"),
    ):
        with pytest.raises(ValueError, match=r"ipam\.type|list|mtu|isGateWay"):
            read()


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("10.1.2.3/16", "10.1.2.3/16"),
        ("fd00:0:0::1/64", "fd00::1/64"),
        ("::ffff:10.0.0.1/120", "10.0.0.1/24"),
        ("::1.2.3.4/128", "::102:304/128"),
        ("0.0.0.0/0", "0.0.0.0/0"),
    ],
)
def test_prefixes_are_printed_canonically(text: str, canonical: str) -> None:
    assert str(Cidr.parse(text)) == canonical


@pytest.mark.parametrize(
    "text",
    [
        "10.0.0.1",
        "10.0.0.1/33",
        "::ffff:1.2.3.4/64",
        "010.0.0.1/8",
        "1.2.3.4/08",
        "/8",
        "a/8",
        "fe80::1%e/64",
    ],
)
def test_what_is_no_prefix_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"address|prefix"):
        Cidr.parse(text)


def test_a_prefix_knows_its_network() -> None:
    subnet = Cidr.parse("10.1.2.3/20")
    assert str(subnet.network) == "10.1.0.0/20"
    assert subnet.contains(parse_ip("10.1.15.255"))
    assert not subnet.contains(parse_ip("10.1.16.0"))
    assert not subnet.contains(parse_ip("::1"))
    assert str(subnet.host) == "10.1.2.3/32"
    assert format_ip(parse_ip("FD00::A")) == "fd00::a"


def test_versions_compare_as_numbers() -> None:
    assert version.at_least("0.10.0", "0.4.0")
    assert version.at_least("1.1", "1.1.0")
    assert not version.at_least("", "0.2.0")
    for bad in ("1.0.0.0", "1.0.x", ".1", "1..0"):
        with pytest.raises(ValueError, match="version"):
            version.parse(bad)


@pytest.mark.parametrize("name", ["", "a/b", "..", ".", "x\0y"])
def test_cve_2021_20206_a_plugin_type_is_never_a_path(name: str) -> None:
    with pytest.raises(CniError) as refused:
        names.check_plugin_type(name)
    assert refused.value.code == INVALID_CONFIG


@pytest.mark.parametrize("name", ["a" * 16, "é" * 8, "a b", "a/b", "a:b", "a\x00", "a\x85", ".."])
def test_names_that_the_kernel_refuses_are_refused_first(name: str) -> None:
    with pytest.raises(CniError) as refused:
        names.check_interface_name(name)
    assert refused.value.code == INVALID_ENVIRONMENT


def test_other_control_characters_are_no_white_space() -> None:
    names.check_interface_name("a\x1f")


def test_without_a_container_id_there_is_no_container() -> None:
    with pytest.raises(CniError) as refused:
        names.check_container_id("")
    assert refused.value.code == UNKNOWN_CONTAINER


def _result() -> Result:
    return Result(
        interfaces=[Interface("br0"), Interface("eth0", mac="0a:00:00:00:00:01", mtu=1400, sandbox="/n")],
        ips=[
            IPConfig(Cidr.parse("10.0.0.2/24"), gateway=parse_ip("10.0.0.1"), interface=1),
            IPConfig(Cidr.parse("fd00::2/64"), interface=1),
        ],
        routes=[Route(Cidr.parse("0.0.0.0/0"), mtu=1400, table=0)],
        dns=DNS(nameservers=["10.0.0.53"], search=["example.com"]),
    )


@pytest.mark.parametrize("spoken", version.KNOWN)
def test_a_result_survives_each_version_as_far_as_it_can_say_it(spoken: str) -> None:
    shown = _result().to_json(spoken)
    assert shown["cniVersion"] == spoken
    again = Result.from_json(json.loads(json.dumps(shown)))
    assert again.to_json(spoken) == shown
    assert [each.address for each in again.ips] == [each.address for each in _result().ips]
    if spoken.startswith("1."):
        assert again == _result()


def test_a_result_without_addresses_cannot_be_said_in_old_versions() -> None:
    with pytest.raises(ValueError, match="no valid IP addresses"):
        Result(interfaces=[Interface("eth0")]).to_json("0.2.0")


def test_old_routes_keep_what_they_have_until_they_are_converted() -> None:
    route = {"dst": "10.0.0.0/8", "mtu": 1400}
    given = {"cniVersion": "0.2.0", "ip4": {"ip": "10.0.0.2/24", "routes": [route]}, "dns": {}}
    result = Result.from_json(given)
    assert result.to_json("0.2.0") == given
    assert result.to_json("1.0.0")["routes"] == [route]
    newer = Result.from_json(result.to_json("0.4.0"))
    assert newer.to_json("0.2.0")["ip4"] == {"ip": "10.0.0.2/24", "routes": [{"dst": "10.0.0.0/8"}]}


def test_cni_args_are_pairs_of_known_keys() -> None:
    assert Request(args="IP=1;X=2;IgnoreUnknown=true").cni_args(("IP",)) == {"IP": "1"}
    for text in ("X=2", "IP", "IP=1;", "IP=1=2", "IgnoreUnknown=maybe"):
        with pytest.raises(CniError):
            Request(args=text).cni_args(("IP",))
