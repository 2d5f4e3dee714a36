"""Writing tar headers: ustar where it fits, a PAX header in front where it does not."""

from __future__ import annotations

from appc.aci import pax, tar

TYPE_CHECKING = False
if TYPE_CHECKING:
    from appc.aci.tar import Entry

_FLAGS = {
    tar.FILE: b"0",
    tar.HARD_LINK: b"1",
    tar.SYMLINK: b"2",
    tar.CHARACTER_DEVICE: b"3",
    tar.BLOCK_DEVICE: b"4",
    tar.DIRECTORY: b"5",
    tar.FIFO: b"6",
}
_NAME, _PREFIX = 100, 155
_LARGEST_ID = 0o7777777
_LARGEST_SIZE = 0o77777777777
#: Two blocks of zeros end an archive.
END = bytes(2 * tar.BLOCK)


def encode(entry: Entry) -> bytes:
    """The header blocks of `entry`: the same bytes for the same entry, without names of owners."""
    name, target = entry.name, entry.target
    records: list[tuple[bytes, bytes]] = []
    prefix = b""
    if len(name) > _NAME:
        prefix, name = _split(name)
        if not name:
            records.append((b"path", entry.name))
            name = entry.name[:_NAME]
    if len(target) > _NAME:
        records.append((b"linkpath", target))
        target = target[:_NAME]
    if records and not all(_is_utf8(value) for _, value in records):
        records.insert(0, (b"hdrcharset", b"BINARY"))
    seconds, fraction = divmod(entry.mtime, 1_000_000_000)
    numbers = {b"uid": entry.uid, b"gid": entry.gid, b"size": entry.size, b"mtime": seconds}
    for key, value in numbers.items():
        largest = _LARGEST_ID if key in {b"uid", b"gid"} else _LARGEST_SIZE
        if key == b"mtime" and fraction:
            records.append((key, _decimal(entry.mtime)))
        elif not 0 <= value <= largest:
            records.append((key, b"%d" % value))
        numbers[key] = min(max(value, 0), largest)
    records += [(pax.XATTR + key, value) for key, value in sorted(entry.xattrs.items())]
    block = _ustar(
        name,
        prefix,
        _FLAGS[entry.kind],
        (entry.mode, numbers[b"uid"], numbers[b"gid"]),
        numbers[b"size"],
        numbers[b"mtime"],
        target,
        entry.device,
    )
    return _extended(records) + block if records else block


def _extended(records: list[tuple[bytes, bytes]]) -> bytes:
    content = pax.encode(records)
    block = _ustar(b"pax", b"", b"x", (0o644, 0, 0), len(content), 0, b"", (0, 0))
    return block + content + bytes(-len(content) % tar.BLOCK)


def _ustar(
    name: bytes,
    prefix: bytes,
    flag: bytes,
    ids: tuple[int, int, int],
    size: int,
    mtime: int,
    target: bytes,
    device: tuple[int, int],
) -> bytes:
    head = b"%s%07o\0%07o\0%07o\0%011o\0%011o\0" % (name.ljust(_NAME, b"\0"), *ids, size, mtime)
    tail = b"%s%s%s%07o\0%07o\0%s" % (
        flag,
        target.ljust(_NAME, b"\0"),
        b"ustar\x0000".ljust(72, b"\0"),
        *device,
        prefix.ljust(167, b"\0"),
    )
    return head + b"%06o\0 " % (sum(head) + sum(tail) + 256) + tail


def _split(name: bytes) -> tuple[bytes, bytes]:
    """`name` as prefix and name of a ustar header, or two times b"" when it cannot be cut."""
    slash = name.find(b"/", len(name) - _NAME - 1)
    if slash <= 0 or slash > _PREFIX or slash == len(name) - 1:
        return b"", b""
    return name[:slash], name[slash + 1 :]


def _is_utf8(value: bytes) -> bool:
    try:
        value.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _decimal(nanoseconds: int) -> bytes:
    sign = b"-" if nanoseconds < 0 else b""
    seconds, fraction = divmod(abs(nanoseconds), 1_000_000_000)
    return sign + (b"%d.%09d" % (seconds, fraction)).rstrip(b"0")
