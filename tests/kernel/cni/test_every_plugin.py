"""What is true of every built-in plugin: DEL in any state, GC, STATUS, VERSION, and any configuration."""

from __future__ import annotations

import copy
import importlib.util
import json
import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from cni import plugin, state
from cni.errors import INTERNAL
from cni.plugins import PLUGINS
from fixtures.linkstandin import StandIn

if TYPE_CHECKING:
    from collections.abc import Iterator

    # The fixtures' classes live in conftest.py, which cannot be imported by name.
    Host = Node = Any

SERVER = Path(__file__).parents[2] / "fixtures/ipamserver.py"
MAPPINGS = [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]
LIMITS = {"ingressRate": 10**6, "ingressBurst": 10**6, "egressRate": 10**6, "egressBurst": 10**6}
ROUTES = [{"dst": "0.0.0.0/0"}]
# A sound configuration of each, with as many of its keys as go together. @ is the test's directory.
IPAM: dict[str, Any] = {
    "type": "host-local",
    "ranges": [[{"subnet": "10.22.0.0/24", "rangeStart": "10.22.0.2"}], [{"subnet": "fd00:22::/64"}]],
    "routes": ROUTES,
    "dataDir": "@/leases",
}
ADDRESSES: dict[str, dict[str, Any]] = {
    "dhcp": {"daemonSocketPath": "@/dhcp.sock", "request": [{"option": "host-name"}], "priority": 5},
    "host-local": IPAM,
    "http": {"url": "http://127.0.0.1:PORT", "subnets": ["10.22.0.0/24"], "timeout": 2, "node": "n1"},
    "sql": {"database": "sqlite:///@/db", "subnet": "10.22.0.0/24", "timeout": 5, "sticky": "container"},
    "static": {"addresses": [{"address": "10.22.0.2/24", "gateway": "10.22.0.1"}], "routes": ROUTES},
}
INTERFACES: dict[str, dict[str, Any]] = {
    "bridge": {
        "bridge": "br0",
        "isGateway": True,
        "ipMasq": True,
        "macspoofchk": True,
        "arpspoofchk": True,
        "mtu": 1400,
        "hairpinMode": True,
        "runtimeConfig": {"mac": "02:00:00:00:00:77", "ips": ["10.22.0.9/24"]},
    },
    "dummy": {},
    "flannel": {"subnetFile": "@/subnet.env", "dataDir": "@/flannel", "delegate": {"bridge": "br0"}},
    "host-device": {"device": "lan0"},
    "ipvlan": {"master": "lan0", "mode": "l2"},
    "loopback": {},
    "macvlan": {"master": "lan0", "mode": "bridge", "mtu": 1400, "bcqueuelen": 100},
    "ptp": {"ipMasq": True, "mtu": 1400, "dns": {"nameservers": ["10.0.0.1"], "search": ["x"]}},
    "tap": {"owner": 64123, "mtu": 1400, "multiQueue": True},
    "vlan": {"master": "lan0", "vlanId": 5},
}
CHAINED: dict[str, dict[str, Any]] = {
    "bandwidth": {"runtimeConfig": {"bandwidth": LIMITS}},
    "debug": {"logFile": "@/debug.log"},
    "firewall": {"ingressPolicy": "same-bridge", "backend": "nftables"},
    "portmap": {"snat": True, "runtimeConfig": {"portMappings": MAPPINGS}},
    "sbr": {"addSourceHints": True},
    "tuning": {"mac": "02:00:00:00:00:78", "sysctl": {"net.core.somaxconn": "500"}, "dataDir": "@/tuning"},
    "vrf": {"vrfname": "blue"},
}
PLAYED: dict[str, tuple[str, bytes]] = {
    "dummy": ("ifb", b""),
    "ipvlan": ("macvlan", b""),
    "vlan": ("macvlan", b""),
}
WITHOUT_IPAM = ("loopback",)
# There is no server on a network that has just been made; tests/kernel/cni/test_dhcp_plugin.py has one.
CANNOT_ADD = ("dhcp",)
SUBNET = "FLANNEL_NETWORK=10.22.0.0/16\nFLANNEL_SUBNET=10.22.0.1/24\nFLANNEL_MTU=1400\nFLANNEL_IPMASQ=true\n"


class Bench:
    """A host with what the plugin `kind` needs, and a container; `call` speaks the protocol with it."""

    def __init__(self, host: Host, directory: Path, kind: str) -> None:
        self.host, self.directory, self.kind = host, directory, kind
        self.node = host.node("c1")
        self.port = 0
        self.result: Any = None
        subprocess.run(["ip", "link", "add", "lan0", "type", "veth", "peer", "name", "lan1"], check=True)
        subprocess.run(["ip", "link", "set", "lan0", "up"], check=True)
        (directory / "subnet.env").write_text(SUBNET)
        if kind in CHAINED:
            status, self.result = self.call("ADD", self.filled(INTERFACES["bridge"], "bridge"), kind="bridge")
            assert status == 0, self.result
        self.clean = self.left()

    def config(self) -> dict[str, Any]:
        return self.filled({**INTERFACES, **CHAINED}.get(self.kind, {}), self.kind)

    def filled(self, own: dict[str, Any], kind: str) -> dict[str, Any]:
        whole: dict[str, Any] = {"cniVersion": "1.1.0", "name": "net1", "type": kind, **copy.deepcopy(own)}
        if kind in ADDRESSES:
            whole["ipam"] = {"type": kind, **ADDRESSES[kind]}
        elif kind == "flannel":
            whole["ipam"] = {"type": "host-local", "dataDir": "@/leases"}
        elif kind in INTERFACES and kind not in WITHOUT_IPAM:
            whole["ipam"] = IPAM
        if kind in CHAINED:
            whole["prevResult"] = self.result
        text = json.dumps(whole).replace("@/", f"{self.directory}/").replace("PORT", str(self.port))
        found: dict[str, Any] = json.loads(text)
        return found

    def call(
        self, command: str, config: object, *, kind: str = "", netns: str | None = None
    ) -> tuple[int, Any]:
        """Exit status and answer, which is checked to be one that the protocol knows."""
        variables = {
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": "c1",
            "CNI_NETNS": self.node.netns if netns is None else netns,
            "CNI_IFNAME": "lo" if (kind or self.kind) == "loopback" else "eth0",
            "CNI_PATH": "/nonexistent",
        }
        text = json.dumps(config).encode()
        status, printed = plugin.call(kind or self.kind, variables, lambda: text)
        answer = json.loads(printed) if printed else None
        if status == 0:
            assert (answer is not None) is (command in ("ADD", "VERSION")), (command, config)
        else:
            assert status == 1
            assert answer["cniVersion"]
            assert answer["msg"]
            assert "unexpected" not in answer["msg"], (command, answer, config)
        return status, answer

    def left(self) -> dict[str, Any]:
        found: dict[str, Any] = self.host.left()
        found["inside"] = sorted(each["ifname"] for each in json.loads(self.node("ip", "-j", "link")))
        found["rules"] = self.node("ip", "rule")
        lines = subprocess.check_output(["tc", "qdisc"], text=True).splitlines()
        found["qdiscs"] = [line for line in lines if " dev br0 " not in line]  # bridges stay until GC
        return found

    def files(self) -> list[str]:
        """What there is but for locks, and the database that the plugin `sql` looks into."""
        found = [str(each) for each in self.directory.rglob("*") if not each.is_dir()]
        return sorted(each for each in found if not each.endswith((".lock", "/lock", "/db")))

    def take_back(self) -> None:
        """DEL of whatever is recorded, under whatever name."""
        for name, request in list(state.every()):
            if not (self.kind in CHAINED and name in ("bridge", "host-local") and request.name == "net1"):
                plugin.perform(name, request)


@contextmanager
def service(directory: Path) -> Iterator[int]:
    """The service of the plugin `http`; its port."""
    command = [sys.executable, "-I", SERVER, "10.22.0.0/24"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=directory) as server:
        assert server.stdout is not None
        assert server.stdin is not None
        yield int(server.stdout.readline())
        server.stdin.close()


@pytest.fixture
def bench(
    request: pytest.FixtureRequest, host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Bench]:
    kind: str = request.param
    if kind in PLAYED:
        StandIn(monkeypatch, kind, *PLAYED[kind])
    if kind == "vrf":
        request.getfixturevalue("vrf_kind")
    monkeypatch.setattr("cni.ipam.leases.DIRECTORY", str(tmp_path / "leases"))
    for name in ("flannel", "tuning"):
        monkeypatch.setattr(f"cni.plugins.{name}.DATA_DIRECTORY", str(tmp_path / name))
    # A configuration may name a place relative to where the plugin runs, which is nowhere in particular.
    place = tmp_path / "place"
    place.mkdir()
    monkeypatch.chdir(place)
    made = Bench(host, tmp_path, kind)
    if kind != "http":
        yield made
    else:
        with service(tmp_path) as port:
            made.port = port
            yield made


EVERY = pytest.mark.parametrize("bench", sorted(PLUGINS), indirect=True)


def test_there_is_a_configuration_for_each() -> None:
    assert {**ADDRESSES, **INTERFACES, **CHAINED}.keys() == PLUGINS.keys()


# Plugins that no table of faults has to have, and why.
WITHOUT_FAULTS = {
    "loopback": "one ioctl, which DEL takes back",
    "dhcp": "test_dhcp_plugin.py has the server that it takes",
    **dict.fromkeys(("debug", "host-local", "http", "sql", "static"), "no message to the kernel"),
}


def test_every_plugin_that_changes_the_kernel_has_its_faults_tried() -> None:
    """A new plugin is missing here until it is in the tables of test_plugin_faults or test_rule_faults."""
    faults, rules = _module("test_plugin_faults"), _module("test_rule_faults")
    tried = {*faults.FIRST, *faults.PLAYED, *faults.CHAINED, *(case["type"] for case in rules.CASES.values())}
    assert tried >= PLUGINS.keys() - WITHOUT_FAULTS
    for name in [name for name, why in WITHOUT_FAULTS.items() if why.startswith("no message")]:
        script = f"import sys, {PLUGINS[name]}; sys.exit('linux.netlink' in sys.modules)"
        source = Path(plugin.__file__).parent.parent
        subprocess.run([sys.executable, "-c", script], env={"PYTHONPATH": str(source)}, check=True)


def _module(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(f"{name}_tables", Path(__file__).parent / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@EVERY
def test_del_is_no_error_before_an_add_twice_and_with_nothing_to_go_by(bench: Bench) -> None:
    config = bench.config()
    without = {key: value for key, value in config.items() if key != "prevResult"}
    files = bench.files()
    gone = str(bench.directory / "gone")
    for netns in (None, "", gone):
        for each in (config, without):
            assert bench.call("DEL", each, netns=netns) == (0, None)
    assert not os.path.exists(gone)
    assert bench.left() == bench.clean
    assert bench.files() == files

    for netns in (None, "", gone):
        for each in (config, without):
            status, answer = bench.call("ADD", config)
            assert (status == 0) is (bench.kind not in CANNOT_ADD), answer
            assert bench.call("DEL", each, netns=netns) == (0, None)
            assert bench.call("DEL", each, netns=netns) == (0, None)
            if netns is not None:
                bench.call("DEL", each)  # what is in the namespace only is found there, when it can be
            left = bench.left()
            left["links"] = [link for link in left["links"] if link != "br0"]
            kept = [link for link in bench.clean["links"] if link != "br0"]
            assert left == {**bench.clean, "links": kept}, (netns, each is config)


@EVERY
def test_gc_takes_all_and_a_list_protects(bench: Bench) -> None:
    config = bench.config()
    collect = {key: value for key, value in config.items() if key not in ("prevResult", "runtimeConfig")}
    bench.call("ADD", config)
    held = bench.left()
    living = [{"containerID": "c1", "ifname": "lo" if bench.kind == "loopback" else "eth0"}]
    assert bench.call("GC", {**collect, "cni.dev/valid-attachments": living}) == (0, None)
    assert bench.left() == held
    assert bench.call("GC", {**collect, "cni.dev/valid-attachments": []}) == (0, None)
    assert bench.left() == bench.clean
    assert bench.call("GC", {**collect, "cni.dev/valid-attachments": []}) == (0, None)


@EVERY
def test_status_and_version_answer(bench: Bench) -> None:
    status, answer = bench.call("STATUS", bench.config())
    assert status == 0 or answer["code"] in (50, 51), answer
    status, answer = bench.call("VERSION", None)
    assert "1.1.0" in answer["supportedVersions"]
    # Nothing that these two may not do.
    assert bench.left() == bench.clean


STRANGE = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-1, 70000),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=8).filter(lambda text: "/" not in text and ".." not in text),
    # No absolute names: what is asked for would be done, as root.
    st.sampled_from([
        "",
        "a/b",
        "\0",
        "x" * 300,
        "\ud800",
        "é" * 9,
        "::",
        "::1",
        "10.22.0.0",
        "10.22.0.0/0",
        "10.22.0.255/24",
        "fd00:22::9/64",
        "0.0.0.0/0",
        "ff:ff:ff:ff:ff:ff",
        "0.2.0",
        "1.0.0",
        "lo",
        "lan1",
        "br0",
        "iptables",
        "%s%n",
    ]),
    st.sampled_from([[], {}, [[]], [{}], {"": ""}, [5], ["\0"], [None], {"type": "nobody"}]),
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path] if path else []
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in pairs:
        found += places(item, (*path, key))
    return found


def changed(config: dict[str, Any], path: tuple[Any, ...], new: Any, *, absent: bool) -> dict[str, Any]:
    whole = copy.deepcopy(config)
    at: Any = whole
    for step in path[:-1]:
        at = at[step]
    if absent:
        del at[path[-1]]
    else:
        at[path[-1]] = new
    return whole


def mutations(bench: Bench, examples: int) -> None:
    config = bench.config()

    @settings(max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @seed(len(bench.kind) + int(os.environ.get("RKT_FAULT_OFFSET", "0")))
    @given(
        path=st.sampled_from(places(config)), strange=STRANGE, absent=st.sampled_from([False] * 5 + [True])
    )
    def mutate(path: tuple[Any, ...], strange: Any, absent: bool) -> None:
        try_out(bench, changed(config, path, strange, absent=absent))

    mutate()


def try_out(bench: Bench, mutated: dict[str, Any]) -> int:
    """Every command with this configuration; the code of ADD, 0 when it succeeded."""
    code = 0
    for command in ("STATUS", "ADD", "CHECK", "DEL", "GC"):
        status, answer = bench.call(command, mutated)
        assert status == 0 or answer["code"] not in (0, INTERNAL), (command, answer, mutated)
        if command == "ADD" and status:
            code = answer["code"]
        assert status == 0 or command != "DEL" or code, (answer, mutated)
    bench.take_back()
    assert bench.call("DEL", bench.config())[0] == 0
    left = bench.left()
    left["links"] = [each for each in left["links"] if each in bench.clean["links"] or not is_ours(each)]
    assert {**left, "links": 0} == {**bench.clean, "links": 0}, mutated
    return code


# What has once been answered with 999, or left something: where, what, and the code of ADD.
ONCE_WRONG: list[tuple[str, tuple[Any, ...], Any, int]] = [
    ("bridge", ("mtu",), 1000, 7),  # too little for the IPv6 address of the configuration
    ("dummy", ("ipam", "dataDir"), 5, 7),
    ("firewall", ("prevResult", "ips"), [], 0),
    ("flannel", ("ipam", "dataDir"), 5, 7),
    ("flannel", ("dataDir",), "\0", 7),
    ("host-local", ("name",), "x" * 300, 7),
    ("macvlan", ("mtu",), 68, 7),
    ("tap", ("mtu",), 68, 7),
    ("tuning", ("dataDir",), "\0", 7),
]


@pytest.mark.parametrize(
    ("bench", "path", "strange", "code"),
    ONCE_WRONG,
    indirect=["bench"],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_what_was_once_wrong(bench: Bench, path: tuple[Any, ...], strange: Any, code: int) -> None:
    assert try_out(bench, changed(bench.config(), path, strange, absent=False)) == code


@pytest.mark.parametrize("bench", ["bridge", "macvlan", "ptp", "tap"], indirect=True)
def test_an_mtu_too_small_for_ipv6_is_none_for_ipv4(bench: Bench) -> None:
    config = bench.config()
    config["ipam"]["ranges"].pop()
    assert try_out(bench, {**config, "mtu": 1000}) == 0


def is_ours(link: str) -> bool:
    """Whether a link may stay: the bridge of a network under another name does."""
    return not link.startswith(("veth", "bwp"))


@EVERY
def test_any_value_in_any_place_is_done_or_refused_with_a_code(bench: Bench) -> None:
    mutations(bench, 20)


@pytest.mark.campaign
@EVERY
def test_any_value_in_any_place_is_done_or_refused_with_a_code_at_length(bench: Bench) -> None:
    mutations(bench, 300)
