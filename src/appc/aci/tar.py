"""Reading tar archives: ustar, GNU long names, PAX; every entry checked before anybody acts on it (rule R1).

One walk over a stream of chunks; nothing is kept but the current chunk. What is refused, and why: sparse
files and unknown types (their size is not what they take), entries that have content though their type has
none, numbers out of range, names that are absolute, hold ``..`` or NUL, headers whose checksum is wrong,
anything but zeros behind the end. Two readers of one archive must not see different trees.
"""

from __future__ import annotations

import struct

from appc.aci import pax
from appc.aci.errors import InvalidArchive, LimitExceeded, shown
from appc.aci.limits import DEFAULT, Limits
from linux.named_tuple import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

FILE = "file"
HARD_LINK = "hard link"
SYMLINK = "symbolic link"
CHARACTER_DEVICE = "character device"
BLOCK_DEVICE = "block device"
DIRECTORY = "directory"
FIFO = "fifo"

_KINDS = {
    b"0": FILE,
    b"\0": FILE,
    b"7": FILE,  # "contiguous": POSIX says to treat it as a file
    b"1": HARD_LINK,
    b"2": SYMLINK,
    b"3": CHARACTER_DEVICE,
    b"4": BLOCK_DEVICE,
    b"5": DIRECTORY,
    b"6": FIFO,
}
BLOCK = 512
_ZEROS = bytes(BLOCK)
#: 2^32-1 means "leave as it is" to chown(2) (CVE-2024-40635: larger ones wrapped to 0).
MAX_ID = 2**32 - 2
_MAX_SECONDS = 2**36
_NO_XATTRS: Mapping[bytes, bytes] = {}
_IDS = struct.Struct("8s8s8s")
#: Distinct (mode, uid, gid) triples that are remembered; an image has a few dozen.
_REMEMBERED = 4096


class Entry(NamedTuple):
    """One member of an archive. `name` and a hard link's `target` are clean and relative."""

    name: bytes
    kind: str
    #: The twelve permission bits.
    mode: int
    uid: int
    gid: int
    size: int
    #: Nanoseconds since 1970.
    mtime: int
    #: Of a link: a symbolic link's as it is, which may be anything.
    target: bytes
    #: Major and minor number of a device.
    device: tuple[int, int]
    xattrs: Mapping[bytes, bytes]


class TarReader:
    """The entries of an archive, in order; the content of one is there until the next is asked for.

    `chunks` are the plain bytes in pieces of any size. `xattr_bytes` and `count` tell how many bytes of
    extended attributes and how many entries there have been so far. With `rooted` a slash in front of a name
    (or of a hard link's target) is taken off: layers of other tools name paths from the root of the image.
    """

    def __init__(self, chunks: Iterator[bytes], limits: Limits = DEFAULT, *, rooted: bool = False) -> None:
        self._chunks = chunks
        self._limits = limits
        self._rooted = rooted
        self._fed = 0
        self._buffer = b""
        self._at = 0
        #: Content bytes of the current entry that nobody has read, and the padding behind them.
        self._left = 0
        self._padding = 0
        self._ids: dict[bytes, tuple[int, int, int]] = {}
        self._ended = False
        self.count = 0
        self._records = 0
        self.xattr_bytes = 0

    def __iter__(self) -> Iterator[Entry]:
        records: dict[bytes, bytes] = {}
        long_name = long_target = None
        while True:
            if self._left or self._padding:
                self._skip(self._left)
                if self._padding and self._rooted and self._is_at_end():
                    return  # umoci 0.4 does not pad the last file of a layer; its content is whole
                self._skip(self._padding)
                self._left = self._padding = 0
            block = self._take(BLOCK, at_end=True)
            if len(block) < BLOCK or block == _ZEROS:
                self._finish(block)
                if records or long_name is not None or long_target is not None:
                    raise InvalidArchive("an extended header without an entry at the end of the archive")
                return
            _check_sum(block)
            flag = block[156:157]
            if flag in {b"x", b"g", b"L", b"K"}:
                size = _number(block[124:136], "size")
                if size > self._limits.pax_header:
                    raise LimitExceeded(f"an extended header of {size} bytes")
                self.count += 1  # headers count: a million of them in front of one entry is an attack too
                self._check_count()
                data = self._take(size)
                self._skip(-size % BLOCK)
                if flag == b"g":
                    if records or long_name is not None or long_target is not None:
                        raise InvalidArchive("a global PAX header between an extended header and its entry")
                    pax.check_global(self._parsed(data))
                elif flag == b"x":
                    if records:
                        raise InvalidArchive("two PAX headers in front of one entry")
                    records = self._parsed(data) or {b"comment": b""}
                elif flag == b"L":
                    long_name = _long(data, long_name)
                else:
                    long_target = _long(data, long_target)
                continue
            yield self._entry(block, flag, records, long_name, long_target)
            if records:
                records = {}
            long_name = long_target = None

    def content(self) -> Iterator[memoryview]:
        """The content of the current entry that has not been read yet, in pieces as they come."""
        while self._left:
            available = len(self._buffer) - self._at
            if not available:
                self._refill()
                continue
            count = min(available, self._left)
            piece = memoryview(self._buffer)[self._at : self._at + count]
            self._at += count
            self._left -= count
            yield piece

    def read(self) -> bytes:
        """The whole content of the current entry, whose size the caller has looked at."""
        size, self._left = self._left, 0
        return self._take(size)

    @property
    def position(self) -> int:
        """Bytes of the archive in front of the next one to be read: where the current entry's content is."""
        return self._fed - (len(self._buffer) - self._at)

    # --- entries

    def _parsed(self, data: bytes) -> dict[bytes, bytes]:
        """The records of a PAX header, of which a file of 50 KB can hold millions."""
        records = pax.parse(data)
        self._records += len(records)
        if self._records > self._limits.records:
            raise LimitExceeded(f"more than {self._limits.records} records in PAX headers")
        return records

    def _entry(
        self,
        block: bytes,
        flag: bytes,
        records: dict[bytes, bytes],
        long_name: bytes | None,
        long_target: bytes | None,
    ) -> Entry:
        self.count += 1
        self._check_count()
        name = _name(block) if long_name is None else long_name
        target = block[157:257].partition(b"\0")[0] if long_target is None else long_target
        ids = block[100:124]
        mode, uid, gid = self._ids.get(ids) or self._parse_ids(ids)
        size = _number(block[124:136], "size")
        xattrs = _NO_XATTRS
        mtime = _number(block[136:148], "time", negative=True) * 1_000_000_000
        if records:
            if (b"path" in records and long_name is not None) or (
                b"linkpath" in records and long_target is not None
            ):
                raise InvalidArchive(f"{shown(name)}: a GNU and a PAX header for one name")
            name = records.get(b"path", name)
            target = records.get(b"linkpath", target)
            size = pax.number(records, b"size") if b"size" in records else size
            uid = pax.number(records, b"uid") if b"uid" in records else uid
            gid = pax.number(records, b"gid") if b"gid" in records else gid
            mtime = pax.nanoseconds(records, b"mtime") if b"mtime" in records else mtime
            xattrs = self._xattrs(records)
        kind = _KINDS.get(flag)
        if kind is None:
            what = "a sparse file" if flag == b"S" else f"an entry of the unknown type {flag!r}"
            raise InvalidArchive(f"{shown(name)}: {what}, which images may not hold")
        if self._rooted:
            name, target = _unrooted(name), _unrooted(target) if kind is HARD_LINK else target
        cleaned = self._clean(name)
        if name[-1:] == b"/" and kind is not DIRECTORY:
            if flag != b"\0":
                raise InvalidArchive(f"{shown(name)}: a {kind} whose name ends with a slash")
            kind = DIRECTORY  # archives older than POSIX have no other way to say it
        if kind is FILE:
            if size > self._limits.size:
                raise LimitExceeded(f"{shown(cleaned)}: a file of {size} bytes")
            self._left = size
            self._padding = -size % BLOCK
        elif size:
            raise InvalidArchive(f"{shown(cleaned)}: a {kind} with {size} bytes of content")
        elif kind is SYMLINK or kind is HARD_LINK:
            target = self._check_target(cleaned, kind, target)
        if uid > MAX_ID or gid > MAX_ID:
            raise InvalidArchive(f"{shown(cleaned)}: owner {uid}:{gid} is out of range")
        if not -_MAX_SECONDS <= mtime // 1_000_000_000 <= _MAX_SECONDS:
            raise InvalidArchive(f"{shown(cleaned)}: modified at {mtime // 1_000_000_000} s, out of range")
        device = (0, 0)
        if kind is CHARACTER_DEVICE or kind is BLOCK_DEVICE:
            device = _device(cleaned, block)
        return Entry(cleaned, kind, mode, uid, gid, size, mtime, target, device, xattrs)

    def _check_count(self) -> None:
        if self.count > self._limits.entries:
            raise LimitExceeded(f"more than {self._limits.entries} entries")

    def _parse_ids(self, ids: bytes) -> tuple[int, int, int]:
        mode, uid, gid = (
            _number(field, what) for field, what in zip(_IDS.unpack(ids), ("mode", "uid", "gid"), strict=True)
        )
        if mode > 0xFFFFFFFF:
            raise InvalidArchive(f"an entry of mode {mode:o}")
        # Go wrote the type of the file into the mode until 1.9, so higher bits are no sign of anything.
        parsed = mode & 0o7777, uid, gid
        if len(self._ids) < _REMEMBERED:
            self._ids[ids] = parsed
        return parsed

    def _xattrs(self, records: dict[bytes, bytes]) -> Mapping[bytes, bytes]:
        xattrs = pax.xattrs(records)
        if not xattrs:
            return _NO_XATTRS
        self.xattr_bytes += sum(len(key) + len(value) for key, value in xattrs.items())
        if self.xattr_bytes > self._limits.xattrs:
            raise LimitExceeded(f"more than {self._limits.xattrs} bytes of extended attributes")
        return xattrs

    def _clean(self, name: bytes) -> bytes:
        if len(name) > self._limits.name:
            raise LimitExceeded(f"{shown(name)}: a name of {len(name)} bytes")
        cleaned = clean(name)
        if cleaned.count(b"/") >= self._limits.depth:
            raise LimitExceeded(f"{shown(name)}: {cleaned.count(b'/')} directories deep")
        return cleaned

    def _check_target(self, name: bytes, kind: str, target: bytes) -> bytes:
        if not target:
            raise InvalidArchive(f"{shown(name)}: a {kind} to nothing")
        if len(target) > self._limits.name:
            raise LimitExceeded(f"{shown(name)}: a {kind} to a name of {len(target)} bytes")
        if kind is SYMLINK:
            return target
        try:
            return clean(target)
        except InvalidArchive as error:
            raise InvalidArchive(f"{shown(name)}: a hard link to {error.problems[0]}") from None

    # --- bytes

    def _refill(self) -> None:
        self._buffer = next(self._chunks, b"")
        self._fed += len(self._buffer)
        self._at = 0
        if not self._buffer:
            raise InvalidArchive("the archive is cut short")

    def _is_at_end(self) -> bool:
        """Whether no byte follows."""
        if self._at < len(self._buffer):
            return False
        self._buffer, self._at = next(self._chunks, b""), 0
        self._fed += len(self._buffer)
        return not self._buffer

    def _take(self, count: int, *, at_end: bool = False) -> bytes:
        """The next `count` bytes; with `at_end` the archive may end here, and b"" comes back."""
        stop = self._at + count
        data = self._buffer[self._at : stop]
        if len(data) == count:
            self._at = stop
            return data
        parts = [data]
        missing = count - len(data)
        while missing:
            chunk = next(self._chunks, b"")
            if not chunk:
                if at_end and missing == count:
                    self._buffer, self._at = b"", 0
                    return b""
                raise InvalidArchive("the archive is cut short")
            parts.append(chunk[:missing])
            self._fed += len(chunk)
            self._buffer, self._at = chunk, min(missing, len(chunk))
            missing -= self._at
        return b"".join(parts)

    def _skip(self, count: int) -> None:
        while count:
            available = len(self._buffer) - self._at
            if available >= count:
                self._at += count
                return
            count -= available
            self._refill()

    def _finish(self, block: bytes) -> None:
        """Read on to the very end, behind the first zero block (`block`; b"" when there is none).

        One zero block, or none, is tolerated as every other reader does; data behind it is not.
        """
        rest = self._buffer[self._at :] if block else b""
        while rest:
            if rest.strip(b"\0"):
                raise InvalidArchive("data behind the end of the archive")
            rest = next(self._chunks, b"")
        self._buffer, self._at = b"", 0


def clean(name: bytes) -> bytes:
    """`name` without ``.``, doubled and trailing slashes; ``.`` for the root.

    Absolute names and ``..`` are refused.
    """
    if not name:
        raise InvalidArchive("an empty name")
    if name[0] == 0x2F:
        raise InvalidArchive(f"the absolute name {shown(name)}")
    if b"/." not in name and b"//" not in name and name[0] != 0x2E:
        return name[:-1] if name[-1] == 0x2F else name
    parts = [part for part in name.split(b"/") if part and part != b"."]
    if b".." in parts:
        raise InvalidArchive(f"the name {shown(name)}, which holds '..'")
    return b"/".join(parts) or b"."


def _unrooted(name: bytes) -> bytes:
    """`name` without the slashes in front of it; the root itself is ``.``."""
    return name.lstrip(b"/") or name[:1].replace(b"/", b".")


def _name(block: bytes) -> bytes:
    name = block[:100].partition(b"\0")[0]
    if not block[345]:
        return name
    if block[257:263] == b"ustar\0":
        # star keeps access and change time in the last 24 bytes of the prefix, and says so behind it
        prefix = block[345:476] if block[508:512] == b"tar\0" else block[345:500]
        return prefix.partition(b"\0")[0] + b"/" + name
    # GNU has these two times in the place of the prefix. Other readers take what is no time for a prefix.
    if block[257:265] != b"ustar  \0":
        raise InvalidArchive(f"{shown(name)}: a prefix in a header that has none")
    _number(block[345:357], "access time")
    _number(block[357:369], "change time")
    return name


def _long(data: bytes, earlier: bytes | None) -> bytes:
    """The name in a GNU ``L`` or ``K`` header."""
    if earlier is not None:
        raise InvalidArchive("two GNU long names in front of one entry")
    name = data.rstrip(b"\0")
    if b"\0" in name:
        raise InvalidArchive(f"NUL in the long name {shown(name)}")
    return name


def _check_sum(block: bytes) -> None:
    """POSIX: the sum of all bytes, those of the checksum itself taken as blanks."""
    field = block[148:156]
    found = sum(block) - sum(field) + 256
    stored = _number(field, "checksum")
    # The second sum is that of signed bytes, which old writers took.
    if stored != found and stored != found - 256 * sum(byte > 127 for byte in block[:148] + block[156:]):
        raise InvalidArchive("a header whose checksum is wrong")


def _number(field: bytes, what: str, *, negative: bool = False) -> int:
    """A number in octal text or, from GNU and star, big-endian with the highest bit set."""
    if field[0] < 0x80:
        text = field.strip(b" \0")
        if text.isdigit() and field[0]:  # a NUL in front ends the number before it begins, say some
            try:
                return int(text, 8)
            except ValueError:
                pass
        elif not text:
            return 0
        raise InvalidArchive(f"a header with the {what} {shown(text)!r}, no octal number")
    value = int.from_bytes(field, "big") - (1 << (8 * len(field) - 1))
    if field[0] & 0x40:
        value -= 1 << (8 * len(field) - 1)
    if value < 0 and not negative:
        raise InvalidArchive(f"a header with the negative {what} {value}")
    if value >= 1 << 63:
        raise InvalidArchive(f"a header with the {what} {value}, out of range")
    return value


def _device(name: bytes, block: bytes) -> tuple[int, int]:
    major, minor = _number(block[329:337], "major number"), _number(block[337:345], "minor number")
    if major >= 1 << 12 or minor >= 1 << 20:
        raise InvalidArchive(f"{shown(name)}: device {major}:{minor} is out of range")
    return major, minor
