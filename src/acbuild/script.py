"""Scripts: one command a line, in a small syntax of its own (acbuild 0.4's, down to its quotes).

``#`` begins a comment outside quotes; both kinds of quotes keep blanks; a backslash takes the next character
as it is, inside quotes too; at the end of a line it joins the next one, with a blank between.
"""

from __future__ import annotations

from acbuild.errors import AcbuildError
from linux.named_tuple import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

#: Set for the commands of a script: the directory of its build, which a script in it shares.
NESTED = "ACBUILD_NESTED_SCRIPT"
#: Commands whose words may look like flags of their own.
_OPEN_ENDED = ("run", "set-exec")


class Line(NamedTuple):
    """A command and the line that it stands in, from 1 on (the last one, of several that were joined)."""

    number: int
    words: list[str]


def parse(text: str, name: str) -> list[Line]:
    """The commands of a script. AcbuildError, with `name` and the line, for what cannot be understood."""
    found = []
    for number, line in enumerate(join([line.strip() for line in text.split("\n")]), 1):
        try:
            words = tokenize(line)
        except ValueError as error:
            raise AcbuildError(f"{name}:{number}: {error}") from None
        if not words:
            continue
        words[0] = words[0].lower()
        if words[0] == "end":
            raise AcbuildError(
                f"{name}:{number}: a script does not call end",
                hint="its build ends by itself: remove the line",
            )
        if words[0] in _OPEN_ENDED:
            words = with_dashes(words)
        found.append(Line(number, words))
    return found


def join(lines: Sequence[str]) -> list[str]:
    """`lines`, each that ends with a backslash moved into the next one; its own place stays empty."""
    joined = list(lines)
    for place, line in enumerate(joined[:-1]):
        del line  # it may have grown since
        if joined[place].endswith("\\"):
            joined[place + 1] = f"{joined[place][:-1]} {joined[place + 1]}"
            joined[place] = ""
    return joined


def tokenize(line: str) -> list[str]:
    """The words of a line. ValueError for quotes without an end, and for a backslash with nothing behind."""
    words: list[str] = []
    word: list[str] = []
    quote = ""
    started = escaped = False
    for character in line:
        if escaped:
            word.append(character)
            escaped = False
        elif character == "\\":
            escaped = started = True
        elif quote:
            if character == quote:
                quote = ""
            else:
                word.append(character)
        elif character in "'\"":
            quote = character
            started = True
        elif character in " \t#":
            if started:
                words.append("".join(word))
                word, started = [], False
            if character == "#":
                break
        else:
            word.append(character)
            started = True
    if quote:
        raise ValueError(f"unterminated {'single' if quote == chr(39) else 'double'} quote block")
    if escaped:
        raise ValueError("ended with an escape")
    if started:
        words.append("".join(word))
    return words


def with_dashes(words: Sequence[str]) -> list[str]:
    """The words with ``--`` in front of the first that is no flag, unless it is there already."""
    for place, word in enumerate(words):
        if place and word == "--":
            break
        if place and not word.startswith("-"):
            return [*words[:place], "--", *words[place:]]
    return list(words)
