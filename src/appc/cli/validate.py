"""actool validate: check images, image layouts and manifests."""

from __future__ import annotations

import os

from appc.cli import limits
from appc.errors import AppcError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from appc.aci.limits import Limits
    from console.output import Output

EXAMPLES = """\
  actool validate app.aci
  actool --debug validate app.aci ./app-layout pod.json
  actool validate --type=manifest manifest
"""
DESCRIPTION = """\
Checks each FILE and prints every problem of it, nothing if there is none (with --debug also what it was). A
directory is checked as an image layout, another file as what it looks like, or as what --type says. Exits 1
if one is not valid; a file that cannot be read, or a manifest of an unknown kind, ends the run.
"""
IMAGE, LAYOUT, MANIFEST = "appimage", "layout", "manifest"
_TYPES = (IMAGE, LAYOUT, MANIFEST)
#: Bytes of a manifest that is a file of its own, and how many of them tell text from other data.
_LARGEST = 16 << 20
_SNIFFED = 512


class Stop(AppcError):
    """What ends the run though there are more files."""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", metavar="FILE", nargs="*", help="an image, a layout's directory, a manifest")
    parser.add_argument("--type", metavar="TYPE", help="what the files are: " + ", ".join(_TYPES))
    limits.arguments(parser)


def run(options: argparse.Namespace, out: Output) -> int:
    out.where = ""
    if not options.files:
        raise AppcError("must pass one or more files")
    wanted = options.type or None
    if wanted not in {None, *_TYPES}:
        raise AppcError(f"--type: unknown type {options.type!r}", hint="choose from " + ", ".join(_TYPES))
    allowed = limits.wanted(options)
    code = 0
    for path in options.files:
        try:
            problems, what = _check(path, wanted, allowed)
        except Stop as error:
            out.error(error)
            return 1
        except (AppcError, ValueError) as error:
            problems, what = [str(error)], ""
        except OSError as error:
            raise AppcError(f"unable to access {path}: {error.strerror}") from error
        for problem in problems:
            out.note(f"{path}: {problem}")
            code = 1
        if not problems and out.debugging:
            out.note(f"{path}: valid {what}")
    return code


def _check(path: str, wanted: str | None, allowed: Limits) -> tuple[list[str], str]:
    """Every problem of one file, and what it is."""
    from appc.aci import compression, validate

    if os.path.isdir(path):
        if wanted not in {None, LAYOUT}:
            raise Stop(f"{path}: is a directory, so it can only be a layout")
        return validate.layout_problems(path), "image layout"
    if wanted == LAYOUT:
        return [f"{path} is not a directory"], ""
    with open(path, "rb") as file:
        prefix = file.read(_SNIFFED)
        if wanted == IMAGE or (wanted is None and compression.detect(prefix) is not None):
            return validate.image_problems(file, limits=allowed), "app container image"
        if wanted is None and not _is_text(prefix):
            raise Stop(f"{path}: unable to detect filetype (try --type)")
        data = prefix + file.read(_LARGEST)
    return _check_manifest(path, data)


def _is_text(prefix: bytes) -> bool:
    """Whether a file that begins so can be JSON: UTF-8 (the last character may be cut) without controls."""
    import codecs

    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(prefix)
    except UnicodeDecodeError:
        return False
    return all(character >= " " or character in "\t\n\r\f" for character in text)


def _check_manifest(path: str, data: bytes) -> tuple[list[str], str]:
    from appc.errors import InvalidManifest
    from appc.schema.image import ImageManifest
    from appc.schema.kind import IMAGE as IMAGE_KIND
    from appc.schema.kind import POD, Kind
    from appc.schema.pod import PodManifest

    try:
        kind = Kind.parse(data).ac_kind
    except InvalidManifest as error:
        raise Stop(f"{path}: error unmarshaling manifest: " + "; ".join(error.problems)) from None
    try:
        if kind == IMAGE_KIND:
            ImageManifest.parse(data)
        elif kind == POD:
            PodManifest.parse(data)
    except InvalidManifest as error:
        return [f"invalid {kind}: {problem}" for problem in error.problems], ""
    return [], str(kind)
