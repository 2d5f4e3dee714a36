"""The types of the specification, each loaded when it is first asked for."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from appc.types.annotations import Annotation as Annotation
    from appc.types.annotations import Annotations as Annotations
    from appc.types.date import Date as Date
    from appc.types.environment import Environment as Environment
    from appc.types.environment import EnvironmentVariable as EnvironmentVariable
    from appc.types.image_id import ImageID as ImageID
    from appc.types.isolators import Isolator as Isolator
    from appc.types.isolators import Isolators as Isolators
    from appc.types.labels import Label as Label
    from appc.types.labels import Labels as Labels
    from appc.types.mounts import Mount as Mount
    from appc.types.mounts import MountPoint as MountPoint
    from appc.types.names import ACIdentifier as ACIdentifier
    from appc.types.names import ACName as ACName
    from appc.types.ports import ExposedPort as ExposedPort
    from appc.types.ports import Port as Port
    from appc.types.quantity import Quantity as Quantity
    from appc.types.semver import SemVer as SemVer
    from appc.types.url import URL as URL
    from appc.types.uuid import UUID as UUID
    from appc.types.volumes import Volume as Volume

_MODULES = {
    "ACIdentifier": "names",
    "ACName": "names",
    "Annotation": "annotations",
    "Annotations": "annotations",
    "Date": "date",
    "Environment": "environment",
    "EnvironmentVariable": "environment",
    "ExposedPort": "ports",
    "ImageID": "image_id",
    "Isolator": "isolators",
    "Isolators": "isolators",
    "Label": "labels",
    "Labels": "labels",
    "Mount": "mounts",
    "MountPoint": "mounts",
    "Port": "ports",
    "Quantity": "quantity",
    "SemVer": "semver",
    "URL": "url",
    "UUID": "uuid",
    "Volume": "volumes",
}


def __getattr__(name: str) -> object:
    """Load the module that holds the type `name` (PEP 562): a command pays for the types it uses."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = f"{__name__}.{_MODULES[name]}"
    return getattr(__import__(module, fromlist=[name]), name)
