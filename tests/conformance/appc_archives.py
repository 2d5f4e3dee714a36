"""Archives and rendering: lists of entries become archives, which are read, checked and rendered for real."""

from __future__ import annotations

import io
import os
import re
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from appc.aci import compression, reader, tar, validate
from appc.aci.whitelist import both, paths
from appc.errors import AppcError
from appc.render import Image, flatten, render
from appc.schema.image import ImageManifest
from appc.types.image_id import ImageID
from conformance.cases import Case, Failure, Outcome, Skip, read

FILES = ("archive", "render")
_TYPES = {
    "file": tarfile.REGTYPE,
    "dir": tarfile.DIRTYPE,
    "symlink": tarfile.SYMTYPE,
    "hardlink": tarfile.LNKTYPE,
    "link": tarfile.LNKTYPE,
    "fifo": tarfile.FIFOTYPE,
    "char": tarfile.CHRTYPE,
    "chardev": tarfile.CHRTYPE,
    "block": tarfile.BLKTYPE,
    "blockdev": tarfile.BLKTYPE,
}
_FILE_TYPES = {
    compression.GZIP: "gz",
    compression.BZIP2: "bz2",
    compression.XZ: "xz",
    compression.NONE: "tar",
}

#: Where we differ from the reference on purpose, though no case says what the specification wants.
DIFFERENCES = ((r"acVersion: \S+ is newer than", "a manifest of a version that is not supported is refused"),)


def run(directory: Path) -> Outcome:
    """Run the cases of ``directory/appc/archive.json`` and ``render.json``."""
    outcome = Outcome()
    for name in FILES:
        for case in read(directory / "appc" / f"{name}.json"):
            outcome.add(judge(case))
    return outcome


def judge(case: Case) -> Failure | Skip | None:
    """Do with the input what the case's kind says, and compare."""
    judges = {
        "archive": _archive,
        "layout": _layout,
        "manifest-from-image": _manifest_from_image,
        "file-type": _file_type,
        "render": _render,
        "upper-whitelist": _upper_whitelist,
    }
    if case.kind not in judges:
        return case.skip(f"cases of kind {case.kind} are not known")
    return judges[case.kind](case)


def archive(entries: Sequence[Mapping[str, Any]], manifest: bytes | None = None) -> BinaryIO:
    """A plain archive of `entries`; names go in as they are, which tarfile's own writer sees to."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as writer:
        if manifest is not None:
            info = tarfile.TarInfo("manifest")
            info.size = len(manifest)
            writer.addfile(info, io.BytesIO(manifest))
        for entry in entries:
            info = tarfile.TarInfo(entry["name"])
            info.type = _TYPES[entry["type"]]
            info.mode = int(entry.get("mode", "0755" if entry["type"] == "dir" else "0644"), 8)
            info.linkname = entry.get("link", "")
            content = str(entry.get("contents", "")).encode() if entry["type"] == "file" else b""
            info.size = len(content)
            writer.addfile(info, io.BytesIO(content))
    out.seek(0)
    return out


def _valid(case: Case, problems: Sequence[str]) -> Failure | Skip | None:
    if bool(problems) == case.valid:
        for pattern, reason in DIFFERENCES:
            if problems and all(re.search(pattern, problem) for problem in problems):
                return case.skip(reason)
        return case.failure("valid" if case.valid else "a problem", list(problems))
    return None


def _archive(case: Case) -> Failure | Skip | None:
    unknown = {entry["type"] for entry in case.input} - set(_TYPES)
    if unknown:
        return case.skip(f"entries of type {', '.join(sorted(unknown))} are not known")
    try:
        problems = validate.image_problems(archive(case.input))
    except AppcError as error:
        problems = [str(error)]
    return _valid(case, problems)


def _layout(case: Case) -> Failure | Skip | None:
    with tempfile.TemporaryDirectory() as top:
        for name, content in sorted(case.input.items()):
            path = Path(top, name)
            if content is None:
                path.mkdir(parents=True, exist_ok=True)
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(content, encoding="utf-8")
        return _valid(case, validate.layout_problems(top))


def _manifest_from_image(case: Case) -> Failure | Skip | None:
    data = archive(case.input["entries"]).read()
    compress, flush = compression.deflater(case.input["compression"])
    try:
        found = reader.read_manifest(io.BytesIO(compress(data) + flush()))
        name = str(ImageManifest.parse(found).name)
    except AppcError as error:
        return case.failure("a manifest", error) if case.valid else None
    if not case.valid:
        return case.failure("an error", name)
    expected = case.data["normalized"]["name"]
    return None if name == expected else case.failure(expected, name)


def _file_type(case: Case) -> Failure | None:
    found = compression.detect(bytes.fromhex(case.input["hex_prefix"]).ljust(512, b"\0"))
    name = _FILE_TYPES.get(found or "")
    expected = case.data.get("normalized") if case.valid else None
    return None if name == expected else case.failure(expected, name)


# --- rendering


def _image_id(index: int) -> ImageID:
    return ImageID(f"sha512-{index:0128x}")


class _Pool:
    """The images of a case. An image's files say which image they come from by their content."""

    def __init__(self, images: Sequence[Mapping[str, Any]]) -> None:
        self.images = images
        names = {image["name"]: index for index, image in enumerate(images)}
        self.dependencies = [
            [d["image"] if "image" in d else names[d["name"]] for d in image.get("dependencies") or ()]
            for image in images
        ]

    def find(self, image_id: ImageID) -> Image:
        index = int(image_id[7:], 16)
        needs = tuple(_image_id(other) for other in self.dependencies[index])
        return Image(image_id, needs, self.images[index].get("path_whitelist") or ())

    def open(self, image_id: ImageID) -> BinaryIO:
        """As a store does it: what an archive may not hold never gets in."""
        index = int(image_id[7:], 16)
        kept = []
        seen = set()
        for entry in self.images[index]["entries"]:
            try:
                name = tar.clean(entry["name"].encode())
            except AppcError:
                continue
            inside = name == b"rootfs" or name.startswith(b"rootfs/")
            if inside and name not in seen:
                seen.add(name)
                kept.append(entry)
        if not any(tar.clean(e["name"].encode()) == b"rootfs" for e in kept):
            kept.append({"name": "rootfs", "type": "dir"})
        file = tempfile.TemporaryFile()  # noqa: SIM115 (the renderer closes it)
        file.write(archive(kept, b"{}").read())
        return file


def _render(case: Case) -> Failure | Skip | None:
    pool = _Pool(case.input["images"])
    tops = case.input.get("root")
    if tops is None:
        if "list" not in case.input:
            return case.skip("no root image")
        tops = case.input["list"][0]["image"]
    try:
        steps = flatten(_image_id(tops), pool.find)
        with tempfile.TemporaryDirectory() as directory:
            os.chmod(directory, 0o755)
            render(steps, pool.open, directory)
            got = _tree(directory)
    except AppcError as error:
        return case.failure("a tree", error) if case.valid else None
    if not case.valid:
        return case.failure("an error", sorted(got))
    return _compare(case, got)


def _tree(directory: str) -> dict[str, os.stat_result]:
    found = {"rootfs": os.stat(directory)}
    for top, directories, files in os.walk(directory):
        for name in (*directories, *files):
            path = os.path.join(top, name)
            found["rootfs/" + os.path.relpath(path, directory)] = os.lstat(path)
    return found


def _compare(case: Case, got: Mapping[str, os.stat_result]) -> Failure | None:
    """Every path of the case must be there with its kind, mode and size, and no other file or link."""
    wanted = {entry["path"]: entry for entry in case.data["normalized"]["files"]}
    wanted.pop("manifest", None)
    for path, entry in wanted.items():
        if path not in got:
            return case.failure(path, sorted(got))
        status = got[path]
        kind = {0o040000: "dir", 0o120000: "symlink", 0o100000: "file"}.get(status.st_mode & 0o170000)
        if entry.get("type", kind) != kind:
            return case.failure(entry, kind)
        if "mode" in entry and kind != "symlink" and status.st_mode & 0o7777 != int(entry["mode"], 8):
            return case.failure(entry, oct(status.st_mode))
        if "size" in entry and kind == "file" and status.st_size != entry["size"]:
            return case.failure(entry, status.st_size)
    above = {path.rsplit("/", count)[0] for path in wanted for count in range(1, path.count("/") + 1)}
    extra = [path for path in got if path not in wanted and path not in above and path != "rootfs"]
    return case.failure(sorted(wanted), f"also {extra}") if extra else None


def _upper_whitelist(case: Case) -> Failure | Skip | None:
    """The reference asks for the one outermost whitelist of a branch; ours is the intersection of all."""
    position, levels = case.input["pos"], case.input["list"]
    level = levels[position]["level"]
    allowed = None
    for place in range(position - 1, -1, -1):
        if levels[place]["level"] < level:
            level = levels[place]["level"]
            allowed = both(allowed, paths(levels[place]["pwl"]))
    expected = case.data["normalized"]
    expected = paths(expected) if expected else None
    return None if allowed == expected else case.failure(expected, allowed)
