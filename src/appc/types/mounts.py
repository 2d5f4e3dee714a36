"""Mount points of an app, and mounts that a pod puts there (spec/aci.md, spec/pods.md)."""

from __future__ import annotations

from appc import query
from appc.jsonfield import Fields, boolean, nonempty, quoted
from appc.types.names import ACName
from appc.types.record import Record
from appc.types.volumes import Volume


def mount_path(value: object) -> str:
    """A path inside the app on which something may be mounted; a relative one starts at the root.

    The root itself and everything in /proc are refused: what lies there decides about confinement
    (CVE-2019-16884, CVE-2023-28642).
    """
    path = nonempty(value)
    if (target := cleaned(path)) == "/" or target == "/proc" or target.startswith("/proc/"):
        raise ValueError(f"{quoted(path)}: nothing may be mounted over {target}")
    return path


def cleaned(path: str) -> str:
    """`path` from the root of the app, without ``.``, ``..``, doubled or last slashes. Looks at no file."""
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in {"", "."}:
            parts.append(part)
    return "/" + "/".join(parts)


class MountPoint(Record):
    """A place in the image on which a pod may mount a volume."""

    name: ACName
    path: str
    read_only: bool = False

    @classmethod
    def from_json(cls, value: object) -> MountPoint:
        """Name and path are required."""
        fields = Fields(value)
        name = fields.required("name", ACName)
        path = fields.required("path", mount_path)
        read_only = fields.optional("readOnly", boolean, default=False)
        fields.finish()
        return cls(name=name, path=path, read_only=read_only)

    @classmethod
    def from_string(cls, text: str) -> MountPoint:
        """``NAME,path=/p[,readOnly=BOOL]``."""
        values = query.unique_pairs("name=" + text)
        if unknown := [key for key in values if key not in {"name", "path", "readOnly"}]:
            raise ValueError(f"unknown mountpoint parameter {quoted(unknown[0])}")
        name = ACName(values["name"])
        if not values.get("path"):
            raise ValueError(f"mount point {name}: the path must be set")
        return cls(
            name=name,
            path=nonempty(values["path"]),
            read_only=query.boolean(values.get("readOnly", "false")),
        )

    def to_json(self) -> dict[str, object]:
        """The JSON form; ``readOnly`` only where it is true."""
        value: dict[str, object] = {"name": self.name, "path": self.path}
        if self.read_only:
            value["readOnly"] = True
        return value


class Mount(Record):
    """A volume of the pod at a path of one app. `app_volume` replaces the look-up of the volume's name."""

    volume: ACName
    path: str
    app_volume: Volume | None = None

    @classmethod
    def from_json(cls, value: object) -> Mount:
        """Volume and path are required."""
        fields = Fields(value)
        volume = fields.required("volume", ACName)
        path = fields.required("path", mount_path)
        app_volume = fields.optional("appVolume", Volume.from_json, None)
        fields.finish()
        return cls(volume=volume, path=path, app_volume=app_volume)

    def to_json(self) -> dict[str, object]:
        """The JSON form."""
        value: dict[str, object] = {"volume": self.volume, "path": self.path}
        if self.app_volume is not None:
            value["appVolume"] = self.app_volume.to_json()
        return value
