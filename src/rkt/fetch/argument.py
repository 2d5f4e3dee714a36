"""What an image argument means: an ID in the store, a file, an address, a name, an image of layers.

The order of the rules is rkt's, so that every argument means what it meant there.
"""

from __future__ import annotations

import os

from linux.named_tuple import NamedTuple
from rkt.errors import RktError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

HASH, FILE, URL, NAME, DOCKER = "hash", "file", "url", "name", "docker"
OCI, DOCKER_ARCHIVE = "oci", "docker-archive"
#: Skopeo's and podman's spellings of images in files; what is there tells directory from archive.
_FILES = {"oci": OCI, "oci-archive": OCI, "dir": OCI, "docker-archive": DOCKER_ARCHIVE}


class Source(NamedTuple):
    """An argument, understood. `text` is what was typed.

    `value` is the beginning of an ID, a path, an address, an image's name, or a Docker reference; `labels`
    belong to a name. Of a layout or docker archive `inside` says which image of it ("" for the only one), and
    `digest` what it must be.
    """

    kind: str
    text: str
    value: str
    labels: Mapping[str, str] | None = None
    inside: str = ""
    digest: str = ""


def parse(text: str) -> Source:
    """What `text` means. RktError for what cannot mean anything; whether it exists is not looked at."""
    if text.startswith("sha512-") and text[7:] and not text[7:].strip("0123456789abcdefABCDEF"):
        return Source(HASH, text, text)
    scheme = _scheme(text)
    if scheme == "docker":
        return Source(DOCKER, text, text.removeprefix("docker:").removeprefix("//"))
    if scheme in {"http", "https", "file"}:
        return _archive(text, text, scheme)
    if scheme == "cimd":
        return _cimd(text)
    if scheme in _FILES and (found := _image_file(text, scheme)) is not None:
        return found
    if not scheme and _is_path(text):
        return Source(FILE, text, text)
    if scheme and text[len(scheme) :].startswith("://"):
        raise RktError(
            f"{text}: images cannot be fetched by {scheme}",
            hint="use https, http, file, docker, oci or docker-archive",
        )
    return _name(text, text)


def _scheme(text: str) -> str:
    """The scheme as Go's url.Parse finds it; lower-case."""
    scheme, colon, _ = text.partition(":")
    letters = scheme.replace("+", "").replace("-", "").replace(".", "")
    if colon and scheme[:1].isascii() and scheme[:1].isalpha() and letters.isascii() and letters.isalnum():
        return scheme.lower()
    return ""


def _is_path(text: str) -> bool:
    """Without a scheme: whether it is a path and no name. A colon is for the version of a name."""
    if text.startswith("/") or os.path.exists(text):
        return True
    return ":" not in text and ("./" in text or text.endswith(".aci"))


def _image_file(text: str, scheme: str) -> Source | None:
    """``oci:PATH[:NAME][@DIGEST]``; None for what may be a version of an image called ``oci``."""
    rest = text[len(scheme) + 1 :]
    rest, at, digest = rest.partition("@sha")
    digest = "sha" + digest if at else ""
    path = rest
    while path and not os.path.exists(path) and ":" in path:
        path = path.rpartition(":")[0]
    if not os.path.exists(path):
        path, colon, _ = rest.partition(":")
        if not colon and "/" not in path and not path.startswith(".") and not path.endswith(".tar"):
            return None
    return Source(_FILES[scheme], text, path, inside=rest[len(path) + 1 :], digest=digest)


def _archive(text: str, address: str, scheme: str) -> Source:
    path = address.partition("?")[0].partition("#")[0]
    if not path.endswith(".aci"):
        raise RktError(f"{text}: the address of an image must end in .aci")
    if scheme != "file":
        return Source(URL, text, address)
    from urllib.parse import unquote

    host, slash, rest = address[len("file:") :].removeprefix("//").partition("/")
    if host not in {"", "localhost"} or not slash:
        raise RktError(f"{text}: the address of a file must be file:// and an absolute path")
    return Source(FILE, text, unquote("/" + rest))


def _name(text: str, name: str) -> Source:
    from appc import app_string

    try:
        parsed, labels = app_string.parse(name)
    except ValueError as error:
        raise RktError(
            f"{text}: {error}",
            hint="give the name of an image, a file (with / or ./ in front), or an address ending in .aci",
        ) from None
    return Source(NAME, text, str(parsed), labels)


def _cimd(text: str) -> Source:
    """rkt's internal spelling, `cimd:TYPE:v=0:DATA`, which its output and old scripts hold."""
    from urllib.parse import parse_qsl, unquote

    parts = text.split(":", 3)
    if len(parts) != 4 or parts[2] != "v=0":
        raise RktError(f"{text}: not of the form cimd:TYPE:v=0:DATA")
    kind, data = parts[1], parts[3]
    if kind == "aci-archive":
        address = unquote(data)
        if (scheme := _scheme(address)) in {"http", "https", "file"}:
            return _archive(text, address, scheme)
    elif kind == "appc":
        name, _, query = data.partition("?")
        labels = "".join(f",{label}={value}" for label, value in parse_qsl(query, keep_blank_values=True))
        return _name(text, unquote(name) + labels)
    elif kind == "docker":
        return Source(DOCKER, text, unquote(data))
    raise RktError(f"{text}: a distribution of kind {kind!r} is not known")
