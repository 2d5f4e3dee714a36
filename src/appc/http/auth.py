"""Credentials for downloads, each bound to one place: https, a host, a port.

A server, or one that it redirects to, gets only what the user has configured for exactly this place, and only
over https (CVE-2019-10214, CVE-2020-15157 and others are credentials that wandered).
"""

from __future__ import annotations

import base64
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from appc.http.url import Url


class Credential:
    """What proves to a server who asks. `headers` are for one request."""

    __slots__ = ()

    def headers(self, method: str, url: Url, now: float) -> dict[str, str]:
        """Headers for `method` on `url` at the Unix time `now`."""
        raise NotImplementedError

    def secrets(self) -> Iterable[str]:
        """The texts that must not appear in any message, in every form that is sent."""
        raise NotImplementedError


class Basic(Credential):
    """A user name and a password (RFC 7617)."""

    __slots__ = ("_encoded", "_password")

    def __init__(self, user: str, password: str) -> None:
        self._encoded = base64.b64encode(f"{user}:{password}".encode()).decode()
        self._password = password

    def headers(self, method: str, url: Url, now: float) -> dict[str, str]:
        return {"Authorization": f"Basic {self._encoded}"}

    def secrets(self) -> Iterable[str]:
        return (self._password, self._encoded)


class Bearer(Credential):
    """A token (RFC 6750); rkt calls the kind `oauth`."""

    __slots__ = ("_token",)

    def __init__(self, token: str) -> None:
        self._token = token

    def headers(self, method: str, url: Url, now: float) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._token}"}

    def secrets(self) -> Iterable[str]:
        return (self._token,)


class AwsV4(Credential):
    """Keys of Amazon's object store, with which each request is signed (AWS Signature Version 4).

    Without a `region` the host name tells it (`s3-eu-west-1.amazonaws.com`, `s3.eu-west-1.amazonaws.com`),
    else it is us-east-1.
    """

    __slots__ = ("_key_id", "_region", "_secret")

    def __init__(self, access_key_id: str, secret_access_key: str, region: str = "") -> None:
        self._key_id = access_key_id
        self._secret = secret_access_key
        self._region = region

    def headers(self, method: str, url: Url, now: float) -> dict[str, str]:
        import hashlib
        import hmac
        import time

        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
        region = self._region or _region_of(url.host)
        empty = hashlib.sha256(b"").hexdigest()
        path, _, query = url.target.partition("?")
        canonical = "\n".join((
            method,
            _canonical_path(path),
            _canonical_query(query),
            f"host:{url.authority}",
            f"x-amz-content-sha256:{empty}",
            f"x-amz-date:{stamp}",
            "",
            "host;x-amz-content-sha256;x-amz-date",
            empty,
        ))
        scope = f"{stamp[:8]}/{region}/s3/aws4_request"
        to_sign = "\n".join((
            "AWS4-HMAC-SHA256",
            stamp,
            scope,
            hashlib.sha256(canonical.encode()).hexdigest(),
        ))
        key = f"AWS4{self._secret}".encode()
        for part in (stamp[:8], region, "s3", "aws4_request"):
            key = hmac.digest(key, part.encode(), "sha256")
        signature = hmac.digest(key, to_sign.encode(), "sha256").hex()
        return {
            "X-Amz-Date": stamp,
            "X-Amz-Content-Sha256": empty,
            "Authorization": f"AWS4-HMAC-SHA256 Credential={self._key_id}/{scope}, "
            f"SignedHeaders=host;x-amz-content-sha256;x-amz-date, Signature={signature}",
        }

    def secrets(self) -> Iterable[str]:
        return (self._secret,)


def _region_of(host: str) -> str:
    found = re.search(
        r"(?:^|\.)s3[.-](?:dualstack\.)?([a-z]{2}(?:-[a-z]+)+-[0-9])\.amazonaws\.com(?:\.cn)?$", host
    )
    return found[1] if found else "us-east-1"


def _canonical_path(path: str) -> str:
    from urllib.parse import quote, unquote

    return quote(unquote(path), safe="/-_.~")


def _canonical_query(query: str) -> str:
    from urllib.parse import quote, unquote_plus

    pairs = []
    for part in filter(None, query.split("&")):
        name, _, value = part.partition("=")
        pairs.append((quote(unquote_plus(name), safe="-_.~"), quote(unquote_plus(value), safe="-_.~")))
    return "&".join(f"{name}={value}" for name, value in sorted(pairs))


class Credentials:
    """The user's credentials by domain: a host, or `host:port` for another port than 443.

    `everywhere` are for one host at every port of it, and only with `plain` over http too: for credentials
    that the user gave for one command, which says so.
    """

    __slots__ = ("_by_place", "_everywhere", "_plain")

    def __init__(
        self,
        by_domain: Mapping[str, Credential] | None = None,
        *,
        everywhere: tuple[str, Credential] | None = None,
        plain: bool = False,
    ) -> None:
        self._by_place: dict[tuple[str, int], Credential] = {}
        self._everywhere = everywhere
        self._plain = plain
        for domain, credential in (by_domain or {}).items():
            self._by_place[place(domain)] = credential

    def for_url(self, url: Url) -> Credential | None:
        """What is configured for the place of `url`; nothing over plain http."""
        if self._everywhere is not None and url.host == self._everywhere[0]:
            return self._everywhere[1] if self._plain or url.scheme == "https" else None
        if url.scheme != "https":
            return None
        return self._by_place.get((url.host, url.port))

    def secrets(self) -> list[str]:
        known = [*self._by_place.values(), *([self._everywhere[1]] if self._everywhere else [])]
        return [text for credential in known for text in credential.secrets() if text]


def place(domain: str) -> tuple[str, int]:
    """Host and port of a domain as auth.d writes it. ValueError when it is none."""
    from appc.http.url import parse

    url = parse(f"https://{domain}")
    if url.userinfo or url.target != "/":
        raise ValueError("is not a host name with an optional port")
    return url.host, url.port
