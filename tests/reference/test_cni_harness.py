"""Our plugins over the shared cases, beside what the Go plugins did on them: 1.9.1, and Debian's 1.1.1.

Every difference is in the table of `fixtures.harnesstable`, with its reason, or fails.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from fixtures.harnesstable import ACCEPTED, ACCEPTED_OF_DEBIAN, differences, reason

if TYPE_CHECKING:
    from fixtures.harnesstable import Accepted

CHECKOUT = Path(__file__).parent.parent.parent
VECTORS = CHECKOUT.parent / "shared/vectors/cni"
REFERENCES = {"1.9.1": "expected-v1.9.1.json", "1.1.1": "expected-debian-1.1.1.json"}
# One of each kind; a campaign runs them all.
SAMPLE = (
    "bandwidth-capability",
    "bridge-dual-masq",
    "bridge-gc-empty",
    "bridge-route-fails-after-ipam",
    "firewall-same-bridge",
    "flannel-default",
    "full-chain-k8s-like",
    "hl-status-when-exhausted",
    "host-device-by-name",
    "macvlan-l2",
    "portmap-two-containers-same-port",
    "ptp-dual",
    "sbr-dual",
    "tuning-sysctl-mac-mtu",
)
SAMPLE_OF_DEBIAN = ("bridge-gateway", "ptp-v4-masq", "tuning-args")

pytestmark = [
    pytest.mark.usefixtures("root"),
    pytest.mark.needs("namespaces", "network-links", "nftables"),
    pytest.mark.skipif(not VECTORS.is_dir(), reason="needs the shared cases (../shared/vectors/cni)"),
]


@cache
def harness() -> Any:
    spec = importlib.util.spec_from_file_location("cni_harness", VECTORS / "harness.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def results(path: Path) -> dict[str, Any]:
    """What is in a file of results, by case, without what the harness says is not to be compared."""
    found = json.loads(path.read_text())["results"]
    strip, forget = harness().strip_private, harness().forget_messages
    return {each["name"]: forget(strip(each)) for each in found}


def run(names: list[str], directory: Path, version: str) -> dict[str, Any]:
    out = directory / "ours.json"
    options = [word for name in names for word in ("--case", name)]
    if version == "1.1.1":
        options += ["--cni-version", "1.0.0"]
    command = ["/usr/bin/python3", VECTORS / "harness.py", "run", "--bin", CHECKOUT / "lib/cni"]
    done = subprocess.run(
        [*command, *options, "--out", out, VECTORS / "cases.json"],
        capture_output=True,
        text=True,
        timeout=1800,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return results(out)


def compare(ours: dict[str, Any], version: str) -> tuple[list[str], set[Accepted]]:
    """The lines that no row of the table accepts, and the rows that some line needed."""
    theirs, latest = results(VECTORS / REFERENCES[version]), results(VECTORS / REFERENCES["1.9.1"])
    rows = ACCEPTED if version == "1.9.1" else (*ACCEPTED_OF_DEBIAN, *ACCEPTED)
    unexpected, used = [], set()
    for name, case in ours.items():
        assert "steps" in case, case
        if _is_missing(theirs[name]):
            continue  # Debian has no such plugin yet
        later = latest[name] if version == "1.1.1" else None
        for line in differences(case, theirs[name], harness().flat, later=later):
            row = reason(line, rows)
            if row is None:
                unexpected.append(line)
            else:
                used.add(row)
    return unexpected, used


def _is_missing(case: dict[str, Any]) -> bool:
    return any(call.get("missing") for step in case["steps"] for call in step["calls"])


@pytest.mark.parametrize("name", SAMPLE)
def test_a_case_differs_from_the_reference_as_the_table_says(name: str, tmp_path: Path) -> None:
    assert compare(run([name], tmp_path, "1.9.1"), "1.9.1")[0] == []


@pytest.mark.parametrize("name", SAMPLE_OF_DEBIAN)
def test_a_case_differs_from_debians_as_the_table_says(name: str, tmp_path: Path) -> None:
    assert compare(run([name], tmp_path, "1.1.1"), "1.1.1")[0] == []


@pytest.mark.campaign
@pytest.mark.parametrize("version", REFERENCES)
def test_all_cases_differ_as_the_table_says(version: str, tmp_path: Path) -> None:
    names = [case["name"] for case in json.loads((VECTORS / "cases.json").read_text())["cases"]]
    unexpected, used = compare(run(names, tmp_path, version), version)
    assert unexpected == []
    if version == "1.9.1":
        assert [row.why for row in ACCEPTED if row not in used] == []


def test_the_table_cannot_hide_a_leak(tmp_path: Path) -> None:
    """What we leave, lack or refuse where the reference does not is no difference of the table."""
    theirs = results(VECTORS / REFERENCES["1.9.1"])["bridge-dual-masq"]
    ours = json.loads(json.dumps(theirs))
    number = next(number for number, step in enumerate(ours["steps"]) if step["verb"] == "DEL")
    ours["steps"][number]["state"].setdefault("host.nft", {"+": []})["+"] += ["table inet rkt_masquerade"]
    ours["steps"][number]["state"]["host.links"]["+"] += ["VETH1 kind=veth"]
    ours["steps"][number]["calls"][0]["rc"] = 1
    add = next(step for step in ours["steps"] if step["verb"] == "ADD")
    add["calls"][0]["stdout"]["ips"].pop()
    unexpected = compare({"bridge-dual-masq": ours}, "1.9.1")[0]
    assert len([line for line in unexpected if f" {number} DEL" in line]) >= 4
    assert [line for line in unexpected if "ADD - /calls[0]/stdout/ips[1]/address" in line]
