"""cnitool as users type it: arguments and variables, what it prints, what it adds to the reference's."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from fixtures.recorder import Recorded

pytestmark = pytest.mark.usefixtures("root")

CHECKOUT = Path(__file__).parent.parent.parent
RESULT = {"cniVersion": "1.1.0", "ips": [{"address": "10.0.0.2/24"}]}


class Cnitool(Recorded):
    """The command, with recorder plugins, and a cache and configurations of the test's own."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.networks = directory / "net.d"
        self.networks.mkdir()

    def network(self, name: str, *plugins: dict[str, Any], file: str = "", version: str = "1.1.0") -> None:
        text = {"cniVersion": version, "name": name, "plugins": plugins}
        (self.networks / (file or f"{name}.conflist")).write_text(json.dumps(text))

    def command(self, *words: str, **more: str) -> tuple[list[str], dict[str, str]]:
        variables = {"NETCONFPATH": str(self.networks), "CNI_PATH": str(self.plugins), **more}
        argv = [str(CHECKOUT / "bin/cnitool"), f"--cache-dir={self.cache}", *words]
        return argv, self.environment(**variables)

    def __call__(self, *words: str, code: int = 0, **more: str) -> subprocess.CompletedProcess[str]:
        argv, environment = self.command(*words, **more)
        done = subprocess.run(
            argv, env=environment, capture_output=True, text=True, check=False, timeout=60, cwd="/"
        )
        assert done.returncode == code, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done


@pytest.fixture
def cnitool(tmp_path: Path) -> Cnitool:
    found = Cnitool(tmp_path)
    found.network("net1", {"type": "rec", "test": {"result": RESULT}})
    return found


def test_the_container_id_comes_from_the_absolute_path(cnitool: Cnitool) -> None:
    for path in ("/run/netns/c1", "run/netns/c1", "//run//netns/../netns/c1"):
        cnitool("add", "net1", path)
    assert {(each["env"]["CNI_CONTAINERID"], each["env"]["CNI_NETNS"]) for each in cnitool.calls()} == {
        ("cnitool-20b4ff582526573bbe7d", "/run/netns/c1")
    }


@pytest.mark.parametrize(
    ("before", "after", "variables", "expected"),
    [
        ([], [], {}, "eth0"),
        ([], [], {"CNI_IFNAME": "eth7"}, "eth7"),
        ([], ["-i", "eth1"], {"CNI_IFNAME": "eth7"}, "eth1"),
        ([], ["-i=eth1"], {}, "eth1"),
        ([], ["--ifname", "eth1"], {}, "eth1"),
        (["-i", "eth1"], [], {}, "eth1"),
        (["--ifname=eth1"], [], {}, "eth1"),
    ],
)
def test_the_interface_is_named_by_flag_variable_or_default(
    cnitool: Cnitool, before: list[str], after: list[str], variables: dict[str, str], expected: str
) -> None:
    cnitool(*before, "add", "net1", "/run/netns/c1", *after, **variables)
    assert [each["env"]["CNI_IFNAME"] for each in cnitool.calls()] == [expected]


def test_two_arguments_are_needed_and_more_do_not_matter(cnitool: Cnitool) -> None:
    for words in (("add",), ("gc", "net1"), ("status", "net1"), ("del", "net1"), ("check",)):
        assert "requires at least 2 arg(s)" in cnitool(*words, code=1).stderr
    cnitool("add", "net1", "/run/netns/c1", "more", "and more")
    cnitool("del", "net1", "/run/netns/c1")
    assert [each["env"]["CNI_COMMAND"] for each in cnitool.calls()] == ["ADD", "DEL"]


def test_the_result_is_indented_by_four_and_kept(cnitool: Cnitool) -> None:
    done = cnitool("add", "net1", "/run/netns/c1")
    assert done.stdout == json.dumps(RESULT, indent=4) + "\n"
    assert list(cnitool.kept()) == ["net1-cnitool-20b4ff582526573bbe7d-eth0"]
    cnitool("del", "net1", "/run/netns/c1")
    assert cnitool.kept() == {}


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"CNI_ARGS": "A=1;B"}, 'invalid CNI_ARGS pair "B"'),
        ({"CNI_ARGS": "A=1;"}, 'invalid CNI_ARGS pair ""'),
        ({"CNI_ARGS": "=1"}, "invalid CNI_ARGS pair"),
        ({"CAP_ARGS": "[]"}, "CAP_ARGS is not a JSON object"),
        ({"CNI_IFNAME": "a b"}, "interface name"),
        ({"NETCONFPATH": "/nonexistent"}, "found in /nonexistent\nhint: write one there"),
    ],
)
def test_a_bad_variable_is_an_error_before_any_plugin_runs(
    cnitool: Cnitool, variables: dict[str, str], message: str
) -> None:
    done = cnitool("add", "net1", "/run/netns/c1", code=1, **variables)
    assert done.stderr.startswith("Error: ")
    assert message in done.stderr
    assert (done.stdout, cnitool.calls()) == ("", [])


def test_a_plugins_error_is_shown_and_the_code_is_one(cnitool: Cnitool) -> None:
    order = {"fail": {"ADD": {"stdout": {"code": 11, "msg": "full", "details": "no address left"}}}}
    cnitool.network("net2", {"type": "rec", "test": order})
    done = cnitool("add", "net2", "/run/netns/c1", code=1)
    assert done.stderr == 'Error: plugin type="rec" failed (add): full: no address left\n'


def test_a_broken_file_is_a_warning_unless_it_is_the_wanted_network(cnitool: Cnitool) -> None:
    (cnitool.networks / "00.conflist").write_text("{")
    (cnitool.networks / "01.conflist").write_text('{"name": "bad", "plugins": []}')
    done = cnitool("add", "net1", "/run/netns/c1")
    assert done.stderr.count("warning") == 2
    assert "00.conflist" in done.stderr
    assert "no plugins in list" in cnitool("add", "bad", "/run/netns/c1", code=1).stderr


def test_a_built_in_plugin_needs_no_path_and_its_program_of_that_name_goes_first(cnitool: Cnitool) -> None:
    cnitool.network("net2", {"type": "debug"})
    assert cnitool("add", "net2", "/run/netns/c1", CNI_PATH="").stdout == '{\n    "cniVersion": "1.1.0"\n}\n'
    cnitool("del", "net2", "/run/netns/c1", CNI_PATH="")
    (cnitool.plugins / "rec").rename(cnitool.plugins / "debug")
    cnitool("add", "net2", "/run/netns/c1")
    assert [each["plugin"] for each in cnitool.calls()] == ["debug"]


def wait_in_a_lock(process: subprocess.Popen[bytes]) -> None:
    """Return when the process sleeps in fcntl or flock; fail if it ends instead."""
    numbers = {"x86_64": ("72", "73"), "aarch64": ("25", "32")}[os.uname().machine]
    while Path(f"/proc/{process.pid}/syscall").read_text().split()[0] not in numbers:
        assert process.poll() is None, "it did not wait"


def test_gc_waits_for_operations_and_they_for_it(cnitool: Cnitool, tmp_path: Path) -> None:
    """One ADD after the other for one container, others at the same time, GC alone."""
    started, go = tmp_path / "started", tmp_path / "go"
    for fifo in (started, go):
        os.mkfifo(fifo)
    slow = cnitool.plugins / "slow"
    slow.write_text(
        f"#!/bin/sh\ncat >/dev/null\necho $CNI_COMMAND >{started}\nread line <{go}\necho '{{}}'\n"
    )
    slow.chmod(0o755)
    cnitool.network("net2", {"type": "slow"})
    cnitool.network("net3", {"type": "rec"})
    processes = []
    try:

        def start(*words: str) -> subprocess.Popen[bytes]:
            argv, environment = cnitool.command(*words)
            process = subprocess.Popen(argv, env=environment, stdout=subprocess.DEVNULL)
            processes.append(process)
            return process

        first = start("add", "net2", "/run/netns/c1")
        assert started.read_text() == "ADD\n"
        cnitool("add", "net3", "/run/netns/c2")  # another container is not held up
        same, collecting = start("check", "net3", "/run/netns/c1"), start("gc", "net3", "/run/netns/c1")
        wait_in_a_lock(same)
        wait_in_a_lock(collecting)
        assert [each["env"]["CNI_COMMAND"] for each in cnitool.calls()] == ["ADD"]
        go.write_text("\n")
        assert [process.wait(30) for process in (first, same, collecting)] == [0, 0, 0]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    assert {"CHECK", "DEL", "GC"} <= {each["env"]["CNI_COMMAND"] for each in cnitool.calls()}


def test_validate_tells_every_problem_of_every_network(cnitool: Cnitool) -> None:
    assert "net1" in cnitool("validate").stdout
    cnitool.network("net2", {"type": "nope", "capabilities": {"mac": True}}, {"type": "rec"}, version="0.2.0")
    cnitool.network("net3", {"type": "bridge", "ipam": {"type": "missing"}})
    (cnitool.networks / "zz.conflist").write_text("{")
    found = json.loads(cnitool("validate", "--format=json", code=1).stdout)
    problems = {each["network"]: each["problems"] for each in found}
    assert problems["net1"] == []
    assert [each.partition(":")[0] for each in problems["net2"]] == [
        "failed to find plugin 'nope'",
        "plugin rec does not support config version '0.2.0'",
    ]
    assert "missing" in problems["net3"][0]
    assert len(problems[str(cnitool.networks / "zz.conflist")]) == 1
    cnitool("validate", "net1")
    cnitool("validate", str(cnitool.networks / "net1.conflist"))
    cnitool("validate", "absent", code=1)


def test_version_says_what_is_spoken(cnitool: Cnitool) -> None:
    own = json.loads(cnitool("version", "--format=json").stdout)
    assert own["supportedVersions"][-1] == own["cniVersion"] == "1.1.0"
    asked = json.loads(cnitool("version", "rec", "loopback", "--format=json").stdout)
    assert asked[0] == {
        "plugin": "rec",
        "versions": ["0.4.0", "1.0.0", "1.1.0"],
        "file": str(cnitool.plugins / "rec"),
    }
    assert asked[1]["file"] == "built in"
    assert "failed to find plugin" in cnitool("version", "nope", code=1).stderr


def test_networks_and_attachments_are_listed(cnitool: Cnitool) -> None:
    cnitool("add", "net1", "/proc/self/ns/net")
    (network,) = json.loads(cnitool("networks", "--format=json").stdout)
    assert (network["name"], network["plugins"]) == ("net1", ["rec"])
    (found,) = json.loads(cnitool("attachments", "--format=json").stdout)
    assert (found["network"], found["addresses"], found["alive"]) == ("net1", ["10.0.0.2/24"], True)
    cnitool("add", "net1", "/run/netns/gone")
    lines = cnitool("attachments", "net1", "--format={netns} {alive}").stdout.splitlines()
    assert sorted(lines) == ["/proc/self/ns/net yes", "/run/netns/gone no"]
    assert json.loads(cnitool("attachments", "other", "--format=json").stdout) == []


def test_help_completion_and_man_pages_are_those_of_all_our_commands(
    cnitool: Cnitool, tmp_path: Path
) -> None:
    assert "cnitool add mynet" in cnitool("help", "add").stdout
    assert [line.split("\t")[0] for line in cnitool("__complete", "val").stdout.splitlines()] == ["validate"]
    assert cnitool("__complete", "add", "n").stdout.splitlines() == ["net1"]
    assert "complete -F _cnitool_complete cnitool" in cnitool("completion", "bash").stdout
    argv, environment = cnitool.command()
    subprocess.run([*argv, "__man", tmp_path / "man"], env=environment, check=True, stdout=subprocess.DEVNULL)
    assert (tmp_path / "man/man1/cnitool-add.1").read_text().startswith(".TH")
