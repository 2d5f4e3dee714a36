"""Proving to a registry who asks: basic authentication, and tokens from the server that the registry names.

A credential goes to one origin (scheme, host, port). The token server may be another host, as Docker Hub's
is: it gets the user's credential only over https, only when the registry itself sent us there, and never when
a redirect's target did (CVE-2019-10214, CVE-2020-15157). Over plain http credentials reach loopback alone.
"""

from __future__ import annotations

import threading

from appc import jsonfield
from appc.http import url as urls
from appc.http.auth import Basic, Bearer, Credential, Credentials
from appc.http.client import Client
from appc.http.errors import HttpError
from appc.jsonfield import Fields, string
from oci.errors import RegistryError, Unauthorized
from oci.registry import challenge as challenges

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from appc.http.certificates import Certificates
    from appc.http.url import Url
    from oci.registry.challenge import Challenge
    from oci.registry.logins import Login

_TOKEN_LIMIT = 256 << 10
_CLIENT_ID = "rkt-platform"


class Bound(Credentials):
    """At most one credential, for one origin. It may be exchanged while others use it."""

    def __init__(self, origin: tuple[str, str, int], credential: Credential | None = None) -> None:
        super().__init__()
        self._origin = origin
        self._credential = credential
        self._told: list[str] = list(credential.secrets()) if credential else []

    def for_url(self, url: Url) -> Credential | None:
        """The credential if `url` is of its origin."""
        if url.origin != self._origin or not may_carry_secrets(url):
            return None
        return self._credential

    def exchange(self, credential: Credential | None) -> None:
        """From now on this one."""
        self._credential = credential
        if credential is not None:
            self._told = [*self._told, *credential.secrets()][-32:]

    def secrets(self) -> list[str]:
        """Those of earlier credentials too: an error may tell of a request that used them."""
        return [text for text in self._told if text]


def may_carry_secrets(url: Url) -> bool:
    """Whether nobody on the way can read what is sent: https, or this very host."""
    return url.scheme == "https" or urls.is_loopback(url.host)


class Authenticator:
    """What one registry wants for one purpose. `scopes` are what tokens are asked for."""

    def __init__(
        self,
        origin: tuple[str, str, int],
        login: Login | None,
        scopes: Sequence[str],
        *,
        insecure_http: bool,
        insecure_tls: bool,
        certificates: Certificates,
        environ: Mapping[str, str],
    ) -> None:
        self.credentials = Bound(origin)
        self._origin = origin
        self._login = login
        self._scopes = tuple(scopes)
        self._insecure_http = insecure_http
        self._insecure_tls = insecure_tls
        self._certificates = certificates
        self._environ = environ
        self._lock = threading.Lock()
        #: How many times a credential was exchanged: two threads that failed with one get one new one.
        self.generation = 0

    def answer(self, headers: Sequence[str], generation: int, shown: str) -> None:
        """Get what the challenges in `headers` want. Unauthorized when there is nothing to give.

        `generation` is that of the credential that was refused.
        """
        with self._lock:
            if generation != self.generation:
                return
            try:
                found = challenges.parse(headers)
            except ValueError as error:
                raise RegistryError(
                    f"{shown}: asks for credentials in a malformed way: {error}", status=401
                ) from None
            for challenge in found:
                if challenge.scheme == "bearer":
                    self._exchange(Bearer(self._token(challenge, shown)))
                    return
                if challenge.scheme == "basic" and self._login is not None and self._login.user:
                    self._check_way(urls.Url(*self._origin, "/", ""), shown)
                    self._exchange(Basic(self._login.user, self._login.password))
                    return
            if any(challenge.scheme == "basic" for challenge in found):
                raise unauthorized(shown, known=self._login is not None)
            raise RegistryError(f"{shown}: wants a kind of credentials that is not supported", status=401)

    def _exchange(self, credential: Credential) -> None:
        self.credentials.exchange(credential)
        self.generation += 1

    def _check_way(self, url: Url, shown: str) -> None:
        if not may_carry_secrets(url):
            raise Unauthorized(
                f"{shown}: wants credentials over plain http, where anybody could read them", status=401
            )

    def _token(self, challenge: Challenge, shown: str) -> str:
        realm = challenge.parameters.get("realm", "")
        try:
            url = urls.parse(realm)
        except ValueError as error:
            raise RegistryError(f"{shown}: the address of its token server {error}", status=401) from None
        if url.scheme != "https" and not (self._insecure_http and urls.is_loopback(url.host)):
            raise RegistryError(
                f"{shown}: its token server {url.authority} is spoken to by plain http", status=401
            )
        wanted = self._scopes or tuple(filter(None, challenge.parameters.get("scope", "").split(" ")))
        service = challenge.parameters.get("service", "")
        login = self._login
        if login is not None and login.identity_token:
            return self._from_identity(url, service, wanted, login, shown)
        credential = Basic(login.user, login.password) if login is not None and login.user else None
        query = [("service", service)] if service else []
        query += [("scope", scope) for scope in wanted]
        if credential is not None:
            query.append(("account", login.user if login is not None else ""))
        return self._ask("GET", _with_query(url, query), url, credential, None, shown)

    def _from_identity(self, url: Url, service: str, scopes: Sequence[str], login: Login, shown: str) -> str:
        """OAuth 2 (RFC 6749, section 6), as Docker's token servers speak it."""
        from urllib.parse import urlencode

        form = {
            "grant_type": "refresh_token",
            "service": service,
            "client_id": _CLIENT_ID,
            "scope": " ".join(scopes),
            "refresh_token": login.identity_token,
        }
        return self._ask("POST", str(url), url, None, urlencode(form).encode("ascii"), shown)

    def _ask(
        self,
        method: str,
        address: str,
        url: Url,
        credential: Credential | None,
        form: bytes | None,
        shown: str,
    ) -> str:
        from oci.registry.body import Bytes

        bound = Bound(url.origin, credential)
        if self._login is not None:
            bound._told += self._login.secrets()
        headers = {"Content-Type": "application/x-www-form-urlencoded"} if form is not None else {}
        with Client(
            bound,
            insecure_http=self._insecure_http,
            insecure_tls=self._insecure_tls,
            certificates=self._certificates,
            environ=self._environ,
        ) as client:
            try:
                response = client.get(
                    address,
                    limit=_TOKEN_LIMIT,
                    headers=headers,
                    method=method,
                    body=None if form is None else Bytes(form),
                    accept=frozenset((200, 400, 401, 403, 404, 429)),
                )
            except HttpError as error:
                raise RegistryError(
                    f"{shown}: no token from {url.authority}: {error.problem}", hint=error.hint
                ) from None
            with response:
                data = response.read()
        if response.status != 200:
            if response.status in {400, 401, 403}:
                raise unauthorized(shown, known=self._login is not None, server=url.authority)
            raise RegistryError(
                f"{shown}: no token from {url.authority}: status {response.status}", status=response.status
            )
        return _token_in(data, url, shown)


def _with_query(url: Url, query: Sequence[tuple[str, str]]) -> str:
    from urllib.parse import urlencode

    joined = "&" if "?" in url.target else "?"
    return f"{url}{joined}{urlencode(query)}" if query else str(url)


def _token_in(data: bytes, url: Url, shown: str) -> str:
    try:
        fields = Fields(jsonfield.parse(data, limit=_TOKEN_LIMIT))
        token = fields.optional("token", string, "") or fields.optional("access_token", string, "")
        fields.finish()
    except ValueError:
        token = ""
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise RegistryError(f"{shown}: {url.authority} gives no token, but something else")
    return token


def unauthorized(shown: str, *, known: bool, server: str = "") -> Unauthorized:
    """The error for a registry that wants (other) credentials."""
    where = f"{shown}: {server + ' ' if server else ''}"
    if known:
        return Unauthorized(
            f"{where}refuses the credentials", status=401, hint="log in again, or ask for the right to do it"
        )
    return Unauthorized(
        f"{where}wants credentials, or there is no such image",
        status=401,
        hint="log in with `podman login` or `docker login`, or put a dockerAuth file into auth.d",
    )
