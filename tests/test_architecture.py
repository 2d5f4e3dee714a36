"""The rules of the layout: who may import whom, how long things may be, what no code may do."""

from __future__ import annotations

import ast
import re
import sys
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

CHECKOUT = Path(__file__).parent.parent
SOURCES = CHECKOUT / "src"

# Package: the packages of ours that it may import. Any `cli` module may also import console.
MAY_IMPORT = {
    "linux": set(),
    "console": set(),
    "appc": {"linux"},
    "oci": {"appc", "linux"},
    "acbuild": {"appc", "oci", "linux"},
    "cni": {"linux"},
    "rkt": {"linux", "console", "appc", "oci", "cni"},
}
# Modules outside the standard library that a package may import (inside functions, off the hot path).
LIBRARIES = {
    "appc": {"urllib3", "zstandard", "backports", "cryptography", "yaml"},
    "console": {"rich"},
    "cni": {"psycopg", "pymysql"},
}
MODULE_LINES, FUNCTION_LINES = 700, 80

FORBIDDEN = {
    "resolves links on the host; use linux.paths": re.compile(r"\brealpath\(|\.resolve\(\)"),
    "extraction is ours; never tarfile's": re.compile(r"\bextractall\(|\.extract\(.*tarfile"),
    "no shell": re.compile(r"shell\s*=\s*True|os\.system\(|os\.popen\("),
    "runs what it reads": re.compile(r"(?<![\w.])eval\(|(?<![\w.])exec\(|pickle|yaml\.load\("),
    "a path of one machine": re.compile(rf"{re.escape(str(CHECKOUT))}\b|/home/\w"),
    "a name without a meaning": re.compile(r"^(import|from) \S*\b(utils|helpers|common|misc)\b"),
}
# (file, rule): why the rule does not hold there.
EXCEPTIONS = {
    ("rkt/cli/main.py", "resolves links on the host; use linux.paths"): "the operator's own --dir",
}


class Import(NamedTuple):
    module: str
    line: int
    at_start: bool  # runs when the importing module is imported


@cache
def modules() -> dict[str, Path]:
    found = {}
    for path in sorted(SOURCES.rglob("*.py")):
        name = ".".join(path.relative_to(SOURCES).with_suffix("").parts)
        found[name.removesuffix(".__init__")] = path
    return found


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def imports(name: str) -> list[Import]:
    """Every import of a module that happens at run time; those for type checkers are left out."""
    found: list[Import] = []

    def visit(node: ast.AST, *, at_start: bool) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                found.extend(Import(alias.name, child.lineno, at_start) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                assert child.level == 0, f"{name}:{child.lineno}: relative import"
                module = child.module or ""
                for alias in child.names:
                    whole = f"{module}.{alias.name}"
                    found.append(Import(whole if whole in modules() else module, child.lineno, at_start))
            elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
                continue
            else:
                inside = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
                visit(child, at_start=at_start and not inside)

    visit(tree(modules()[name]), at_start=True)
    return found


def is_cli(name: str) -> bool:
    return "cli" in name.split(".")


@pytest.mark.parametrize("name", modules())
def test_imports_follow_the_table(name: str) -> None:
    package = name.split(".")[0]
    assert package in MAY_IMPORT, f"{package} is not in the table of packages"
    allowed = MAY_IMPORT[package] | {package} | ({"console"} if is_cli(name) else set())
    for imported in imports(name):
        top = imported.module.split(".")[0]
        if top in MAY_IMPORT:
            assert top in allowed, f"{name}:{imported.line}: {package} may not import {top}"
            if not is_cli(name):
                assert not is_cli(imported.module), (
                    f"{name}:{imported.line}: a library imports a command line"
                )
        elif top not in sys.stdlib_module_names:
            assert top in LIBRARIES.get(package, set()), (
                f"{name}:{imported.line}: {top} is no library of {package}"
            )
            assert not imported.at_start, f"{name}:{imported.line}: {top} has to be imported where it is used"


def test_no_import_cycles() -> None:
    known = modules()
    graph = {
        name: {
            imported.module for imported in imports(name) if imported.at_start and imported.module in known
        }
        - {name}
        for name in known
    }
    done: set[str] = set()

    def walk(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " -> ".join((*trail[trail.index(name) :], name))
        if name not in done:
            for other in sorted(graph[name]):
                walk(other, (*trail, name))
            done.add(name)

    for name in graph:
        walk(name, ())


@pytest.mark.parametrize("name", modules())
def test_sizes_and_docstrings(name: str) -> None:
    path = modules()[name]
    lines = path.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= MODULE_LINES, f"{path}: {len(lines)} lines"
    if lines:
        assert ast.get_docstring(tree(path)), f"{path}: no docstring"
    for node in ast.walk(tree(path)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            assert length <= FUNCTION_LINES, f"{path}:{node.lineno}: {node.name} has {length} lines"


@pytest.mark.parametrize("name", modules())
def test_nothing_forbidden(name: str) -> None:
    path = modules()[name]
    relative = str(path.relative_to(SOURCES))
    # Texts may speak of what code may not do.
    code = without_strings(path)
    for why, pattern in FORBIDDEN.items():
        if (relative, why) in EXCEPTIONS:
            continue
        text = path.read_text(encoding="utf-8") if why == "a path of one machine" else code
        for number, line in enumerate(text.splitlines(), start=1):
            assert not pattern.search(line), f"{relative}:{number}: {why}: {line.strip()}"


def without_strings(path: Path) -> str:
    """The code of a module with its comments and docstrings gone and other strings kept."""
    module = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(module):
        body = getattr(node, "body", None)
        first = body[0] if isinstance(body, list) and body else None
        if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
            first.value.value = ""
    return ast.unparse(module)


def test_names_of_modules_mean_something() -> None:
    meaningless = {"utils", "util", "common", "helpers", "helper", "misc"}
    assert not [name for name in modules() if meaningless & set(name.split("."))]


def test_test_files_have_unique_names_and_no_packages() -> None:
    files = sorted((CHECKOUT / "tests").rglob("*.py"))
    assert not [path for path in files if path.name == "__init__.py"]


def test_scripts_and_texts_name_no_machine() -> None:
    texts = [CHECKOUT / "quickstart", CHECKOUT / ".ci/run", *CHECKOUT.glob("*.md")]
    texts += list((CHECKOUT / "docs").rglob("*.md"))
    texts += [path for path in (CHECKOUT / "dist").rglob("*") if path.is_file()]
    pattern = FORBIDDEN["a path of one machine"]
    assert not [str(path) for path in texts if pattern.search(path.read_text(encoding="utf-8"))]
