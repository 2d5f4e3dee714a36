"""Traffic control: what we set is what tc and pyroute2 see, on the wire too where the kernel lacks it."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from linux.netlink import link, traffic, wire
from linux.netlink.batch import Batch
from linux.netlink.socket import ROUTE, Socket, open_in

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HANDLE = traffic.handle(1)


@pytest.fixture
def kernel(netns: Path) -> Iterator[Socket]:
    (socket,) = open_in(str(netns), ROUTE)
    with socket:
        do(
            socket,
            link.create_veth("a", "b", up=True),
            link.create("ifb9", "ifb"),
            link.change("ifb9", up=True),
        )
        yield socket


def do(socket: Socket, *requests: Any) -> None:
    batch = Batch(socket)
    batch.add(*requests)
    batch.commit()


def index(socket: Socket, name: str) -> int:
    found = link.get(socket, name)
    assert found is not None
    return found.index


def tc(netns: Path, *words: str) -> Any:
    command = ["nsenter", f"--net={netns}", "tc", "-j", *words]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout or "[]")


def text(netns: Path, *words: str) -> str:
    command = ["nsenter", f"--net={netns}", "tc", "-d", *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def pyroute2(messages: list[tuple[str, bytes]], expression: str) -> Any:
    """The value of an expression over `m`, these messages as pyroute2 reads them from the wire."""
    program = (
        "import json, sys, warnings; warnings.simplefilter('ignore')\n"
        "from pyroute2.netlink.rtnl import tcmsg\n"
        "m = []\n"
        "for kind, data in json.loads(sys.stdin.read()):\n"
        "    one = tcmsg.tcmsg(bytes.fromhex(data)); one.decode(); m.append(one)\n"
        f"print(json.dumps({expression}))\n"
    )
    given = json.dumps([(kind, data.hex()) for kind, data in messages])
    done = subprocess.run(
        [sys.executable, "-c", program], input=given, check=True, capture_output=True, text=True
    )
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    ("rate", "burst"),
    [(125_000, 100_000), (625_000, 100_003), (1_250_000_000, 1 << 31), (6_000_000_000, 1 << 20)],
)
def test_a_token_bucket_as_tc_sees_it(netns: Path, kernel: Socket, rate: int, burst: int) -> None:
    at = index(kernel, "a")
    assert traffic.qdisc(kernel, at) is None
    limit = rate * 25 // 1000 + burst
    do(kernel, traffic.add_tbf(at, rate=rate, burst=burst, limit=limit, named=HANDLE))
    (seen,) = [each for each in tc(netns, "qdisc", "show", "dev", "a") if each["kind"] == "tbf"]
    assert (seen["handle"], seen["root"], seen["options"]["rate"]) == ("1:", True, rate)
    # It is counted in whole microseconds, here and in tc.
    assert burst - 2 * (rate // 1_000_000 + 1) <= seen["options"]["burst"] <= burst
    ours = traffic.qdisc(kernel, at)
    assert ours is not None
    assert (ours.kind, ours.handle, ours.rate, ours.limit) == ("tbf", HANDLE, rate, min(limit, 0xFFFFFFFF))
    assert ours.buffer == traffic.ticks(burst, rate)
    with pytest.raises(OSError, match="add tbf to link") as refused:
        do(kernel, traffic.add_tbf(at, rate=rate, burst=burst, limit=limit, named=HANDLE))
    assert refused.value.errno == errno.EEXIST
    do(kernel, traffic.delete_qdisc(at, at=traffic.ROOT, named=HANDLE))
    assert traffic.qdisc(kernel, at) is None


def test_a_bucket_that_lasts_longer_than_ticks_can_say(netns: Path, kernel: Socket) -> None:
    at = index(kernel, "a")
    do(kernel, traffic.add_tbf(at, rate=1000, burst=1_000_000_000, limit=1 << 40, named=HANDLE))
    (seen,) = [each for each in tc(netns, "qdisc", "show", "dev", "a") if each["kind"] == "tbf"]
    assert seen["options"]["rate"] == 1000


def test_redirection_as_tc_sees_it(netns: Path, kernel: Socket) -> None:
    at, to = index(kernel, "a"), index(kernel, "ifb9")
    assert traffic.qdisc(kernel, at, at=traffic.INGRESS) is None
    parent = traffic.handle(0xFFFF)
    do(kernel, traffic.add_ingress(at), traffic.add_redirect(at, parent=parent, priority=1, to=to))
    seen = tc(netns, "filter", "show", "dev", "a", "parent", "ffff:")[-1]
    action = seen["options"]["actions"][0]
    assert (seen["pref"], seen["protocol"], action["kind"]) == (1, "all", "mirred")
    assert (action["direction"], action["mirred_action"], action["to_dev"]) == ("egress", "redirect", "ifb9")
    assert action["control_action"] == {"type": "stolen"}
    for each in (parent, traffic.INGRESS_FILTERS):
        found = traffic.filters(kernel, at, parent=each)
        assert [one.redirect for one in found if one.redirect] == [to]
    # Somebody else's beside ours, which goes by its priority alone.
    do(kernel, traffic.add_redirect(at, parent=traffic.INGRESS_FILTERS, priority=77, to=to))
    do(kernel, traffic.delete_filters(at, parent=traffic.INGRESS_FILTERS, priority=77))
    assert {one.priority for one in traffic.filters(kernel, at, parent=parent)} == {1}
    with pytest.raises(OSError, match="delete filters"):
        do(kernel, traffic.delete_filters(at, parent=traffic.INGRESS_FILTERS, priority=77))
    found_qdisc = traffic.qdisc(kernel, at, at=traffic.INGRESS)
    assert found_qdisc is not None
    assert found_qdisc.kind == "ingress"
    do(kernel, traffic.delete_qdisc(at, at=traffic.INGRESS))
    assert traffic.qdisc(kernel, at, at=traffic.INGRESS) is None


def test_classes_as_tc_sees_them(netns: Path, kernel: Socket) -> None:
    at = index(kernel, "a")
    shaped = traffic.handle(1, 0x30)
    do(
        kernel,
        traffic.add_htb(at, default=0x30, named=HANDLE),
        traffic.add_htb_class(at, parent=HANDLE, named=shaped, rate=6_000_000_000, burst=100_000),
        traffic.add_classification(
            at, parent=HANDLE, priority=16, network="10.1.2.3/15", flow=HANDLE, source=False
        ),
        traffic.add_classification(
            at, parent=HANDLE, priority=16, network="192.0.2.0/24", flow=shaped, source=True
        ),
        traffic.add_classification(
            at, parent=HANDLE, priority=17, network="fd00:1:2::/47", flow=shaped, source=False
        ),
        traffic.add_classification(at, parent=HANDLE, priority=17, network="::/0", flow=shaped, source=True),
    )
    (seen,) = [each for each in tc(netns, "qdisc", "show", "dev", "a") if each["kind"] == "htb"]
    assert seen["options"]["default"] == "0x30"
    assert "class htb 1:30 root prio 0 quantum 60000 rate 48Gbit ceil 48Gbit" in text(
        netns, "class", "show", "dev", "a"
    )
    lines = text(netns, "filter", "show", "dev", "a").splitlines()
    assert [line.strip() for line in lines if "match" in line] == [
        "match 0a000000/fffe0000 at 16",
        "match c0000200/ffffff00 at 12",
        "match fd000001/ffffffff at 24",
        "match 00020000/fffe0000 at 28",
        "match 00000000/00000000 at 8",
    ]
    assert [(each.handle, each.rate) for each in traffic.classes(kernel, at)] == [(shaped, 6_000_000_000)]
    flows = [each.flow for each in traffic.filters(kernel, at, parent=HANDLE) if each.flow]
    assert flows == [HANDLE, shaped, shaped, shaped]


def test_on_the_wire_as_pyroute2_reads_it() -> None:
    """Among others fq_codel, which the kernel of a test machine may lack."""
    sent = [
        traffic.add_fq_codel(7, at=traffic.handle(1, 1), named=traffic.handle(2)),
        traffic.add_tbf(7, rate=125_000, burst=100_000, limit=103_125, named=HANDLE),
        traffic.add_redirect(7, parent=traffic.handle(0xFFFF), priority=1, to=9),
        traffic.add_classification(
            7, parent=HANDLE, priority=17, network="fd00:1:2::/47", flow=HANDLE, source=False
        ),
        traffic.add_htb(7, default=0x30, named=HANDLE),
    ]
    messages = [(each.what, wire.encode(each, 1, wire.ACK)) for each in sent]
    heads = pyroute2(
        messages, "[[o['header']['type'], o['index'], o['handle'], o['parent'], o['info']] for o in m]"
    )
    assert heads == [
        [36, 7, 0x20000, 0x10001, 0],
        [36, 7, 0x10000, 0xFFFFFFFF, 0],
        [44, 7, 0, 0xFFFF0000, 1 << 16 | 0x0300],
        [44, 7, 0, 0x10000, 17 << 16 | 0xDD86],
        [36, 7, 0x10000, 0xFFFFFFFF, 0],
    ]
    assert pyroute2(messages, "[o.get_attr('TCA_KIND') for o in m]") == [
        "fq_codel",
        "tbf",
        "u32",
        "u32",
        "htb",
    ]
    bucket = pyroute2(messages, "m[1].get_attr('TCA_OPTIONS').get_attr('TCA_TBF_PARMS')")
    assert (bucket["rate"], bucket["limit"], bucket["buffer"]) == (125_000, 103_125, 12_500_000)


def test_what_the_kernel_has_no_module_for(netns: Path, kernel: Socket) -> None:
    at = index(kernel, "a")
    body = traffic.add_ingress(at).body.replace(b"ingress\0", b"nothing\0")
    with pytest.raises(OSError, match="unknown") as refused:
        do(kernel, wire.Request(36, wire.CREATE | wire.EXCLUSIVE, body, "add nothing"))
    assert refused.value.errno == errno.ENOENT
