"""Meta tags in pages as they are written, as they are broken, and as an attacker writes them."""

from __future__ import annotations

import time

import pytest

from appc.discovery.page import LIMIT, Meta, metas

TAG = '<meta name="ac-discovery" content="example.com https://s/{name}.{ext}">'
FOUND = [Meta("ac-discovery", "example.com", "https://s/{name}.{ext}")]


@pytest.mark.parametrize(
    "page",
    [
        TAG,
        f"<!DOCTYPE html><html><head>{TAG}</head></html>",
        f"<body>{TAG}",
        f"<svg><p title='<'>{TAG}",
        f"<!-- > -->{TAG}",
        f"<!-->{TAG}",
        f"<!--->{TAG}",
        f"<!-- --!>{TAG}",
        f"<?xml version='1.0'?>{TAG}",
        f"<!bogus>{TAG}",
        f"</p>{TAG}",
        f"a < b {TAG}",
        f"<script>if (a</b) '</scripty>'</script >{TAG}",
        f"<SCRIPT></script>{TAG}",
        f"<title>{'<meta>'}</title>{TAG}",
        f"<textarea></textarea/>{TAG}",
        f'<p data-x="<!--">{TAG}',
        "<META CONTENT='example.com https://s/{name}.{ext}' NAME='ac-discovery' />",
        "<meta\nname = ac-discovery\tcontent\n=\n'  example.com   https://s/{name}.{ext}  '>",
        "<meta/name='ac-discovery'/content='example.com https://s/{name}.{ext}'>",
        "<meta name=x name=ac-discovery content='example.com https://s/{name}.{ext}'>",
        "<meta name='ac-disc&#111;very' content='example.com&#x20;https://s/{name}.{ext}'>",
    ],
)
def test_tags_that_count(page: str) -> None:
    assert metas(page.encode()) == FOUND


@pytest.mark.parametrize(
    "page",
    [
        "",
        f"<!-- {TAG} -->",
        f"<!-- {TAG}",
        f"<script>{TAG}</script>",
        f"<script>{TAG}",
        f"<noscript>{TAG}</noscript>",
        f"<textarea>{TAG}</textarea>",
        f"<style>{TAG}</style>",
        f"<title>{TAG}</title>",
        f"<plaintext>{TAG}",
        f"<p title='{TAG}'>",
        TAG[:-1],
        TAG[:-3],
        "<meta name='ac-discovery' content='example.com",
        "<metal name='ac-discovery' content='example.com https://s'>",
        "< meta name='ac-discovery' content='example.com https://s'>",
        "<meta name='AC-discovery' content='example.com https://s'>",
        "<meta name='discovery' content='example.com https://s'>",
        "<meta name='ac-discovery' content='example.com'>",
        "<meta name='ac-discovery' content='example.com\thttps://s'>",
        "<meta name='ac-discovery' content='example.com\nhttps://s'>",
        "<meta name='ac-discovery'>",
        "<meta content='example.com https://s'>",
        "&lt;meta name='ac-discovery' content='example.com https://s'&gt;",
    ],
)
def test_tags_that_do_not(page: str) -> None:
    assert metas(page.encode()) == []


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("a&amp;b", "a&b"),
        ("a&ampb", "a&ampb"),
        ("a&amp=b", "a&amp=b"),
        ("a&lt=b", "a&lt=b"),
        ("a&lt;b", "a<b"),
        ("a&version=b", "a&version=b"),
        ("a&#47;b", "a/b"),
        ("a&#x2F;b", "a/b"),
        ("a&#x2Fzz", "a/zz"),
        ("a&nosuch;b", "a&nosuch;b"),
        ("a&", "a&"),
    ],
)
def test_character_references_in_attributes(written: str, read: str) -> None:
    [meta] = metas(f"<meta name=ac-discovery content='p {written}'>".encode())
    assert meta.uri == read


def test_bytes_that_are_no_text_do_no_harm() -> None:
    assert metas(b"\xff\xfe\x00" + TAG.encode()) == FOUND


@pytest.mark.parametrize(
    "piece",
    [
        "<!--",
        "<!-- x",
        "<!",
        "<",
        "</",
        "<a ",
        "<a b='",
        '<a b="',
        "<a b=",
        "<a/",
        "<script>",
        "<meta ",
        "&#",
        "=",
        "<a='",
    ],
)
def test_cve_2025_6069_hostile_pages_take_linear_time(piece: str) -> None:
    page = (piece * (LIMIT // len(piece))).encode()
    started = time.process_time()
    metas(page)
    assert time.process_time() - started < 5
