"""One repository of one registry: requests that prove who asks, wait when told to, and read errors."""

from __future__ import annotations

import threading
import time

from appc import jsonfield
from appc.http import stream
from appc.http.certificates import Certificates
from appc.http.client import Client, blotted
from appc.http.errors import HttpError
from appc.jsonfield import Fields, listed, obj, quoted, string
from oci.errors import NoSuchImage, RegistryError
from oci.registry.auth import Authenticator, unauthorized
from oci.types.reference import HUB, HUB_HOST

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType
    from typing import Self

    from appc.http.client import Body, Response
    from appc.http.stream import Deadlines
    from oci.registry.logins import Logins
    from oci.registry.settings import Endpoint, Settings

PULL, PUSH = "pull", "pull,push"
#: Answers that ask for patience, how often and how long it lasts, in seconds.
_BUSY = frozenset((429, 502, 503, 504))
_TRIES, _FIRST_WAIT, _LONGEST_WAIT = 6, 1.0, 60.0
#: A token may expire in the middle of a long pull; one that is refused when it is new will stay so.
_LOGINS = 2
_ERROR_LIMIT = 64 << 10


class Registry:
    """``with Registry(endpoint, …) as registry``. Several threads may use it at once.

    `actions` is PULL or PUSH, `also` names further repositories to be read from (for mounts). `wait(seconds)`
    is called when the registry wants to be left alone.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        settings: Settings,
        logins: Logins,
        *,
        environ: Mapping[str, str],
        actions: str = PULL,
        also: Sequence[str] = (),
        wait: Callable[[float], None] = time.sleep,
    ) -> None:
        self.endpoint = endpoint
        self._environ = environ
        self._wait = wait
        self._insecure_http = endpoint.base.startswith("http://")
        self._insecure_tls = settings.insecure_tls
        self._certificates = Certificates(settings.certificates, known_as={HUB_HOST: HUB})
        host = endpoint.host
        self._login = logins.find(HUB if host == HUB_HOST else host, endpoint.repository)
        scopes = [f"repository:{endpoint.repository}:{actions}"]
        scopes += [f"repository:{repository}:{PULL}" for repository in also]
        self._auth = Authenticator(
            endpoint.origin,
            self._login,
            scopes,
            insecure_http=self._insecure_http,
            insecure_tls=settings.insecure_tls,
            certificates=self._certificates,
            environ=environ,
        )
        self._local = threading.local()
        self._clients: list[Client] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections; no thread may use them any more."""
        for client in self._clients:
            client.close()
        self._clients.clear()

    @property
    def shown(self) -> str:
        """The repository for messages."""
        return f"{self.endpoint.host}/{self.endpoint.repository}"

    def address(self, path: str) -> str:
        """The address of something in the repository."""
        return f"{self.endpoint.base}/v2/{self.endpoint.repository}/{path}"

    def request(
        self,
        method: str,
        address: str,
        *,
        limit: int,
        accept: frozenset[int],
        headers: Mapping[str, str] | None = None,
        deadlines: Deadlines = stream.DOCUMENT,
        body: Body | None = None,
    ) -> Response:
        """An answer whose status is in `accept`; close it. RegistryError for another, HttpError for none."""
        logins = tries = 0
        while True:
            generation = self._auth.generation
            response = self._client().get(
                address,
                limit=max(limit, _ERROR_LIMIT),
                headers=headers,
                deadlines=deadlines,
                accept=_EVERY_STATUS,
                method=method,
                body=body,
            )
            if response.status in accept:
                response.limit_to(limit)
                return response
            with response:
                data = _error_body(response) if method != "HEAD" else b""
            at_home = response.url.origin == self.endpoint.origin
            if response.status == 401 and at_home and logins < _LOGINS:
                logins += 1
                self._auth.answer(response.headers("WWW-Authenticate"), generation, self.shown)
            elif response.status in _BUSY and tries < _TRIES:
                self._wait(_delay(response.header("Retry-After"), tries))
                tries += 1
            else:
                raise self._error(response.status, data, at_home=at_home)

    def _client(self) -> Client:
        client = getattr(self._local, "client", None)
        if client is None:
            client = Client(
                self._auth.credentials,
                insecure_http=self._insecure_http,
                insecure_tls=self._insecure_tls,
                certificates=self._certificates,
                environ=self._environ,
            )
            self._local.client = client
            self._clients.append(client)
        return client

    def _error(self, status: int, data: bytes, *, at_home: bool) -> RegistryError | NoSuchImage:
        login = self._login.secrets() if self._login is not None else []
        told = blotted(_told(data), [*self._auth.credentials.secrets(), *login])
        more = f" ({told})" if told else ""
        if status in {401, 403} and at_home:
            return unauthorized(self.shown, known=self._login is not None)
        if status == 404:
            return NoSuchImage(f"{self.shown}: the registry does not have it{more}")
        if status == 429:
            return RegistryError(
                f"{self.shown}: the registry wants fewer requests{more}",
                status=status,
                hint="log in, or wait: registries count anonymous users by their address",
            )
        return RegistryError(f"{self.shown}: the registry answers with status {status}{more}", status=status)


_EVERY_STATUS = frozenset(range(200, 600)) - {301, 302, 303, 307, 308}


def _error_body(response: Response) -> bytes:
    """What the registry says about an error; nothing, where that cannot be read either."""
    try:
        return response.read()
    except HttpError:
        return b""


def _told(data: bytes) -> str:
    """The errors in the body as the specification writes them (distribution-spec, "Error Codes")."""
    try:
        fields = Fields(jsonfield.parse(data, limit=_ERROR_LIMIT))
        errors = fields.optional("errors", listed(obj), ())
        fields.finish()
    except ValueError:
        return ""
    texts = []
    for error in errors[:3]:
        text = error.get("message") or error.get("code")
        if isinstance(text, str) and text:
            texts.append(quoted(string(text)).strip('"'))
    return "; ".join(texts)


def _delay(retry_after: str | None, tries: int) -> float:
    """Seconds to wait: what the registry says (RFC 9110, section 10.2.3), else doubling from one."""
    text = (retry_after or "").strip()
    if text.isascii() and text.isdigit() and len(text) < 7:
        return min(float(text), _LONGEST_WAIT)
    if text:
        from email.utils import parsedate_to_datetime

        try:
            seconds = parsedate_to_datetime(text).timestamp() - time.time()
            return min(max(seconds, 0.0), _LONGEST_WAIT)
        except ValueError:
            pass
    return min(_FIRST_WAIT * (1 << tries), _LONGEST_WAIT)
