"""Names of images in registries, as users write them: ``busybox``, ``quay.io/a:1``, ``[::1]:5000/x@sha256:…``

The grammar is Docker's (distribution/reference). What it leaves to habit is decided here once: a first part
with a dot, a colon or brackets, and ``localhost``, is a registry; else the registry is Docker Hub, where a
single word lies below ``library/``.
"""

from __future__ import annotations

from appc.jsonfield import quoted
from linux.named_tuple import NamedTuple
from oci.types.digest import Digest

HUB = "docker.io"
#: Names under which Docker Hub is known, and the host that answers for it.
_HUB_NAMES = frozenset((HUB, "index.docker.io", "registry-1.docker.io", "registry.hub.docker.com"))
HUB_HOST = "registry-1.docker.io"
LATEST = "latest"

_LOWER = "abcdefghijklmnopqrstuvwxyz0123456789"
_TAG_FIRST = _LOWER + "ABCDEFGHIJKLMNOPQRSTUVWXYZ_"
_TAG = _TAG_FIRST + ".-"
_LONGEST_NAME, _LONGEST_TAG = 255, 128


class Reference(NamedTuple):
    """`registry` is a host with an optional port, ``docker.io`` for Docker Hub; `repository` a path in it.

    Of `tag` and `digest` both may be there: then the digest decides, and the tag is for people.
    """

    registry: str
    repository: str
    tag: str = ""
    digest: Digest | None = None
    #: What the user typed.
    original: str = ""

    @classmethod
    def parse(cls, text: str) -> Reference:
        """The reference in `text`, which may begin with ``docker://`` or rkt's ``docker:``. ValueError."""
        original = text.removeprefix("docker:").removeprefix("//") if text.startswith("docker:") else text
        rest, at, digest = original.partition("@")
        found = Digest(digest) if at else None
        host, slash, path = rest.partition("/")
        if not slash or not _is_host(host):
            host, path = HUB, rest
        name, _, tag = path.partition(":")
        if ":" in path and not tag:
            raise ValueError(f"{quoted(text)}: the tag is empty")
        if tag:
            check_tag(tag)
        registry = HUB if host.lower() in _HUB_NAMES else host
        if registry == HUB and "/" not in name:
            name = "library/" + name
        reference = cls(registry, name, tag, found, original)
        reference._check(text)
        return reference

    def _check(self, text: str) -> None:
        _check_host(self.registry, text)
        if len(self.name) > _LONGEST_NAME:
            raise ValueError(f"{quoted(text)}: the name is longer than {_LONGEST_NAME} characters")
        for part in self.repository.split("/"):
            if not _is_component(part):
                raise ValueError(
                    f"{quoted(text)} is no name of an image: {quoted(part)} is not made of lower-case "
                    "letters, digits and single separators"
                )
        bare = self.repository.removeprefix("library/")
        if self.registry == HUB and len(bare) == 64 and not bare.strip("0123456789abcdef"):
            raise ValueError(f"{quoted(text)} is the ID of an image, not its name")

    @property
    def host(self) -> str:
        """The host, with an optional port, that is asked for the image."""
        return HUB_HOST if self.registry == HUB else self.registry

    @property
    def name(self) -> str:
        """Registry and repository."""
        return f"{self.registry}/{self.repository}"

    @property
    def target(self) -> str:
        """What a registry is asked for: the digest, else the tag, else ``latest``."""
        return self.digest or self.tag or LATEST

    @property
    def shown_tag(self) -> str:
        """The tag; ``latest`` where neither tag nor digest is given, "" where only a digest is."""
        return self.tag or ("" if self.digest else LATEST)

    def pinned(self, digest: Digest) -> Reference:
        """The same image by this digest."""
        return self._replace(digest=digest)

    def __str__(self) -> str:
        """The whole name, which `parse` understands."""
        text = self.name
        if self.tag or not self.digest:
            text += ":" + (self.tag or LATEST)
        return text + (f"@{self.digest}" if self.digest else "")


def check_tag(tag: str) -> str:
    """`tag` if it is one: up to 128 letters, digits, ``_``, ``.``, ``-``, not beginning with the last two."""
    if len(tag) > _LONGEST_TAG or not tag or tag[0] not in _TAG_FIRST or tag.strip(_TAG):
        raise ValueError(f"{quoted(tag)} is no tag")
    return tag


def _is_host(text: str) -> bool:
    return "." in text or ":" in text or text.startswith("[") or text == "localhost" or text != text.lower()


def _check_host(host: str, text: str) -> None:
    """The host goes into an address: only what is a host there gets through."""
    if _is_ordinary(host):
        return
    from appc.http.url import parse

    try:
        url = parse(f"https://{host}/")
    except ValueError as error:
        raise ValueError(f"{quoted(text)}: the registry {error}") from None
    if host.lower() not in {url.authority, f"{url.authority}:443"}:  # also a user, a query, a fragment
        raise ValueError(f"{quoted(text)}: {quoted(host)} is no host name")


def _is_ordinary(host: str) -> bool:
    """Whether it is a name such as most registries have; for others the parser of addresses is loaded."""
    name, colon, port = host.partition(":")
    if colon and (not port or port.strip("0123456789") or len(port) > 5 or not 0 < int(port) < 65536):
        return False
    labels = name.split(".")
    ordinary = all(0 < len(label) < 64 and not label.strip(_LOWER + "-") for label in labels)
    return (
        ordinary
        and len(name) < 254
        and labels[-1][0] > "9"
        and not any(label[0] == "-" or label[-1] == "-" for label in labels)
    )


def _is_component(part: str) -> bool:
    """``[a-z0-9]+((\\.|_|__|-+)[a-z0-9]+)*``, written out: a regular expression costs 6 ms at the start."""
    if not part or part[0] not in _LOWER or part[-1] not in _LOWER or part.strip(_LOWER + "._-"):
        return False
    separators = "".join(c if c not in _LOWER else " " for c in part).split()
    return all(one in {".", "_", "__"} or not one.strip("-") for one in separators)
