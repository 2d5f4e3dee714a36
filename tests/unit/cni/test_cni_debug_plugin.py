"""The plugin that writes calls down: to a file, to a directory, and failing on command."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from cni import plugin
from cni.errors import IO_FAILURE, UNSUPPORTED_FIELD


def _call(command: str, version: str = "1.1.0", **config: Any) -> tuple[int, Any]:
    variables = {
        "CNI_COMMAND": command,
        "CNI_CONTAINERID": "c1",
        "CNI_NETNS": "/nonexistent",
        "CNI_IFNAME": "eth0",
        "CNI_PATH": "/nonexistent",
        "OTHER": "1",
    }
    whole = {"cniVersion": version, "name": "n", "type": "debug", **config}
    status, answer = plugin.call("debug", variables, lambda: json.dumps(whole).encode())
    return status, json.loads(answer) if answer else None


def test_every_call_is_a_line_of_a_private_file(tmp_path: Path) -> None:
    output = tmp_path / "calls"
    result = {"cniVersion": "1.1.0", "ips": [{"address": "10.0.0.2/24"}]}
    assert _call("ADD", cniOutput=str(output), prevResult=result) == (0, result)
    for command in ("CHECK", "STATUS", "GC", "DEL"):
        assert _call(command, cniOutput=str(output)) == (0, None)
    calls = [json.loads(line) for line in output.read_text().splitlines()]
    assert [each["command"] for each in calls] == ["ADD", "CHECK", "STATUS", "GC", "DEL"]
    assert calls[0]["config"]["prevResult"] == result
    assert (calls[0]["environment"]["CNI_CONTAINERID"], calls[0]["environment"]["OTHER"]) == ("c1", "1")
    assert output.stat().st_mode & 0o777 == 0o600


def test_a_directory_gets_a_file_for_each_call_in_order(tmp_path: Path) -> None:
    for command in ("ADD", "CHECK", "DEL"):
        _call(command, cniOutput=str(tmp_path))
    files = sorted(tmp_path.iterdir())
    assert [each.stem.rpartition("-")[2] for each in files] == ["ADD", "CHECK", "DEL"]
    assert json.loads(files[2].read_text())["command"] == "DEL"


@pytest.mark.parametrize("version", ["0.1.0", "0.3.1", "1.0.0"])
def test_alone_it_gives_an_empty_result_of_any_version(version: str) -> None:
    dns = {} if version == "1.0.0" else {"dns": {}}
    assert _call("ADD", version) == (0, {"cniVersion": version, **dns})


@pytest.mark.parametrize("command", ["ADD", "CHECK", "STATUS", "GC", "DEL"])
def test_it_fails_as_it_is_told_and_writes_that_down_too(tmp_path: Path, command: str) -> None:
    output = tmp_path / "calls"
    order = {command: {"code": 123, "msg": "no", "details": "why"}}
    status, answer = _call(command, cniOutput=str(output), fail=order)
    assert (status, answer) == (1, {"cniVersion": "1.1.0", "code": 123, "msg": "no", "details": "why"})
    assert len(output.read_text().splitlines()) == 1
    assert _call(command, fail={command: {}})[1]["code"] == 100
    assert _call(command, fail={"OTHER": {}})[0] == 0


def test_what_cannot_be_written_down_fails_but_no_del(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    gone = str(tmp_path / "gone/calls")
    assert _call("ADD", cniOutput=gone)[1]["code"] == IO_FAILURE
    assert _call("DEL", cniOutput=gone) == (0, None)
    assert "cannot be written" in capfd.readouterr().err
    (tmp_path / "link").symlink_to("/etc/passwd")
    assert _call("ADD", cniOutput=str(tmp_path / "link"))[1]["code"] == IO_FAILURE
    os.mkfifo(tmp_path / "pipe")
    assert _call("ADD", cniOutput=str(tmp_path / "pipe"))[1]["code"] == IO_FAILURE


def test_it_runs_no_commands() -> None:
    assert _call("ADD", addHooks=[["true"]])[1]["code"] == UNSUPPORTED_FIELD
