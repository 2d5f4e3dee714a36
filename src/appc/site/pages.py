"""The pages of a site: the tags that discovery reads (spec/discovery.md), and a list for people.

Every text is escaped, every address is made of parts that were checked before.
"""

from __future__ import annotations

from html import escape

from linux.named_tuple import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from appc.site.release import Release

KEYS = "pubkeys.gpg"


class Tag(NamedTuple):
    """A meta tag: `uri` is a template or an address for names that begin with `prefix`."""

    name: str
    prefix: str
    uri: str


def tags(name: str, base: str, *, keys: bool) -> list[Tag]:
    """What the page of the image `name` says when the site is served at the address `base`.

    The template has `{name}`, so that for a name below, of which there is no image, it leads nowhere.
    """
    app = name.rpartition("/")[2]
    template = f"{base}/{{name}}/{app}-{{version}}-{{os}}-{{arch}}.{{ext}}"
    found = [Tag("ac-discovery", name, template)]
    return [*found, *key_tags(name, base, keys=keys)]


def key_tags(prefix: str, base: str, *, keys: bool) -> list[Tag]:
    """Where the keys for names that begin with `prefix` are, if the site has keys."""
    return [Tag("ac-discovery-pubkeys", prefix, f"{base}/{KEYS}")] if keys else []


def image_page(found: Sequence[Tag], releases: Iterable[Release], base: str, *, name: str) -> bytes:
    """The page of one image: its releases, each a link."""
    rows = [
        f'<li><a href="{escape(f"{base}/{release.path}")}">{escape(release.version)}</a>'
        f" {escape(release.os)}/{escape(release.arch)}</li>"
        for release in releases
    ]
    return _page(found, name, rows)


def root_page(found: Sequence[Tag], names: Iterable[str], title: str) -> bytes:
    """The page of the site: the names of its images."""
    return _page(found, title, [f"<li>{escape(name)}</li>" for name in names])


def _page(found: Sequence[Tag], title: str, rows: Sequence[str]) -> bytes:
    head = [
        f'<meta name="{escape(tag.name)}" content="{escape(tag.prefix)} {escape(tag.uri)}">' for tag in found
    ]
    lines = [
        "<!DOCTYPE html>",
        '<html lang="en">',
        "<head>",
        '<meta charset="utf-8">',
        *head,
        f"<title>{escape(title)}</title>",
        "</head>",
        "<body>",
        f"<h1>{escape(title)}</h1>",
        "<ul>",
        *rows,
        "</ul>",
        "</body>",
        "</html>",
        "",
    ]
    return "\n".join(lines).encode()
