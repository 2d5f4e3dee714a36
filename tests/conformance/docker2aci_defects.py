"""Defects of docker2aci (reference/appc.md, 5.D) that a case's input brings out, told by what is in it."""

from __future__ import annotations

import re
from typing import Any

from appc.types import platforms
from conformance.cases import Case

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def of_status(case: Case, code: int) -> str:
    """Why the image is converted where the reference refuses it, or the other way round; "" for no reason."""
    if code:
        names = [name for layer in _layers(case) for name in layer]
        return "D2: names that leave the root are refused" if any(_leaves(name) for name in names) else ""
    process = _config(case).get("config") or {}
    user, colon, group = str(process.get("User", "")).partition(":")
    ports = [port.partition("/")[0] for port in process.get("ExposedPorts") or ()]
    for found in (
        colon and not (user and group),
        any(not _VARIABLE.fullmatch(one.partition("=")[0]) for one in process.get("Env") or () if "=" in one),
        any(not (port.isascii() and port.isdigit() and 0 < int(port) < 1 << 16) for port in ports),
        process.get("WorkingDir") and not process["WorkingDir"].startswith("/"),
    ):
        if found:
            return "D5: what appc cannot say is left out or mended, the image is converted"
    return ""


def of_tree(case: Case) -> str:
    """Why the files may be others than the reference's; "" for no reason."""
    below: dict[str, Any] = {}
    for layer in _layers(case):
        for name, entry in layer.items():
            base = name.rpartition("/")[2]
            if base == ".wh..wh..opq":
                return "D3: opaque directories hide what is below"
            hidden = name.removesuffix(base) + base.removeprefix(".wh.")
            if hidden != name and any(one == hidden or one.startswith(f"{hidden}/") for one in layer):
                return "D3: a file beside a whiteout of its name is kept"
            if entry.get("type") == "hardlink" and _clean(entry["link"]) not in layer:
                return "D3: a link to a file of a lower layer is kept"
            if any(below.get(above, "dir") != "dir" and above not in layer for above in _above(name)):
                return "A9: links of lower layers are not followed"
        below |= {name: entry.get("type", "file") for name, entry in layer.items()}
    return ""


def is_unknown_platform(case: Case) -> bool:
    """D6: the labels are those of the converting host, or none at all."""
    config = _config(case)
    try:
        platforms.from_go(str(config.get("os", "")), str(config.get("architecture", "")), "")
    except ValueError:
        return True
    return False


def _config(case: Case) -> dict[str, Any]:
    default = {"architecture": "amd64", "os": "linux"}
    found = case.input.get("top_layer_json", case.input.get("config", default))
    assert isinstance(found, dict)
    return found


def _layers(case: Case) -> list[dict[str, Any]]:
    """The entries of each layer that is a list of them, by their names."""
    lists = [layer for layer in case.input["layers"] if isinstance(layer, list)]
    return [{_clean(one["name"]): one for one in layer} for layer in lists]


def _clean(name: str) -> str:
    return "/".join(part for part in name.split("/") if part not in {"", "."})


def _leaves(name: str) -> bool:
    return ".." in name.split("/")


def _above(name: str) -> list[str]:
    parts = name.split("/")
    return ["/".join(parts[:count]) for count in range(1, len(parts))]
