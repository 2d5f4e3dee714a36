"""The command line of acbuild: exit status of each step, and what is in the context afterwards."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import itertools
import json
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from acbuild import script
from acbuild.cli.main import PROGRAM
from acbuild.errors import AcbuildError
from appc.schema.image import ImageManifest
from conformance.cases import Case, Failure, Outcome, Skip, read
from console.main import main
from console.output import Output

#: Any status; that of the reference, but with another result.
ANY, SAME = -1, -2
#: Steps in which we do not do as the reference did (reference/appc.md, 5.C): which, our status, why. Behind
#: such a step what is in the image is not compared.
DIFFERENT: tuple[tuple[Callable[[list[str], dict[str, Any]], bool], int, str], ...] = (
    (
        lambda argv, step: argv[:1] == ["script"] and "buildMode" in step.get("stderr", ""),
        ANY,
        "C1: scripts work",
    ),
    (
        lambda argv, step: argv[:1] == ["copy"] and "file exists" in step.get("stderr", ""),
        ANY,
        "C9: directories are merged, a file does not become one",
    ),
    (
        lambda argv, step: argv[:1] == ["copy-to-dir"] and "file exists" in step.get("stderr", ""),
        ANY,
        "C9: directories are merged, and one with a slash behind it has a name",
    ),
    (
        lambda argv, step: argv[:1] in (["copy"], ["copy-to-dir"]) and ".." in argv[-1].split("/"),
        SAME,
        "C9: nothing lands outside the root filesystem",
    ),
    (
        lambda argv, step: "--modify" in "".join(argv[:1]) and "in progress" in step.get("stderr", ""),
        0,
        "C8: an image is modified without the build in progress",
    ),
    (
        lambda argv, step: argv[1:2] == ["add"] and "already exists" in step.get("stderr", ""),
        0,
        "C12: what is added again takes the place of the first",
    ),
    (
        lambda argv, step: not step["rc"] and argv != [] and "USAGE" in step.get("stdout", ""),
        ANY,
        "C13: a command that is not there is an error",
    ),
    (
        lambda argv, step: not step["rc"] and any(_DOUBLED.search(word) for word in _names(argv)),
        1,
        "A1: separators in a row make no name",
    ),
    (
        lambda argv, step: (
            not step["rc"] and argv[:2] in (["port", "add"], ["mount", "add"]) and _lacks(argv)
        ),
        1,
        "A7: what the specification asks for must be there",
    ),
    (
        lambda argv, step: not step["rc"] and argv[:1] in (["set-user"], ["set-group"]) and ":" in argv[-1],
        1,
        "a name with a colon is in no /etc/passwd",
    ),
    (
        lambda argv, step: argv[1:2] in (["rm"], ["remove"]) and _says_missing(step.get("stderr", "")),
        2,
        "C12: an element that is not there is status 2 in both modes",
    ),
    (
        lambda argv, step: argv[:2] == ["dependency", "add"] and _has_bad_id(argv),
        1,
        "A3: an image ID has 128 hexadecimal digits",
    ),
    (
        lambda argv, step: argv[:1] == ["run"] and "doesn't exist" in step.get("stderr", ""),
        127,
        "a command that is not there is status 127, as in shells: 1 may be a command's own",
    ),
    (
        lambda argv, step: argv[:1] == ["run"] and step["rc"] == 1,
        ANY,
        "C7: the status is that of the command, in every engine",
    ),
    (
        lambda argv, step: not step["rc"] and argv[:1] in _DIRECTORY and argv[-1][:1] not in {"", "/"},
        1,
        "a working directory is absolute, in mode oci too",
    ),
    (
        lambda argv, step: not step["rc"] and argv[:2] == ["environment", "add"] and "=" in argv[2],
        1,
        "a variable's name ends at the first equals sign",
    ),
    (
        lambda argv, step: argv[:2] == ["isolator", "add"] and "unknown isolator" in step.get("stderr", ""),
        0,
        "C11: isolators of unknown names are kept",
    ),
)
_LOOKS = ("cat-manifest", "write")
#: What the reference keeps in the context, and we keep in a cache or with the image.
_STORES = {"depstore-tar", "depstore-expanded", "ociblobs"}
_DIRECTORY = (["set-working-directory"], ["set-wd"])
_DOUBLED = re.compile(r"[-._~/]{2}")


def _names(argv: list[str]) -> list[str]:
    """The words that are AC names or identifiers."""
    if argv[1:2] == ["add"] and argv[0] in {"label", "annotation", "dependency", "mount", "port", "isolator"}:
        return [argv[2].partition(":")[0]] if len(argv) > 2 else []
    return argv[1:2] if argv[:1] == ["set-name"] else []


def _lacks(argv: list[str]) -> bool:
    return "" in argv or "--count=0" in argv or ("--count", "0") in itertools.pairwise(argv)


def _says_missing(text: str) -> bool:
    return any(sign in text for sign in ("no such", "does not exist", "no annotation with name"))


def _has_bad_id(argv: list[str]) -> bool:
    joined = [word.partition("=")[2] for word in argv if word.startswith("--image-id=")]
    apart = [argv[place + 1] for place, word in enumerate(argv[:-1]) if word == "--image-id"]
    return any(len(value) != len("sha512-") + 128 for value in joined + apart)


def run(directory: Path) -> Outcome:
    """Run the cases of ``acbuild-cli.json`` and ``acbuild-script.json`` in ``directory/appc``."""
    outcome = Outcome()
    for name in ("acbuild-cli.json", "acbuild-script.json"):
        for case in read(directory / "appc" / name):
            outcome.add(judge(case))
    return outcome


def judge(case: Case) -> Failure | Skip | None:
    """Do what the case says, and compare."""
    if case.kind == "acbuild-cli":
        with _directory(case.input.get("files", {})):
            return _commands(case)
    if case.kind.startswith("acbuild-script-"):
        return _script(case)
    return case.skip(f"cases of kind {case.kind} are not known")


# --- scripts


def _script(case: Case) -> Failure | Skip | None:
    work: Callable[[Any], list[str]] = {
        "acbuild-script-join": script.join,
        "acbuild-script-tokenize": script.tokenize,
        "acbuild-script-insert-dashes": script.with_dashes,
    }[case.kind]
    try:
        found = work(case.input)
    except (ValueError, AcbuildError) as error:
        return case.failure(case.data.get("normalized"), error) if case.valid else None
    if not case.valid:
        return case.failure("an error", found)
    return None if found == case.data["normalized"] else case.failure(case.data["normalized"], found)


# --- commands


def _commands(case: Case) -> Failure | Skip | None:
    different: list[str] = []
    for step in case.data["steps"]:
        argv = list(step["argv"])
        words = [word for word in argv if word != "--no-history"]
        code, stdout = _acbuild(argv, step.get("stdin", ""))
        wanted, reason = _expected(words, step, code)
        if reason:
            different.append(reason)
        if code != wanted:
            return case.failure(f"{' '.join(argv)}: status {wanted}", f"status {code}, {stdout}")
        if not different and (problem := _differs(words, step, stdout)):
            return case.failure(*problem)
    if os.path.exists(".acbuild") != case.data["context_exists"]:
        return case.failure(f"a context: {case.data['context_exists']}", os.listdir("."))
    if different:
        return case.skip(f"decided otherwise: {different[0]}")
    return _state(case)


def _expected(words: list[str], step: dict[str, Any], code: int) -> tuple[int, str]:
    """The status that we are to give, where we gave `code`, and the reason if it is not the reference's."""
    for matches, own, reason in DIFFERENT:
        if not matches(words, step):
            continue
        if own == SAME:
            return step["rc"], reason
        wanted = code if own == ANY else own
        if wanted != step["rc"]:
            return wanted, reason
    return step["rc"], ""


def _differs(words: list[str], step: dict[str, Any], stdout: str) -> tuple[object, object] | None:
    """What was expected on standard output, and what is there, when that is not the same thing."""
    if step["rc"] or not words or words[0] not in _LOOKS:
        return None  # what else the reference writes there are debug texts and usages (C12, C13)
    if words[0] == "write":
        path = words[-1]
        data = Path(path).read_bytes()
        plain = gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
        image_id = f"sha512-{hashlib.sha512(plain).hexdigest()}\n"
        return None if stdout == image_id else (image_id, stdout)
    wanted, found = json.loads(step["stdout"]), json.loads(stdout)
    if "config" in words or "--file=config" in words:
        wanted, found = _config(wanted), _config(found)
    elif wanted.get("acKind"):
        wanted, found = _manifest(wanted), _manifest(found)
    else:
        return None  # an OCI manifest: digests of documents with the time of day in them
    return None if wanted == found else (wanted, found)


def _state(case: Case) -> Failure | None:
    """Compare what the context holds."""
    data = case.data
    if "manifest" in data:
        found = _manifest(json.loads(Path(".acbuild/currentaci/manifest").read_bytes()))
        if found != _manifest(data["manifest"]):
            return case.failure(_manifest(data["manifest"]), found)
    if data.get("rootfs") is not None and not _is_run(case):
        listed = _tree(Path(".acbuild/currentaci/rootfs"))
        if listed != sorted(data["rootfs"]):
            return case.failure(data["rootfs"], listed)
    if "oci" in data:
        code, stdout = _acbuild(["cat-manifest", "--file", "config"], "")
        if code or _config(json.loads(stdout)) != _config(data["oci"]["config"]):
            return case.failure(data["oci"]["config"], stdout)
    if "context_files" in data and not _is_run(case):
        there = sorted(os.listdir(".acbuild"))
        wanted = sorted(set(data["context_files"]) - _STORES)
        if there != wanted:
            return case.failure(wanted, there)
    return None


def _is_run(case: Case) -> bool:
    """The reference leaves files of the host in the image, and stores of its own in the context (C7)."""
    return any("run" in step["argv"][:2] for step in case.data["steps"])


def _manifest(value: dict[str, Any]) -> dict[str, Any]:
    """A manifest without the version of the library, and without what stands for nothing."""
    return ImageManifest.from_json(value | {"acVersion": "0.8.11"}).to_json()


def _config(value: dict[str, Any]) -> dict[str, Any]:
    """A configuration without times and layers."""
    kept = ("architecture", "os", "config")
    return {name: value[name] for name in kept if value.get(name)}


def _tree(root: Path) -> list[str]:
    found = []
    for path in root.rglob("*"):
        is_directory = path.is_dir() and not path.is_symlink()
        found.append(f"{path.relative_to(root)}{'/' if is_directory else ''}")
    return sorted(found)


def _acbuild(argv: list[str], stdin: str) -> tuple[int, str]:
    out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    before = sys.stdin
    sys.stdin = io.TextIOWrapper(io.BytesIO(stdin.encode()), encoding="utf-8")
    try:
        code = main(PROGRAM, argv, Output(out, io.StringIO()))
    finally:
        sys.stdin = before
    out.flush()
    return code, out.buffer.getvalue().decode()


@contextlib.contextmanager
def _directory(files: dict[str, str]) -> Iterator[None]:
    with tempfile.TemporaryDirectory() as top, contextlib.chdir(top):
        for name, content in files.items():
            path = Path(name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        yield
