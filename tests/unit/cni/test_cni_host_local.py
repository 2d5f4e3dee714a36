"""host-local: ranges, leases on the files of the reference plugin, requested addresses, boots, kills."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cni import plugin, state
from cni.errors import INVALID_CONFIG, PLUGIN_NOT_AVAILABLE, TRY_AGAIN_LATER, CniError
from cni.fields import Fields
from cni.ipam import host_local, leases, resolvconf
from cni.ipam.ranges import Range, RangeSet, read_sets
from cni.request import Request
from cni.types.address import format_ip, parse_ip
from cni.types.result import DNS
from fixtures.ipamnode import IpamNode


@pytest.fixture(autouse=True)
def records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    directory = tmp_path / "records"
    monkeypatch.setattr(state, "DIRECTORY", str(directory))
    yield directory
    assert not list(directory.rglob("*:*")), "records are left"


class Node(IpamNode):
    """A host with one network."""

    def __init__(self, directory: Path, **ipam: Any) -> None:
        self.directory = directory / "networks"
        super().__init__(**{"type": "host-local", "dataDir": str(self.directory), **ipam})

    def files(self) -> dict[str, str]:
        network = self.directory / "net1"
        return {each.name: each.read_bytes().decode() for each in sorted(network.iterdir()) if each.is_file()}

    def leases(self) -> list[str]:
        return [name for name in self.files() if name != "lock" and not name.startswith("last_")]

    def clear(self, *containers: str) -> None:
        for container in containers:
            self.call("DEL", container)
        assert not self.leases()


def test_the_files_are_those_of_the_reference(tmp_path: Path) -> None:
    node = Node(tmp_path, subnet="10.22.0.0/24")
    assert node.call("ADD") == ["10.22.0.2/24"]
    assert node.call("ADD", "b") == ["10.22.0.3/24"]
    assert node.files() == {
        "10.22.0.2": "a\r\neth0",
        "10.22.0.3": "b\r\neth0",
        "last_reserved_ip.0": "10.22.0.3",
        "lock": "",
    }
    modes = {name: (node.directory / "net1" / name).stat().st_mode & 0o777 for name in node.files()}
    assert modes == {"10.22.0.2": 0o600, "10.22.0.3": 0o600, "last_reserved_ip.0": 0o600, "lock": 0o750}
    node.call("CHECK")
    node.call("DEL")
    node.call("DEL")
    with pytest.raises(CniError) as missing:
        node.call("CHECK")
    assert missing.value.code == host_local.NOT_ALLOCATED
    assert node.call("ADD", "c") == ["10.22.0.4/24"]
    node.clear("b", "c")


def test_del_check_gc_and_status_before_any_add_leave_no_file(tmp_path: Path) -> None:
    node = Node(tmp_path, subnet="10.22.0.0/24")
    for command in ("DEL", "GC", "STATUS"):
        node.call(command)
    with pytest.raises(CniError):
        node.call("CHECK")
    assert not node.directory.exists()


def test_an_attachment_gets_one_address_a_set(tmp_path: Path) -> None:
    node = Node(tmp_path, ranges=[[{"subnet": "10.22.0.0/24"}], [{"subnet": "fd00:22::/64"}]])
    node.ipam["routes"] = [{"dst": "0.0.0.0/0"}, {"dst": "::/0", "gw": "fd00:22::9"}]
    result = host_local.add(node.request("ADD", "a"))
    assert [str(each.address) for each in result.ips] == ["10.22.0.2/24", "fd00:22::2/64"]
    assert [format_ip(each.gateway or b"") for each in result.ips] == ["10.22.0.1", "fd00:22::1"]
    assert [str(each.dst) for each in result.routes] == ["0.0.0.0/0", "::/0"]
    with pytest.raises(CniError, match="duplicate allocation") as second:
        node.call("ADD")
    assert second.value.code == INVALID_CONFIG
    assert node.call("ADD", "a", "eth1") == ["10.22.0.3/24", "fd00:22::3/64"]
    node.call("DEL", "a", "eth1")
    assert node.leases() == ["10.22.0.2", "fd00:22::2"]
    node.clear("a")


def test_all_or_nothing(tmp_path: Path) -> None:
    node = Node(tmp_path, ranges=[[{"subnet": "10.22.0.0/24"}], [{"subnet": "10.23.0.0/30"}]])
    assert node.call("ADD", "a") == ["10.22.0.2/24", "10.23.0.2/30"]
    with pytest.raises(CniError, match=r"range set: 10\.23\.0\.1-10\.23\.0\.2") as full:
        node.call("ADD", "b")
    assert full.value.code == TRY_AGAIN_LATER
    assert node.leases() == ["10.22.0.2", "10.23.0.2"]
    with pytest.raises(CniError) as unable:
        node.call("STATUS")
    assert unable.value.code == PLUGIN_NOT_AVAILABLE
    node.clear("a")
    node.call("STATUS")


def test_a_crowded_range_is_used_to_the_last_address(tmp_path: Path) -> None:
    node = Node(tmp_path, subnet="10.22.0.0/25")
    given = [node.call("ADD", f"c{number}")[0] for number in range(125)]
    assert len(set(given)) == 125
    with pytest.raises(CniError):
        node.call("ADD", "more")
    node.call("DEL", "c60")
    assert node.call("ADD", "again") == [given[60]]
    node.call("GC", **{"cni.dev/valid-attachments": []})
    assert not node.leases()


@pytest.mark.parametrize(
    "where",
    [
        {"cni_args": "IP=10.22.0.77"},
        {"args": {"cni": {"ips": ["10.22.0.77"]}}},
        {"runtimeConfig": {"ips": ["10.22.0.77/24"]}},
    ],
)
def test_an_address_can_be_asked_for(tmp_path: Path, where: dict[str, Any]) -> None:
    node = Node(tmp_path, subnet="10.22.0.0/24")
    assert node.call("ADD", "a", **where) == ["10.22.0.77/24"]
    with pytest.raises(CniError, match=r"10\.22\.0\.77 is not available"):
        node.call("ADD", "b", **where)
    node.clear("a")


@pytest.mark.parametrize(
    ("wanted", "message"), [("10.22.0.1", "is the gateway"), ("10.99.0.1", "all requested IPs: 10.99.0.1")]
)
def test_an_address_that_cannot_be_had_leaves_nothing(tmp_path: Path, wanted: str, message: str) -> None:
    node = Node(tmp_path, subnet="10.22.0.0/24")
    with pytest.raises(CniError, match=message):
        node.call("ADD", "a", cni_args=f"IP={wanted}")
    assert not node.leases()


@pytest.mark.parametrize(
    ("ipam", "message"),
    [
        ({}, "no IP ranges"),
        ({"subnet": "10.22.0.5/24"}, "host bits"),
        ({"subnet": "10.22.0.0/31"}, "too small"),
        ({"subnet": "fd00::/127"}, "too small"),
        ({"subnet": "10.22.0.0/24", "rangeStart": "10.23.0.1"}, "not in network"),
        ({"subnet": "10.22.0.0/24", "rangeStart": "10.22.0.9", "rangeEnd": "10.22.0.8"}, "after the end"),
        ({"subnet": "10.22.0.0/24", "gateway": "x"}, "not an IP address"),
        ({"ranges": [[]]}, "empty"),
        ({"ranges": [{}]}, "not a list"),
        ({"ranges": [[{"subnet": "10.22.0.0/24"}, {"subnet": "fd00::/64"}]]}, "mixes"),
        ({"ranges": [[{"subnet": "10.22.0.0/24"}, {"subnet": "10.22.0.0/25"}]]}, "overlaps"),
        ({"subnet": "10.22.0.0/24", "ranges": [[{"subnet": "10.22.0.0/16"}]]}, "overlaps"),
        ({"subnet": "10.22.0.0/24", "resolvConf": "/nonexistent"}, "resolvConf"),
        ({"subnet": "10.22.0.0/24", "routes": [{"dst": "x"}]}, "routes|address"),
    ],
)
def test_a_bad_configuration_is_refused_with_code_7(
    tmp_path: Path, ipam: dict[str, Any], message: str
) -> None:
    node = Node(tmp_path, **ipam)
    with pytest.raises(CniError) as refused:
        node.call("ADD")
    assert refused.value.code == INVALID_CONFIG
    assert any(word in str(refused.value) for word in message.split("|"))
    assert not node.directory.exists()
    node.call("DEL")


def test_old_versions_have_room_for_one_address_a_family(tmp_path: Path) -> None:
    node = Node(tmp_path, ranges=[[{"subnet": "10.22.0.0/24"}], [{"subnet": "10.23.0.0/24"}]])
    node.version = "0.2.0"
    with pytest.raises(CniError, match="more than 1 address per family"):
        node.call("ADD")


def test_the_order_of_addresses() -> None:
    first = Range.from_json(
        Fields({"subnet": "10.0.0.0/29", "rangeStart": "10.0.0.2", "rangeEnd": "10.0.0.4"})
    )
    second = Range.from_json(Fields({"subnet": "10.0.1.0/29", "gateway": "10.0.1.2", "rangeEnd": "10.0.1.3"}))
    both = RangeSet([first, second])

    def after(last: str | None) -> list[str]:
        return [format_ip(packed)[-3:] for _, packed in both.after(parse_ip(last) if last else None)]

    assert after(None) == ["0.2", "0.3", "0.4", "1.1", "1.3"]
    assert after("10.0.0.3") == ["0.4", "1.1", "1.3", "0.2", "0.3"]
    assert after("10.0.1.3") == ["0.2", "0.3", "0.4", "1.1", "1.3"]
    assert after("10.9.9.9") == after(None)
    assert both.size() == 5


def test_the_runtime_s_ranges_come_first() -> None:
    sets = read_sets(
        Fields({"subnet": "10.1.0.0/24", "ranges": [[{"subnet": "10.2.0.0/24"}]]}),
        Fields({"ipRanges": [[{"subnet": "10.3.0.0/24"}]]}),
    )
    assert [str(each.ranges[0].subnet) for each in sets] == ["10.3.0.0/24", "10.1.0.0/24", "10.2.0.0/24"]


def _reboot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = tmp_path / "boot_id"
    other.write_text("11111111-2222-3333-4444-555555555555\n")
    monkeypatch.setattr(state, "BOOT_ID", str(other))


def _needs_marks(directory: Path) -> None:
    probe = directory / "probe"
    probe.touch()
    try:
        os.setxattr(probe, "user.cni.boot", b"x")
    except OSError:
        pytest.skip("the temporary directory has no extended attributes")


def test_leases_of_another_boot_are_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, records: Path
) -> None:
    _needs_marks(tmp_path)
    node = Node(tmp_path, subnet="10.22.0.0/30")
    assert node.call("ADD", "before") == ["10.22.0.2/30"]
    with pytest.raises(CniError):
        node.call("ADD", "other")
    _reboot(tmp_path, monkeypatch)
    node.call("STATUS")
    assert node.call("ADD", "other") == ["10.22.0.2/30"]
    assert node.files()["10.22.0.2"] == "other\r\neth0"
    node.call("DEL", "before")  # its late DEL does not take the address away from its new holder
    assert node.leases() == ["10.22.0.2"]
    node.clear("other")


def test_a_container_that_keeps_its_id_over_a_reboot_is_no_duplicate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _needs_marks(tmp_path)
    node = Node(tmp_path, subnet="10.22.0.0/24")
    node.call("ADD", "a")
    _reboot(tmp_path, monkeypatch)
    assert node.call("ADD", "a") == ["10.22.0.3/24"]
    leases.collect_other_boots(str(node.directory))
    assert node.leases() == ["10.22.0.3"]
    node.clear("a")


def test_leases_of_the_reference_plugin_are_kept_and_released(tmp_path: Path) -> None:
    node = Node(tmp_path, subnet="10.22.0.0/29")
    network = node.directory / "net1"
    network.mkdir(parents=True)
    (network / "10.22.0.2").write_bytes(b"go\r\neth0")
    (network / "10.22.0.3").write_bytes(b"very-old")
    (network / "10.22.0.4").write_bytes(b"")  # what a power cut leaves
    assert node.call("ADD", "a") == ["10.22.0.4/29"]
    leases.collect_other_boots(str(node.directory))
    node.call("CHECK", "go")
    node.call("CHECK", "very-old", "eth7")
    node.call("DEL", "go", "eth1")
    assert node.leases() == ["10.22.0.2", "10.22.0.3", "10.22.0.4"]
    node.call("DEL", "go")
    node.call("DEL", "very-old")
    node.clear("a")


def test_a_garbled_hint_starts_from_the_beginning(tmp_path: Path) -> None:
    node = Node(tmp_path, subnet="10.22.0.0/24")
    (node.directory / "net1").mkdir(parents=True)
    (node.directory / "net1/last_reserved_ip.0").write_text("not an ip address")
    assert node.call("ADD") == ["10.22.0.2/24"]
    assert node.files()["last_reserved_ip.0"] == "10.22.0.2"
    node.clear("a")


def test_gc_keeps_the_living(tmp_path: Path) -> None:
    node = Node(tmp_path, subnet="10.22.0.0/24")
    for container in ("a", "b", "c"):
        node.call("ADD", container)
    node.call("GC", **{"cni.dev/valid-attachments": [{"containerID": "b", "ifname": "eth0"}]})
    assert node.leases() == ["10.22.0.3"]
    node.call("CHECK", "b")
    node.call("DEL", "a")
    node.clear("b")


def test_killed_between_lease_and_record_del_finds_the_lease(tmp_path: Path) -> None:
    node = Node(tmp_path, subnet="10.22.0.0/24")
    child = os.fork()
    if child == 0:
        try:
            original = state.save

            def save(request: Request, name: str, made: dict[str, object]) -> None:
                if made["addresses"]:
                    os.kill(os.getpid(), 9)
                original(request, name, made)

            state.save = save
            node.call("ADD")
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -9
    assert node.leases() == ["10.22.0.2"]
    with pytest.raises(CniError, match="duplicate"):
        node.call("ADD")
    node.clear("a")


def test_many_at_once_get_different_addresses(tmp_path: Path) -> None:
    node = Node(tmp_path, subnet="10.22.0.0/24")
    children = []
    for worker in range(8):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                for number in range(20):
                    node.call("ADD", f"w{worker}-{number}")
                code = 0
            finally:
                os._exit(code)
        children.append(child)
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0] * 8
    assert len(node.leases()) == 160
    node.clear(*(f"w{worker}-{number}" for worker in range(8) for number in range(20)))


def test_a_symbolic_link_among_the_leases_is_not_followed(tmp_path: Path) -> None:
    node = Node(tmp_path, subnet="10.22.0.0/24")
    (node.directory / "net1").mkdir(parents=True)
    target = tmp_path / "target"
    target.write_text("precious")
    (node.directory / "net1/last_reserved_ip.0").symlink_to(target)
    with pytest.raises(CniError):
        node.call("ADD")
    assert target.read_text() == "precious"
    assert not node.leases() or node.leases() == []


def test_resolv_conf_is_read() -> None:
    text = "# c\nnameserver 10.0.0.1\nnameserver 10.0.0.2 \n;x\ndomain d\nsearch a b\n"
    text += "options ndots:2\noptions rotate\nfoo\n"
    assert resolvconf.parse(text) == DNS(
        nameservers=["10.0.0.1", "10.0.0.2"], domain="d", search=["a", "b"], options=["ndots:2", "rotate"]
    )


def test_a_sticky_address_is_kept_for_its_name(tmp_path: Path) -> None:
    node = Node(tmp_path, ranges=[[{"subnet": "10.22.0.0/29"}], [{"subnet": "fd00::/64"}]], sticky="pod")
    web = {"cni_args": "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web"}
    first = node.call("ADD", "a", **web)
    node.call("ADD", "b")
    node.clear("a", "b")
    node.call("ADD", "c")
    # Another container of the same pod, though it is not that address's turn.
    assert node.call("ADD", "d", **web) == first
    node.clear("c", "d")
    # Somebody else's by now: another one is given, and remembered in its place.
    others = ["x1", "x2", "x3", "x4", "x5"]
    given = [node.call("ADD", name) for name in others]
    taken = given.index(next(each for each in given if each[0] == first[0]))
    node.call("DEL", others[taken - 1])
    again = node.call("ADD", "e", **web)
    assert again[0] == given[taken - 1][0]
    node.clear(*others, "e")
    assert node.call("ADD", "f", **web) == again
    node.clear("f")
    # One file for an address, one for its name.
    assert len(list((node.directory / "net1/sticky").iterdir())) == 4


def test_what_an_address_is_kept_for(tmp_path: Path) -> None:
    node = Node(tmp_path, subnet="10.22.0.0/24", sticky="container")
    assert node.call("ADD", "a") == ["10.22.0.2/24"]
    node.clear("a")
    node.call("ADD", "b")
    assert node.call("ADD", "a") == ["10.22.0.2/24"]
    node.clear("a", "b")
    node.ipam["sticky"] = "label:app"
    labels = {"args": {"cni": {"labels": [{"key": "app", "value": "db"}]}}}
    first = node.call("ADD", "c", **labels)
    node.clear("c")
    assert node.call("ADD", "d") != first  # nothing to go by
    assert node.call("ADD", "e", **labels) == first
    node.clear("d", "e")
    for wrong in ("host", "label:", "True"):
        node.ipam["sticky"] = wrong
        with pytest.raises(CniError, match="pod, container, label:KEY"):
            node.call("ADD", "f")


def test_files_of_sticky_addresses_may_be_damaged(tmp_path: Path) -> None:
    node = Node(tmp_path, subnet="10.22.0.0/24", sticky="container")
    node.call("ADD", "a")
    node.clear("a")
    for each in (node.directory / "net1/sticky").iterdir():
        each.write_text("../../x")
    assert node.call("ADD", "a") == ["10.22.0.3/24"]
    node.clear("a")


def test_an_address_outside_of_the_range_needs_a_word(tmp_path: Path) -> None:
    node = Node(tmp_path, subnet="10.22.0.0/24", rangeStart="10.22.0.100", rangeEnd="10.22.0.101")
    wish = {"cni_args": "IP=10.22.0.9"}
    with pytest.raises(CniError, match="all requested IPs"):
        node.call("ADD", "a", **wish)
    node.ipam["allowOutsideRange"] = True
    assert node.call("ADD", "a", **wish) == ["10.22.0.9/24"]
    assert node.files()["last_reserved_ip.0"] == "10.22.0.100"  # of the ADD that failed
    for wrong in ("10.22.0.0", "10.22.0.255", "10.23.0.1", "10.22.0.1", "10.22.0.9"):
        with pytest.raises(CniError):
            node.call("ADD", "b", cni_args=f"IP={wrong}")
    assert node.call("ADD", "b")[0] in ("10.22.0.100/24", "10.22.0.101/24")
    node.call("STATUS")
    node.clear("a", "b")


def test_the_lease_of_a_namespace_that_is_gone_is_given_out_when_nothing_else_is(tmp_path: Path) -> None:
    _needs_marks(tmp_path)
    node = Node(tmp_path, subnet="10.22.0.0/29")  # four addresses beside the gateway's
    places = {name: tmp_path / "netns" / name for name in ("gone", "other", "here")}
    places["gone"].parent.mkdir()
    for place in places.values():
        place.touch()
    for name, place in places.items():
        added = node.request("ADD", name)
        added.netns = str(place)
        plugin.perform("host-local", added)
    assert node.call("ADD", "unknown") == ["10.22.0.5/29"]
    places["gone"].unlink()
    # A file that is no namespace any more says nothing: it may be one elsewhere.
    places["other"].unlink()
    places["other"].touch()
    node.call("STATUS")
    assert node.call("ADD", "new") == ["10.22.0.6/29"]
    node.call("STATUS")
    assert node.call("ADD", "newer") == ["10.22.0.2/29"]
    assert node.files()["10.22.0.2"] == "newer\r\neth0"
    with pytest.raises(CniError):
        node.call("STATUS")
    with pytest.raises(CniError):
        node.call("ADD", "newest")
    node.clear("gone", "other", "here", "unknown", "new", "newer")


def test_del_goes_by_the_result_when_the_record_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = Node(tmp_path, subnet="10.22.0.0/24")
    result = host_local.add(node.request("ADD", "a")).to_json("1.1.0")
    node.call("ADD", "b")
    state.remove(node.request("DEL", "a"), host_local.NAME)

    def read_all(*_: object) -> list[bytes]:
        raise AssertionError("every lease was read")

    monkeypatch.setattr(leases.Leases, "find", read_all)
    node.call("CHECK", "a", prevResult=result)
    node.call("DEL", "a", prevResult=result)
    assert node.leases() == ["10.22.0.3"]
    node.clear("b")
