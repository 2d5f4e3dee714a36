"""What every manifest starts with: ``acKind`` and ``acVersion``."""

from __future__ import annotations

from appc import jsonfield
from appc.errors import InvalidManifest
from appc.jsonfield import Fields, quoted, string
from appc.types.record import Record
from appc.types.semver import SemVer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    T = TypeVar("T")

IMAGE = "ImageManifest"
POD = "PodManifest"
#: The version of the specification that is implemented, and that manifests of ours name.
AC_VERSION = SemVer("0.8.11")


def ac_kind(value: object) -> str:
    """One of the two kinds; others have no meaning."""
    kind = string(value)
    if kind not in {IMAGE, POD}:
        raise ValueError(f"bad ACKind {quoted(kind)} (must be {IMAGE} or {POD})")
    return kind


def exactly(wanted: str) -> Callable[[object], str]:
    """The kind `wanted` and no other."""

    def check(value: object) -> str:
        if value != wanted:
            raise ValueError(f"bad ACKind {quoted(value)} (must be {wanted})")
        return wanted

    return check


def ac_version(value: object) -> SemVer:
    """A version of the specification, not newer than the one implemented (spec/types.md, "AC Version")."""
    version = SemVer.from_json(value)
    if version.precedence > AC_VERSION.precedence:
        raise ValueError(f"{version} is newer than {AC_VERSION}, the newest version that is supported")
    return version


class Kind(Record):
    """The kind of a manifest of which nothing else is known; `ac_version` may be missing."""

    ac_kind: str
    ac_version: SemVer | None = None

    @classmethod
    def from_json(cls, value: object) -> Kind:
        """Looks at these two members only."""
        fields = Fields(value)
        kind = fields.required("acKind", ac_kind)
        version = fields.optional("acVersion", SemVer.from_json, None)
        fields.finish()
        return cls(ac_kind=kind, ac_version=version)

    @classmethod
    def parse(cls, data: bytes) -> Kind:
        """The kind of the manifest in `data`; InvalidManifest if it has none."""
        return parsed("manifest", data, cls.from_json)

    def to_json(self) -> dict[str, object]:
        """The JSON form."""
        value: dict[str, object] = {"acKind": self.ac_kind}
        if self.ac_version is not None:
            value["acVersion"] = self.ac_version
        return value


def parsed(what: str, data: bytes, read: Callable[[object], T], *, limit: int = jsonfield.LIMIT) -> T:
    """`data` through the strict JSON reader and `read`; every problem ends up in one InvalidManifest."""
    try:
        return read(jsonfield.parse(data, limit=limit))
    except ValueError as error:
        raise InvalidManifest(what, jsonfield.reasons(error)) from None


def pruned(members: dict[str, object]) -> dict[str, object]:
    """`members` without those that are None or empty: the specification makes no difference."""
    return {name: value for name, value in members.items() if value is not None and value not in ("", [], {})}
