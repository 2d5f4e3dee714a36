"""The kinds `paths` (`paths.d`), `stage1` (`stage1.d`), `pods` (`pods.d`) and `images` (`images.d`).

Those of registries are in `registries`.
"""

from __future__ import annotations

from appc.settings.files import ConfigError, read, text
from linux.named_tuple import NamedTuple

_SCHEMES = ("docker", "file", "http", "https")


class Paths(NamedTuple):
    """Absolute paths, empty where nothing is configured: the data directory, that of stage1 images."""

    data: str = ""
    stage1_images: str = ""


class Stage1(NamedTuple):
    """The default stage1: its image's name and version (both or neither), and where it is to be had."""

    name: str = ""
    version: str = ""
    location: str = ""


def read_paths(config: str) -> Paths:
    """`paths.d` of one configuration directory. Each path may be given once."""
    found = {"data": "", "stage1-images": ""}
    for path, _, content in read(f"{config}/paths.d", ("paths",)):
        for name in found:
            value = text(path, content, name)
            if not value:
                continue
            if found[name]:
                raise ConfigError(path, f"the path {name!r} is already specified")
            if not value.startswith("/"):
                raise ConfigError(path, f"the path {name!r} is not absolute: {value!r}")
            found[name] = value
    return Paths(found["data"], found["stage1-images"])


def read_stage1(config: str) -> Stage1:
    """`stage1.d` of one configuration directory. Name with version, and location, may be given once each."""
    found = Stage1()
    for path, _, content in read(f"{config}/stage1.d", ("stage1",)):
        name, version, location = (text(path, content, key) for key in ("name", "version", "location"))
        if version and not name:
            raise ConfigError(path, "default stage1 image version specified, but name is missing")
        if name and not version:
            raise ConfigError(path, "default stage1 image name specified, but version is missing")
        if name:
            if found.name:
                raise ConfigError(path, "name and version of a default stage1 image are already specified")
            found = found._replace(name=name, version=version)
        if location:
            if found.location:
                raise ConfigError(path, "location of a default stage1 image is already specified")
            found = found._replace(location=_location(path, location))
    return found


def read_private_users(config: str) -> bool | None:
    """`privateUsers` of `pods.d`: whether pods get user namespaces where they can; None if unsaid."""
    found: bool | None = None
    for path, _, content in read(f"{config}/pods.d", ("pods",)):
        value = content.get("privateUsers")
        if value is None:
            continue
        if not isinstance(value, bool):
            raise ConfigError(path, "privateUsers is neither true nor false")
        if found is not None:
            raise ConfigError(path, "privateUsers is already specified")
        found = value
    return found


def read_image_limits(config: str) -> dict[str, int]:
    """`limits` of `images.d`: what an image may take of the host, by name. Each may be given once."""
    found: dict[str, int] = {}
    for path, _, content in read(f"{config}/images.d", ("images",)):
        from appc.aci.limits import DEFAULT, changed

        limits = content.get("limits") or {}
        if not isinstance(limits, dict):
            raise ConfigError(path, "limits is not an object")
        for name, value in limits.items():
            if name in found:
                raise ConfigError(path, f"the limit {name!r} is already specified")
            try:
                found[name] = getattr(changed(DEFAULT, name, value), name)
            except ValueError as error:
                raise ConfigError(path, f"limits: {error}") from None
    return found


def _location(path: str, location: str) -> str:
    if location.startswith("/"):
        return location
    scheme, separator, _ = location.partition(":")
    if not separator or "/" in scheme:
        raise ConfigError(
            path, "default stage1 image location is either a relative path or a URL without scheme"
        )
    if scheme not in _SCHEMES:
        raise ConfigError(
            path,
            f'default stage1 image location URL has invalid scheme "{scheme}"',
            hint=f"allowed are an absolute path and the schemes {', '.join(_SCHEMES)}",
        )
    return location
