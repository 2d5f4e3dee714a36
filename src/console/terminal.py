"""What may be done to a stream: colour, redrawing, and what has to be kept off a terminal."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO

COLOUR_MODES = ("auto", "always", "never")
_CODES = {"red": "31", "green": "32", "yellow": "33", "blue": "34", "bold": "1", "dim": "2"}


def is_terminal(stream: TextIO) -> bool:
    try:
        return os.isatty(stream.fileno())
    except (OSError, ValueError):
        return False


def wants_colour(stream: TextIO, mode: str = "auto") -> bool:
    """Whether to colour `stream`: decided for each stream, NO_COLOR (no-color.org) and TERM=dumb obeyed."""
    if mode != "auto":
        return mode == "always"
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM", "dumb") != "dumb" and is_terminal(stream)


def paint(text: str, colour: str) -> str:
    return f"\x1b[{_CODES[colour]}m{text}\x1b[0m"


def plain(text: str, *, keep: str = "") -> str:
    r"""`text` without control characters, which could drive the reader's terminal; they become `\x1b` etc.

    Texts come from images, peers and file names, that is, from strangers. `keep` are allowed ones.
    """
    if text.isprintable():
        return text
    return "".join(
        character
        if character.isprintable() or character in keep
        else character.encode("unicode_escape", "surrogatepass").decode("ascii")
        for character in text
    )
