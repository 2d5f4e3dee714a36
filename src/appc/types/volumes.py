"""Volumes of a pod (spec/pods.md): a directory of the host, or an empty one that goes with the pod."""

from __future__ import annotations

from appc import query
from appc.jsonfield import Fields, Problems, between, boolean, quoted, string
from appc.types.names import ACName
from appc.types.record import Record

EMPTY = "empty"
HOST = "host"
DEFAULT_MODE = "0755"
#: The highest user or group ID; the one above it means "unchanged" to chown(2).
HIGHEST_ID = 2**32 - 2


class Volume(Record):
    """A volume. `source` belongs to kind ``host``; `mode`, `uid` and `gid` to kind ``empty``.

    `read_only` and `recursive` are None where nothing was said: then a volume is writable, and brings the
    mounts below its source along.
    """

    name: ACName
    kind: str
    source: str | None = None
    read_only: bool | None = None
    recursive: bool | None = None
    mode: str | None = None
    uid: int | None = None
    gid: int | None = None

    @classmethod
    def empty(cls, name: ACName, *, mode: str = DEFAULT_MODE, uid: int = 0, gid: int = 0) -> Volume:
        """An empty volume."""
        return cls(name=name, kind=EMPTY, mode=mode, uid=uid, gid=gid)

    @classmethod
    def from_json(cls, value: object) -> Volume:
        """Members that do not belong to the kind are refused, as by the reference."""
        fields = Fields(value)
        name = fields.required("name", ACName)
        kind = fields.required("kind", _kind)
        source = fields.optional("source", string, "") or None
        read_only = fields.optional("readOnly", boolean, None)
        recursive = fields.optional("recursive", boolean, None)
        mode = fields.optional("mode", permissions, None)
        uid = fields.optional("uid", between(0, HIGHEST_ID), None)
        gid = fields.optional("gid", between(0, HIGHEST_ID), None)
        fields.finish()
        return cls._checked(
            name, kind, source, read_only=read_only, recursive=recursive, mode=mode, uid=uid, gid=gid
        )

    @classmethod
    def from_string(cls, text: str) -> Volume:
        """``NAME,kind=host,source=/p[,readOnly=BOOL][,recursive=BOOL]`` or
        ``NAME,kind=empty[,mode=0755][,uid=N][,gid=N]``.
        """  # fmt: skip
        values = query.unique_pairs("name=" + text)
        if unknown := [key for key in values if key not in _PARAMETERS]:
            raise ValueError(f"unknown volume parameter {quoted(unknown[0])}")
        read_only, recursive, mode, uid, gid = (
            values.get(key) for key in ("readOnly", "recursive", "mode", "uid", "gid")
        )
        try:
            return cls._checked(
                ACName(values["name"]),
                _kind(values.get("kind", "")),
                values.get("source") or None,
                read_only=None if read_only is None else query.boolean(read_only),
                recursive=None if recursive is None else query.boolean(recursive),
                mode=None if mode is None else permissions(mode),
                uid=None if uid is None else query.number(uid),
                gid=None if gid is None else query.number(gid),
            )
        except Problems as error:
            raise ValueError(f"volume {quoted(values['name'])}: {error}") from None

    @classmethod
    def _checked(
        cls,
        name: ACName,
        kind: str,
        source: str | None,
        *,
        read_only: bool | None,
        recursive: bool | None,
        mode: str | None,
        uid: int | None,
        gid: int | None,
    ) -> Volume:
        problems: list[tuple[str, str]] = []
        if kind == EMPTY:
            if source is not None:
                problems.append(("source", "an empty volume has none"))
            mode, uid, gid = mode or DEFAULT_MODE, uid or 0, gid or 0
        else:
            if source is None:
                problems.append(("source", "is required for a host volume"))
            elif not source.startswith("/"):
                problems.append(("source", f"{quoted(source)} is not an absolute path"))
            given = {"mode": mode, "uid": uid, "gid": gid}
            problems += [
                (key, "a host volume has none") for key, member in given.items() if member is not None
            ]
        if problems:
            raise Problems(problems)
        return cls(
            name=name,
            kind=kind,
            source=source,
            read_only=read_only,
            recursive=recursive,
            mode=mode,
            uid=uid,
            gid=gid,
        )

    def to_json(self) -> dict[str, object]:
        """The JSON form: what was not said is left out."""
        members = {
            "name": self.name,
            "kind": self.kind,
            "source": self.source,
            "readOnly": self.read_only,
            "recursive": self.recursive,
            "mode": self.mode,
            "uid": self.uid,
            "gid": self.gid,
        }
        return {key: value for key, value in members.items() if value is not None}

    def __str__(self) -> str:
        """The string form: mode, uid and gid only where they are not the default."""
        text = f"{self.name},kind={self.kind}"
        if self.source is not None:
            text += f",source={self.source}"
        for key, flag in (("readOnly", self.read_only), ("recursive", self.recursive)):
            if flag is not None:
                text += f",{key}={'true' if flag else 'false'}"
        if self.mode not in {None, DEFAULT_MODE}:
            text += f",mode={self.mode}"
        for key, number in (("uid", self.uid), ("gid", self.gid)):
            if number:
                text += f",{key}={number}"
        return text


_PARAMETERS = ("name", "kind", "source", "readOnly", "recursive", "mode", "uid", "gid")


def permissions(value: object) -> str:
    """Octal digits up to 7777."""
    text = string(value)
    if not 1 <= len(text) <= 5 or text.strip("01234567") or int(text, 8) > 0o7777:
        raise ValueError(f"{quoted(text)} is not an octal mode such as 0755")
    return text


def _kind(value: object) -> str:
    kind = string(value)
    if kind not in {EMPTY, HOST}:
        raise ValueError(f"{quoted(kind)} is no kind of volume (must be empty or host)")
    return kind
