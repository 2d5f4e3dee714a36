"""What a published image is called: name, version, platform, and the file names made of them.

Image and signature of ``example.com/tools/app`` are ``app-VERSION-OS-ARCH.aci`` and ``….aci.asc`` in the
directory ``example.com/tools/app``, as acserver keeps them.
"""

from __future__ import annotations

import re

from appc.errors import AppcError
from appc.jsonfield import quoted
from appc.types.names import ACIdentifier
from linux.named_tuple import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from appc.schema.image import ImageManifest

#: The version that clients ask for who want none in particular.
LATEST = "latest"
LABELS = ("version", "os", "arch")
# A template's values go into an address as they are, so a version holds only what is itself there.
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._~+-]{0,126}")
# Without a dash, so that a file name can be taken apart again.
_PLATFORM = re.compile(r"[a-z0-9_]{1,32}")
_FILE = re.compile(r"-(?P<version>.+)-(?P<os>[a-z0-9_]{1,32})-(?P<arch>[a-z0-9_]{1,32})\.aci")
_GREATEST = 2**63 - 1


class Unpublishable(AppcError):
    """An image that has no place among published ones."""


class Release(NamedTuple):
    """One published image: the latest upload of this version for this platform."""

    name: str
    version: str
    os: str
    arch: str

    @property
    def app(self) -> str:
        """The last part of the name."""
        return self.name.rpartition("/")[2]

    @property
    def key(self) -> str:
        """What tells this release from others of the same name."""
        return f"{self.version}-{self.os}-{self.arch}"

    @property
    def file(self) -> str:
        """The image's file name; the signature's has ``.asc`` behind it."""
        return f"{self.app}-{self.key}.aci"

    @property
    def path(self) -> str:
        """The image's path below the root."""
        return f"{self.name}/{self.file}"


def of_manifest(manifest: ImageManifest) -> Release:
    """The release that `manifest` describes. Unpublishable if a label is missing, or unfit for an address."""
    problem = unfit_name(manifest.name)
    if problem:
        raise Unpublishable(f"{manifest.name}: {problem}")
    values = []
    for label in LABELS:
        value = manifest.labels.get(label)
        if value is None:
            raise Unpublishable(
                f"{manifest.name}: {label} not found in the image's manifest",
                hint=f"give the image the label {label}, as in `acbuild label add {label} …`",
            )
        if not (_VERSION if label == "version" else _PLATFORM).fullmatch(value):
            raise Unpublishable(
                f"{manifest.name}: the {label} {quoted(value)} cannot be part of an address",
                hint="use letters, digits and ._~+-" if label == "version" else "use a-z, 0-9 and _",
            )
        values.append(value)
    return Release(str(manifest.name), *values)


def unfit_name(name: str) -> str:
    """Why an image of this name cannot be published; empty when it can."""
    try:
        ACIdentifier(name)
    except ValueError as error:
        return str(error)
    for part in name.split("/"):
        if len(part) > 200:
            return "a part of the name is longer than 200 characters"
        if part.endswith((".aci", ".asc")) or part in {"index.html", "pubkeys.gpg"}:
            return f"{part} is the name of a file, on the server too"
    return ""


def from_file(name: str, file: str) -> Release | None:
    """The release of the image `name` that the file name stands for; None if for none."""
    app = name.rpartition("/")[2]
    found = _FILE.fullmatch(file, len(app)) if file.startswith(app) else None
    if found is None or not _VERSION.fullmatch(found["version"]):
        return None
    return Release(name, found["version"], found["os"], found["arch"])


def compare_versions(left: str, right: str) -> int:
    """-1, 0 or 1: numbers parted by dots, then what follows the first dash, byte by byte.

    What is missing, or no number, counts as 0; no suffix comes before any (appc.md 2.5).
    """
    numbers, suffix = _parts(left)
    others, other_suffix = _parts(right)
    length = max(len(numbers), len(others))
    first = numbers + [0] * (length - len(numbers)), suffix
    second = others + [0] * (length - len(others)), other_suffix
    return (first > second) - (first < second)


def _parts(version: str) -> tuple[list[int], bytes]:
    head, _, suffix = version.partition("-")
    return [_number(text) for text in head.split(".")], suffix.encode()


def _number(text: str) -> int:
    if not re.fullmatch(r"[+-]?[0-9]{1,4096}", text):
        return 0
    return max(-_GREATEST - 1, min(int(text) if len(text) < 25 else _GREATEST, _GREATEST))


def newest(versions: list[str]) -> str:
    """The highest of `versions`; of equal ones always the same."""
    from functools import cmp_to_key

    return max(sorted(versions), key=cmp_to_key(compare_versions))
