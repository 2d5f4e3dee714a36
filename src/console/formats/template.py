"""Output by template: ``--format='{uuid} {state}'`` with a closed set of names.

The names are checked before anything is done, so that a typing error is one on an empty list too
(podman 4.3 prints nothing for it and exits 0). Only plain names with an optional width are taken:
``{a.b}``, ``{a[0]}`` and ``{a!r}`` would reach into objects.
"""

from __future__ import annotations

from console.errors import UsageError, near

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_ESCAPES = {"n": "\n", "t": "\t", "\\": "\\"}


class Template:
    """A parsed template; `names` are those that may occur. Raises UsageError for any other."""

    __slots__ = ("_parts",)

    def __init__(self, text: str, names: Sequence[str]) -> None:
        self._parts: list[tuple[str, str | None, str]] = []
        import string

        try:
            parts = list(string.Formatter().parse(_unescape(text)))
        except ValueError as error:
            raise UsageError(f"--format: {text!r} is not a template: {error}") from None
        for literal, name, width, conversion in parts:
            if name is not None and (name not in names or conversion):
                raise UsageError(
                    f"--format: unknown name {{{name}{'!' + conversion if conversion else ''}}}",
                    hint=near(name, names, "{{{}}}") or "the names are " + ", ".join(names),
                )
            if width and not _is_width(width):
                raise UsageError(f"--format: {width!r} is no width", hint="a width is digits")
            self._parts.append((literal, name, width or ""))

    def render(self, values: Mapping[str, object]) -> str:
        return "".join(
            literal + ("" if name is None else format(_text(values.get(name)), width))
            for literal, name, width in self._parts
        )


def _is_width(text: str) -> bool:
    digits = text[1:] if text[0] in "<>^" else text
    return digits.isascii() and digits.isdigit() and len(digits) <= 3


def _text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, tuple)):
        return ",".join(_text(item) for item in value)
    return str(value)


def _unescape(text: str) -> str:
    if "\\" not in text:
        return text
    out = []
    characters = iter(text)
    for character in characters:
        if character == "\\":
            following = next(characters, "")
            out.append(_ESCAPES.get(following, "\\" + following))
        else:
            out.append(character)
    return "".join(out)
