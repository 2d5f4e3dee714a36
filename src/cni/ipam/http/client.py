"""Asking the service, again when it stumbles, until the deadline.

Every request says the same when it is sent twice: an ADD by its key, the others by what they are. So each is
repeated after a broken connection, a 5xx or a 429. Nothing is followed elsewhere, no proxy is asked, and
credentials leave only over TLS, loopback or a socket of this host (`settings` sees to that).

This is `http.client`: `urllib3` takes three times as long to import, would have its redirects, retries,
pooling and proxies switched off here, and is not there under the interpreter that plugins start with.
"""

from __future__ import annotations

import http.client
import time
from random import uniform

from cni import jsontext
from cni.errors import DECODING_FAILURE, INVALID_CONFIG, PLUGIN_NOT_AVAILABLE, TRY_AGAIN_LATER, CniError
from cni.ipam import secretfile

TYPE_CHECKING = False  # not from typing: start-up time counts here
if TYPE_CHECKING:
    import ssl
    from typing import Final

    from cni.ipam.http.settings import Settings

LIMIT = 1 << 20  # bytes of an answer; an honest one has some hundred
_ATTEMPTS = 5
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 2.0  # seconds
_AGAIN = (408, 425, 429, 500, 502, 503, 504)

# What a service may say is wrong ("error" of its answer), and the code that it becomes.
NO_LEASE, EXHAUSTED, UNAVAILABLE = "no-lease", "exhausted", "unavailable"
_WORDS = {
    EXHAUSTED: TRY_AGAIN_LATER,
    UNAVAILABLE: TRY_AGAIN_LATER,
    "in-use": INVALID_CONFIG,
    "bad-request": INVALID_CONFIG,
    "forbidden": INVALID_CONFIG,
    NO_LEASE: 100,
}


class Answer:
    """A status, and the JSON object of the body, {} without one."""

    __slots__ = ("body", "retry_after", "status")

    def __init__(self, status: int, body: dict[str, object], retry_after: float) -> None:
        self.status: Final = status
        self.body: Final = body
        self.retry_after: Final = retry_after

    @property
    def word(self) -> str:
        """The kind of error that the service names, "" for none that is known."""
        word = self.body.get("error")
        return word if isinstance(word, str) and word in _WORDS else ""

    @property
    def said(self) -> str:
        """Its explanation in one line that a terminal can take."""
        text = self.body.get("message")
        shown = "".join(each if each.isprintable() else " " for each in text) if isinstance(text, str) else ""
        return f"HTTP {self.status}" + (f": {shown[:200]}" if shown else "")


class Service:
    """The service of one configuration, for one call of the plugin."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._end = time.monotonic() + settings.timeout
        self._headers = {
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            "Connection": "close",
            "User-Agent": "rkt-platform-cni",
        }
        self._authorize()
        self._tls = _tls_context(settings) if settings.tls else None

    def ask(self, method: str, path: str, body: object = None, *, key: str = "") -> Answer:
        """The answer to one request, which may have been sent several times. 2xx and "no-lease" come back.

        `path` begins with a slash and is encoded; `key` is the idempotency key. Raises CniError 11 when the
        service is away, broken or exhausted, 7 when it refuses us, 6 when it answers what is no answer.
        """
        headers = dict(self._headers)
        data = None
        if body is not None:
            data = jsontext.dumps(body).encode()
            headers["Content-Type"] = "application/json"
        if key:
            headers["Idempotency-Key"] = key
        pause = _FIRST_PAUSE
        for attempt in range(1, _ATTEMPTS + 1):
            retry_after = 0.0
            try:
                answer = self._exchange(method, path, data, headers)
            except (OSError, http.client.HTTPException) as broken:
                failure = self._away(broken)
                if _is_certificate(broken):
                    raise failure from None
            else:
                if answer.status < 300 or answer.word == NO_LEASE:
                    return answer
                failure = self._refusal(answer)
                if answer.status not in _AGAIN or answer.word == EXHAUSTED:
                    raise failure
                retry_after = answer.retry_after
            wait = max(retry_after, uniform(pause / 2, pause))  # noqa: S311  to spread, not to hide
            if attempt == _ATTEMPTS or wait >= self._left():
                raise failure
            time.sleep(wait)
            pause = min(pause * 2, _LONGEST_PAUSE)
        raise AssertionError("the last attempt returns or raises")

    def _exchange(self, method: str, path: str, data: bytes | None, headers: dict[str, str]) -> Answer:
        settings = self._settings
        connection: http.client.HTTPConnection
        wait = max(self._left(), 0.1)
        if self._tls is not None:
            connection = http.client.HTTPSConnection(
                settings.host, settings.port, timeout=wait, context=self._tls
            )
        elif settings.socket:
            connection = _UnixConnection(settings.host, settings.port, settings.socket, wait)
        else:
            connection = http.client.HTTPConnection(settings.host, settings.port, timeout=wait)
        try:
            connection.request(method, settings.path + path, body=data, headers=headers)
            given = connection.getresponse()
            text = given.read(LIMIT + 1)
        finally:
            connection.close()
        if len(text) > LIMIT:
            raise self._nonsense(f"more than {LIMIT} bytes")
        if given.length:
            raise http.client.IncompleteRead(text, given.length)
        if given.getheader("Content-Encoding", "identity") != "identity":
            raise self._nonsense("compressed, which was not asked for")
        retry_after = given.getheader("Retry-After", "")
        seconds = float(retry_after) if retry_after.isascii() and retry_after.isdigit() else 0.0
        return Answer(given.status, self._decode(given.status, text), seconds)

    def _decode(self, status: int, text: bytes) -> dict[str, object]:
        """The object of an answer. Of a failure that some proxy may have answered, anything is taken."""
        if not text.strip():
            return {}
        try:
            value = jsontext.loads(text, limit=LIMIT)
        except ValueError as bad:
            if status >= 300:
                return {}
            raise self._nonsense(str(bad)) from None
        if isinstance(value, dict):
            return value
        if status >= 300:
            return {}
        raise self._nonsense("not a JSON object")

    def _refusal(self, answer: Answer) -> CniError:
        status = answer.status
        if answer.word:
            code = _WORDS[answer.word]
            return CniError(code, f"the {self._settings} says {answer.word}", answer.said)
        if status < 400:
            return CniError(
                INVALID_CONFIG, f"the {self._settings} redirects, which is not followed", answer.said
            )
        if status in (401, 403):
            return CniError(INVALID_CONFIG, f"the {self._settings} does not accept who we are", answer.said)
        if status == 404:
            return CniError(INVALID_CONFIG, f"the {self._settings} does not know this URL", answer.said)
        if status in _AGAIN or status == 409 or status >= 500:
            return CniError(TRY_AGAIN_LATER, f"the {self._settings} fails", answer.said)
        return CniError(INVALID_CONFIG, f"the {self._settings} refuses the request", answer.said)

    def _away(self, broken: Exception) -> CniError:
        text = str(getattr(broken, "strerror", None) or broken) or type(broken).__name__
        return CniError(TRY_AGAIN_LATER, f"the {self._settings} is away", " ".join(text.split())[:300])

    def _nonsense(self, why: str) -> CniError:
        return CniError(DECODING_FAILURE, f"the {self._settings} gives no usable answer", why)

    def _authorize(self) -> None:
        settings = self._settings
        if settings.token_file:
            self._headers["Authorization"] = f"Bearer {_ascii(secretfile.read(settings.token_file))}"
        elif settings.username:
            from base64 import b64encode

            both = f"{settings.username}:{secretfile.read(settings.password_file)}"
            self._headers["Authorization"] = f"Basic {b64encode(both.encode()).decode()}"

    def _left(self) -> float:
        return self._end - time.monotonic()


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, host: str, port: int, path: str, timeout: float) -> None:
        super().__init__(host, port, timeout=timeout)
        self._path = path

    def connect(self) -> None:
        import socket

        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def not_available(failed: CniError) -> CniError:
    """The same error for STATUS, where "try again later" is "an ADD would fail"."""
    if failed.code != TRY_AGAIN_LATER:
        return failed
    return CniError(PLUGIN_NOT_AVAILABLE, failed.msg, failed.details)


def _ascii(token: str) -> str:
    if not token.isascii() or " " in token:
        raise ValueError("the token in tokenFile holds blanks or characters that no header can carry")
    return token


def _is_certificate(broken: Exception) -> bool:
    """Whether it is about certificates, which do not change from one second to the next."""
    return type(broken).__name__ == "SSLCertVerificationError"


def _tls_context(settings: Settings) -> ssl.SSLContext:
    import ssl

    try:
        context = ssl.create_default_context(cafile=settings.ca or None)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if settings.certificate:
            context.load_cert_chain(settings.certificate, settings.key)
    except OSError as failed:
        raise ValueError(f"ca, certificate or key cannot be used: {failed}") from None
    return context
