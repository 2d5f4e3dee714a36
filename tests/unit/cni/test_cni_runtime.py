"""Lists of plugins, run by the runtime: with foreign executables that record what they are told."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from cni import config, invoke, process
from cni.cache import Attachment, Cache
from cni.errors import INVALID_ENVIRONMENT, TRY_AGAIN_LATER, CniError
from cni.runtime import Runtime
from cni.types.result import Result
from fixtures.recorder import Recorded

# Cases about the command line and the environment of cnitool, not about the runtime.
COMMAND_LINES = ("cni-args-bad", "cap-args-bad", "too-few-args")
VECTORS = Path(__file__).parents[4] / "shared/vectors/cni/runtime.json"


class Runtimes(Recorded):
    """Recorder plugins, and runtimes that run them."""

    def runtime(self, **options: Any) -> Runtime:
        environment = {**os.environ, "RECORD": str(self.record)}
        return Runtime([str(self.plugins)], cache=Cache(str(self.cache)), environment=environment, **options)


@pytest.fixture
def recorded(tmp_path: Path) -> Runtimes:
    return Runtimes(tmp_path)


def _cases() -> list[Any]:
    if not VECTORS.exists():
        reason = f"the shared cases are not at {VECTORS}"
        return [pytest.param(None, marks=pytest.mark.skip(reason=reason))]
    cases = json.loads(VECTORS.read_text())["cases"]
    return [pytest.param(each, id=each["name"]) for each in cases if each["name"] not in COMMAND_LINES]


CONTAINER = "cnitool-20b4ff582526573bbe7d"


def _command(runtime: Runtime, command: dict[str, Any], directory: str) -> object:
    """What cnitool does for one command line."""
    verb, network, netns = command["argv"]
    environment = command["env"]
    pairs = [tuple(pair.split("=")) for pair in environment.get("CNI_ARGS", "").split(";") if pair]
    attachment = Attachment(
        CONTAINER,
        environment.get("CNI_IFNAME", "eth0"),
        netns=netns,
        args=pairs,  # type: ignore[arg-type]
        capability_args=json.loads(environment.get("CAP_ARGS", "{}")),
    )
    loaded = config.load(directory, network)
    if verb == "add":
        result = runtime.add(loaded, attachment)
        return result.to_json(result.version or loaded.version)
    {
        "check": lambda: runtime.check(loaded, attachment),
        "del": lambda: runtime.delete(loaded, attachment),
        "gc": lambda: runtime.collect(loaded, None),
        "status": lambda: runtime.status(loaded),
    }[verb]()
    return None


@pytest.mark.parametrize("case", _cases())
def test_the_shared_runtime_cases(case: dict[str, Any], recorded: Runtimes, tmp_path: Path) -> None:
    directory = tmp_path / "net.d"
    directory.mkdir()
    for name, text in case["files"].items():
        (directory / name).write_text(text)
    for command in case["commands"]:
        if "sh" in command:
            script = command["sh"].replace("/var/lib/cni", str(recorded.cache))
            subprocess.run(["sh", "-c", script], check=True)
            continue
        try:
            shown, failed = _command(recorded.runtime(), command, str(directory)), 0
        except CniError:
            shown, failed = None, 1
        assert failed == command["rc"]
        if command["rc"] == 0 and command["stdout"]:
            assert shown == command["stdout"]
        calls = recorded.calls()
        assert [call["plugin"] for call in calls] == [call["plugin"] for call in command["calls"]]
        for call, expected in zip(calls, command["calls"], strict=True):
            assert call["stdin"] == expected["stdin"]
            told = {k: v for k, v in expected["env"].items() if k.startswith("CNI_") and k != "CNI_PATH"}
            shown = {k: v for k, v in call["env"].items() if k.startswith("CNI_") and k != "CNI_PATH"}
            assert shown == told
        assert recorded.kept() == {
            name: file["json"] or None for name, file in (command["cache"] or {}).items()
        }


def _network(*plugins: dict[str, Any], version: str = "1.0.0") -> config.NetworkConfig:
    return config.parse_list(json.dumps({"cniVersion": version, "name": "n", "plugins": plugins}).encode())


def test_del_goes_on_without_a_readable_cache(recorded: Runtimes) -> None:
    network, attachment = _network({"type": "rec"}), Attachment("c1", "eth0", netns="/x")
    results = recorded.cache / "results"
    results.mkdir(parents=True)
    (results / "n-c1-eth0").write_text("")
    recorded.runtime().delete(network, attachment)
    assert [call["stdin"].get("prevResult") for call in recorded.calls()] == [None]
    assert not list(results.iterdir())


def test_names_that_could_not_be_kept_are_refused_before_anything_is_done(recorded: Runtimes) -> None:
    with pytest.raises(CniError, match="too long together") as refused:
        recorded.runtime().add(_network({"type": "rec"}), Attachment("c" * 249, "eth0"))
    assert (refused.value.code, recorded.calls()) == (INVALID_ENVIRONMENT, [])
    recorded.runtime().add(_network({"type": "rec"}), Attachment("c" * 248, "eth0"))
    assert len(recorded.calls()) == 1


def test_gc_tells_plugins_who_lives_under_both_names(recorded: Runtimes) -> None:
    recorded.runtime().collect(_network({"type": "rec"}, version="1.1.0"), [("c1", "eth0")])
    (call,) = recorded.calls()
    living = [{"containerID": "c1", "ifname": "eth0"}]
    assert call["stdin"]["cni.dev/valid-attachments"] == call["stdin"]["cni.dev/attachments"] == living


def test_validate_asks_every_plugin_for_its_versions(recorded: Runtimes) -> None:
    runtime = recorded.runtime()
    network = _network({"type": "rec", "capabilities": {"mac": True, "ips": False}}, {"type": "loopback"})
    assert runtime.validate(network) == {"mac"}
    with pytest.raises(CniError, match=r"does not support config version '0\.2\.0'"):
        runtime.validate(_network({"type": "rec"}, version="0.2.0"))
    with pytest.raises(CniError, match="failed to find plugin") as failed:
        runtime.validate(_network({"type": "brigde"}))
    assert failed.value.hint == "did you mean bridge?"


def test_a_single_configuration_is_handed_on_byte_for_byte(recorded: Runtimes) -> None:
    text = '{ "type":"rec",\n "name":"n", "test":{"result":{"ip4":{"ip":"10.0.0.2/24"}}} }'
    network = config.parse_single(text.encode())
    recorded.runtime(verbatim=True).add(network, Attachment("c1", "eth0", netns="/x"))
    assert [call["text"] for call in recorded.calls()] == [text]


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_plugin_that_hangs_is_killed_with_all_it_started(tmp_path: Path) -> None:
    program = tmp_path / "hang"
    program.write_text("#!/bin/sh\nsleep 60 &\necho $! >$0.pid\nwait\n")
    program.chmod(0o755)
    with pytest.raises(CniError, match="no answer after") as late:
        invoke.execute(str(program), {"PATH": os.environ["PATH"]}, {}, deadline=0.3)
    assert late.value.code == TRY_AGAIN_LATER
    child = int(Path(f"{program}.pid").read_text())
    deadline = time.monotonic() + 10
    while _is_alive(child):  # a moment on its way out is no failure
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_plugin_that_prints_without_end_is_stopped(tmp_path: Path) -> None:
    program = tmp_path / "flood"
    program.write_text("#!/bin/sh\nexec cat /dev/zero\n")
    program.chmod(0o755)
    with pytest.raises(CniError, match="printed more than"):
        invoke.execute(str(program), {"PATH": os.environ["PATH"]}, {})


def test_a_plugin_that_reads_nothing_gets_a_large_configuration_anyway(tmp_path: Path) -> None:
    program = tmp_path / "deaf"
    program.write_text("#!/bin/sh\necho '{}'\n")
    program.chmod(0o755)
    assert invoke.execute(str(program), {}, {"x": "y" * (1 << 20)}) == {}


def test_a_plugin_inherits_no_descriptor(tmp_path: Path) -> None:
    program = tmp_path / "fds"
    program.write_text(
        f"#!{sys.executable}\nimport os\nprint(sorted(map(int, os.listdir('/proc/self/fd')))[:-1])\n"
    )
    program.chmod(0o755)
    reading, writing = os.pipe()
    os.set_inheritable(reading, True)
    os.set_inheritable(writing, True)
    try:
        assert invoke.execute(str(program), {}, {}) == [0, 1, 2]
    finally:
        os.close(reading)
        os.close(writing)


def test_why_a_program_cannot_be_run_is_said(tmp_path: Path) -> None:
    program = tmp_path / "broken"
    program.write_text("#!/nonexistent\n")
    program.chmod(0o755)
    with pytest.raises(CniError, match="No such file"):
        invoke.execute(str(program), {}, {})


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("exit 3", "with no error message: exit status 3"),
        ("echo oops >&2; exit 1", "'oops'"),
        ("echo 'not json'; exit 1", "error parsing its diagnostic message"),
        ("kill -9 $$", "signal 9"),
        ("echo '{'", "printed no JSON"),
        ("""echo '{"code":7,"msg":"m","details":"d"}'; exit 1""", "m: d"),
    ],
)
def test_every_kind_of_failure_is_an_error_with_its_reason(tmp_path: Path, script: str, message: str) -> None:
    program = tmp_path / "fails"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    with pytest.raises(CniError) as failed:
        invoke.execute(str(program), {"PATH": os.environ["PATH"]}, {})
    assert message in str(failed.value)


def _program(path: Path, script: str) -> str:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


def test_what_a_failed_plugin_says_on_stderr_beside_its_error_is_passed_on(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    program = _program(tmp_path / "fails", """echo why >&2; echo '{"code":7,"msg":"m"}'; exit 1""")
    with pytest.raises(CniError, match="m"):
        invoke.execute(program, {}, {})
    assert capfd.readouterr().err == "why\n"


def test_an_add_that_prints_nothing_failed_but_a_null_result_is_an_empty_one(tmp_path: Path) -> None:
    with pytest.raises(CniError, match="printed nothing"):
        invoke.execute(_program(tmp_path / "mute", "exit 0"), {"CNI_COMMAND": "ADD"}, {})
    assert invoke.execute(_program(tmp_path / "mute", "exit 0"), {"CNI_COMMAND": "DEL"}, {}) is None
    _program(tmp_path / "null", "[ $CNI_COMMAND != ADD ] || echo null")
    runtime = Runtime([str(tmp_path)], cache=Cache(str(tmp_path / "cache")))
    assert runtime.add(_network({"type": "null"}), Attachment("c1", "eth0")) == Result()


def test_a_busy_program_is_tried_again(tmp_path: Path) -> None:
    program = _program(tmp_path / "busy", "echo 1")
    with open(program, "r+"):
        with pytest.raises(CniError, match="cannot run") as busy:
            invoke.execute(program, {}, {})
        assert busy.value.code == TRY_AGAIN_LATER
        child = os.fork()
        if child == 0:  # holds the file open for writing a moment longer than the parent
            time.sleep(0.3)
            os._exit(0)
    assert invoke.execute(program, {}, {}) == 1
    os.waitpid(child, 0)


def test_a_trace_context_reaches_the_plugins(recorded: Runtimes) -> None:
    environment = {"RECORD": str(recorded.record), "TRACEPARENT": "00-a-b-01", "BAGGAGE": "k=v"}
    runtime = Runtime([str(recorded.plugins)], cache=Cache(str(recorded.cache)), environment=environment)
    runtime.add(_network({"type": "rec"}), Attachment("c1", "eth0"))
    (call,) = recorded.calls()
    assert (call["env"]["TRACEPARENT"], call["env"]["BAGGAGE"]) == ("00-a-b-01", "k=v")


def test_old_plugins_are_asked_for_their_versions_in_their_way(tmp_path: Path) -> None:
    unknown = """echo '{"code": 4, "msg": "unknown CNI_COMMAND: VERSION"}'; exit 1"""
    _program(tmp_path / "first", unknown)
    _program(tmp_path / "second", """echo '{"cniVersion": "0.2.0"}'""")
    _program(tmp_path / "third", """echo '{"supportedVersions": ["1.0.0"]}'""")
    runtime = Runtime([str(tmp_path)])
    assert runtime.supported_versions("first") == ("0.1.0",)
    assert runtime.supported_versions("second") == ("0.1.0", "0.2.0")
    with pytest.raises(CniError, match="no cniVersion"):
        runtime.supported_versions("third")


def test_a_function_in_a_child_speaks_like_a_program() -> None:
    def body() -> int:
        os.write(1, os.read(0, 100).upper())
        return 3

    finished = process.converse(body, b"abc", deadline=5)
    assert (finished.status, finished.stdout, finished.stderr) == (3, b"ABC", b"")


def test_a_peer_that_hangs_up_is_an_error_to_a_function_and_the_end_of_a_program(tmp_path: Path) -> None:
    def body() -> int:
        ours, theirs = socket.socketpair()
        theirs.close()
        try:
            ours.send(b"?")
        except BrokenPipeError:
            return 3
        finally:
            ours.close()
        return 4

    assert process.converse(body, b"", deadline=5).status == 3
    program = _program(tmp_path / "plugin", "kill -PIPE $$; exit 3")
    assert process.run(program, {}, b"", deadline=5).status == -signal.SIGPIPE


def test_our_own_launcher_in_the_path_is_a_function_call(tmp_path: Path) -> None:
    launchers = Path(__file__).parents[3] / "lib/cni"
    assert invoke.find("host-local", [str(launchers)]) is None
    foreign = tmp_path / "host-local"
    foreign.write_text("#!/bin/sh\n")
    assert invoke.find("host-local", [str(tmp_path), str(launchers)]) == str(foreign)
    assert invoke.find("host-local", ["", "/nonexistent"]) is None
