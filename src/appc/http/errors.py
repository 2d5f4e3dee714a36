"""What can go wrong on the way to a web server and back, each with the facts as attributes.

No message holds a user name, a password, a token or the query of a redirect (rule R22).
"""

from __future__ import annotations

from appc.errors import AppcError


class HttpError(AppcError):
    """A request that gave no usable answer. `url` is the address without user name and password."""

    def __init__(self, url: str, problem: str, *, hint: str | None = None) -> None:
        super().__init__(f"{url}: {problem}", hint=hint)
        self.url = url
        self.problem = problem


class BadStatus(HttpError):
    """The server answered, with a status that is no success."""

    def __init__(self, url: str, status: int) -> None:
        hint = None
        if status == 401:
            hint = "the server wants credentials: put a file into auth.d, see `rkt help configuration`"
        super().__init__(url, f"bad HTTP status code: {status}", hint=hint)
        self.status = status


class Unreachable(HttpError):
    """No connection, or one that broke before the answer was complete."""


class BadCertificate(HttpError):
    """The server could not prove who it is."""


class TooSlow(HttpError):
    """A deadline passed: connecting, headers, silence, too few bytes a second, or all of it together."""


class TooLarge(HttpError):
    """The answer is, or says it will be, longer than what the caller allows."""


class Refused(HttpError):
    """A rule of ours forbids the step: plain http, a downgrade, an eleventh redirect, an odd address."""


class BadAnswer(HttpError):
    """The server does not speak HTTP as it should."""
