"""The words of rkt's network options: --net, --port, --dns, --hosts-entry, and the files of net.d."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from appc.schema.pod import PodManifest
from cni.types.address import Cidr, parse_ip
from cni.types.result import DNS, Result
from rkt import network
from rkt.errors import RktError
from rkt.network import definitions, flags, naming, netinfo, plan, ports

UUID = "6f8d8a4c-1f0e-4d0f-9a4e-0d9f2b7a1c11"


@pytest.mark.parametrize(
    ("values", "names"),
    [
        ([], ("default",)),
        (["a,b", "c"], ("a", "b", "c")),
        (["default:IP=172.16.28.123;X=y", "none"], ("default:IP=172.16.28.123;X=y", "none")),
    ],
)
def test_net_is_repeatable_and_a_list(values: list[str], names: tuple[str, ...]) -> None:
    assert network.parse_net_flags(values) == names


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["a,a"], 'found duplicate netname "a"'),
        (["a", "a:K=V"], 'found duplicate netname "a"'),
        (["a,,b"], "netname must not be empty"),
        (["host:K=V"], 'arguments are not supported by special netname "host"'),
        (["a:K"], 'network "a" provided with invalid arguments'),
        (["a:K=V:L=W"], 'network "a" provided with invalid arguments'),
        (["a:"], 'network "a" provided with invalid arguments'),
    ],
)
def test_wrong_nets_are_refused(values: list[str], message: str) -> None:
    with pytest.raises(RktError) as refused:
        network.parse_net_flags(values)
    assert message in str(refused.value)


@pytest.mark.parametrize("word", ["none", "host"])
def test_no_port_leads_into_a_pod_without_a_network(word: str) -> None:
    flags.check_ports_allowed(["default"])
    with pytest.raises(RktError, match=f"--port flag does not work with '{word}' networking"):
        flags.check_ports_allowed([word])


def _manifest(*exposed: dict[str, Any], apps: dict[str, list[dict[str, Any]]] | None = None) -> PodManifest:
    apps = apps or {"web": [{"name": "http", "protocol": "tcp", "port": 80}]}
    listed = [
        {
            "name": name,
            "image": {"id": "sha512-" + "0" * 128},
            "app": {"exec": ["/a"], "user": "0", "group": "0", "ports": app_ports},
        }
        for name, app_ports in apps.items()
    ]
    manifest = {"acVersion": "0.8.11", "acKind": "PodManifest", "apps": listed, "ports": list(exposed)}
    return PodManifest.parse(json.dumps(manifest).encode())


def test_ports_are_found_by_the_name_that_an_app_gives_them() -> None:
    (forward,) = ports.forwards(_manifest({"name": "http", "hostPort": 8080, "hostIP": "127.0.0.1"}))
    assert forward.mapping() == {
        "hostPort": 8080,
        "containerPort": 80,
        "protocol": "tcp",
        "hostIP": "127.0.0.1",
    }


def test_a_port_with_a_count_is_that_many_ports() -> None:
    app = {"a": [{"name": "rtp", "protocol": "UDP", "port": 5000, "count": 3}]}
    found = ports.forwards(_manifest({"name": "rtp", "hostPort": 9000}, apps=app))
    assert [(each.protocol, each.host_port, each.pod_port) for each in found] == [
        ("udp", 9000, 5000),
        ("udp", 9001, 5001),
        ("udp", 9002, 5002),
    ]


def test_the_pod_s_own_port_needs_no_app() -> None:
    exposed = {"name": "x", "hostPort": 1, "podPort": {"name": "x", "protocol": "tcp", "port": 2}}
    assert [each.pod_port for each in ports.forwards(_manifest(exposed))] == [2]


@pytest.mark.parametrize(
    ("exposed", "apps", "message"),
    [
        ([{"name": "nope", "hostPort": 1}], None, 'port name "nope" could not be found in any apps'),
        (
            [{"name": "p", "hostPort": 1}],
            {n: [{"name": "p", "protocol": "tcp", "port": 1}] for n in "ab"},
            'port name "p" defined by multiple apps',
        ),
        (
            [{"name": "http", "hostPort": 80}, {"name": "http", "hostPort": 80, "hostIP": "127.0.0.1"}],
            None,
            "port tcp-127.0.0.1:80 already mapped to pod port 80",
        ),
        (
            [{"name": "p", "hostPort": 1}],
            {"a": [{"name": "p", "protocol": "icmp", "port": 1}]},
            'protocol "icmp" cannot be forwarded',
        ),
        (
            [{"name": "p", "hostPort": 65535}],
            {"a": [{"name": "p", "protocol": "tcp", "port": 1, "count": 2}]},
            "above 65535",
        ),
    ],
)
def test_ports_that_cannot_be_forwarded(exposed: Any, apps: Any, message: str) -> None:
    with pytest.raises(RktError) as refused:
        ports.forwards(_manifest(*exposed, apps=apps))
    assert message in str(refused.value)


def _write(directory: Path, name: str, value: object) -> None:
    (directory / "net.d").mkdir(exist_ok=True)
    text = value if isinstance(value, str) else json.dumps(value)
    (directory / "net.d" / name).write_text(text)


def _names(found: list[definitions.Definition]) -> list[str]:
    return [each.network.name for each in found]


def test_networks_come_in_the_order_of_their_files(tmp_path: Path) -> None:
    _write(tmp_path, "30-b.conf", {"name": "b", "type": "bridge"})
    _write(tmp_path, "10-c.conflist", {"name": "c", "cniVersion": "1.0.0", "plugins": [{"type": "ptp"}]})
    _write(tmp_path, "20-b.conf", {"name": "b", "type": "ptp"})
    _write(tmp_path, "00-ignored.json", {"name": "x", "type": "ptp"})
    found = definitions.select(["default", "b:IP=10.0.0.1", "c"], str(tmp_path))
    assert _names(found) == ["c", "b", "default"]
    assert [each.args for each in found] == ["", "IP=10.0.0.1", ""]
    assert found[1].network.plugins[0].type == "ptp"
    assert _names(definitions.select(["all"], str(tmp_path))) == ["c", "b", "default-restricted", "default"]
    assert definitions.select(["none"], str(tmp_path)) == []


def test_a_file_replaces_the_built_in_network_of_its_name(tmp_path: Path) -> None:
    (built_in,) = definitions.select(["default"], str(tmp_path))
    assert built_in.masquerades
    assert built_in.network.plugins[0].config["ipam"] == {
        "type": "host-local",
        "subnet": "172.16.28.0/24",
        "routes": [{"dst": "0.0.0.0/0"}],
    }
    (restricted,) = definitions.select(["default-restricted"], str(tmp_path))
    assert not restricted.masquerades
    _write(tmp_path, "10-mine.conf", {"name": "default", "type": "bridge"})
    assert definitions.select(["default"], str(tmp_path))[0].network.plugins[0].type == "bridge"


def test_names_that_are_not_there(tmp_path: Path) -> None:
    _write(tmp_path, "10-broken.conf", "{")
    with pytest.raises(RktError, match=r"^networks not found: nope, other$") as missing:
        definitions.select(["nope", "default", "other"], str(tmp_path))
    assert "10-broken.conf" in str(missing.value.hint)
    assert _names(definitions.select(["default"], str(tmp_path))) == ["default"]
    with pytest.raises(RktError, match=r"10-broken\.conf"):
        definitions.select(["all"], str(tmp_path))


def test_a_network_name_that_would_be_a_path_is_refused(tmp_path: Path) -> None:
    _write(tmp_path, "10-x.conf", {"name": "../../x", "type": "ptp"})
    with pytest.raises(RktError, match="networks not found") as refused:
        definitions.select(["../../x"], str(tmp_path))
    assert "invalid characters" in str(refused.value.hint)


def _plan(tmp_path: Path, *values: object, forward: bool = True) -> plan.Plan:
    for number, value in enumerate(values):
        _write(tmp_path, f"{number}.conf" if "plugins" not in str(value) else f"{number}.conflist", value)
    found = definitions.select([f"n{number}" for number in range(len(values))], str(tmp_path))
    forwards = ports.forwards(_manifest({"name": "http", "hostPort": 8080})) if forward else []
    return plan.make(UUID, str(tmp_path), "/run/netns/x", ["/p"], found, forwards)


def test_ports_go_to_the_first_network_that_masquerades_else_the_last(tmp_path: Path) -> None:
    plain = [{"name": f"n{number}", "type": "ptp"} for number in range(3)]
    made = _plan(tmp_path, *plain)
    assert [bool(each.capability_args) for each in made.joinings] == [False, False, True]
    assert [each.if_name for each in made.joinings] == ["eth0", "eth1", "eth2"]
    plain[1]["ipMasq"] = True  # type: ignore[assignment]
    made = _plan(tmp_path, *plain)
    assert [bool(each.capability_args) for each in made.joinings] == [False, True, False]
    # A single old-style plugin gets a port map that speaks a version with chains.
    assert [(each.type, each.version) for each in made.joinings[1].network.plugins] == [
        ("ptp", ""),
        ("portmap", "1.1.0"),
    ]


def test_a_list_that_maps_ports_itself_gets_no_second_port_map(tmp_path: Path) -> None:
    mapper = {"type": "portmap", "capabilities": {"portMappings": True}}
    whole = {"name": "n0", "cniVersion": "1.0.0", "plugins": [{"type": "bridge"}, mapper]}
    made = _plan(tmp_path, whole)
    assert [each.type for each in made.joinings[0].network.plugins] == ["bridge", "portmap"]


def test_a_plan_can_be_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "REGISTRY", str(tmp_path / "registry"))
    made = _plan(tmp_path, {"name": "n0", "type": "bridge", "ipMasq": True}, {"name": "n1", "type": "ptp"})
    (tmp_path / "net").mkdir()
    made.save()
    for read in (plan.load(str(tmp_path), UUID), next(iter(plan.registered()))):
        assert read is not None
        assert read.to_json() == made.to_json()
    # One damaged copy is no harm, two are an error, none at all is a pod without networks.
    (tmp_path / "net/plan.json").write_text("")
    assert plan.load(str(tmp_path), UUID) is not None
    (tmp_path / "registry" / UUID).write_text("{")
    with pytest.raises(ValueError, match=r"JSON|Expecting"):
        plan.load(str(tmp_path), UUID)
    made.forget()
    made.forget()
    assert plan.load(str(tmp_path), UUID) is None


def test_net_info_is_as_rkt_writes_it() -> None:
    result = Result.from_json({
        "cniVersion": "1.0.0",
        "interfaces": [{"name": "veth1"}, {"name": "eth0", "sandbox": "/run/netns/x"}],
        "ips": [
            {"interface": 0, "address": "10.9.9.9/24"},
            {"interface": 1, "address": "172.16.28.2/24", "gateway": "172.16.28.1"},
            {"interface": 1, "address": "fd00::2/64"},
        ],
        "dns": {"nameservers": ["10.0.0.1"]},
    })
    info = netinfo.NetInfo.from_result("default", "eth0", "/p/net/99-default.conf", "A=1", result)
    shown = info.to_json()
    assert {key: shown[key] for key in ("netName", "netConf", "ifName", "ip", "args", "mask", "ip6")} == {
        "netName": "default",
        "netConf": "/p/net/99-default.conf",
        "ifName": "eth0",
        "ip": "172.16.28.2",
        "args": "A=1",
        "mask": "255.255.255.0",
        "ip6": "fd00::2",
    }
    assert netinfo.decode(netinfo.encode([info])) == [info]
    only6 = netinfo.NetInfo("n", "eth0", ip6=Cidr(parse_ip("fd00::2"), 64))
    assert netinfo.decode(netinfo.encode([only6])) == [only6]


def test_dns_options_make_the_pod_s_file() -> None:
    mode, text = network.parse_dns(["8.8.8.8", "8.8.4.4,2001:db8::1"], ["s"], ["debug"], "d")
    assert mode == "stage0"
    assert text.splitlines() == [
        "# Generated by rkt run",
        "",
        "search s",
        "nameserver 8.8.8.8",
        "nameserver 8.8.4.4",
        "nameserver 2001:db8::1",
        "options debug",
        "domain d",
    ]
    assert network.parse_dns(["host"]) == ("host", "")
    assert network.parse_dns(["none"]) == ("none", "")
    assert network.parse_dns([]) == ("default", "")


@pytest.mark.parametrize(
    "options",
    [(["host", "8.8.8.8"],), (["none"], ["s"]), (["example.com"],), (["8.8.8.8"], ["a\nnameserver 6.6.6.6"])],
)
def test_dns_options_that_make_no_sense(options: Any) -> None:
    with pytest.raises(RktError, match=r"--dns|DNS"):
        network.parse_dns(*options)


def test_the_first_network_that_knows_names_makes_the_file() -> None:
    silent = netinfo.NetInfo("a", "eth0")
    talking = netinfo.NetInfo("b", "eth1", dns=DNS(nameservers=["10.0.0.1"], search=["x.example"]))
    later = netinfo.NetInfo("c", "eth2", dns=DNS(nameservers=["10.0.0.2"]))
    text = network.resolv_conf([silent, talking, later])
    assert text == "# Generated by rkt from network b\n\nsearch x.example\nnameserver 10.0.0.1\n"
    assert network.resolv_conf([silent]) is None


def test_a_plugin_cannot_write_lines_of_its_own_into_the_file() -> None:
    evil = DNS(nameservers=["10.0.0.1\noptions x", "10.0.0.2"], domain="a b", search=["ok", "x\ny", "#z"])
    text = naming.from_network("n", evil)
    assert text.splitlines()[2:] == ["search ok", "nameserver 10.0.0.2"]


def test_hosts_entries() -> None:
    mode, entries = network.parse_hosts(["1.2.3.4=a,1.2.3.4=b", "fd00::1=c"])
    assert (mode, entries) == ("stage0", {"1.2.3.4": ["a", "b"], "fd00::1": ["c"]})
    lines = network.hosts("rkt-x", entries).splitlines()
    assert lines[0] == "127.0.0.1\tlocalhost rkt-x"
    assert lines[2:] == ["1.2.3.4\ta b", "fd00::1\tc"]
    assert network.parse_hosts(["1.2.3.4=a", "host"]) == ("host", {})
    assert network.parse_hosts([]) == ("default", {})
    for wrong in ("a=b", "1.2.3.4", "1.2.3.4=", "1.2.3.4=a b"):
        with pytest.raises(RktError, match="--hosts-entry"):
            network.parse_hosts([wrong])
