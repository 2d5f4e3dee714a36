"""GET with rules (R22): who gets credentials, where redirects may lead, how much and how long we listen.

The rules live here, above `Opener`, the one function that touches the network, so that they hold for every
transport and can be tested without one.
"""

from __future__ import annotations

import http.client
import os
import re
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator, Mapping
    from types import TracebackType
    from typing import Protocol, Self

    from appc.http.auth import Credentials
    from appc.http.certificates import Certificates
    from appc.http.connection import Connection
    from appc.http.proxies import Proxies
    from appc.http.stream import Deadlines
    from appc.http.url import Url

    class Exchange(Protocol):
        """An answer: its status and headers are here, its body is to be read."""

        status: int

        def getheader(self, name: str) -> str | None: ...
        def all_headers(self, name: str) -> list[str]: ...
        def read(self, count: int) -> bytes: ...
        def close(self) -> None: ...

    class Body(Protocol):
        """What a request carries: exactly `size` bytes, given anew by each call of `chunks`."""

        size: int

        def chunks(self) -> Iterator[bytes]: ...

    class Opener(Protocol):
        def __call__(
            self,
            method: str,
            url: Url,
            headers: Mapping[str, str],
            deadlines: Deadlines,
            until: float,
            body: Body | None = None,
        ) -> Exchange: ...


from appc.http import stream
from appc.http import url as urls
from appc.http.errors import BadAnswer, BadStatus, HttpError, Refused, TooLarge, TooSlow, Unreachable

REDIRECTS = 10
_REDIRECT_STATUSES = frozenset((301, 302, 303, 307, 308))
#: Methods that change nothing (RFC 9110, section 9.2.1): they may be redirected, and sent once more.
_SAFE = frozenset(("GET", "HEAD"))
_CHUNK = 64 * 1024  # what a timeout in the middle of a read may cost


class Client:
    """A web client for one command. `environ` is asked for proxies; a context manager closes connections.

    `insecure_http` allows plain http addresses and redirects to them, `insecure_tls` takes any certificate.
    `certificates` are those of single hosts, theirs and ours.
    """

    def __init__(
        self,
        credentials: Credentials | None = None,
        *,
        insecure_http: bool = False,
        insecure_tls: bool = False,
        certificates: Certificates | None = None,
        environ: Mapping[str, str] | None = None,
        agent: str = "rkt-platform",
        opener: Opener | None = None,
    ) -> None:
        from appc.http.auth import Credentials

        self._credentials = credentials or Credentials()
        self.insecure_http = insecure_http
        self.insecure_tls = insecure_tls
        self._agent = agent
        self._network: Network | None = None
        if opener is None:
            opener = self._network = Network(
                os.environ if environ is None else environ, certificates, verify=not insecure_tls
            )
        self._open = opener

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        if self._network is not None:
            self._network.close()

    def get(
        self,
        address: str,
        *,
        limit: int,
        headers: Mapping[str, str] | None = None,
        deadlines: Deadlines = stream.DOCUMENT,
        until: float | None = None,
        accept: frozenset[int] = frozenset((200,)),
        method: str = "GET",
        body: Body | None = None,
    ) -> Response:
        """The answer to GET `address`, after at most REDIRECTS redirects. Close it, or use it in a `with`.

        `limit` is the most body bytes ever taken, `until` a monotonic time that ends `deadlines.total` early.
        A status that is not in `accept` is a BadStatus; every other failure is another HttpError. `body` is
        sent to `address` and nowhere else: a method that changes something is never redirected.
        """
        try:
            return self._get(address, limit, dict(headers or {}), deadlines, until, accept, method, body)
        except HttpError as error:
            secrets = self._secrets(None)
            error.problem, error.url = blotted(error.problem, secrets), blotted(error.url, secrets)
            error.args = (f"{error.url}: {error.problem}",)
            raise

    def document(self, address: str, *, limit: int, until: float | None = None) -> bytes:
        """The whole body of a small answer with status 200."""
        with self.get(address, limit=limit, until=until) as response:
            return response.read()

    def _get(
        self,
        address: str,
        limit: int,
        headers: dict[str, str],
        deadlines: Deadlines,
        until: float | None,
        accept: frozenset[int],
        method: str,
        body: Body | None,
    ) -> Response:
        end = time.monotonic() + deadlines.total
        end = end if until is None else min(end, until)
        try:
            url = urls.parse(address)
        except ValueError as error:
            raise Refused(_harmless(address), str(error)) from None
        typed = url  # the one place where a user name and password in the address are the user's own
        shown = str(url)
        secrets = self._secrets(typed)
        for _ in range(REDIRECTS + 1):
            self._check_scheme(url, shown)
            sent = self._request_headers(method, url, headers, typed)
            exchange = self._open(method, url, sent, deadlines, end, body)
            try:
                if exchange.status not in _REDIRECT_STATUSES:
                    return self._answer(exchange, url, shown, limit, accept, method)
                if method not in _SAFE:
                    raise Refused(shown, f"redirects a {method} elsewhere (status {exchange.status})")
                url = self._redirected(exchange, url, shown)
                shown = blotted(url.without_query(), secrets)
            except BaseException:
                exchange.close()
                raise
            exchange.close()
        raise Refused(shown, f"more than {REDIRECTS} redirects")

    def _check_scheme(self, url: Url, shown: str) -> None:
        if url.scheme != "https" and not self.insecure_http:
            raise Refused(
                shown,
                "plain http is not allowed: anybody on the way could read and change what is sent",
                hint="use https, or allow it with --insecure-options=http",
            )

    def _redirected(self, exchange: Exchange, url: Url, shown: str) -> Url:
        places = exchange.all_headers("Location")
        if len(places) != 1:
            raise BadAnswer(
                shown, f"a redirect (status {exchange.status}) with {len(places)} Location headers"
            )
        try:
            target = urls.join(url, places[0])
        except ValueError as error:
            raise Refused(shown, f"redirects to an address that {error}") from None
        if url.scheme == "https" and target.scheme != "https" and not self.insecure_http:
            raise Refused(shown, "redirects from https to http, which would give up the encryption")
        return target

    def _request_headers(
        self, method: str, url: Url, headers: Mapping[str, str], typed: Url
    ) -> dict[str, str]:
        sent = {"User-Agent": self._agent, "Accept": "*/*", "Accept-Encoding": "identity", **headers}
        credential = self._credentials.for_url(url)
        if typed.userinfo and url.origin == typed.origin:
            from urllib.parse import unquote

            from appc.http.auth import Basic

            user, _, password = typed.userinfo.partition(":")
            credential = Basic(unquote(user), unquote(password))
        if credential is not None:
            sent.update(credential.headers(method, url, time.time()))
        return sent

    def _answer(
        self, exchange: Exchange, url: Url, shown: str, limit: int, accept: frozenset[int], method: str
    ) -> Response:
        if exchange.status not in accept:
            raise BadStatus(shown, exchange.status)
        response = Response(exchange, url, shown, limit)
        if method == "HEAD" or exchange.status in {204, 304}:
            return response
        response.check_headers()
        return response

    def _secrets(self, typed: Url | None) -> list[str]:
        """What no message may hold: a server may send back what it was sent."""
        from urllib.parse import unquote

        password = unquote(typed.userinfo.partition(":")[2]) if typed is not None else ""
        return [*self._credentials.secrets(), *([password] if password else [])]


def blotted(text: str, secrets: list[str]) -> str:
    """`text` without the `secrets`, however they are percent-encoded or their case was changed."""
    from urllib.parse import quote

    for secret in sorted(secrets, key=len, reverse=True):
        for form in (secret, quote(secret), quote(secret, safe="")):
            text = re.sub(re.escape(form), "***", text, flags=re.IGNORECASE)
    return text


def _harmless(address: str) -> str:
    """An address that could not be parsed, cut down to what surely is no secret."""
    scheme, separator, rest = address.partition("://")
    where = rest.partition("/")[0].partition("?")[0].rpartition("@")[2]
    return (
        "".join(c if c.isprintable() else "?" for c in f"{scheme}{separator}{where}"[:100])
        or "an empty address"
    )


class Response:
    """An accepted answer, whose body comes in chunks. `url` is where it came from in the end."""

    def __init__(self, exchange: Exchange, url: Url, shown: str, limit: int) -> None:
        self._exchange = exchange
        self.url = url
        self.status = exchange.status
        self._shown = shown
        self._limit = limit
        self.length: int | None = None
        self.received = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._exchange.close()

    def header(self, name: str) -> str | None:
        return self._exchange.getheader(name)

    def headers(self, name: str) -> list[str]:
        """All headers of this name, in order."""
        return self._exchange.all_headers(name)

    def limit_to(self, limit: int) -> None:
        """From now on take at most `limit` bytes of body. TooLarge if more are announced."""
        self._limit = limit
        if self.length is not None and self.length > limit:
            raise TooLarge(self._shown, f"{self.length} bytes are offered, the limit is {limit}")

    def check_headers(self) -> None:
        """Refuse what would make the length of the body, or its bytes, a matter of opinion."""
        encodings = ", ".join(self._exchange.all_headers("Content-Encoding")).lower()
        if encodings not in {"", "identity"}:
            raise BadAnswer(self._shown, "the answer has a Content-Encoding, though identity was asked for")
        lengths = {text.strip() for text in self._exchange.all_headers("Content-Length")}
        if not lengths:
            return
        text = lengths.pop()
        if lengths or not (text.isascii() and text.isdigit()) or len(text) > 18:
            raise BadAnswer(self._shown, "the answer has a Content-Length that is no single number")
        if self._exchange.all_headers("Transfer-Encoding"):
            raise BadAnswer(self._shown, "the answer has both a Content-Length and a Transfer-Encoding")
        self.length = int(text)
        if self.length > self._limit:
            raise TooLarge(self._shown, f"{self.length} bytes are offered, the limit is {self._limit}")

    def chunks(self) -> Iterator[bytes]:
        """The body, piece by piece; HttpError when it is late, too long, or ends early."""
        while True:
            data = self._read()
            if not data:
                break
            self.received += len(data)
            if self.received > self._limit:
                raise TooLarge(self._shown, f"the answer is longer than the limit of {self._limit} bytes")
            yield data
        if self.length is not None and self.received != self.length:
            raise Unreachable(self._shown, f"connection broke after {self.received} of {self.length} bytes")

    def read(self) -> bytes:
        return b"".join(self.chunks())

    def _read(self) -> bytes:
        try:
            return self._exchange.read(_CHUNK)
        except stream.LateError as error:
            raise TooSlow(self._shown, f"the server {error}") from None
        except http.client.IncompleteRead:
            raise Unreachable(self._shown, f"connection broke after {self.received} bytes") from None
        except (http.client.HTTPException, ValueError):
            raise BadAnswer(self._shown, "the body is not sent as HTTP wants it") from None
        except OSError as error:
            raise Unreachable(
                self._shown,
                f"connection broke after {self.received} bytes: {error.strerror or 'no reason given'}",
            ) from None


class NetworkExchange:
    """An answer from a real connection, which goes back to its Network when the body was read to the end."""

    def __init__(
        self,
        network: Network,
        key: tuple[object, ...],
        connection: Connection,
        answer: http.client.HTTPResponse,
    ) -> None:
        self._network = network
        self._key = key
        self._connection: Connection | None = connection
        self._answer = answer
        self.status = answer.status

    def getheader(self, name: str) -> str | None:
        return self._answer.getheader(name)

    def all_headers(self, name: str) -> list[str]:
        return self._answer.headers.get_all(name, [])

    def read(self, count: int) -> bytes:
        # read1 would give what is there, but for chunked bodies it is read() with another name.
        return self._answer.read(count)

    def close(self) -> None:
        if self._connection is None:
            return
        connection, self._connection = self._connection, None
        whole = self._answer.isclosed() and not self._answer.will_close
        self._answer.close()
        if whole:
            self._network.keep(self._key, connection)
        else:
            connection.close()


class Network:
    """The Opener that really connects. It keeps one idle connection an origin for the next request."""

    def __init__(
        self, environ: Mapping[str, str], certificates: Certificates | None = None, *, verify: bool
    ) -> None:
        self._environ = environ
        self._certificates = certificates
        self._verify = verify
        self._proxies: Proxies | None = None
        self._context: ssl.SSLContext | None = None
        self._idle: dict[tuple[object, ...], Connection] = {}

    def __call__(
        self,
        method: str,
        url: Url,
        headers: Mapping[str, str],
        deadlines: Deadlines,
        until: float,
        body: Body | None = None,
    ) -> NetworkExchange:
        from appc.http.connection import connect, proxy_headers
        from appc.http.proxies import Proxies

        if self._proxies is None:
            self._proxies = Proxies(self._environ)
        try:
            proxy = self._proxies.for_url(url)
        except ValueError as error:
            raise Refused(f"{url.scheme}://{url.authority}", str(error)) from None
        key = (*url.origin, proxy)
        if proxy is not None and url.scheme == "http":
            headers = {**headers, **proxy_headers(proxy)}
        kept = self._idle.pop(key, None) if method in _SAFE else None
        if kept is not None:
            kept.idle = deadlines.idle
            try:
                return NetworkExchange(self, key, kept, kept.exchange(method, url, headers, deadlines, until))
            except (OSError, http.client.HTTPException):
                kept.close()  # the server had closed it meanwhile: the request may go again, it is a GET
            except BaseException:
                kept.close()
                raise
        connection = connect(url, proxy, self._tls(url) if url.scheme == "https" else None, deadlines, until)
        try:
            return NetworkExchange(
                self,
                key,
                connection,
                self._exchange(connection, method, url, headers, deadlines, until, body),
            )
        except BaseException:
            connection.close()
            raise

    def _exchange(
        self,
        connection: Connection,
        method: str,
        url: Url,
        headers: Mapping[str, str],
        deadlines: Deadlines,
        until: float,
        body: Body | None,
    ) -> http.client.HTTPResponse:
        shown = f"{url.scheme}://{url.authority}"
        try:
            return connection.exchange(method, url, headers, deadlines, until, body)
        except stream.LateError as error:
            raise TooSlow(shown, f"the server {error}") from None
        except stream.SpoiltError as error:
            raise BadAnswer(shown, f"the server {error}") from None
        except TimeoutError:
            raise TooSlow(shown, "the server did not take the request in time") from None
        except http.client.RemoteDisconnected:
            raise Unreachable(shown, "the server closed the connection without an answer") from None
        except http.client.HTTPException as error:
            more = f"more than {stream.HEADER_COUNT} headers" if "headers" in str(error) else "no HTTP"
            raise BadAnswer(shown, f"the server sent {more}") from None
        except ValueError as error:
            raise Refused(shown, str(error)) from None
        except OSError as error:
            reason = getattr(error, "reason", None) or ""
            if "ALERT_" in reason:  # in TLS 1.3 a server may refuse us this late
                from appc.http.connection import refused

                raise refused(shown, reason) from None
            raise Unreachable(shown, f"connection broke: {error.strerror or type(error).__name__}") from None

    def _tls(self, url: Url) -> ssl.SSLContext:
        from appc.http.connection import tls_context

        own = self._certificates.context(url, verify=self._verify) if self._certificates else None
        if own is not None:
            return own
        if self._context is None:
            self._context = tls_context(verify=self._verify)
        return self._context

    def keep(self, key: tuple[object, ...], connection: Connection) -> None:
        old = self._idle.pop(key, None)
        if old is not None:
            old.close()
        self._idle[key] = connection

    def close(self) -> None:
        for connection in self._idle.values():
            connection.close()
        self._idle.clear()
