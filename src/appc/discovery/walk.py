"""The walk from an image's name up to its host, asking each page for its meta tags.

Two separate walks, as in the reference: one for endpoints, one for keys, each ending at the first page that
has what it looks for.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from appc.discovery import page, templates
from appc.errors import AppcError
from appc.http.errors import BadStatus, HttpError
from linux.named_tuple import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from typing import TypeVar

    from appc.discovery.page import Meta
    from appc.http.client import Client
    from appc.schema.image import ImageManifest

    T = TypeVar("T")

# Seconds for a whole walk: a host that does not answer must not cost a timeout for each part of a name.
DEADLINE = 25.0


class Attempt(NamedTuple):
    """A page that could not be had, and why."""

    prefix: str
    error: str


class Endpoints(NamedTuple):
    """What was found (empty: nothing), and the pages that failed on the way."""

    endpoints: tuple[templates.Endpoint, ...]
    attempts: tuple[Attempt, ...]


#: Hosts that have images of layers, and no pages.
_REGISTRIES = ("docker.io", "quay.io", "ghcr.io", "gcr.io", "registry.k8s.io", "mcr.microsoft.com")


class NothingFound(AppcError):
    """No page says where the image `name` is."""

    def __init__(self, name: str, attempts: Iterable[Attempt]) -> None:
        failed = "; ".join(f"{attempt.prefix}: {attempt.error}" for attempt in attempts)
        host = name.split("/")[0]
        if host in _REGISTRIES:
            hint = f"an image of a registry is docker://{name}"
        elif "." not in host and host != "localhost":
            hint = f"an image of Docker Hub is docker://{name}, a file is ./{name}, "
            hint += "and arguments of an app stand behind `--`"
        else:
            hint = "is the name spelt right? its page must have an ac-discovery tag for this os and arch"
        super().__init__(
            f'discovery failed for "{name}": no endpoints discovered' + (f" ({failed})" if failed else ""),
            hint=hint,
        )


class PublicKeys(NamedTuple):
    """Addresses of public keys (empty: none found), and the pages that failed on the way."""

    keys: tuple[str, ...]
    attempts: tuple[Attempt, ...]


def discover_endpoints(client: Client, name: str, labels: Mapping[str, str], *, port: int = 0) -> Endpoints:
    """Where the image `name` with `labels` is. A `port` other than 0 is asked instead of the scheme's."""

    def wanted(metas: list[Meta]) -> list[templates.Endpoint]:
        found = [
            templates.endpoint(meta.uri, name, labels)
            for meta in metas
            if meta.name == "ac-discovery" and name.startswith(meta.prefix)
        ]
        return [endpoint for endpoint in found if endpoint is not None]

    endpoints, attempts = _walk(client, name, port, wanted)
    return Endpoints(tuple(endpoints), tuple(attempts))


class PushEndpoints(NamedTuple):
    """Addresses at which a push begins (empty: none found), and the pages that failed on the way."""

    addresses: tuple[str, ...]
    attempts: tuple[Attempt, ...]


def discover_push_endpoints(
    client: Client, name: str, labels: Mapping[str, str], *, port: int = 0
) -> PushEndpoints:
    """Where the image `name` can be pushed to: the tag `ac-push-discovery` of appc/spec#418."""

    def wanted(metas: list[Meta]) -> list[str]:
        found = [
            templates.filled(meta.uri, name, labels, "aci")
            for meta in metas
            if meta.name == "ac-push-discovery" and name.startswith(meta.prefix)
        ]
        return [address for address in found if address]

    addresses, attempts = _walk(client, name, port, wanted)
    return PushEndpoints(tuple(addresses), tuple(attempts))


def discover_public_keys(client: Client, name: str, *, port: int = 0) -> PublicKeys:
    """Where the public keys for `name` are."""

    def wanted(metas: list[Meta]) -> list[str]:
        return [
            meta.uri for meta in metas if meta.name == "ac-discovery-pubkeys" and name.startswith(meta.prefix)
        ]

    keys, attempts = _walk(client, name, port, wanted)
    return PublicKeys(tuple(keys), tuple(attempts))


def _walk(
    client: Client, name: str, port: int, wanted: Callable[[list[Meta]], list[T]]
) -> tuple[list[T], list[Attempt]]:
    until = time.monotonic() + DEADLINE
    attempts: list[Attempt] = []
    for prefix in prefixes(name):
        try:
            text = _page(client, prefix, port, until)
        except HttpError as error:
            attempts.append(Attempt(prefix, _told(error)))
            continue
        if found := wanted(page.metas(text)):
            return found, attempts
    return [], attempts


def prefixes(name: str) -> Iterator[str]:
    """`name`, its parent, and so on to its host."""
    while name:
        yield name
        name = name.rpartition("/")[0]


def _page(client: Client, prefix: str, port: int, until: float) -> bytes:
    """The page of `prefix`: by https, and if that fails and the user allows it, by http."""
    host, slash, path = prefix.partition("/")
    where = (f"{host}:{port}" if port else host) + slash + path
    try:
        return client.document(f"https://{where}?ac-discovery=1", limit=page.LIMIT, until=until)
    except HttpError:
        if not client.insecure_http:
            raise
    return client.document(f"http://{where}?ac-discovery=1", limit=page.LIMIT, until=until)


def _told(error: HttpError) -> str:
    if isinstance(error, BadStatus):
        return f"expected a 200 OK got {error.status}"
    return str(error)


class WrongImage(AppcError):
    """What was downloaded is not the image that was asked for."""


def check(manifest: ImageManifest, name: str, labels: Mapping[str, str]) -> None:
    """WrongImage unless `manifest` has the name and every label that discovery was asked for.

    Labels beyond these are fine. This must be done after each download: the address proves nothing.
    """
    if manifest.name != name:
        raise WrongImage(f'error when reading the app name: "{name}" expected but "{manifest.name}" found')
    for label, value in labels.items():
        has = manifest.labels.get(label)
        if has is None:
            raise WrongImage(f'requested label "{label}" not provided by the image manifest')
        if has != value:
            raise WrongImage(
                f'requested value for label "{label}": "{value}" '
                f'differs from fetched aci label value: "{has}"'
            )
