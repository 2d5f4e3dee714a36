"""Types, manifests, isolators and quantities of appc: the files of ``appc/`` that need nothing but text."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from appc import app_string, jsonfield, query
from appc.jsonfield import string
from appc.schema import kind as kinds
from appc.schema import lastditch
from appc.schema.app import App
from appc.schema.image import Dependency, ImageManifest
from appc.schema.pod import PodManifest
from appc.types import platforms
from appc.types.annotations import Annotations
from appc.types.date import Date
from appc.types.environment import Environment
from appc.types.image_id import ImageID
from appc.types.isolators import Isolator, NameSet, Resource, SeccompSet
from appc.types.labels import Labels
from appc.types.mounts import Mount, MountPoint
from appc.types.names import ACIdentifier, ACName
from appc.types.ports import ExposedPort, Port
from appc.types.quantity import Quantity
from appc.types.semver import SemVer
from appc.types.url import URL
from appc.types.uuid import UUID
from appc.types.volumes import Volume
from conformance.cases import Case, Failure, Outcome, Skip, read
from linux.mount.info import MountEntry

FILES = """
    acidentifier acname ackind annotations app-string app date dependency environment exec hash image-manifest
    isolator labels lastditch mountinfo mountpoint pod-manifest port quantity query-string semver url uuid
    volume
    """.split()  # noqa: SIM905 (a table of 27 lines says no more)

#: Where we differ from the reference on purpose, though no text of the specification decides: the pattern
#: is looked for in our own error, so that each reason covers the rule and not a list of cases.
DIFFERENCES = (
    ("", r"not sha512- and 128 hex", "an image ID is 128 hexadecimal digits; the reference checks none"),
    ("pod-manifest", r"image\.id: is required", "the text requires IDs that its own template example lacks"),
    ("environment", r"must start with a letter", "the text allows a first digit, its own tests refuse it"),
    ("", r"occurs twice in one object", "a member that comes twice is refused: readers disagree on it"),
    ("exposed-port", r"hostPort: \d+ is not between", "a port of the host above 65535 does not exist"),
)


def run(directory: Path) -> Outcome:
    """Run the cases of all files of this area that are in ``directory/appc``."""
    outcome = Outcome()
    for name in FILES:
        for case in read(directory / "appc" / f"{name}.json"):
            outcome.add(judge(case))
    return outcome


def judge(case: Case) -> Failure | Skip | None:
    """Read the input as its kind says, and compare."""
    reader = READERS.get(case.kind)
    if reader is None:
        return case.skip(f"cases of kind {case.kind} are not known")
    try:
        got = reader(case.input)
    except ValueError as error:
        return _refused(case, error)
    except NotImplementedError as error:
        return case.skip(str(error))
    if not case.valid:
        return case.failure("a refusal", f"accepted as {shown(got)}")
    if case.data["valid"] and case.data.get("normalized") is not None:
        expected = case.data["normalized"]
        if not same(case.kind, expected, got):
            return case.failure(shown(expected), shown(got))
    return _more(case, got)


def _refused(case: Case, error: ValueError) -> Failure | Skip | None:
    if case.valid:
        for kind, pattern, reason in DIFFERENCES:
            if case.kind.startswith(kind) and re.search(pattern, str(error)):
                return case.skip(reason)
        return case.failure("accepted", f"refused: {error}")
    wanted = case.data.get("error_class")
    if wanted is not None and wanted != getattr(error, "reason", None):
        return case.failure(f"refused for {wanted}", f"refused for {getattr(error, 'reason', None)}: {error}")
    prefix = case.data.get("error_prefix", "")
    if prefix not in str(error):
        return case.failure(f"an error with {prefix}", str(error))
    return None


def _more(case: Case, got: Any) -> Failure | None:
    """What some kinds have besides ``normalized``."""
    if "go_osarch" in case.data:
        values = {label["name"]: label["value"] for label in got}
        try:
            names = platforms.to_go(values["os"], values["arch"])
        except ValueError:
            names = ("", "", "")
        if list(names) != case.data["go_osarch"]:
            return case.failure(case.data["go_osarch"], list(names))
    if case.kind == "quantity":
        for key, recorded in (("canonical", str), ("format", str), ("value", int), ("milli_value", int)):
            expected = recorded(case.data.get(f"exact_{key}", case.data.get(key, got[key])))
            wrapped = isinstance(expected, int) and abs(got[key]) >= 2**63  # the reference keeps 64 bits
            if got[key] != expected and not (wrapped and f"exact_{key}" not in case.data):
                return case.failure(f"{key} {expected}", f"{key} {got[key]}")
    return None


def shown(value: object) -> str:
    """A value for an error message."""
    return json.dumps(value, ensure_ascii=False, default=str)[:2000]


def same(kind: str, expected: Any, got: Any) -> bool:
    """Whether two results mean the same."""
    if kind.startswith("isolator"):  # recorded are some members only
        return all(_pruned(got.get(name)) == _pruned(value) for name, value in expected.items())
    if kind.startswith("date"):  # the reference prints without fractions, and zero offsets as Z
        return bool(
            re.sub(r"\.\d+|[+-]00:00$", "", got.rstrip("Z"))
            == re.sub(r"[+-]00:00$", "", expected.rstrip("Z"))
        )
    if kind == "quantity-roundup":
        return bool(got == expected | {"result": str(_nanos(expected["result"]))})
    return bool(_pruned(expected) == _pruned(got))


def _pruned(value: Any) -> Any:
    """Without members that are empty: ``null``, absent and ``[]`` mean the same in every manifest.

    A count of 0 is what the reference keeps of a port without one: it means 1.
    """
    if isinstance(value, dict):
        members = {name: _pruned(member) for name, member in value.items()}
        if members.get("count") == 0:
            members["count"] = 1
        return {name: member for name, member in members.items() if member not in (None, [], {})}
    if isinstance(value, list):
        return [_pruned(item) for item in value]
    return value


def _nanos(result: str) -> int:
    mantissa, _, exponent = result.partition("e")
    return int(mantissa) * int(10 ** (9 + int(exponent)))


# --- readers: from the input of a case to what it is compared with; ValueError refuses ----------------------


def _plain(read_value: Callable[[object], Any]) -> Callable[[Any], Any]:
    """The input is the value."""

    def reader(value: Any) -> Any:
        result = read_value(value)
        return result.to_json() if hasattr(result, "to_json") else result

    return reader


def _text(read_value: Callable[[object], Any]) -> Callable[[Any], Any]:
    """The input is JSON text, or the value that it stands for."""
    plain = _plain(read_value)

    def reader(text: Any) -> Any:
        data = text if isinstance(text, str) else json.dumps(text, ensure_ascii=False)
        return plain(jsonfield.parse(data.encode("utf-8", "surrogatepass")))

    return reader


def _exec(value: object) -> list[str]:
    return [] if value is None else list(jsonfield.listed(string)(value))


def _annotations_get(value: Any) -> dict[str, object]:
    found = Annotations.from_json(value["annotations"]).get(value["name"])
    return {"value": found or "", "found": found is not None}


def _app_string(text: str) -> dict[str, object]:
    name, labels = app_string.parse(text)
    return {"name": name, "labels": labels}


def _isolator(value: object) -> dict[str, object]:
    isolator = Isolator.from_json(value)
    result: dict[str, object] = {
        "name": isolator.name,
        "recognized": isolator.recognised,
        "value": isolator.value,
    }
    match isolator.setting:
        case Resource() as resource:
            result["default"] = resource.default
            for name, quantity in (("request", resource.request), ("limit", resource.limit)):
                if quantity is not None:
                    result[name] = {"milli": quantity.milli_value(), "value": quantity.value()}
        case NameSet() | SeccompSet() as names:
            result["set"] = list(names.names)
            result["errno"] = getattr(names, "errno", None)
        case _:
            pass
    return result


def _quantity(text: str) -> dict[str, object]:
    quantity = Quantity.parse(text)
    return {
        "canonical": str(quantity),
        "value": quantity.value(),
        "milli_value": quantity.milli_value(),
        "format": quantity.format,
    }


def _quantity_json(text: str) -> str:
    value = jsonfield.parse(text.encode())
    return str(Quantity(0) if value is None else Quantity.from_json(value))


def _quantity_roundup(value: Any) -> dict[str, object]:
    quantity = Quantity.parse(value["in"])
    rounded = quantity.rounded(value["scale"]) * 10 ** (9 + value["scale"])
    return {"exact": rounded == quantity.nanos, "result": str(rounded)}


def _mountinfo(value: Any) -> dict[str, object]:
    try:
        entries = [MountEntry(line) for line in value["mountinfo"].splitlines()]
    except IndexError:
        raise ValueError("a line of mountinfo has too few fields") from None
    found = [entry for entry in entries if entry.target == value["dir"]]
    return {"mounted": bool(found), "read_only": bool(found) and "ro" in found[-1].options}


def _volume_string(text: str) -> dict[str, object]:
    volume = Volume.from_string(text)
    return {"volume": volume.to_json(), "string": str(volume)}


READERS: dict[str, Callable[[Any], Any]] = {
    "acidentifier": _plain(ACIdentifier),
    "acidentifier-json": _text(ACIdentifier),
    "sanitize-acidentifier": _plain(ACIdentifier.sanitize),  # type: ignore[arg-type]
    "acname": _plain(ACName),
    "acname-json": _text(ACName),
    "sanitize-acname": _plain(ACName.sanitize),  # type: ignore[arg-type]
    "ackind": _plain(kinds.ac_kind),
    "ackind-json": _text(kinds.ac_kind),
    "kind": _text(kinds.Kind.from_json),
    "annotations": _plain(Annotations.from_json),
    "annotations-json": _text(Annotations.from_json),
    "annotations-get": _annotations_get,
    "app-string": _app_string,
    "app": _text(App.from_json),
    "app-json": _text(App.from_json),
    "date": _plain(Date),
    "date-json": _text(Date),
    "dependency": _text(Dependency.from_json),
    "dependency-json": _text(Dependency.from_json),
    "environment": _plain(Environment.from_json),
    "environment-json": _text(Environment.from_json),
    "exec": _plain(_exec),
    "exec-json": _text(_exec),
    "hash": _plain(ImageID),
    "hash-json": _text(ImageID),
    "image-manifest": _text(ImageManifest.from_json),
    "isolator": _plain(_isolator),
    "isolator-json": _text(_isolator),
    "labels": _plain(Labels.from_json),
    "labels-json": _text(Labels.from_json),
    "labels-from-map": _plain(Labels.from_mapping),  # type: ignore[arg-type]
    "go-to-appc-osarch": lambda names: list(platforms.from_go(*names)),
    "appc-to-go-osarch": lambda names: list(platforms.to_go(*names)),
    "lastditch-image-manifest": _text(lastditch.ImageManifest.from_json),
    "lastditch-pod-manifest": _text(lastditch.PodManifest.from_json),
    "mountinfo": _mountinfo,
    "mountpoint": _plain(MountPoint.from_json),
    "mountpoint-json": _text(MountPoint.from_json),
    "mountpoint-string": _plain(MountPoint.from_string),  # type: ignore[arg-type]
    "mount": _plain(Mount.from_json),
    "mount-json": _text(Mount.from_json),
    "pod-manifest": _text(lambda value: PodManifest.from_json(value, by_the_letter=True)),
    "port": _plain(Port.from_json),
    "port-json": _text(Port.from_json),
    "port-string": _plain(Port.from_string),  # type: ignore[arg-type]
    "exposed-port": _plain(ExposedPort.from_json),
    "exposed-port-json": _text(ExposedPort.from_json),
    "quantity": _quantity,
    "quantity-json": _quantity_json,
    "quantity-roundup": _quantity_roundup,
    "query-string": query.query_string,
    "semver": _plain(SemVer),
    "semver-json": _text(SemVer.from_json),
    "url": _plain(URL),
    "url-json": _text(URL),
    "uuid": _plain(UUID),
    "uuid-json": _text(UUID.from_json),
    "volume": _plain(Volume.from_json),
    "volume-json": _text(Volume.from_json),
    "volume-string": _volume_string,
}
