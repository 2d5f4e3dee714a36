"""The meta tags of a page, found in one pass whose time grows with the page and nothing else.

The standard library's parser takes quadratic time on hostile pages (CVE-2025-6069), and is as forgiving in
other places than browsers are. Only what decides whether a tag counts is understood: comments, elements
whose content is text, quoted attributes (html.spec.whatwg.org, "Tokenization").
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from linux.named_tuple import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

LIMIT = 1 << 20  # bytes of a page; more is refused by whoever fetches it

# Inside these a tag is text, up to their own end tag; `plaintext` has none.
_TEXT_ELEMENTS = frozenset((
    "iframe",
    "noembed",
    "noframes",
    "noscript",
    "script",
    "style",
    "textarea",
    "title",
    "xmp",
))
_TAG_NAME = re.compile(r"[A-Za-z][^ \t\n\f\r/>]*")
_BLANKS = re.compile(r"[ \t\n\f\r]*")
_BETWEEN = re.compile(r"[ \t\n\f\r/]*")
_NAME = re.compile(r"=?[^ \t\n\f\r/>=]*")
_BARE = re.compile(r"[^ \t\n\f\r>]*")
_COMMENT_END = re.compile(r"--!?>")
_REFERENCE = re.compile(
    r"&(?:#[xX](?P<hex>[0-9a-fA-F]{1,8});?|#(?P<number>[0-9]{1,8});?"
    r"|(?P<word>[A-Za-z0-9]{1,40})(?P<end>;?))"
)


class Meta(NamedTuple):
    """One `ac-…` meta tag: its content is a prefix of image names, a blank, and a template or an address."""

    name: str
    prefix: str
    uri: str


def metas(page: bytes) -> list[Meta]:
    """The `ac-…` meta tags of `page` in their order; what is malformed is passed over."""
    found = []
    for attributes in _meta_tags(page.decode("utf-8", "replace")):
        name = attributes.get("name", "")
        prefix, blank, uri = attributes.get("content", "").strip().partition(" ")
        uri = uri.strip()
        if name.startswith("ac-") and prefix and blank and uri:
            found.append(Meta(name, prefix, uri))
    return found


def _meta_tags(text: str) -> Iterator[dict[str, str]]:
    position = 0
    while (position := text.find("<", position)) >= 0:
        if text.startswith("<!--", position):
            position = _after_comment(text, position)
        elif text.startswith(("<!", "<?", "</"), position):
            end = text.find(">", position)
            position = len(text) if end < 0 else end + 1
        elif tag := _TAG_NAME.match(text, position + 1):
            name = tag[0].lower()
            attributes, position, complete = _attributes(text, tag.end())
            if name == "meta" and complete:
                yield attributes
            elif name == "plaintext":
                return
            elif name in _TEXT_ELEMENTS:
                position = _after_text(text, position, name)
        else:
            position += 1


def _after_comment(text: str, start: int) -> int:
    """Where the comment at `start` ends. `<!-->` and `<!--->` are whole comments, `--!>` ends one too."""
    for short in ("<!-->", "<!--->"):
        if text.startswith(short, start):
            return start + len(short)
    found = _COMMENT_END.search(text, start + 4)
    return found.end() if found else len(text)


def _after_text(text: str, start: int, element: str) -> int:
    """Where the element's own end tag begins; its content holds no tags."""
    ending = re.compile(rf"</{element}(?=[ \t\n\f\r/>])", re.IGNORECASE | re.ASCII)
    found = ending.search(text, start)
    return found.start() if found else len(text)


def _attributes(text: str, position: int) -> tuple[dict[str, str], int, bool]:
    """The attributes from `position` to the tag's end, the place behind it, whether there was an end.

    The last attribute of a name counts, as in the reference; a quoted value may hold `>`.
    """
    attributes: dict[str, str] = {}
    while True:
        position = _skip(_BETWEEN, text, position)
        if text[position : position + 1] in {"", ">"}:
            return attributes, position + 1, position < len(text)
        end = _skip(_NAME, text, position)
        name = text[position:end].lower()
        value = ""
        position = _skip(_BLANKS, text, end)
        if text[position : position + 1] == "=":
            start = _skip(_BLANKS, text, position + 1)
            quote = text[start : start + 1]
            if quote in {'"', "'"}:
                end = text.find(quote, start + 1)
                if end < 0:
                    return attributes, len(text), False
                value, position = text[start + 1 : end], end + 1
            else:
                position = _skip(_BARE, text, start)
                value = text[start:position]
        attributes[name] = _REFERENCE.sub(_character, value)


def _skip(pattern: re.Pattern[str], text: str, position: int) -> int:
    """Behind what `pattern`, which may match nothing, finds at `position`."""
    found = pattern.match(text, position)
    return found.end() if found else position


def _character(reference: re.Match[str]) -> str:
    """What a character reference in an attribute stands for.

    Without its semicolon a name counts only if no `=` follows, so that `?a=1&lt=2` stays what it is.
    """
    from html import unescape
    from html.entities import html5

    if (word := reference["word"]) is None:
        return unescape(reference[0] if reference[0].endswith(";") else reference[0] + ";")
    if reference["end"]:
        return html5.get(word + ";", reference[0])
    following = reference.string[reference.end() : reference.end() + 1]
    return reference[0] if following == "=" else html5.get(word, reference[0])
