"""Plugins whose kernel parts most machines for tests do not have, on a kernel that has them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from fixtures.usermodelinux import OtherKernel

MODULES = (
    *("bridge", "veth", "vrf", "nf_tables"),
    *("ifb", "sch_tbf", "sch_ingress", "sch_fq_codel", "cls_u32", "act_mirred"),
)

SCRIPT = """
import json, subprocess, sys
sys.path.insert(0, {source!r})
from cni import plugin, state
from cni.request import Request
state.DIRECTORY = "/run/rkt-platform/cni"
subprocess.run(["ip", "netns", "add", "c1"], check=True)

def see(*words):
    return json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout or "[]")

def tell(name):
    found = {{
        "disciplines": [[each["kind"], each["dev"], each.get("parent")] for each in see("tc", "-j", "qdisc")],
        "links": [each["ifname"] for each in see("ip", "-j", "link")],
        "inside": [[each["ifname"], each.get("master", "")] for each in see("ip", "-n", "c1", "-j", "link")],
        "records": [name for name, _ in state.every()],
    }}
    if name == "added":
        link = see("ip", "-n", "c1", "-j", "address", "show", "dev", "eth0")[0]
        found["addresses"] = [each["local"] for each in link["addr_info"] if each["scope"] == "global"]
        routes = []
        for family in ("-4", "-6"):
            routes += see("ip", "-n", "c1", family, "-j", "route", "show", "vrf", "blue")
        found["routes"] = [[each["dst"], each.get("gateway", "")] for each in routes if "type" not in each]
    print(json.dumps([name, found]))

ranges = [[{{"subnet": "10.22.0.0/24"}}], [{{"subnet": "fd00:22::/64"}}]]
routes = [{{"dst": "0.0.0.0/0"}}, {{"dst": "2001:db8::/32"}}]
ipam = {{"type": "host-local", "ranges": ranges, "routes": routes, "dataDir": "/run/leases"}}
rates = {{"ingressRate": 8000000, "ingressBurst": 800000, "egressRate": 8000000, "egressBurst": 800000}}
chain = [
    {{"type": "bridge", "bridge": "br0", "isGateway": True, "ipam": ipam}},
    {{"type": "vrf", "vrfname": "blue"}},
    {{"type": "bandwidth", **rates}},
]
result = None
made = []
for each in chain:
    config = {{"cniVersion": "1.1.0", "name": "net1", **each}}
    if result is not None:
        config["prevResult"] = result.to_json("1.1.0")
    made.append(Request("ADD", config, container_id="c1", netns="/run/netns/c1", ifname="eth0"))
    result = plugin.perform(each["type"], made[-1])
tell("added")
for each in made:
    checked = each.with_config({{**each.config, "prevResult": result.to_json("1.1.0")}}, command="CHECK")
    plugin.perform(checked.type, checked)
for number in range(2):
    for each in reversed(made):
        plugin.perform(each.type, each.with_config(each.config, command="DEL"))
tell("after")
"""


def test_vrf_and_fair_queues(other_kernel: OtherKernel, checkout: Path) -> None:
    lines = other_kernel(SCRIPT.format(source=str(checkout / "src")), MODULES)
    assert len(lines) == 2, "\n".join(lines)
    found: dict[str, Any] = dict(json.loads(line) for line in lines)
    added, after = found["added"], found["after"]
    assert ["eth0", "blue"] in added["inside"]
    assert added["addresses"] == ["10.22.0.2", "fd00:22::2"]
    assert [each for each in added["routes"] if not each[0].startswith("fe80")] == [
        ["default", "10.22.0.1"],
        ["10.22.0.0/24", ""],
        ["2001:db8::/32", "fd00:22::1"],
        ["fd00:22::/64", ""],
    ]
    shaped = {dev for kind, dev, _ in added["disciplines"] if kind == "tbf"}
    assert len(shaped) == 2
    assert shaped == {
        dev for kind, dev, parent in added["disciplines"] if (kind, parent) == ("fq_codel", "1:1")
    }
    assert added["records"]
    assert after["inside"] == [["lo", ""]]
    assert after["links"] == ["lo", "br0"]
    assert [each for each in after["disciplines"] if each[0] in ("tbf", "ingress")] == []
    assert after["records"] == []
