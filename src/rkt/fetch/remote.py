"""Images from files, addresses and names: download, check, verify, and only then into the store.

The order for a verified image is: keys, signature, early check of who claims to have signed, image, signature
over the very bytes that the store then reads, name and labels against the manifest.
"""

from __future__ import annotations

import os
import time

from appc.http.errors import BadStatus, HttpError
from rkt.errors import RktError
from rkt.fetch.partial import Partial
from rkt.fetch.trusted import Verifier

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from appc.http.client import Client
    from appc.http.download import Downloaded
    from appc.openpgp import Signature
    from appc.schema.image import Dependency, ImageManifest
    from appc.types.image_id import ImageID
    from rkt.fetch.messages import Messages
    from rkt.settings import GlobalOptions
    from rkt.store import Store
    from rkt.store.index import Remote as Known

    Check = Callable[[ImageManifest], None]

# Bytes of a download when nothing better is known.
IMAGE_LIMIT = 16 << 30


class Remote:
    """What reaches out of the store, for one command."""

    def __init__(self, settings: GlobalOptions, store: Store, messages: Messages) -> None:
        self._settings = settings
        self._store = store
        self._messages = messages
        self._verifier = Verifier(settings, messages)
        self._http: Client | None = None
        self._started = time.time()

    def close(self) -> None:
        if self._http is not None:
            self._http.close()

    def _client(self) -> Client:
        if self._http is None:
            self._http = web_client(self._settings)
        return self._http

    # --- files

    def file(self, path: str, signature: str | None) -> ImageID:
        """The image in the file `path`, with the signature beside it or in the file `signature`."""
        self._verifier.warn()
        source = _open_regular(path, "error opening ACI file")
        try:
            if not self._verifier.needed:
                return self._import(source, [])
            made = self._verifier.read(_read_signature(signature or signature_path(path)))
            self._verifier.check_signer(made, None)
            copy = self._own_copy(source)
        finally:
            os.close(source)
        try:
            return self._import(copy, [self._verifier.verify(copy, made, None)])
        finally:
            os.close(copy)

    def _own_copy(self, source: int) -> int:
        """A file's bytes in a nameless file of ours: its owner cannot change what was verified."""
        from linux.files import anonymous_file

        copy = anonymous_file(self._store.temporary_path)
        try:
            _copy(source, copy)
        except BaseException:
            os.close(copy)
            raise
        return copy

    # --- addresses

    def url(self, address: str, signature: str | None) -> ImageID:
        """The image at `address`, with the signature at the same place or in the file `signature`."""
        known = self._store.remote(_public(address))
        if (fresh := self._fresh(address, known)) is not None:
            return fresh
        self._verifier.warn()
        return self._download(address, signature_path(address), signature, known=known)

    def _fresh(self, address: str, known: Known | None) -> ImageID | None:
        from appc.http.caching import is_fresh

        if known is None or not is_fresh(known.download_time, known.cache_max_age, time.time()):
            return None
        if self._verifier.needed and not known.sig_url:
            return None  # it was fetched without its signature having been looked at
        self._messages.detail(f"image for {_public(address)} isn't expired, not fetching.")
        return self._store.resolve(known.image_id)

    # --- names

    def name(
        self, name: str, labels: Mapping[str, str], signature: str | None, wanted: Dependency | None
    ) -> ImageID:
        """The image of that name with these labels, found by discovery."""
        from appc.discovery import walk
        from appc.types import platforms

        self._messages.detail(f"searching for app image {name}")
        host_os, host_arch = platforms.of_host()
        asked = {"arch": host_arch, "os": host_os, **labels}
        found = walk.discover_endpoints(self._client(), name, asked)
        for attempt in found.attempts:
            self._messages.detail(f"meta tag 'ac-discovery' not found on {attempt.prefix}: {attempt.error}")
        endpoint = next((e for e in found.endpoints if self._is_usable(e.aci)), None)
        if endpoint is None:
            raise walk.NothingFound(name, found.attempts)
        self._messages.detail(f'remote fetching from URL "{_public(endpoint.aci)}"')
        known = self._store.remote(_public(endpoint.aci))

        def check(manifest: ImageManifest) -> None:
            walk.check(manifest, name, labels)
            if wanted is not None:
                _check_platform(manifest)

        known = known if known is not None and self._is_the_image(known, check, wanted) else None
        if (fresh := self._fresh(endpoint.aci, known)) is not None:
            return fresh
        self._verifier.warn()
        if self._verifier.needed:
            self._verifier.find_keys(name)
        return self._download(
            endpoint.aci,
            endpoint.asc,
            signature,
            known=known,
            name=name,
            check=check,
            latest=not labels.get("version"),
            wanted=wanted,
        )

    def _is_usable(self, address: str) -> bool:
        """Whether we would go to an address that a page offers. A user name in it cannot be our user's."""
        from appc.http.url import parse

        try:
            url = parse(address)
        except ValueError:
            return False
        return not url.userinfo and (url.scheme == "https" or self._client().insecure_http)

    def _is_the_image(self, known: Known, check: Check, wanted: Dependency | None) -> bool:
        """Whether what an address gave earlier is what is asked for now."""
        from appc.errors import AppcError

        if wanted is not None and wanted.image_id not in {None, known.image_id}:
            return False
        try:
            check(self._store.manifest(known.image_id))
        except (AppcError, RktError):
            return False
        return True

    # --- downloads

    def _download(
        self,
        address: str,
        signature_address: str,
        signature_file: str | None,
        *,
        known: Known | None,
        name: str | None = None,
        check: Check | None = None,
        latest: bool = False,
        wanted: Dependency | None = None,
    ) -> ImageID:
        from rkt.store.index import Remote as Known

        made: Signature | None = None
        deferred = False
        if self._verifier.needed:
            data = self._signature(signature_address, signature_file)
            deferred = data is None
            if data is not None:
                made = self._verifier.read(data)
                self._verifier.check_signer(made, name)
            if known is not None and not known.sig_url:
                known = None  # never verified: it has to come again, with its signature
        with Partial(self._store.temporary_path, _public(address)) as partial:
            if (other := self._by_another(address)) is not None:
                return other
            self._messages.detail(f"fetching image from {_public(address)}")
            done = self._receive(partial, address, known, wanted)
            remote = Known(
                aci_url=_public(address),
                sig_url=signature_file or _public(signature_address) if self._verifier.needed else "",
                etag=done.etag,
                image_id="",
                cache_max_age=done.max_age,
                download_time=time.time(),
            )
            if done.not_modified and known is not None:
                self._store.put_remote(
                    remote._replace(
                        image_id=known.image_id, sig_url=known.sig_url, etag=done.etag or known.etag
                    )
                )
                return self._store.resolve(known.image_id)
            try:
                if deferred:
                    made = self._deferred_signature(signature_address)
                checks = [check] if check is not None else []
                if made is not None:
                    checks.append(self._verifier.verify(partial.fd, made, name))
                elif self._verifier.needed:
                    raise RktError("no signature was downloaded")
                return self._import(partial.fd, checks, latest=latest, remote=remote, wanted=wanted)
            finally:
                partial.discard()  # used up, or refused: a second attempt must not begin with these bytes

    def _by_another(self, address: str) -> ImageID | None:
        """What another process has fetched from this address since this command began."""
        known = self._store.remote(_public(address))
        if known is None or known.download_time < self._started:
            return None
        if self._verifier.needed and not known.sig_url:
            return None
        return self._store.resolve(known.image_id)

    def _receive(
        self, partial: Partial, address: str, known: Known | None, wanted: Dependency | None
    ) -> Downloaded:
        from appc.http.download import Download

        limit = min(IMAGE_LIMIT, wanted.size) if wanted is not None and wanted.size else IMAGE_LIMIT
        with self._messages.progress("Downloading ACI") as progress:
            counted = 0

            def show(done: int, total: int | None) -> None:
                nonlocal counted
                progress.total = total
                progress.advance(done - counted)
                counted = done

            try:
                return Download(
                    self._client(),
                    address,
                    partial.fd,
                    limit=limit,
                    state=partial.state(),
                    etag=known.etag if known is not None else "",
                    remember=partial.remember,
                    note=self._messages.say,
                    progress=show,
                ).run()
            except HttpError as error:
                raise RktError(f"error downloading ACI: {error}", hint=error.hint) from error

    def _signature(self, address: str, path: str | None) -> bytes | None:
        """The bytes of the signature; None when the server says that it will come later (status 202)."""
        from appc.openpgp import SIGNATURE_LIMIT

        if path is not None:
            return _read_signature(path)
        self._messages.detail(f"downloading signature from {_public(address)}")
        try:
            accepted = frozenset((200, 202))
            with self._client().get(address, limit=SIGNATURE_LIMIT, accept=accepted) as response:
                if response.status == 202:
                    self._messages.say("server requested deferring the signature download")
                    return None
                return response.read()
        except HttpError as error:
            missing = isinstance(error, BadStatus) and error.status == 404
            hint = "an image without a signature needs --insecure-options=image" if missing else error.hint
            raise RktError(f"error downloading the signature file: {error}", hint=hint) from error

    def _deferred_signature(self, address: str) -> Signature:
        data = self._signature(address, None)
        if data is None:
            raise RktError("error downloading the signature file: server asked to defer the download again")
        return self._verifier.read(data)

    # --- into the store

    def _import(
        self,
        fd: int,
        checks: list[Check],
        *,
        latest: bool = False,
        remote: Known | None = None,
        wanted: Dependency | None = None,
    ) -> ImageID:
        def check(manifest: ImageManifest) -> None:
            for one in checks:
                one(manifest)

        os.lseek(fd, 0, os.SEEK_SET)
        with os.fdopen(os.dup(fd), "rb") as file:
            return self._store.import_aci(
                file,
                check=check,
                expected=wanted.image_id if wanted is not None else None,
                latest=latest,
                remote=remote,
                any_platform=wanted is not None,
            )


def web_client(settings: GlobalOptions, *, insecure_http: bool = False) -> Client:
    """A client with the configured credentials and certificates, under the checks that the user left on."""
    from appc.http.certificates import Certificates
    from appc.http.client import Client
    from rkt.config.merged import load

    return Client(
        load(settings.config_dirs()).credentials(),
        certificates=Certificates.of(settings.config_dirs()),
        insecure_http=insecure_http or "http" in settings.insecure,
        insecure_tls="tls" in settings.insecure,
        agent="rkt",
    )


def signature_path(location: str) -> str:
    """Where the signature of an image is: the path of the image, with `.aci.asc` for `.aci`."""
    path, mark, query = location.partition("?")
    return path.removesuffix(".aci") + ".aci.asc" + mark + query


def _public(address: str) -> str:
    """An address without user name and password, as it is shown and stored."""
    from appc.http.url import parse

    try:
        return str(parse(address))
    except ValueError:
        return address


def _check_platform(manifest: ImageManifest) -> None:
    """A dependency may be for any platform, but not for another one."""
    from appc.types import platforms

    for label, host in zip(("os", "arch"), platforms.of_host(), strict=True):
        if manifest.labels.get(label) not in {None, host}:
            raise RktError(
                f"{manifest.name}: is for {label} {manifest.labels.get(label)}, this host is {host}"
            )


def _open_regular(path: str, problem: str) -> int:
    """The regular file `path`. Nothing else: opening a device may do things, reading a pipe may never end."""
    import stat

    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise RktError(f"{problem}: {path}: {error.strerror}") from error
    mode = os.fstat(fd).st_mode
    if not stat.S_ISREG(mode):
        os.close(fd)
        hint = "an image layout becomes an image by `actool build`; an OCI layout is oci:DIRECTORY"
        raise RktError(f"{problem}: {path}: not a regular file", hint=hint if stat.S_ISDIR(mode) else None)
    return fd


def _read_signature(path: str) -> bytes:
    from appc.openpgp import SIGNATURE_LIMIT

    try:
        return read_regular(path, "error opening signature file", SIGNATURE_LIMIT)
    except RktError as error:
        error.hint = (
            "sign it with `gpg --armor --detach-sign --output FILE.aci.asc FILE.aci`, name the signature "
            "with --signature, or switch the check off with --insecure-options=image"
        )
        raise


def read_regular(path: str, problem: str, limit: int) -> bytes:
    """The content of a regular file of the user's, at most one byte more than `limit`."""
    fd = _open_regular(path, problem)
    try:
        return os.read(fd, limit + 1)
    finally:
        os.close(fd)


def _copy(source: int, target: int) -> None:
    """All of `source`, by the file system itself where it can share or copy blocks."""
    import errno

    try:
        while os.copy_file_range(source, target, 1 << 30):
            pass
        return
    except OSError as error:
        if error.errno not in {errno.EXDEV, errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP}:
            raise
    while os.sendfile(target, source, None, 1 << 30):
        pass
