"""The command line of actool: exit status, and the manifest or the text that comes out."""

from __future__ import annotations

import contextlib
import io
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from appc.aci import compression, reader
from appc.cli.main import PROGRAM
from appc.schema.image import ImageManifest
from conformance.appc_archives import archive
from conformance.cases import Case, Failure, Outcome, Skip, read
from console.main import main
from console.output import Output

#: Recorded defects of the reference (reference/appc.md, 5.B): what the case does, and why we do otherwise.
DEFECTS: tuple[tuple[Callable[[list[str]], bool], str], ...] = (
    (lambda args: "--manifest=g.json" in args, "a manifest that is none is refused"),
    (
        lambda args: args[:1] == ["cat-manifest"] and "nom.aci" in args,
        "an image without manifest is an error",
    ),
    (lambda args: "--isolators=os/linux/cpu-shares,512" in args, "cpu-shares can be set"),
    (lambda args: args == ["discover"], "nothing to discover is an error"),
    (
        lambda args: "--seccomp-mode=" in " ".join(args) and "--seccomp-set=" not in " ".join(args),
        "a seccomp isolator needs its set",
    ),
)
_ROOTFS = ({"name": "rootfs", "type": "dir"}, {"name": "rootfs/a", "type": "file", "contents": "x"})
_MANIFEST = {
    "acKind": "ImageManifest",
    "acVersion": "0.8.11",
    "name": "example.com/p",
    "app": {
        "exec": ["/a"],
        "user": "0",
        "group": "0",
        "mountPoints": [{"name": "m", "path": "/m"}],
        "isolators": [{"name": "resource/memory", "value": {"limit": "1G"}}],
    },
}
_POD = {
    "acKind": "PodManifest",
    "acVersion": "0.8.11",
    "apps": [{"name": "a", "image": {"id": "sha512-" + "0" * 128}}],
}


def run(directory: Path) -> Outcome:
    """Run the cases of ``directory/appc/actool-cli.json``."""
    outcome = Outcome()
    for case in read(directory / "appc" / "actool-cli.json"):
        outcome.add(judge(case))
    return outcome


def judge(case: Case) -> Failure | Skip | None:
    """Run actool among the files that the cases name, and compare."""
    if case.kind not in {"actool-cli", "actool-patch-manifest"}:
        return case.skip(f"cases of kind {case.kind} are not known")
    arguments = list(case.input["args"])
    for matches, reason in DEFECTS:
        if matches(arguments):
            return case.skip(f"a defect of the reference: {reason}")
    if case.data["rc"] == 2 and "panic:" in case.data.get("stderr", ""):
        return case.skip("a defect of the reference: it crashes")
    with _files(case.input.get("manifest")):
        if case.kind == "actool-patch-manifest":
            return _patch(case, arguments)
        code, stdout = _actool(arguments)
    if code != case.data["rc"]:
        return case.failure(f"status {case.data['rc']}", code)
    if arguments[:1] == ["cat-manifest"] and code == 0 and stdout != case.data["stdout"]:
        return case.failure(case.data["stdout"], stdout)
    return None


def _patch(case: Case, arguments: list[str]) -> Failure | None:
    code, stdout = _actool(["patch-manifest", *arguments, "p.aci", "out.aci"])
    if code != case.data["rc"]:
        return case.failure(f"status {case.data['rc']}", f"{code} {stdout}")
    if os.path.exists("out.aci") != (code == 0):
        return case.failure("an image if and only if all went well", os.listdir("."))
    if code:
        return None
    with open("out.aci", "rb") as file:
        found = ImageManifest.parse(reader.read_manifest(file)).to_json()
    expected = _without_defects(case.data["normalized"])
    return None if found == expected else case.failure(expected, found)


def _without_defects(manifest: dict[str, Any]) -> dict[str, Any]:
    """The reference writes a port's default count as 0, and appends isolators that it says it replaces."""
    app = dict(manifest.get("app", {}))
    app["ports"] = [port | {"count": port["count"] or 1} for port in app.get("ports", ())]
    isolators = app.get("isolators", [])
    app["isolators"] = [
        one
        for place, one in enumerate(isolators)
        if all(later["name"] != one["name"] for later in isolators[place + 1 :])
    ]
    full = ImageManifest.from_json(manifest | ({"app": app} if "app" in manifest else {}))
    return full.to_json()


def _actool(arguments: list[str]) -> tuple[int, str]:
    out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    code = main(PROGRAM, arguments, Output(out, io.StringIO()))
    out.flush()
    return code, out.buffer.getvalue().decode()


@contextlib.contextmanager
def _files(manifest: object) -> Iterator[None]:
    """A directory to work in with the files that the cases name."""
    text = json.dumps(manifest or _MANIFEST, separators=(",", ":")).encode()
    with tempfile.TemporaryDirectory() as top, contextlib.chdir(top):
        plain = archive(_ROOTFS, text).read()
        for name, kind, data in (
            ("p.aci", compression.GZIP, plain),
            ("xz.aci", compression.XZ, plain),
            ("bz2.aci", compression.BZIP2, plain),
            ("plain.aci", compression.NONE, plain),
            ("nom.aci", compression.GZIP, archive(_ROOTFS).read()),
        ):
            compress, flush = compression.deflater(kind)
            Path(name).write_bytes(compress(data) + flush())
        Path("p.d/rootfs").mkdir(parents=True)
        Path("p.d/manifest").write_bytes(text)
        Path("m.json").write_text(json.dumps(_MANIFEST | {"name": "example.com/replaced"} | {"app": None}))
        Path("g.json").write_text("garbage\n")
        Path("pod.json").write_text(json.dumps(_POD))
        Path("kind.json").write_text('{"acKind":"AppManifest","acVersion":"0.8.11"}')
        Path("rnd").write_bytes(bytes(range(256)))
        Path("empty").touch()
        yield
