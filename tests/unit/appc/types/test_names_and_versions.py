"""Names, versions, IDs, dates and URLs beyond what the shared cases hold."""

from __future__ import annotations

import pytest

from appc import app_string, query
from appc.errors import UnsupportedPlatform
from appc.schema.app import identity
from appc.types import ACIdentifier, ACName, Date, ImageID, SemVer, platforms
from appc.types.url import URL
from appc.types.uuid import UUID


def test_types_are_strings() -> None:
    assert ACName("work-dir") == "work-dir"
    assert {ACIdentifier("a/b"): 1}["a/b"] == 1  # type: ignore[index]


@pytest.mark.parametrize("text", ["example.com/../../etc", "a/.", "../a", "a/..", "a\n", "a/\u00e9", "a//b"])
def test_names_cannot_leave_a_directory(text: str) -> None:
    with pytest.raises(ValueError, match="is no AC identifier"):
        ACIdentifier(text)


def test_names_of_a_megabyte_are_read_in_linear_time() -> None:
    assert len(ACIdentifier("a." * 500_000 + "a")) == 1_000_001


def test_versions_sort_as_semver_says() -> None:
    order = (
        "1.0.0-alpha 1.0.0-alpha.1 1.0.0-alpha.beta 1.0.0-beta 1.0.0-beta.2 1.0.0-beta.11 1.0.0-rc.1 1.0.0"
    )
    versions = [SemVer(text) for text in order.split()]
    keys = [version.precedence for version in versions]
    assert keys == sorted(keys)
    assert SemVer("1.0.0+a").precedence == SemVer("1.0.0+b").precedence
    assert SemVer("10.0.0").precedence > SemVer("9.99.99").precedence


def test_image_ids() -> None:
    whole = ImageID("sha512-" + "0" * 128)
    assert ImageID.from_digest(bytes(64)) == whole
    assert whole.short == "sha512-" + "0" * 32
    for text in (
        "sha512-" + "0" * 127,
        "sha512-" + "g" * 128,
        "sha512-" + "0" * 128 + "\n",
        "sha256-" + "0" * 64,
    ):
        with pytest.raises(ValueError, match=r"sha512|sha256"):
            ImageID(text)


def test_random_uuids_are_of_version_4() -> None:
    first, second = UUID.random(), UUID.random()
    assert first != second
    assert (first[14], first[19] in "89ab", len(first)) == ("4", True, 36)


@pytest.mark.parametrize(
    "text", ["2016-02-29T00:00:00Z", "2000-02-29T23:59:59.999999999-23:59", "2014-10-27T19:32:27.6+01:00"]
)
def test_dates(text: str) -> None:
    assert Date(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "1900-02-29T00:00:00Z",
        "2014-13-01T00:00:00Z",
        "2014-00-01T00:00:00Z",
        "2014-01-01T24:00:00Z",
        "2014-01-01T00:00:00+24:00",
        "2014-01-01T00:00:00+01",
        "2014-01-01 00:00:00Z",
        "2014-01-01T00:00:00Z\n",
        "\uff12014-01-01T00:00:00Z",
        "",
    ],
)
def test_no_dates(text: str) -> None:
    with pytest.raises(ValueError, match="is not a date"):
        Date(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("HTTP://Example.com/A b?c d#e", "http://Example.com/A%20b?c d#e"),
        ("https://u:p@[::1%25eth0]:8/%41", "https://u:p@[::1%25eth0]:8/%41"),
        ("http://é/ü", "http://%C3%A9/%C3%BC"),
        ("http://%c3%a9/%2F!", "http://%C3%A9/%2F!"),
        ("http://a/%2F!ü", "http://a//%21%C3%BC"),
        ("http:/a b", "http:/a%20b"),
        ("http://a?#", "http://a?"),
        ("http://a#b cü!", "http://a#b%20c%C3%BC!"),
        ("http://u!:p@w:x@a", "http://u%21:p%40w%3Ax@a"),
    ],
)
def test_urls(text: str, expected: str) -> None:
    assert URL(text) == expected


@pytest.mark.parametrize(
    "text",
    ["javascript:alert(1)", "//a", "http://a\\b", "http://a:x", "http://%41", "http://a\n", "http://[::1",
     "http://[::1]x", "http://a:1:2", "http://u v@a", "http://a#%zz"],
)  # fmt: skip
def test_no_urls(text: str) -> None:
    with pytest.raises(ValueError, match=r"URL|scheme"):
        URL(text)


@pytest.mark.parametrize("text", ["0", "root", "4294967294", "/etc/hostname", "a b"])
def test_users(text: str) -> None:
    assert identity(text) == text


@pytest.mark.parametrize(
    "text",
    ["", "-1", "+1", "4294967295", "18446744073709551616", "a:b", "a\nb", "root\0", "00000000004294967295"],
)
def test_cve_2024_40635_users_that_wrap_around_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"ID|name|empty|NUL"):
        identity(text)


def test_app_strings_are_written_as_they_are_read() -> None:
    text = "example.com/app:1.0,arch=amd64,os=linux"
    assert app_string.build(*app_string.parse(text)) == text
    assert app_string.build("a", {}) == "a"


@pytest.mark.parametrize("text", ["a,name=b", "a:1,version=2", "a,x=1:2", "a:", "a,", "a,b", "a,b=1,b=2"])
def test_app_strings_that_are_ambiguous(text: str) -> None:
    if text == "a:":
        assert app_string.parse(text) == ("a", {"version": ""})
        return
    with pytest.raises(ValueError, match=r"."):
        app_string.parse(text)


def test_query_values_are_escaped_as_utf8() -> None:
    assert query.query_string("a=é &,b=~x") == "a=%C3%A9+%26&b=~x"


def test_go_names_and_back() -> None:
    for os, arches in platforms.ARCHITECTURES.items():
        for arch in arches:
            try:
                names = platforms.to_go(os, arch)
            except UnsupportedPlatform:
                continue
            assert platforms.from_go(*names) == (os, arch)
            assert os != "darwin"
    assert platforms.of_host()[0] == "linux"
