"""One connection to a server or through a proxy, and one exchange on it.

http.client parses what comes back; the socket, its deadlines, TLS and the request's bytes are ours.
"""

from __future__ import annotations

import errno
import http.client
import socket
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping

    from appc.http.client import Body
    from appc.http.url import Url

from appc.http.errors import BadAnswer, BadCertificate, TooSlow, Unreachable
from appc.http.stream import Adapter, DeadlineReader, Deadlines, LateError, SpoiltError


class Connection:
    """A connected socket to the origin of a URL. `tunnel` says whether requests name the whole address."""

    def __init__(self, sock: socket.socket, idle: float, *, through_proxy: bool) -> None:
        self.socket = sock
        self.through_proxy = through_proxy
        self.idle = idle
        self.used = False

    def exchange(
        self,
        method: str,
        url: Url,
        headers: Mapping[str, str],
        deadlines: Deadlines,
        until: float,
        body: Body | None = None,
    ) -> http.client.HTTPResponse:
        """Send one request and read the headers of the answer. OSError and HTTPException as they come."""
        target = str(url) if self.through_proxy else url.target
        lines = [f"{method} {target} HTTP/1.1", f"Host: {url.authority}"]
        for name, value in headers.items():
            if not value.isprintable():
                raise ValueError(f"the header {name} has a control character in its value")
            lines.append(f"{name}: {value}")
        if body is not None or method not in {"GET", "HEAD"}:
            lines.append(f"Content-Length: {0 if body is None else body.size}")
        self.socket.settimeout(max(0.001, min(deadlines.idle, until - time.monotonic())))
        if self._sent("\r\n".join((*lines, "", "")).encode("latin-1")) and body is not None:
            self._send(body, deadlines, until)
        reader = DeadlineReader(self.socket, self.idle)  # one an exchange: http.client closes it
        reader.headers_until(min(until, time.monotonic() + deadlines.headers))
        answer = http.client.HTTPResponse(Adapter(reader), method=method)  # type: ignore[arg-type]
        try:
            answer.begin()
        except BaseException:
            answer.close()
            raise
        reader.body_until(until)
        self.used = True
        return answer

    def _sent(self, data: bytes) -> bool:
        """Send `data`; False for a server that has stopped reading: its answer, or TLS alert, tells why."""
        try:
            self.socket.sendall(data)
        except TimeoutError:
            raise
        except OSError:
            return False
        return True

    def _send(self, body: Body, deadlines: Deadlines, until: float) -> None:
        left = body.size
        for chunk in body.chunks():
            left -= len(chunk)
            if left < 0:
                raise ValueError("the body of the request is longer than it was said to be")
            self.socket.settimeout(max(0.001, min(deadlines.idle, until - time.monotonic())))
            if not self._sent(chunk):
                return
        if left:
            raise ValueError("the body of the request is shorter than it was said to be")

    def close(self) -> None:
        self.socket.close()


def connect(
    url: Url, proxy: Url | None, context: ssl.SSLContext | None, deadlines: Deadlines, until: float
) -> Connection:
    """A connection over which requests for `url` can be sent, by way of `proxy` if there is one."""
    shown = f"{url.scheme}://{url.authority}"
    try:
        sock = _dial(proxy or url, deadlines.connect, until)
    except TimeoutError:
        raise TooSlow(shown, "no connection in time") from None
    except OSError as error:
        where = f"cannot connect to the proxy {proxy.authority}" if proxy else "cannot connect"
        raise Unreachable(shown, f"{where}: {_reason(error)}", hint=_REMEDIES.get(error.errno)) from None
    try:
        if url.scheme == "https" and context is not None:
            if proxy is not None:
                _open_tunnel(sock, url, proxy, deadlines, until)
            sock = _wrap(sock, context, url.host, shown, min(deadlines.connect, until - time.monotonic()))
        return Connection(sock, deadlines.idle, through_proxy=proxy is not None and url.scheme == "http")
    except BaseException:
        sock.close()
        raise


_REMEDIES: dict[int | None, str] = {
    errno.ECONNREFUSED: "nothing listens there: is the server started, and the port right?",
    errno.ENETUNREACH: "this host has no way there: see `ip route`",
    errno.EHOSTUNREACH: "this host has no way there: see `ip route`",
    socket.EAI_NONAME: "is the name spelt right? /etc/resolv.conf says who is asked for it",
    socket.EAI_AGAIN: "the name server does not answer: see /etc/resolv.conf",
}


def _reason(error: OSError) -> str:
    if isinstance(error, socket.gaierror):
        return "no address for this name" if error.errno == socket.EAI_NONAME else str(error.strerror)
    return (error.strerror or type(error).__name__).lower()


def _dial(url: Url, seconds: float, until: float) -> socket.socket:
    """Try every address of the host in turn; together they have `seconds`."""
    end = min(until, time.monotonic() + seconds)
    found = socket.getaddrinfo(url.host, url.port, type=socket.SOCK_STREAM)
    last: OSError = OSError("no address for this name")
    for index, (family, kind, protocol, _, address) in enumerate(found):
        left = end - time.monotonic()
        if left <= 0:
            raise TimeoutError
        sock = socket.socket(family, kind | socket.SOCK_CLOEXEC, protocol)
        try:
            sock.settimeout(max(0.001, left / (len(found) - index)))
            sock.connect(address)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError as error:
            sock.close()
            last = error
            continue
        except BaseException:
            sock.close()
            raise
        return sock
    raise last


def _wrap(
    sock: socket.socket, context: ssl.SSLContext, host: str, shown: str, seconds: float
) -> ssl.SSLSocket:
    import ssl

    sock.settimeout(max(0.001, seconds))
    try:
        return context.wrap_socket(sock, server_hostname=host)
    except ssl.SSLCertVerificationError as error:
        raise BadCertificate(
            shown,
            f"the server's certificate is not accepted: {error.verify_message}",
            hint="check the name and the clock; an authority of your own goes into certs.d, or the system's",
        ) from None
    except TimeoutError:
        raise TooSlow(shown, "no TLS handshake in time") from None
    except ssl.SSLError as error:
        if error.reason == "WRONG_VERSION_NUMBER":
            hint = "a server that speaks plain HTTP answers so; a registry may if registries.d has plainHttp"
            raise Unreachable(shown, "the answer is not TLS", hint=hint) from None
        raise refused(shown, error.reason or "") from None
    except OSError as error:
        raise Unreachable(shown, f"connection broke in the TLS handshake: {_reason(error)}") from None


def refused(shown: str, reason: str) -> Unreachable:
    """The error for a handshake that failed for OpenSSL's `reason`; TLS 1.2 has no word for a lacking one."""
    about = reason.endswith(_ABOUT_OURS)
    words = reason.rpartition("ALERT_")[2].replace("_", " ").lower() or "no reason given"
    hint = "the server may want a certificate of ours: NAME.cert and NAME.key, in certs.d" if about else None
    return Unreachable(shown, f"TLS handshake failed: {words}", hint=hint)


#: How OpenSSL's names of the alerts end that speak of the client's certificate (RFC 8446, section 6.2).
_ABOUT_OURS = (
    *("HANDSHAKE_FAILURE", "CERTIFICATE_REQUIRED", "NO_CERTIFICATE", "UNKNOWN_CA", "BAD_CERTIFICATE"),
    *("UNSUPPORTED_CERTIFICATE", "CERTIFICATE_REVOKED", "CERTIFICATE_EXPIRED", "CERTIFICATE_UNKNOWN"),
)


def _open_tunnel(sock: socket.socket, url: Url, proxy: Url, deadlines: Deadlines, until: float) -> None:
    """Ask the proxy for a plain connection to the server (RFC 9110, section 9.3.6)."""
    host = f"[{url.host}]" if ":" in url.host else url.host
    lines = [f"CONNECT {host}:{url.port} HTTP/1.1", f"Host: {host}:{url.port}"]
    lines += [f"{name}: {value}" for name, value in proxy_headers(proxy).items()]
    reader = DeadlineReader(sock, deadlines.idle)
    shown = f"{url.scheme}://{url.authority}"
    try:
        sock.settimeout(max(0.001, min(deadlines.connect, until - time.monotonic())))
        sock.sendall("\r\n".join((*lines, "", "")).encode("ascii"))
        reader.headers_until(min(until, time.monotonic() + deadlines.headers))
        answer = http.client.HTTPResponse(Adapter(reader), method="CONNECT")  # type: ignore[arg-type]
        try:
            answer.begin()
        finally:
            answer.close()
    except LateError as error:
        raise TooSlow(shown, f"the proxy {proxy.authority} {error}") from None
    except (SpoiltError, http.client.HTTPException):
        raise BadAnswer(shown, f"the proxy {proxy.authority} does not speak HTTP") from None
    except OSError as error:
        raise Unreachable(
            shown, f"the proxy {proxy.authority} broke the connection: {_reason(error)}"
        ) from None
    if answer.status != 200:
        raise Unreachable(shown, f"the proxy {proxy.authority} refused, with status {answer.status}")


def proxy_headers(proxy: Url) -> dict[str, str]:
    """Proxy-Authorization from the proxy address's user name and password."""
    if not proxy.userinfo:
        return {}
    import base64
    from urllib.parse import unquote

    return {"Proxy-Authorization": "Basic " + base64.b64encode(unquote(proxy.userinfo).encode()).decode()}


def tls_context(*, verify: bool) -> ssl.SSLContext:
    """The system's certificate authorities (or SSL_CERT_FILE, SSL_CERT_DIR), or nothing checked at all."""
    import ssl

    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
