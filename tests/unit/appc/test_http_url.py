"""Addresses: what is one, what may be shown of it, where redirects lead."""

from __future__ import annotations

import pytest

from appc.http import url as urls


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://Example.COM", "https://example.com/"),
        ("https://example.com?ac-discovery=1", "https://example.com/?ac-discovery=1"),
        ("https://example.com:443/a", "https://example.com/a"),
        ("https://example.com:8443/a#part", "https://example.com:8443/a"),
        ("HTTP://127.0.0.1:/x", "http://127.0.0.1/x"),
        ("https://[2001:db8::1]:444/x", "https://[2001:db8::1]:444/x"),
        ("https://user:pass@example.com/x", "https://example.com/x"),
    ],
)
def test_an_address_and_what_is_shown_of_it(text: str, shown: str) -> None:
    assert str(urls.parse(text)) == shown


@pytest.mark.parametrize(
    "text",
    [
        "",
        "example.com/x",
        "//example.com/x",
        "ftp://example.com/x",
        "javascript:alert(1)",
        "https://",
        "https:///x",
        "https://exa mple.com/",
        "https://example.com/\r\nHost: evil",
        "https://example.com/\x00",
        "https://example.com/ü",
        "https://example.com\\@evil.com/",
        "https://a@b@c d/",
        "https://example.com:0/",
        "https://example.com:65536/",
        "https://example.com:\uff14\uff14\uff13/",
        "https://example.com:8x/",
        "https://[::1/",
        "https://[::1]x/",
        "https://[nope]/",
        "https://-example.com/",
        "https://exam..ple.com/",
        "https://" + "a" * 254 + "/",
        "https://example.com/" + "a" * 9000,
        " https://example.com/",
        "https://example.com/\n",
    ],
)
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        urls.parse(text)


def test_an_error_never_repeats_the_password() -> None:
    for text in ("https://u:hunter2@exa mple.com/", "https://u:hunter2@/", "https://u:hunter2@h:99999/"):
        with pytest.raises(ValueError, match=r".") as refused:
            urls.parse(text)
        assert "hunter2" not in str(refused.value)


def test_origins_differ_by_scheme_host_and_port() -> None:
    origins = {urls.parse(u).origin for u in ("https://a/", "https://a:444/", "http://a:443/", "https://b/")}
    assert len(origins) == 4
    assert urls.parse("https://A:443/x").origin == urls.parse("https://a/y").origin


def test_join_follows_relative_references_and_refuses_user_names() -> None:
    base = urls.parse("https://example.com/a/b?c")
    assert str(urls.join(base, "../x")) == "https://example.com/x"
    assert str(urls.join(base, "//other.com/x")) == "https://other.com/x"
    for bad in ("https://user@example.com/", "file:///etc/passwd", "https://exa mple.com/"):
        with pytest.raises(ValueError, match=r"."):
            urls.join(base, bad)
