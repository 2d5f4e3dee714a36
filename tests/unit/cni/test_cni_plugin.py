"""The skeleton of plugins: delegation, the generic GC on records, undoing, what becomes of exceptions."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from cni import delegate, plugin, plugins, state
from cni.errors import INTERNAL, INVALID_CONFIG, PLUGIN_NOT_AVAILABLE, TRY_AGAIN_LATER, CniError
from cni.request import Request
from cni.types.address import Cidr
from cni.types.result import Interface, IPConfig, Result
from cni.undo import Undo


class Dummy(ModuleType):
    """A plugin that keeps a record and notes what it was asked for."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.calls: list[tuple[str, str]] = []
        self.failure: Exception | None = None

    def add(self, request: Request) -> Result:
        self.calls.append(("ADD", request.container_id))
        if self.failure is not None:
            raise self.failure
        state.save(request, self.__name__, {"link": "veth1"})
        return Result(interfaces=[Interface("eth0")], ips=[IPConfig(Cidr.parse("10.0.0.2/24"))])

    def delete(self, request: Request) -> None:
        self.calls.append(("DEL", request.container_id))
        state.remove(request, self.__name__)

    def check(self, request: Request) -> None:
        self.calls.append(("CHECK", request.container_id))


@pytest.fixture
def dummy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Dummy:
    monkeypatch.setattr(state, "DIRECTORY", str(tmp_path / "records"))
    module = Dummy("dummy")
    monkeypatch.setitem(sys.modules, "dummy", module)
    monkeypatch.setitem(plugins.PLUGINS, "dummy", "dummy")
    return module


def _variables(command: str, **more: str) -> dict[str, str]:
    return {
        "CNI_COMMAND": command,
        "CNI_CONTAINERID": "c1",
        "CNI_NETNS": "/nonexistent",
        "CNI_IFNAME": "eth0",
        "CNI_PATH": "/nonexistent",
        **more,
    }


def _call(command: str, config: dict[str, Any] | None = None, **more: str) -> tuple[int, Any]:
    whole = {"cniVersion": "1.1.0", "name": "n", "type": "dummy", **(config or {})}
    status, answer = plugin.call("dummy", _variables(command, **more), lambda: json.dumps(whole).encode())
    return status, json.loads(answer) if answer else None


def test_gc_deletes_what_was_recorded_and_is_not_valid(dummy: Dummy) -> None:
    for container in ("a", "b", "c"):
        assert _call("ADD", CNI_CONTAINERID=container)[0] == 0
    assert state.load(Request(config={"name": "n"}, container_id="a", ifname="eth0"), "dummy") == {
        "link": "veth1"
    }
    dummy.calls.clear()
    assert _call("GC", {"cni.dev/attachments": [{"containerID": "b", "ifname": "eth0"}]}) == (0, None)
    assert sorted(dummy.calls) == [("DEL", "a"), ("DEL", "c")]
    assert [request.container_id for _, request in state.every()] == ["b"]
    assert _call("GC", {"name": "other"}) == (0, None)
    assert _call("GC") == (0, None)
    assert list(state.every()) == []


def test_a_damaged_record_is_forgotten(dummy: Dummy, tmp_path: Path) -> None:
    _call("ADD")
    (record,) = (tmp_path / "records/n").iterdir()
    record.write_text('{"boot": 5}')
    assert _call("GC") == (0, None)
    assert not record.exists()


def test_a_half_made_record_is_collected_with_its_writer_gone(dummy: Dummy, tmp_path: Path) -> None:
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    directory = tmp_path / "records/n"
    directory.mkdir(parents=True)
    ours, theirs = (directory / f".new-{pid}-00000000-x" for pid in (os.getpid(), child))
    ours.touch()
    theirs.touch()
    assert _call("GC") == (0, None)
    assert list(directory.iterdir()) == [ours]


def test_long_container_ids_have_records_too(dummy: Dummy) -> None:
    assert _call("ADD", CNI_CONTAINERID="x" * 1000)[0] == 0
    assert [request.container_id for _, request in state.every()] == ["x" * 1000]
    assert _call("DEL", CNI_CONTAINERID="x" * 1000)[0] == 0
    assert list(state.every()) == []


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        (CniError(123, "m"), 123),
        (ValueError("mtu is not an integer"), INVALID_CONFIG),
        (OSError(17, "File exists", "veth1"), INTERNAL),
        (OSError(28, "No space left on device"), TRY_AGAIN_LATER),
        (OSError(95, "Operation not supported"), PLUGIN_NOT_AVAILABLE),
        (KeyError("bug"), INTERNAL),
    ],
)
def test_whatever_a_plugin_raises_is_an_error_object(dummy: Dummy, failure: Exception, code: int) -> None:
    dummy.failure = failure
    status, answer = _call("ADD")
    assert (status, answer["code"], answer["cniVersion"]) == (1, code, "1.1.0")


def test_a_result_that_the_version_cannot_say_is_an_error(
    dummy: Dummy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dummy, "add", lambda request: Result(interfaces=[Interface("eth0")]))
    assert _call("ADD", {"cniVersion": "0.2.0"})[1]["code"] == 1


def test_delegating_is_a_call_with_the_whole_configuration(dummy: Dummy) -> None:
    config = {"cniVersion": "1.1.0", "name": "n", "type": "bridge", "ipam": {"type": "dummy"}}
    request = Request("ADD", config, container_id="c1", ifname="eth0")
    assert delegate.ipam_type(request) == "dummy"
    assert str(delegate.add(request).ips[0].address) == "10.0.0.2/24"
    delegate.check(request)
    delegate.delete(request)
    assert dummy.calls == [("ADD", "c1"), ("CHECK", "c1"), ("DEL", "c1")]


def test_a_delegate_that_fails_is_deleted(dummy: Dummy) -> None:
    dummy.failure = CniError(11, "full")
    request = Request("ADD", {"name": "n", "ipam": {"type": "dummy"}}, container_id="c1", ifname="eth0")
    with pytest.raises(CniError, match="full"):
        delegate.add(request)
    assert dummy.calls == [("ADD", "c1"), ("DEL", "c1")]


def test_an_executable_of_the_same_name_goes_before_the_built_in(dummy: Dummy, tmp_path: Path) -> None:
    foreign = tmp_path / "dummy"
    foreign.write_text(
        '#!/bin/sh\ncat >/dev/null\n[ "$CNI_COMMAND" != ADD ] || echo \'{"ip4": {"ip": "10.0.0.9/24"}}\'\n'
    )
    foreign.chmod(0o755)
    config = {"cniVersion": "0.2.0", "name": "n", "ipam": {"type": "dummy"}}
    request = Request("ADD", config, path=[str(tmp_path)], environment={"PATH": "/usr/bin:/bin"})
    assert str(delegate.add(request).ips[0].address) == "10.0.0.9/24"
    delegate.delete(request)
    assert dummy.calls == []


@pytest.mark.parametrize("name", ["", "../x", "nope"])
def test_a_delegate_that_is_not_there_is_an_error(dummy: Dummy, name: str) -> None:
    request = Request("ADD", {"name": "n", "ipam": {"type": name}}, container_id="c1")
    with pytest.raises(CniError) as missing:
        delegate.add(request)
    assert missing.value.code == INVALID_CONFIG


def test_status_asks_the_ipam_plugin(dummy: Dummy, monkeypatch: pytest.MonkeyPatch) -> None:
    assert _call("STATUS") == (0, None)

    def status(request: Request) -> None:
        raise CniError(50, "full")

    other = Dummy("other")
    monkeypatch.setitem(sys.modules, "other", other)
    monkeypatch.setitem(plugins.PLUGINS, "other", "other")
    monkeypatch.setattr(other, "status", status, raising=False)
    assert _call("STATUS", {"ipam": {"type": "other"}})[1]["code"] == 50


def test_steps_are_undone_in_reverse_whatever_some_of_them_say() -> None:
    done: list[str] = []

    def fails() -> None:
        done.append("b")
        raise OSError(2, "gone")

    def interrupted() -> None:
        with Undo() as undo:
            undo.push(lambda: done.append("a"))
            undo.push(fails)
            undo.push(lambda: done.append("c"))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as stopped:
        interrupted()
    assert done == ["c", "b", "a"]
    assert "gone" in stopped.value.__notes__[0]
    with Undo() as undo:
        undo.push(lambda: done.append("never"))
    assert "never" not in done


def test_a_launcher_with_the_name_of_no_plugin_says_so(tmp_path: Path) -> None:
    link = tmp_path / "nonesuch"
    link.symlink_to(Path(__file__).parents[3] / "lib/cni/plugin")
    done = subprocess.run(
        [link], env={"CNI_COMMAND": "VERSION"}, capture_output=True, text=True, check=False, timeout=30
    )
    answer = json.loads(done.stdout)
    assert (done.returncode, answer["code"], done.stderr) == (1, PLUGIN_NOT_AVAILABLE, "")
    assert "nonesuch" in answer["msg"]


THIRD_PARTY = """\
import sys
from cni import plugin, state
from cni.types.result import Result

def add(request):
    state.save(request, "third", {"mark": request.fields.string("mark")})
    return Result(version=request.version)

def delete(request):
    sys.stderr.write(f"DEL {request.container_id}\\n")
    state.remove(request, "third")

def check(request):
    if state.load(request, "third") is None:
        raise plugin.CniError(101, "gone")

VERSIONS = ("1.0.0", "1.1.0")
state.DIRECTORY = DIRECTORY

if __name__ == "__main__":
    sys.exit(plugin.serve(sys.modules[__name__]))
"""


def test_a_plugin_of_somebody_else_gets_the_whole_protocol(tmp_path: Path) -> None:
    program = tmp_path / "third"
    text = THIRD_PARTY.replace("DIRECTORY\n", f"{str(tmp_path / 'records')!r}\n", 1)
    program.write_text(f"#!{sys.executable}\n{text}")
    program.chmod(0o755)

    def run(command: str, version: str = "1.1.0", **more: Any) -> tuple[int, Any, str]:
        done = subprocess.run(
            [program],
            input=json.dumps({"cniVersion": version, "name": "n", "type": "third", **more}),
            env={**_variables(command), "PYTHONPATH": str(Path(plugin.__file__).parents[1])},
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )
        return done.returncode, json.loads(done.stdout) if done.stdout else None, done.stderr

    assert run("VERSION")[1]["supportedVersions"] == ["1.0.0", "1.1.0"]
    assert run("ADD", mark="x") == (0, {"cniVersion": "1.1.0"}, "")
    assert run("CHECK") == (0, None, "")
    assert run("ADD", "0.4.0")[1]["code"] == 1
    assert run("GC", **{"cni.dev/valid-attachments": [{"containerID": "c1", "ifname": "eth0"}]})[2] == ""
    assert run("GC", **{"cni.dev/valid-attachments": []}) == (0, None, "DEL c1\n")
    assert run("CHECK")[1]["code"] == 101
    assert run("ADD", mark=5)[1]["code"] == INVALID_CONFIG
