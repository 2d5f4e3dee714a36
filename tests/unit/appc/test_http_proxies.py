"""Which addresses go through a proxy."""

from __future__ import annotations

import pytest

from appc.http.proxies import Proxies
from appc.http.url import parse

PROXY = "http://proxy.example:3128"


@pytest.mark.parametrize(
    ("no_proxy", "address", "direct"),
    [
        ("", "https://example.com/", False),
        ("example.com", "https://example.com/", True),
        ("example.com", "https://www.example.com/", True),
        (".example.com", "https://www.example.com/", True),
        ("example.com", "https://badexample.com/", False),
        ("example.com:444", "https://example.com/", False),
        ("example.com:443", "https://example.com/", True),
        ("10.0.0.0/8", "https://10.1.2.3/", True),
        ("10.0.0.0/8", "https://11.1.2.3/", False),
        ("2001:db8::/32", "https://[2001:db8::5]/", True),
        ("a, b ,example.com", "https://example.com/", True),
        ("*", "https://example.com/", True),
        ("", "https://localhost/", True),
        ("", "https://127.0.0.9/", True),
        ("", "https://[::1]/", True),
    ],
)
def test_no_proxy(no_proxy: str, address: str, direct: bool) -> None:
    proxies = Proxies({"HTTPS_PROXY": PROXY, "NO_PROXY": no_proxy})
    assert (proxies.for_url(parse(address)) is None) == direct


def test_lower_case_wins_and_a_scheme_may_be_left_out() -> None:
    proxies = Proxies({"https_proxy": "lower:1", "HTTPS_PROXY": "http://upper:2"})
    found = proxies.for_url(parse("https://example.com/"))
    assert found is not None
    assert (found.host, found.port) == ("lower", 1)


def test_cve_2016_5385_a_request_header_sets_no_proxy() -> None:
    proxies = Proxies({"HTTP_PROXY": PROXY, "REQUEST_METHOD": "GET"})
    assert proxies.for_url(parse("http://example.com/")) is None


@pytest.mark.parametrize("value", ["socks5://u:hunter2@h:1", "https://u:hunter2@h", "http://u:hunter2@ h"])
def test_a_proxy_of_another_kind_is_an_error_without_its_password(value: str) -> None:
    with pytest.raises(ValueError, match="HTTPS_PROXY") as refused:
        Proxies({"https_proxy": value}).for_url(parse("https://example.com/"))
    assert "hunter2" not in str(refused.value)
