"""Which proxy, if any, stands between us and an address: HTTP_PROXY, HTTPS_PROXY, NO_PROXY.

As the rest of the field reads them: lower or upper case, lower first; NO_PROXY is a comma list of names
(which cover their subdomains), addresses, networks in CIDR form, each with an optional port, or `*`.
Loopback addresses and `localhost` never go through a proxy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from appc.http.url import Url


class Proxies:
    """The proxy settings of an environment."""

    __slots__ = ("_by_scheme", "_exempt")

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._by_scheme = {
            "http": _variable(environ, "http_proxy"),
            "https": _variable(environ, "https_proxy"),
        }
        if "REQUEST_METHOD" in environ:
            # In a CGI program HTTP_PROXY is a request's header, under the visitor's control (CVE-2016-5385).
            self._by_scheme["http"] = environ.get("http_proxy", "")
        self._exempt = [
            part.strip().lower() for part in _variable(environ, "no_proxy").split(",") if part.strip()
        ]

    def for_url(self, url: Url) -> Url | None:
        """The proxy for `url`. ValueError when the variable holds something else than an http address."""
        from appc.http.url import is_loopback, parse

        text = self._by_scheme[url.scheme]
        if not text or is_loopback(url.host) or any(_covers(rule, url) for rule in self._exempt):
            return None
        variable = f"{url.scheme.upper()}_PROXY"
        try:
            proxy = parse(text if "://" in text else f"http://{text}")
        except ValueError as error:
            raise ValueError(f"{variable} {error}") from None
        if proxy.scheme != "http":
            raise ValueError(f"{variable} names a proxy that is not spoken to by plain http")
        return proxy


def _variable(environ: Mapping[str, str], name: str) -> str:
    return environ.get(name) or environ.get(name.upper(), "")


def _covers(rule: str, url: Url) -> bool:
    import ipaddress

    if rule == "*":
        return True
    rule, port = _split_port(rule)
    if port and port != str(url.port):
        return False
    try:
        network = ipaddress.ip_network(rule, strict=False)
        return ipaddress.ip_address(url.host) in network
    except ValueError:
        name = rule.lstrip("*").lstrip(".")
        return url.host == name or url.host.endswith("." + name)


def _split_port(rule: str) -> tuple[str, str]:
    if rule.startswith("["):
        host, _, rest = rule[1:].partition("]")
        return host, rest.removeprefix(":")
    if rule.count(":") == 1:
        host, _, port = rule.partition(":")
        return host, port
    return rule, ""
