"""The records of PAX extended headers (POSIX.1-2017, pax, "pax Extended Header"): read strictly, written.

A header overrides fields of the entry behind it, so two readers that disagree on it see two different
archives (CVE-2025-62518); whatever is not exactly as POSIX says is refused.
"""

from __future__ import annotations

from appc.aci.errors import InvalidArchive, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

XATTR = b"SCHILY.xattr."
_LIBARCHIVE_XATTR = b"LIBARCHIVE.xattr."
#: Records that change which bytes are file content: a reader that does not know them reads another archive.
_SPARSE = (b"GNU.sparse.", b"SCHILY.realsize", b"SUN.holesdata", b"GNU.volume.", b"GNU.dumpdir")
#: What a global header may say without changing what any entry is.
_HARMLESS = (
    *(b"comment", b"hdrcharset", b"charset", b"atime", b"ctime", b"uname", b"gname"),
    *(b"exthdr.", b"globexthdr."),
)
_LONGEST_NUMBER = 20


def parse(data: bytes) -> dict[bytes, bytes]:
    """The records of one extended header. A record with an empty value takes the key back (POSIX)."""
    records: dict[bytes, bytes] = {}
    position, end = 0, len(data)
    while position < end:
        space = data.find(b" ", position, position + 9)
        digits = data[position:space] if space > 0 else b""
        if not digits.isdigit() or digits[0] == 0x30:
            raise InvalidArchive("a PAX header holds a record without a length")
        stop = position + int(digits)
        if stop > end or stop <= space + 2 or data[stop - 1] != 0x0A:
            raise InvalidArchive("a PAX header holds a record of a wrong length")
        key, equals, value = data[space + 1 : stop - 1].partition(b"=")
        if not equals or not key:
            raise InvalidArchive("a PAX header holds a record without a key")
        if key.startswith(_SPARSE):
            raise InvalidArchive(f"a sparse file or the like ({shown(key)}), which images may not hold")
        if key in records:
            raise InvalidArchive(f"a PAX header holds {shown(key)} twice")
        if (key == b"path" or key == b"linkpath") and b"\0" in value:
            raise InvalidArchive(f"NUL in the PAX record {shown(key)}")
        records[key] = value
        position = stop
    xattr = (XATTR, _LIBARCHIVE_XATTR)  # whose values may well be empty
    return {key: value for key, value in records.items() if value or key.startswith(xattr)}


def check_global(records: dict[bytes, bytes]) -> None:
    """Refuse a global header that changes entries, such as by a path or size for all of them."""
    for key in records:
        vendor = key.split(b".", 1)[0]
        if key.startswith(_HARMLESS) or (b"." in key and vendor not in {b"SCHILY", b"LIBARCHIVE", b"GNU"}):
            continue
        raise InvalidArchive(f"a global PAX header sets {shown(key)} for all entries")


def number(records: dict[bytes, bytes], key: bytes) -> int:
    """The decimal number in the record `key`, which is there."""
    value = records[key]
    if not value.isdigit() or len(value) > _LONGEST_NUMBER:
        raise InvalidArchive(f"the PAX record {shown(key)} is {shown(value)!r}, no number")
    return int(value)


def nanoseconds(records: dict[bytes, bytes], key: bytes) -> int:
    """The time in the record `key`, such as ``-1234.5`` (seconds), as nanoseconds since 1970."""
    value = records[key]
    negative = value[:1] == b"-"
    whole, dot, fraction = value[negative:].partition(b".")
    if not whole.isdigit() or len(whole) > _LONGEST_NUMBER or (dot and not fraction.isdigit()):
        raise InvalidArchive(f"the PAX record {shown(key)} is {shown(value)!r}, no time")
    result = int(whole) * 1_000_000_000 + int(fraction[:9].ljust(9, b"0") or b"0")
    return -result if negative else result


def xattrs(records: dict[bytes, bytes]) -> dict[bytes, bytes]:
    """The extended attributes among `records`, in either of the two spellings (star's and bsdtar's)."""
    found = {}
    for key, value in records.items():
        if key.startswith(XATTR):
            name = key[len(XATTR) :]
        elif key.startswith(_LIBARCHIVE_XATTR):
            name, value = _libarchive(key[len(_LIBARCHIVE_XATTR) :], value)
            if XATTR + name in records:
                continue  # bsdtar writes both; star's needs no decoding
        else:
            continue
        if not name or len(name) > 255 or b"\0" in name:
            raise InvalidArchive(f"the name of an extended attribute ({shown(name)!r})")
        found[name] = value
    return found


def _libarchive(name: bytes, value: bytes) -> tuple[bytes, bytes]:
    """bsdtar's spelling: the name URL-encoded, the value in base 64 without padding."""
    import binascii
    from urllib.parse import unquote_to_bytes

    try:
        return unquote_to_bytes(name), binascii.a2b_base64(value + b"=" * (-len(value) % 4), strict_mode=True)
    except binascii.Error as error:
        raise InvalidArchive(f"the PAX record for the extended attribute {shown(name)} ({error})") from None


def encode(records: Iterable[tuple[bytes, bytes]]) -> bytes:
    """The content of an extended header that holds `records` in this order."""
    out = []
    for key, value in records:
        body = len(key) + len(value) + 3  # blank, equals sign, newline
        length = body + len(str(body))
        if len(str(length)) != len(str(body)):
            length += 1
        out.append(b"%d %s=%s\n" % (length, key, value))
    return b"".join(out)
