"""What the CNI library does with text: results, configurations, names, and errors of plugin processes."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cni import config, jsontext, plugins
from cni.errors import CniError
from cni.request import Request
from cni.types import names, version
from cni.types.result import Result
from conformance.cases import Case, Failure, Outcome, Skip

PLUGINS = Path(__file__).resolve().parent.parent.parent / "lib" / "cni"
# The reference's catch-all, for which ours has a better code; and 4 to 7, which such a code may be.
UNSPECIFIC = 999


def run(directory: Path) -> Outcome:
    outcome = Outcome()
    for name, judge in JUDGES.items():
        file = directory / "cni" / f"{name}.json"
        if not file.exists():
            continue
        for number, data in enumerate(json.loads(file.read_text(encoding="utf-8"))["cases"], 1):
            case = Case(file, number, {"kind": name, "input": data, "valid": "ok" in data})
            outcome.add(judge(case, data))
    for result in _validation(directory / "cni" / "validation.json"):
        outcome.add(result)
    return outcome


def _compare(case: Case, data: dict[str, Any], attempt: Callable[[], object]) -> Failure | None:
    """`ok` is what `attempt` must give; `error` says that it must fail."""
    try:
        got = attempt()
    except (ValueError, CniError) as failed:
        return None if "error" in data else case.failure(data.get("ok"), f"error: {failed}")
    if "error" in data:
        return case.failure(f"an error ({data['error']})", got)
    return None if got == data["ok"] else case.failure(data["ok"], got)


def _conversion(case: Case, data: dict[str, Any]) -> Failure | None:
    return _compare(case, data, lambda: Result.from_json(data["input"]).to_json(data["to"]))


def _prev_result(case: Case, data: dict[str, Any]) -> Failure | None:
    def attempt() -> object:
        request = Request("ADD", data["conf"])
        result = request.prev_result
        return None if result is None else result.to_json(result.version)

    return _compare(case, data, attempt)


def _shown(network: config.NetworkConfig) -> dict[str, Any]:
    return {
        "bytes": jsontext.loads(network.data),
        "cniVersion": network.version,
        "disableCheck": network.disable_check,
        "disableGC": network.disable_gc,
        "loadOnlyInlinedPlugins": network.load_only_inlined_plugins,
        "name": network.name,
        "plugins": [
            {
                "capabilities": _flags(each.config.get("capabilities")),
                "conf": each.config,
                "name": each.name,
                "type": each.type,
            }
            for each in network.plugins
        ],
    }


def _flags(given: Any) -> Any:
    """Capabilities, of which null is as good as false."""
    return {name: bool(value) for name, value in given.items()} if isinstance(given, dict) else given


def _list(case: Case, data: dict[str, Any]) -> Failure | None:
    return _compare(case, data, lambda: _shown(config.parse_list(data["text"].encode())))


def _directory(case: Case, data: dict[str, Any]) -> Failure | None:
    with tempfile.TemporaryDirectory() as directory:
        for name, text in data["files"].items():
            path = Path(directory, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return _compare(case, data, lambda: _shown(config.load(directory, data["network"])))


def _error_code(case: Case, data: dict[str, Any]) -> Failure | Skip | None:
    if not (plugins.is_builtin(data["plugin"]) and _exists(data["plugin"])):
        return case.skip(f"plugin {data['plugin']} is not built in yet")
    if os.geteuid() != 0:
        return case.skip("needs root")
    with tempfile.TemporaryDirectory() as directory:
        text = data["stdin"].replace("$DATA", directory)
        finished = _call(data["plugin"], data["env"], text)
        _call("host-local", {"CNI_COMMAND": "GC", "CNI_PATH": str(PLUGINS)}, text)
    answer = json.loads(finished.stdout) if finished.stdout.strip() else None
    expected = data["stdout"]
    if bool(finished.returncode) != bool(data["rc"]):
        return case.failure(f"status {data['rc']}, {expected}", f"status {finished.returncode}, {answer}")
    if data["rc"] == 0:
        # Which address it is depends on the calls before; that there is an answer does not.
        same = (answer is None) == (expected is None)
        return None if same else case.failure(expected, answer)
    code = answer.get("code") if isinstance(answer, dict) else None
    # Where the reference has crashed, or printed what is no error, any error is better.
    wanted = expected.get("code", UNSPECIFIC) if isinstance(expected, dict) else UNSPECIFIC
    return None if code and wanted in (code, UNSPECIFIC) else case.failure(expected, answer)


def _exists(name: str) -> bool:
    try:
        plugins.load(name)
    except ImportError:
        return False
    return True


def _call(plugin: str, environment: dict[str, str], text: str) -> subprocess.CompletedProcess[str]:
    variables = {key: value.replace("$BIN", str(PLUGINS)) for key, value in environment.items()}
    return subprocess.run(
        [str(PLUGINS / plugin)],
        input=text,
        env={"PATH": os.environ["PATH"], **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )


def _validation(file: Path) -> list[Failure | Skip | None]:
    if not file.exists():
        return []
    groups = json.loads(file.read_text(encoding="utf-8"))
    results: list[Failure | Skip | None] = []
    for group in ("cni_args", "containerid", "network_name", "ifname", "version_compare"):
        for number, data in enumerate(groups[group], 1):
            case = Case(file, number, {"kind": group, "input": data, "valid": True})
            results.append(VALIDATORS[group](case, data))
    return results


def _arguments(case: Case, data: dict[str, Any]) -> Failure | None:
    def attempt() -> object:
        found = Request("ADD", args=data["value"]).cni_args(("IP", "MAC"))
        return {"IP": found.get("IP", ""), "MAC": found.get("MAC", "")}

    return _compare(case, data, attempt)


def _name(check: Callable[[str], None]) -> Callable[[Case, dict[str, Any]], Failure | None]:
    def judge(case: Case, data: dict[str, Any]) -> Failure | None:
        try:
            check(data["value"])
        except CniError as refused:
            expected = data["ok"]
            wrong = expected == "ok" or expected["code"] != refused.code
            return case.failure(expected, f"{refused.code}: {refused}") if wrong else None
        return None if data["ok"] == "ok" else case.failure(data["ok"], "accepted")

    return judge


def _version(case: Case, data: dict[str, Any]) -> Failure | None:
    for key, operation in (
        ("gte", lambda: version.at_least(data["a"], data["b"])),
        ("gt", lambda: version.parse(data["a"]) > version.parse(data["b"])),
    ):
        failure = _compare(case, data[key], operation)
        if failure is not None:
            return failure
    return None


JUDGES: dict[str, Callable[[Case, dict[str, Any]], Failure | Skip | None]] = {
    "conversions": _conversion,
    "prevresult": _prev_result,
    "conflist-parse": _list,
    "confdir": _directory,
    "error-codes": _error_code,
}
VALIDATORS: dict[str, Callable[[Case, dict[str, Any]], Failure | None]] = {
    "cni_args": _arguments,
    "containerid": _name(names.check_container_id),
    "network_name": _name(names.check_network_name),
    "ifname": _name(names.check_interface_name),
    "version_compare": _version,
}
