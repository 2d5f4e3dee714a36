"""Downloading an image that discovery finds, and checking that it is what was asked for."""

from __future__ import annotations

import os

from acbuild.errors import AcbuildError
from appc.discovery import walk
from appc.http.client import Client
from appc.http.errors import HttpError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from acbuild.fetch.stores import Stores
    from appc.discovery.templates import Endpoint
    from appc.openpgp import PublicKey
    from appc.schema.image import Dependency, ImageManifest
    from appc.types.image_id import ImageID

#: Bytes of a download when nothing better is known.
IMAGE_LIMIT = 16 << 30


def download(
    stores: Stores,
    name: str,
    labels: Mapping[str, str],
    wanted: Dependency | None,
    say: Callable[[str], None],
) -> ImageID:
    """Have the image `name` with these labels in acbuild's cache; its ID.

    Unless the stores are insecure, the signature must be by a key that rkt trusts for the name.
    """
    from appc.http.certificates import Certificates
    from appc.settings.auth import load

    if stores.insecure:
        say(f"warning: {name}: its signature is not checked")
    certificates = Certificates.of(stores.config)
    with Client(
        load(stores.config), certificates=certificates, insecure_http=stores.insecure, agent="acbuild"
    ) as client:
        endpoint = _endpoint(client, name, labels)
        try:
            return _fetch(client, stores, endpoint, name, labels, wanted, say)
        except HttpError as error:
            raise AcbuildError(f"{name}: error downloading the image: {error}", hint=error.hint) from error


def _endpoint(client: Client, name: str, labels: Mapping[str, str]) -> Endpoint:
    from appc.http.url import parse
    from appc.types import platforms

    host_os, host_arch = platforms.of_host()
    found = walk.discover_endpoints(client, name, {"os": host_os, "arch": host_arch, **labels})
    for endpoint in found.endpoints:
        try:
            url = parse(endpoint.aci)
        except ValueError:
            continue
        if not url.userinfo and (url.scheme == "https" or client.insecure_http):
            return endpoint
    raise walk.NothingFound(name, found.attempts)


def _fetch(
    client: Client,
    stores: Stores,
    endpoint: Endpoint,
    name: str,
    labels: Mapping[str, str],
    wanted: Dependency | None,
    say: Callable[[str], None],
) -> ImageID:
    from appc import signature
    from appc.http.download import Download
    from appc.keystore import KeyStore
    from appc.openpgp import SIGNATURE_LIMIT
    from linux.files import anonymous_file

    keys: list[PublicKey] = []
    made = None
    if not stores.insecure:
        keys = [trusted.key for trusted in KeyStore(*stores.config).trusted(name)]
        made = signature.read(client.document(endpoint.asc, limit=SIGNATURE_LIMIT))
        try:
            signature.candidates(made, keys)
        except signature.UnknownSigner as error:
            error.hint = f"to trust the key {error.key_id}, run `rkt trust --prefix={name} KEYFILE`"
            raise

    def check(manifest: ImageManifest, image_id: ImageID) -> None:
        walk.check(manifest, name, labels)
        if wanted is not None and wanted.image_id not in {None, image_id}:
            raise AcbuildError(f"{name}: is {image_id.short}, but the dependency is on {wanted.image_id}")

    limit = min(IMAGE_LIMIT, wanted.size) if wanted is not None and wanted.size else IMAGE_LIMIT
    os.makedirs(f"{stores.own}/cas/tmp", 0o700, exist_ok=True)
    say(f"downloading {name}")
    fd = anonymous_file(f"{stores.own}/cas/tmp")
    with os.fdopen(fd, "w+b") as file:
        Download(client, endpoint.aci, fd, limit=limit).run()
        if made is not None:
            signature.verify(fd, made, keys)
        os.lseek(fd, 0, os.SEEK_SET)
        return stores.add(file, check)
