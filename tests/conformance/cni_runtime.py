"""cnitool with plugins that record every call: what they were told, what was printed and what is kept."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from conformance.cases import Case, Failure, Outcome, Skip
from fixtures.recorder import Recorded

CNITOOL = Path(__file__).resolve().parent.parent.parent / "bin" / "cnitool"
# Beside the variables of the specification; the others are of the place where cases were recorded.
_REQUEST = ("CAP_ARGS",)


def run(directory: Path) -> Outcome:
    outcome = Outcome()
    file = directory / "cni" / "runtime.json"
    if not file.exists():
        return outcome
    for number, data in enumerate(json.loads(file.read_text(encoding="utf-8"))["cases"], 1):
        case = Case(file, number, {"kind": data["name"], "input": data["files"], "valid": True})
        outcome.add(_judge(case, data))
    return outcome


def _judge(case: Case, data: dict[str, Any]) -> Failure | Skip | None:
    if os.geteuid() != 0:
        return case.skip("needs root")
    with tempfile.TemporaryDirectory() as name:
        recorded = Recorded(Path(name))
        networks = Path(name, "net.d")
        for path, text in data["files"].items():
            (networks / path).parent.mkdir(parents=True, exist_ok=True)
            (networks / path).write_text(text)
        networks.mkdir(exist_ok=True)
        for command in data["commands"]:
            if "sh" in command:
                script = command["sh"].replace("/var/lib/cni", str(recorded.cache))
                subprocess.run(["sh", "-c", script], check=True)
                continue
            expected = _expected(command, data)
            got = _run(command, recorded, networks)
            got["stdout"] = got["stdout"] if command["argv"] else bool(got["stdout"])
            if got != expected:
                return case.failure({"argv": command["argv"], **expected}, got)
    return None


def _run(command: dict[str, Any], recorded: Recorded, networks: Path) -> dict[str, Any]:
    environment = recorded.environment(
        NETCONFPATH=str(networks), CNI_PATH=str(recorded.plugins), **command["env"]
    )
    finished = subprocess.run(
        [str(CNITOOL), *command["argv"], *(["--cache-dir", str(recorded.cache)] if command["argv"] else [])],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    try:
        printed = json.loads(finished.stdout) if finished.stdout else ""
    except ValueError:
        printed = finished.stdout
    modes = recorded.modes()
    return {
        "rc": finished.returncode,
        "stdout": printed,
        "stderr": bool(finished.stderr),
        "calls": [
            {"plugin": each["plugin"], "env": _told(each["env"]), "stdin": each["stdin"]}
            for each in recorded.calls()
        ],
        "cache": {name: {"mode": modes[name], "json": kept or ""} for name, kept in recorded.kept().items()},
    }


def _expected(command: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
    return {
        "rc": command["rc"],
        "stdout": command["stdout"] if command["argv"] else True,
        "stderr": bool(command["stderr"]),
        "calls": [
            {"plugin": each["plugin"], "env": _told(each["env"]), "stdin": each["stdin"]}
            for each in command["calls"]
        ],
        "cache": command["cache"] or {},
    }


def _told(environment: dict[str, str]) -> dict[str, str]:
    return {
        key: value
        for key, value in environment.items()
        if (key.startswith("CNI_") and key != "CNI_PATH") or key in _REQUEST
    }
