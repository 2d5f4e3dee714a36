"""URLs in annotations: http and https only, as Go's net/url reads and writes them."""

from __future__ import annotations

from appc.jsonfield import quoted, string

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self

_HEX = "0123456789abcdefABCDEF"
_UNRESERVED = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.~"
#: What may stand as it is; the user's part and what must be escaped are other sets than what is written.
_HOST = _UNRESERVED + "!$&'()*+,;=:[]<>\""
_USER = _UNRESERVED + "!$&'()*+,;=:@%"
_PATH = _UNRESERVED + "!$&'()*+,;=:@/[]%"
_FRAGMENT = _PATH + "?"
_USER_WRITTEN = _UNRESERVED + "$&+,;="
_PATH_WRITTEN = _UNRESERVED + "$&+,/:;=@"
_FRAGMENT_WRITTEN = _UNRESERVED + "!()*$&+,/:;=?@"


class URL(str):
    """A URL with its scheme in lower case and unusual characters escaped."""

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
        try:
            return super().__new__(cls, f"{scheme.lower()}:{_normalised(rest)}")
        except ValueError as error:
            raise ValueError(f"{quoted(text)} is no URL: {error}") from None


def _normalised(rest: str) -> str:
    """What follows the scheme, as Go prints it."""
    rest, _, fragment = rest.partition("#")
    rest, mark, query = rest.partition("?")
    fragment = _kept(fragment, _FRAGMENT, _FRAGMENT_WRITTEN)
    tail = mark + query + (fragment and "#" + fragment)
    if not rest.startswith("/"):
        return rest + tail  # "opaque": nothing is looked at
    if not rest.startswith("//"):
        return _kept(rest, _PATH, _PATH_WRITTEN) + tail
    authority, slash, path = rest[2:].partition("/")
    authority = _authority(authority)
    path = _kept(slash + path, _PATH, _PATH_WRITTEN)
    return f"//{authority}{path}{tail}" if authority or path else tail


def _kept(text: str, allowed: str, written: str) -> str:
    """`text` as it is where it may stand so, else unescaped and escaped anew."""
    plain = _unescaped(text)
    return text if not text.strip(allowed) else _escaped(plain, written)


def _authority(authority: str) -> str:
    user, at, host = authority.rpartition("@")
    if bad := user.strip(_USER):
        raise ValueError(f"{quoted(bad[0])} is not allowed in the name of a user")
    name, colon, password = user.partition(":")
    pieces = [_escaped(_unescaped(piece), _USER_WRITTEN) for piece in (name, password)]
    return (pieces[0] + (colon and ":" + pieces[1]) + at if at else "") + _host(host)


def _host(host: str) -> str:
    for character in host:
        if character not in _HOST and character != "%" and character < "\x80":
            raise ValueError(f"{quoted(character)} is not allowed in a host name")
    plain = _unescaped(host)
    for piece in host.split("%")[1:]:  # only a zone's % itself and what is not ASCII may be escaped
        if piece[:2] != "25" and piece[0] in "01234567":
            raise ValueError(f"{quoted('%' + piece[:2])} is no escape in a host name")
    in_brackets = host.startswith("[")
    if in_brackets and "]" not in host:
        raise ValueError("the address lacks its closing bracket")
    name = host.rpartition("]")[2] if in_brackets else host
    name, _, port = name.rpartition(":") if ":" in name else (name, "", "")
    if port.strip("0123456789"):
        raise ValueError(f"the port {quoted(port)} is no number")
    if (in_brackets and name) or ":" in name:
        raise ValueError(f"{quoted(host)} is no name of a host")
    return _escaped(plain, _HOST)


def _unescaped(text: str) -> bytearray:
    first, *pieces = text.split("%")
    octets = bytearray(first.encode())
    for piece in pieces:
        if len(piece) < 2 or piece[:2].strip(_HEX):
            raise ValueError(f"{quoted('%' + piece[:2])} is no escape")
        octets += bytes.fromhex(piece[:2]) + piece[2:].encode()
    return octets


def _escaped(octets: bytearray, allowed: str) -> str:
    return "".join(chr(octet) if chr(octet) in allowed else f"%{octet:02X}" for octet in octets)
