"""Whatever comes from a network: parsers answer or refuse, and never fail in another way."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from appc import openpgp
from appc.discovery import page, templates
from appc.http import caching
from appc.http import url as urls
from appc.http.proxies import Proxies
from fixtures.openpgp import Owner, armor, packet
from rkt.errors import RktError
from rkt.fetch import argument
from rkt.metadata import wire

SETTINGS = settings(max_examples=300, deadline=None)
OWNER = Owner()
SIGNATURE = OWNER.key.signature(b"data")

HTML = st.lists(
    st.sampled_from([
        "<",
        ">",
        "</",
        "<!--",
        "-->",
        "<meta ",
        "name=",
        "content=",
        '"',
        "'",
        "/",
        " ",
        "&amp;",
        "&#",
    ])
    | st.text(max_size=5),
    max_size=60,
).map("".join)


@SETTINGS
@given(HTML)
def test_pages(text: str) -> None:
    for meta in page.metas(text.encode("utf-8", "surrogatepass")):
        assert meta.name.startswith("ac-")
        assert meta.prefix
        assert " " not in meta.prefix


@SETTINGS
@given(st.binary(max_size=300))
def test_pages_of_any_bytes(data: bytes) -> None:
    page.metas(data)


@SETTINGS
@given(st.text(max_size=80), st.dictionaries(st.text(max_size=6), st.text(max_size=10), max_size=4))
def test_templates(template: str, labels: dict[str, str]) -> None:
    found = templates.endpoint(template, "example.com/app", labels)
    if found is not None:
        assert found.aci != found.asc


@SETTINGS
@given(st.text(max_size=60) | st.from_regex(r"https?://[a-z@:\[\]0-9./?#\\%-]{0,40}", fullmatch=True))
def test_addresses(text: str) -> None:
    with suppress(ValueError):
        url = urls.parse(text)
        again = urls.parse(str(url))
        assert again == url._replace(userinfo="")
        assert url.host
        assert "@" not in url.authority
        with suppress(ValueError):
            assert not urls.join(url, text).userinfo


@SETTINGS
@given(st.text(max_size=60))
def test_cache_control(text: str) -> None:
    assert 0 <= caching.max_age(text) < 2**31


@SETTINGS
@given(
    st.text(max_size=40),
    st.sampled_from(["https://example.com/", "https://[2001:db8::1]/", "http://10.0.0.1/"]),
)
def test_no_proxy(text: str, address: str) -> None:
    Proxies({"https_proxy": "proxy:1", "http_proxy": "proxy:1", "no_proxy": text}).for_url(
        urls.parse(address)
    )


def check_openpgp(data: bytes) -> None:
    with suppress(openpgp.MalformedError):
        signature = openpgp.read_signature(data)
        assert len(signature.key_id) == 16
    with suppress(openpgp.MalformedError):
        for key in openpgp.read_keys(data, armored_only=False):
            assert len(key.fingerprint) == 40


@SETTINGS
@given(st.binary(max_size=300))
def test_openpgp_of_any_bytes(data: bytes) -> None:
    check_openpgp(data)
    check_openpgp(armor(data))
    check_openpgp(armor(data, "PUBLIC KEY BLOCK"))


@SETTINGS
@given(st.integers(0, 63), st.binary(max_size=200))
def test_openpgp_packets_of_any_kind(tag: int, body: bytes) -> None:
    check_openpgp(packet(tag, body))
    check_openpgp(packet(2, b"\x04" + body))
    check_openpgp(OWNER.public() + packet(tag, body))


@SETTINGS
@given(st.integers(0, len(SIGNATURE) - 1), st.integers(0, 255), st.integers(0, len(SIGNATURE)))
def test_openpgp_mutations(place: int, byte: int, end: int) -> None:
    check_openpgp((SIGNATURE[:place] + bytes([byte]) + SIGNATURE[place + 1 :])[:end])


@SETTINGS
@given(
    st.text(max_size=60) | st.from_regex(r"(cimd|docker|file|https)?:?[a-z:/.,=%?&-]{0,40}", fullmatch=True)
)
def test_image_arguments(text: str) -> None:
    with suppress(RktError):
        source = argument.parse(text.replace("\0", ""))
        assert source.kind in {"hash", "file", "url", "name", "docker"}
        if source.kind == "name":
            assert ".." not in Path(source.value).parts


@SETTINGS
@given(st.binary(max_size=200))
def test_forms(body: bytes) -> None:
    for name, value in wire.form(body).items():
        assert isinstance(name, str)
        assert isinstance(value, bytes)
