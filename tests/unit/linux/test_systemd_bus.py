"""D-Bus: values as bytes, a real bus daemon, and a peer that misbehaves."""

from __future__ import annotations

import shutil
import socket
import struct
import subprocess
import threading
from typing import TYPE_CHECKING, Any

import pytest

from linux.systemd import units, wire
from linux.systemd.bus import Bus, BusError, Service

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DRIVER = Service("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus")
CONFIGURATION = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>custom</type><listen>unix:path={path}</listen><auth>EXTERNAL</auth>
<policy context="default"><allow send_destination="*"/><allow receive_sender="*"/><allow own="*"/></policy>
</busconfig>"""


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[str]:
    program = shutil.which("dbus-daemon")
    if program is None:
        pytest.skip("needs dbus-daemon (Debian: dbus)")
    path = tmp_path / "bus"
    (tmp_path / "bus.conf").write_text(CONFIGURATION.format(path=path))
    command = [
        program,
        f"--config-file={tmp_path / 'bus.conf'}",
        "--nofork",
        "--nopidfile",
        "--print-address",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as running:
        assert running.stdout is not None
        assert running.stdout.readline()
        yield str(path)
        running.terminate()


def test_calls_errors_and_signals_of_a_real_bus(daemon: str) -> None:
    with Bus(daemon) as bus, Bus(daemon) as other:
        (names,) = bus.call(DRIVER, "ListNames")
        assert sorted(names) == [":1.0", ":1.1", "org.freedesktop.DBus"]
        nobody = Service("example.Nobody", "/", "example.Nobody")
        with pytest.raises(BusError, match=r"example\.Nobody") as refused:
            bus.call(nobody, "Anything", "sa{sv}", "x", [("key", ("u", 7))])
        assert refused.value.name == "org.freedesktop.DBus.Error.ServiceUnknown"
        bus.subscribe("type='signal',member='NameOwnerChanged'")
        bus.call(DRIVER, "GetId")
        other.call(DRIVER, "RequestName", "su", "example.Name", 0)
        while (found := bus.signal("NameOwnerChanged"))[0] != "example.Name":
            pass
        assert found == ("example.Name", "", ":1.1")


def test_no_answer_within_the_time(daemon: str) -> None:
    with Bus(daemon, timeout=0.2) as bus, Bus(daemon) as other:
        other.call(DRIVER, "RequestName", "su", "example.Silent", 0)
        with pytest.raises(TimeoutError):
            bus.call(Service("example.Silent", "/", "example.Silent"), "Anything")


def test_no_bus_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Bus(str(tmp_path / "nothing"))


@pytest.mark.parametrize(
    "sent",
    [
        b"REJECTED EXTERNAL\r\n",
        b"",
        b"OK x\r\n",
        b"OK x\r\n" + b"X" * 32,
        b"OK x\r\nl" + bytes(3) + struct.pack("<III", 1 << 30, 1, 0),
        b"OK x\r\nl" + bytes(3) + struct.pack("<III", 0, 1, 1 << 31),
        b"OK x\r\nl\2\0\1" + struct.pack("<III", 0, 1, 9) + b"\5\2ab" + bytes(12),
        b"OK x\r\nl\2\0\1" + struct.pack("<III", 0, 1, 8) + b"\5\1y\0" + bytes(4),
    ],
)
def test_a_peer_that_misbehaves_is_an_error(tmp_path: Path, sent: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "bus"))
        listening.listen()

        def answer() -> None:
            connected, _ = listening.accept()
            with connected:
                connected.recv(1 << 16)
                connected.sendall(sent)

        peer = threading.Thread(target=answer)
        peer.start()
        with pytest.raises(OSError):  # noqa: PT011 - each has an error of its own
            Bus(str(tmp_path / "bus"), timeout=2)
        peer.join()


@pytest.mark.parametrize(
    ("signature", "values"),
    [
        ("y", (255,)),
        ("ybnqiuxtd", (1, True, -2, 3, -4, 5, -6, 7, 1.5)),
        ("sog", ("grüße", "/a/b", "a(sv)")),
        ("ayu", ([1, 2, 3], 9)),
        ("at", ([],)),
        ("yat", (1, [1 << 40])),
        ("a(sv)", ([("a", ("b", True)), ("b", ("as", ["x", "y"])), ("c", ("(ii)", (1, 2)))],)),
        ("a{sa{sv}}s", ([("k", [("v", ("v", ("u", 1)))])], "end")),
        ("aasay", ([["a"], []], [7])),
    ],
)
def test_values_come_back(signature: str, values: tuple[Any, ...]) -> None:
    assert wire.Reader(wire.encode(signature, values)).all(signature) == values


def test_bytes_as_the_specification_shows_them() -> None:
    assert wire.encode("s", ("foo",)) == b"\3\0\0\0foo\0"
    # "an array of one 64-bit integer, 5": its length is 8, without the padding before the element
    assert wire.encode("ax", ([5],)) == b"\10\0\0\0" + bytes(4) + b"\5" + bytes(7)


@pytest.mark.parametrize("signature", ["z", "(", "(s", "a", "a{sv", "a" * 40 + "y"])
def test_signatures_that_are_none(signature: str) -> None:
    with pytest.raises(ValueError, match="signature"):
        wire.split(signature)


@pytest.mark.parametrize(
    ("signature", "data"),
    [
        ("s", b"\xff\0\0\0abc"),
        ("au", b"\xff\xff\xff\xff" + bytes(16)),
        ("v", b"\2uu\0" + bytes(8)),
        ("v", b"\1v\0" * 100),
        ("u", b"\0"),
    ],
)
def test_hostile_bytes_are_a_value_error(signature: str, data: bytes) -> None:
    with pytest.raises(ValueError, match=r"message|array|variant"):
        wire.Reader(data).all(signature)


@pytest.mark.parametrize(
    ("path", "unit"),
    [
        ("/", None),
        ("/system.slice/web.service", units.Unit("web.service", "system.slice")),
        ("/system.slice/web.service/rkt/x", units.Unit("web.service", "system.slice")),
        ("/init.scope", units.Unit("init.scope", "-.slice")),
        (
            "/user.slice/user-0.slice/session-3.scope",
            units.Unit("session-3.scope", "user-0.slice"),
        ),
        ("/a.slice/_cgroup.service", units.Unit("cgroup.service", "a.slice")),
        ("/docker/0123", None),
    ],
)
def test_the_unit_of_a_control_group(path: str, unit: units.Unit | None) -> None:
    assert units.of_group(path) == unit
