"""S21: configurations that make no sense, given to each interface plugin: a code that says so, nothing left.

Every option with every kind of value that it must not have, and none of it reaches the kernel.
"""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from cni import plugin
from cni.errors import DECODING_FAILURE, INVALID_CONFIG, INVALID_ENVIRONMENT, UNSUPPORTED_FIELD, CniError
from cni.request import Request

if TYPE_CHECKING:
    # The fixtures' classes live in conftest.py, which cannot be imported by name.
    Host = Any

STRING = (7, True, [], {"a": 1}, "a/b", "..", "x" * 16, "a b", "nul\0", "\ud800")
NAME = STRING
WORD = (7, True, [], {"a": 1}, "nonsense", "nul\0")
NUMBER = ("7", True, [], {}, -1, 1 << 40, 1.5)
BOOLEAN = ("true", 1, [], {})
LINK = {"master": NAME, "mtu": NUMBER, "linkInContainer": BOOLEAN}
COMMON = {
    "ipam": (7, True, [], "host-local", {"type": 7}, {"type": "../x"}, {"type": "nobody"}),
    "dns": (7, [], "x"),
}
OPTIONS: dict[str, dict[str, tuple[Any, ...]]] = {
    "bridge": {
        "bridge": NAME,
        "hostInterface": NAME,
        "ipMasqBackend": WORD,
        "mtu": NUMBER,
        "vlan": NUMBER,
        "vlanTrunk": (
            7,
            "x",
            {},
            [7],
            [{}],
            [{"id": "5"}],
            [{"id": 0}],
            [{"minID": 2}],
            [{"minID": 3, "maxID": 2}],
        ),
        **dict.fromkeys(
            (
                "isGateway",
                "isDefaultGateway",
                "forceAddress",
                "ipMasq",
                "hairpinMode",
                "promiscMode",
                "macspoofchk",
                "arpspoofchk",
                "enabledad",
                "preserveDefaultVlan",
                "disableContainerInterface",
                "portIsolation",
            ),
            BOOLEAN,
        ),
    },
    "dummy": {},
    "host-device": {
        "device": NAME,
        "hwaddr": (7, [], "nonsense", "01:02"),
        "kernelpath": (7, "/etc", "/sys/devices/../x", "sys"),
        "pciBusID": (7, [], "../x", "a b", "0000:99:00.0"),
        "runtimeConfig": (7, [], {"deviceID": 7}, {"deviceID": "../x"}, {"deviceID": "0000:99:00.0"}),
    },
    "ipvlan": {**LINK, "mode": WORD},
    "macvlan": {
        **LINK,
        "mode": WORD,
        "bcqueuelen": NUMBER,
        "mac": (7, "x", "01:00:00:00:00:00", "02:00:00:00:00:0g"),
    },
    "ptp": {"mtu": NUMBER, "ipMasq": BOOLEAN, "ipMasqBackend": WORD},
    "tap": {
        "mtu": NUMBER,
        "mac": (7, "x", "00:00:00:00:00:00"),
        "multiQueue": BOOLEAN,
        "owner": NUMBER,
        "group": NUMBER,
        "selinuxContext": (7, [], "label"),
        "bridge": NAME,
    },
    "vlan": {**LINK, "vlanId": NUMBER},
}
NEEDED: dict[str, dict[str, Any]] = {
    "bridge": {"bridge": "br0", "ipMasq": True},
    "host-device": {},
    "ipvlan": {"master": "lan0"},
    "macvlan": {"master": "lan0"},
    "ptp": {"ipMasq": True},
    "vlan": {"master": "lan0"},
}
CODES = {UNSUPPORTED_FIELD, INVALID_ENVIRONMENT, DECODING_FAILURE, INVALID_CONFIG}


@pytest.mark.parametrize("kind", OPTIONS)
def test_no_option_with_a_value_that_it_cannot_have(host: Host, kind: str) -> None:
    node = host.node("c1")
    subprocess.run(["ip", "link", "add", "lan0", "type", "veth", "peer", "name", "lan1"], check=True)
    before = host.left()
    ipam = {"type": "host-local", "subnet": "10.22.0.0/24", "dataDir": str(host.leases)}
    base = {"cniVersion": "1.1.0", "name": "net1", "type": kind, "ipam": ipam, **NEEDED.get(kind, {})}
    for key, values in {**OPTIONS[kind], **COMMON}.items():
        for value in values:
            given = {**base, key: value}
            request = Request("ADD", given, container_id="c1", netns=node.netns, ifname="eth0")
            refused = _refusal(kind, request)
            assert refused is not None, (key, value)
            assert refused.code in CODES, (key, value, refused)
            # What is wrong with a configuration is no reason to keep what another one has made.
            if key != "ipam":
                plugin.perform(kind, request.with_config(given, command="DEL"))
            assert host.left() == before, (key, value)
            assert [each["ifname"] for each in json.loads(node("ip", "-j", "link"))] == ["lo"], (key, value)


def _refusal(kind: str, request: Request) -> CniError | None:
    try:
        plugin.perform(kind, request)
    except CniError as refused:
        return refused
    return None
