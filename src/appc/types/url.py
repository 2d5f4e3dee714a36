"""URLs in annotations: http and https only, as Go's net/url reads and writes them."""

from __future__ import annotations

from appc.jsonfield import quoted, string

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self

_HEX = "0123456789abcdefABCDEF"
_HOST = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.~!$&'()*+,;=:[]<>\"%"
_PATH = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.~!$&'()*+,;=:@/%[]"


class URL(str):
    """A URL with its scheme in lower case and unusual characters of its path escaped."""

    __slots__ = ()

    def __new__(cls, value: object) -> Self:
        text = string(value)
        if any(character < " " or character == "\x7f" for character in text):
            raise ValueError(f"{quoted(text)} is no URL: it holds a control character")
        scheme, colon, rest = text.partition(":")
        if colon and not scheme:
            raise ValueError(f"{quoted(text)} is no URL: the scheme is missing")
        if not colon or scheme.lower() not in {"http", "https"}:
            raise ValueError(f"{quoted(text)}: the scheme must be http or https")
        return super().__new__(cls, f"{scheme.lower()}:{_normalised(text, rest)}")


def _normalised(text: str, rest: str) -> str:
    """What follows the scheme, as Go prints it."""
    rest, hash_sign, fragment = rest.partition("#")
    rest, mark, query = rest.partition("?")
    tail = mark + query + hash_sign + fragment
    _check_escapes(text, fragment)
    if not rest.startswith("/"):
        return rest + tail  # "opaque": nothing is looked at
    authority, path = "", rest
    if rest.startswith("//"):
        authority, slash, path = rest[2:].partition("/")
        path = slash + path
        _check_authority(text, authority)
    _check_escapes(text, path)
    path = "".join(character if character in _PATH else _escaped(character) for character in path)
    return f"//{authority}{path}{tail}" if authority or path else tail


def _check_authority(text: str, authority: str) -> None:
    user, at, host = authority.rpartition("@")
    if at:
        _check_escapes(text, user)
    for character in host:
        if character not in _HOST and character < "\x80":
            raise ValueError(f"{quoted(text)} is no URL: {quoted(character)} is not allowed in a host name")
    _check_escapes(text, host)
    for piece in host.split("%")[1:]:  # only a zone's % itself and what is not ASCII may be escaped
        if piece[:2] != "25" and piece[0] in "01234567":
            raise ValueError(
                f"{quoted(text)} is no URL: {quoted('%' + piece[:2])} is no escape in a host name"
            )
    name, colon, port = host.rpartition(":")
    if host.startswith("[") and "]" not in host:
        raise ValueError(f"{quoted(text)} is no URL: the address lacks its closing bracket")
    if colon and "]" not in port and port.strip("0123456789"):
        raise ValueError(f"{quoted(text)} is no URL: the port {quoted(port)} is no number")
    if not host.startswith("[") and ":" in name:
        raise ValueError(f"{quoted(text)} is no URL: a host name holds no colon")


def _check_escapes(text: str, part: str) -> None:
    for piece in part.split("%")[1:]:
        if len(piece) < 2 or piece[:2].strip(_HEX):
            raise ValueError(f"{quoted(text)} is no URL: {quoted('%' + piece[:2])} is no escape")


def _escaped(character: str) -> str:
    return "".join(f"%{octet:02X}" for octet in character.encode())
