"""docker2aci: references, platforms, configurations to manifests, layers to trees, broken archives."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import re
import tarfile
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from appc.aci import compression, reader, tar
from appc.schema.image import ImageManifest
from appc.types.annotations import STOP_SIGNAL
from conformance import docker2aci_defects as defects
from conformance.cases import Case, Failure, Outcome, Skip, read
from console.output import Output
from oci.cli.main import main
from oci.convert.to_manifest import platform_labels
from oci.types import media
from oci.types.config import ImageConfig
from oci.types.platform import Platform
from oci.types.reference import Reference

FILES = ("units", "manifest", "layers")
_TYPES = {
    "file": tarfile.REGTYPE,
    "dir": tarfile.DIRTYPE,
    "symlink": tarfile.SYMTYPE,
    "hardlink": tarfile.LNKTYPE,
    "fifo": tarfile.FIFOTYPE,
    "char": tarfile.CHRTYPE,
    "block": tarfile.BLKTYPE,
}
#: Defects of the reference (reference/appc.md, 5.D) that a case records: note, and what is done instead.
DEFECTS = (
    (r"garbage layer", "a layer that is no archive is refused"),
    (r"manifest\.json only", "what docker save writes today is read"),
    (r"layer\.tar is a symlink", "links between layers are followed; the case has no input"),
)


def run(directory: Path) -> Outcome:
    """Run the cases of ``directory/docker2aci``."""
    outcome = Outcome()
    for name in FILES:
        for case in read(directory / "docker2aci" / f"{name}.json"):
            outcome.add(judge(case))
    return outcome


def judge(case: Case) -> Failure | Skip | None:
    """Do what the kind of the case says, and compare."""
    judges = {
        "docker-url": _reference,
        "os-arch": _platform,
        "media-types": _media_types,
        "docker2aci-v22-manifest": _schema_2,
        "docker2aci-manifest": _convert,
        "docker2aci-layers": _convert,
        "docker2aci-oci": _convert,
        "docker2aci-broken": _convert,
        "whiteout-scenario": _whiteouts,
    }
    for pattern, reason in DEFECTS:
        if re.search(pattern, case.data.get("note", "")):
            return case.skip(f"a defect of the reference: {reason}")
    if case.kind in {"registry-options", "set-label", "set-annotation"}:
        return case.skip("a function inside the reference, which has no counterpart")
    if case.kind not in judges:
        return case.skip(f"cases of kind {case.kind} are not known")
    return judges[case.kind](case)


# --- units


def _reference(case: Case) -> Failure | None:
    try:
        found = Reference.parse(case.input)
    except ValueError as error:
        return case.failure("accepted", str(error)) if case.valid else None
    got = {
        "original_name": found.original,
        "index": found.host,
        "image": found.repository,
        "tag": found.shown_tag,
        "digest": found.digest or "",
    }
    return None if case.valid and got == case.data["normalized"] else case.failure(case.data, got)


def _platform(case: Case) -> Failure | None:
    labels = platform_labels(Platform(*case.input))
    got = [labels["os"], labels["arch"]] if len(labels) == 2 else None
    return None if got == case.data["normalized"] else case.failure(case.data["normalized"], got)


def _media_types(case: Case) -> Failure | Skip | None:
    """What the reference can read, ours can, but for manifests of schema 1."""
    for kind in case.data["normalized"]["config"]:
        if kind not in media.CONFIGS:
            return case.failure(f"{kind} is known", "it is not")
    for kind in case.data["normalized"]["layer"]:
        if not media.is_layer(kind.partition("(")[0]):
            return case.failure(f"{kind} is known", "it is not")
    wanted = set(case.data["normalized"]["manifest"]) - media.SCHEMA_1
    return None if wanted <= media.MANIFESTS else case.failure(wanted, media.MANIFESTS)


def _schema_2(case: Case) -> Failure | None:
    """The configuration alone: the same way as of an image from a registry."""
    from oci.convert.to_manifest import Ids, Origin, manifest

    url = case.input["url"].replace("HOST:PORT", "localhost:5000")
    config = ImageConfig.parse(json.dumps(case.input["config"]).encode(), "case")
    ids = Ids("<layer digest>", "<sha256 of the manifest>")
    found = manifest(config, Origin.of(Reference.parse(url)), ids, [])
    expected = json.loads(json.dumps(case.data["normalized"]).replace("HOST:PORT", "localhost:5000"))
    got = {
        "labels": found.labels.as_dict(),
        "app": found.to_json()["app"],
        "annotations": found.annotations.as_dict(),
    }
    expected["annotations"] = _comparable(expected["annotations"])
    return None if got == expected else case.failure(expected, got)


def _comparable(annotations: dict[str, str]) -> dict[str, str]:
    """The reference writes ``author`` for images of schema 2, where the specification has ``authors``.

    It leaves out the signal that ends the app.
    """
    found = {name: value for name, value in annotations.items() if name != STOP_SIGNAL}
    if "author" in found:
        found["authors"] = found.pop("author")
    if found.get("created", "").startswith("0001-01-01"):
        del found["created"]  # Go's zero time, for an image that says none
    return found


# --- whole images


def _convert(case: Case) -> Failure | Skip | None:
    if "layers" not in case.input:
        return case.skip("the case tells of its input, and has none")
    with _workplace() as directory:
        path = _make(case, directory)
        arguments = [*case.data.get("args", ()), path]
        code, stdout = _docker2aci(arguments)
        if (code == 0) != case.valid:
            if reason := defects.of_status(case, code):
                return case.skip(f"a defect of the reference: {reason}")
            return case.failure(f"valid: {case.valid}", f"status {code} {stdout}")
        if code:
            return None
        names = _renamed(case, directory)
        files = sorted(name for name in os.listdir() if name.endswith(".aci"))
        if files != sorted(names(name) for name in case.data["files"]):
            return case.failure(case.data["files"], files)
        for expected in case.data["normalized"]:
            if (failure := _compare(case, expected, names)) is not None:
                reason = defects.of_tree(case)
                return case.skip(f"a defect of the reference: {reason}") if reason else failure
        wanted = names(case.data["stdout"])
        return None if stdout == wanted else case.failure(repr(wanted), repr(stdout))


def _compare(case: Case, expected: Mapping[str, Any], names: Any) -> Failure | None:
    with open(names(expected["file"]), "rb") as file:
        manifest = ImageManifest.parse(reader.read_manifest(file))
        got = _facts(manifest.to_json())
        wanted = _facts(json.loads(names(json.dumps(expected["manifest"]))))
        if defects.is_unknown_platform(case):
            for facts in (got, wanted):
                facts["labels"] = {n: v for n, v in facts["labels"].items() if n not in {"os", "arch"}}
        if got != wanted:
            return case.failure(wanted, got)
        return _compare_entries(case, expected["entries"], file) if "entries" in expected else None


def _facts(manifest: dict[str, Any]) -> dict[str, Any]:
    """What of a manifest is compared: lists whose order means nothing as dictionaries and sets."""
    app = manifest.get("app")
    if app is not None:
        app = {name: value for name, value in app.items() if value is not None}
        app["ports"] = [port | {"count": port["count"] or 1} for port in app.get("ports", ())]
        app.pop("userLabels", None)  # which the reference drops in two of three formats
    return {
        "name": manifest["name"],
        "labels": {label["name"]: label["value"] for label in manifest.get("labels") or ()},
        "app": app,
        # the reference leaves all annotations out below the top of an OCI image
        "annotations": _comparable({a["name"]: a["value"] for a in manifest.get("annotations") or ()})
        if app is not None
        else None,
        # and writes the labels of the image itself where those of the dependency belong
        "dependencies": [one["imageName"] for one in manifest.get("dependencies") or ()],
        "pathWhitelist": sorted(manifest.get("pathWhitelist") or ()),
    }


def _compare_entries(case: Case, entries: Sequence[Mapping[str, Any]], file: Any) -> Failure | None:
    got: dict[str, tuple[object, ...]] = {}
    archive = tar.TarReader(compression.inflate(file))
    for entry in archive:
        name = entry.name.decode()
        text: object = None
        if entry.kind is tar.FILE and name != "manifest":
            text = archive.read().decode()
        if entry.kind in {tar.SYMLINK, tar.HARD_LINK}:
            text = entry.target.decode()
            # the reference's links lead to a console, which a pod without a terminal has not (D10)
        text = "/dev/console" if name in {"rootfs/dev/stdout", "rootfs/dev/stderr"} else text
        got[name] = entry.kind, text
    kinds = {
        "file": tar.FILE,
        "dir": tar.DIRECTORY,
        "symlink": tar.SYMLINK,
        "hardlink": tar.HARD_LINK,
        "fifo": tar.FIFO,
        "char": tar.CHARACTER_DEVICE,
        "block": tar.BLOCK_DEVICE,
    }
    wanted = {
        entry["name"]: (kinds[entry["type"]], entry.get("contents", entry.get("link")))
        for entry in entries
        if not _is_defect(case, entry["name"])
    }
    if case.data.get("note") == "whiteout and add in the same layer":
        wanted["rootfs/a"] = (tar.FILE, "2")
    return None if got == wanted else case.failure(wanted, got)


def _is_defect(case: Case, name: str) -> bool:
    """An opaque directory hides what lower layers have in it, which the reference does not know (D3)."""
    return case.data.get("note") == "opaque directory" and name == "rootfs/d/a"


@contextlib.contextmanager
def _workplace() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as top:
        before = os.environ.get("TMPDIR")
        os.environ["TMPDIR"] = top
        try:
            os.mkdir(f"{top}/out")
            with contextlib.chdir(f"{top}/out"):
                yield Path(top)
        finally:
            if before is None:
                del os.environ["TMPDIR"]
            else:
                os.environ["TMPDIR"] = before


def _docker2aci(arguments: list[str]) -> tuple[int, str]:
    out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    code = main(arguments, Output(out, io.StringIO()))
    out.flush()
    return code, out.buffer.getvalue().decode()


def _make(case: Case, directory: Path) -> str:
    """The file that the case describes."""
    if "repositories" in case.input:
        return _docker_save(case.input, directory / "img.tar")
    return _oci_layout(case.input, directory / "img.tar")


def _layer(value: object) -> bytes:
    """A list of entries as an archive, or the bytes that a text such as ``bytes:00 x 1024`` stands for."""
    if isinstance(value, str):
        digits, _, count = value.removeprefix("bytes:").partition(" x ")
        return bytes.fromhex(digits) * int(count or 1)
    assert isinstance(value, list)
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as writer:
        for entry in value:
            info = _Named(entry["name"])
            info.type = _TYPES[entry.get("type", "file")]
            info.linkname = entry.get("link", "")
            info.mode = int(entry.get("mode", "0755" if info.isdir() else "0644"), 8)
            info.uid, info.gid = entry.get("uid", 0), entry.get("gid", 0)
            content = entry.get("contents", "").encode() if info.isreg() else b""
            info.size = len(content)
            writer.addfile(info, io.BytesIO(content))
    return out.getvalue()


class _Named(tarfile.TarInfo):
    """A member whose name goes in as it is: tarfile takes slashes off the front."""

    def get_info(self) -> Any:
        info = super().get_info()
        info["name"] = self.name
        return info


def _docker_save(value: Mapping[str, Any], path: Path) -> str:
    """What docker save wrote before 1.10; the IDs are those of the program that recorded the cases."""
    ids = [hashlib.sha256(f"layer{n}".encode()).hexdigest() for n in range(len(value["layers"]))]
    with tarfile.open(path, "w") as archive:
        for place, (layer, one) in enumerate(zip(value["layers"], ids, strict=True)):
            top = place == len(ids) - 1
            config: dict[str, Any] = {"id": one}
            if top:
                default = {"architecture": "amd64", "os": "linux", "config": {"Cmd": ["/bin/sh"]}}
                config |= value.get("top_layer_json", default)
            if place:
                config["parent"] = ids[place - 1]
            _add(archive, f"{one}/json", json.dumps(config).encode())
            _add(archive, f"{one}/layer.tar", _layer(layer))
        repositories = {name: dict.fromkeys(tags, ids[-1]) for name, tags in value["repositories"].items()}
        _add(archive, "repositories", json.dumps(repositories).encode())
    return str(path)


def _oci_layout(value: Mapping[str, Any], path: Path) -> str:
    """A layout of before 1.0, with refs/latest."""
    gzip = bool(value.get("opts", {}).get("gz"))
    layers = []
    blobs: dict[str, bytes] = {}
    diff_ids = []

    def put(data: bytes) -> dict[str, Any]:
        digest = "sha256:" + hashlib.sha256(data).hexdigest()
        blobs[digest] = data
        return {"digest": digest, "size": len(data)}

    for entries in value["layers"]:
        plain = _layer(entries)
        diff_ids.append("sha256:" + hashlib.sha256(plain).hexdigest())
        compress, flush = compression.deflater("gzip" if gzip else "none")
        kind = "application/vnd.oci.image.layer.v1.tar" + ("+gzip" if gzip else "")
        layers.append({"mediaType": kind, **put(compress(plain) + flush())})
    config = {**value["config"], "rootfs": {"type": "layers", "diff_ids": diff_ids}}
    manifest = {
        "schemaVersion": 2,
        "config": {"mediaType": media.OCI_CONFIG, **put(json.dumps(config).encode())},
        "layers": layers,
    }
    top = {"mediaType": media.OCI_MANIFEST, **put(json.dumps(manifest).encode())}
    with tarfile.open(path, "w") as archive:
        _add(archive, "oci-layout", b'{"imageLayoutVersion": "1.0.0"}')
        _add(archive, "refs/latest", json.dumps(top).encode())
        for digest, data in blobs.items():
            _add(archive, "blobs/" + digest.replace(":", "/"), data)
    return str(path)


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    archive.addfile(info, io.BytesIO(data))


def _renamed(case: Case, directory: Path) -> Any:
    """A function that puts our digests of OCI layers and manifests in the place of the recorded ones."""
    if "repositories" in case.input:
        return lambda text: text
    found: list[str] = []
    with tarfile.open(directory / "img.tar") as archive:
        top = json.loads(_read(archive, "refs/latest"))
        manifest = json.loads(_read(archive, "blobs/" + top["digest"].replace(":", "/")))
        found = [layer["digest"].partition(":")[2] for layer in manifest["layers"]]
    recorded = re.findall(r'imageid", "value": "([0-9a-f]{64})"', json.dumps(case.data["normalized"]))
    below = re.findall(r"img-([0-9a-f]{64})", json.dumps(case.data["files"]))
    order = [one for one in dict.fromkeys(below) if one not in recorded] + recorded
    pairs = dict(zip(reversed(order), reversed(found), strict=False))
    hashes = re.findall(
        r'manifesthash", "value": "(sha256:[0-9a-f]{64})"', json.dumps(case.data["normalized"])
    )
    pairs |= dict.fromkeys(hashes, top["digest"])

    def rename(text: str) -> str:
        for old, new in pairs.items():
            text = text.replace(old, new)
        return text

    return rename


def _read(archive: tarfile.TarFile, name: str) -> bytes:
    member = archive.extractfile(name)
    assert member is not None
    return member.read()


# --- the scenario


def _whiteouts(case: Case) -> Failure | None:
    """The layers of the reference's own test of whiteouts, whose recipe the case tells in words."""

    def triple(name: str, content: str) -> list[dict[str, str]]:
        links = [{"name": f"{name}f{n}", "type": "hardlink", "link": f"{name}f1"} for n in (2, 3)]
        return [{"name": f"{name}f1", "contents": content}, *links]

    def gone(*names: str) -> list[dict[str, str]]:
        return [{"name": f".wh.{name}", "contents": ""} for name in names]

    layers: list[list[dict[str, str]]] = [triple("l0", "l0")]
    layers += [triple(name, name) for name in ("l1", "l2", "l3")]
    layers.append(gone("l1f1", "l2f2", "l3f3"))
    layers += [triple(name, name) for name in ("l4", "l5", "l6")]
    layers.append(gone("l4f2", "l5f1", "l6f1", "l4f3", "l5f3", "l6f2"))
    layers += [triple("l10", "OLD"), triple("l10", "NEW"), triple("l11", "line1")]
    layers.append([{"name": "l11f1", "contents": "line1line2"}])
    with _workplace() as directory:
        path = _docker_save({"repositories": {"a/b": ["1"]}, "layers": layers}, directory / "img.tar")
        if _docker2aci([path])[0]:
            return case.failure("converted", "refused")
        got: dict[str, str] = {}
        with open("a-b-1.aci", "rb") as file:
            archive = tar.TarReader(compression.inflate(file))
            for entry in archive:
                name = entry.name.decode().removeprefix("rootfs/")
                if entry.kind is tar.FILE and name != "manifest":
                    got[name] = archive.read().decode()
                elif entry.kind is tar.HARD_LINK:
                    got[name] = got[entry.target.decode().removeprefix("rootfs/")]
    text = ", ".join(case.data["normalized"]["present"])
    present = set(re.findall(r"l\d+f\d", text))
    absent = set(case.data["normalized"]["absent"])
    if set(got) != present or absent & set(got):
        return case.failure(sorted(present), sorted(got))
    wrong = {name: got[name] for name in ("l10f1", "l10f2", "l10f3") if got[name] != "NEW"}
    wrong |= {name: got[name] for name in ("l11f1", "l11f2", "l11f3") if "line1" not in got[name]}
    return case.failure("NEW and line1", wrong) if wrong else None
