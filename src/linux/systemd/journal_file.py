"""Journal files, as journalctl reads them: a writer of systemd's JOURNAL_FILE_FORMAT, in its plainest form.

No compression, no seals, no compact offsets, and the unkeyed hash that every version of systemd reads. All
state is in the file, so that another process can carry on with it. One process writes; readers need no lock:
objects are appended first and linked to afterwards, so that a writer that is killed at any moment leaves
every earlier entry readable.
"""

from __future__ import annotations

import os
import struct
import time

TYPE_CHECKING = False  # typing.TYPE_CHECKING, without the 2 MB that typing loads
if TYPE_CHECKING:
    from collections.abc import Sequence

NAME = "system.journal"
# A file that has grown to this many bytes is archived; a new one is begun, and the archive before is removed.
LIMIT = 8 << 20

_SIGNATURE = b"LPKSHHRH"
_DATA, _FIELD, _ENTRY, _DATA_TABLE, _FIELD_TABLE, _ARRAY = 1, 2, 3, 4, 5, 6
_OFFLINE, _ONLINE, _ARCHIVED = 0, 1, 2
_STATE_AT = 16
# The header up to systemd 246: flags (compatible, incompatible), state, the identifiers of file, machine,
# boot and sequence, then 64-bit numbers. Readers look at its size before at later fields.
_HEADER = struct.Struct("<8sIIB7x16s16s16s16s21Q")
# The parts of objects before what they hold: type and flags, size, then what the offsets below name.
_DATA_HEAD, _FIELD_HEAD = struct.Struct("<B7x7Q"), struct.Struct("<B7x4Q")
_ENTRY_HEAD = struct.Struct("<B7x4Q16sQ")
_HASH_AT, _NEXT_AT, _NEXT_OF_FIELD_AT, _FIRST_ENTRY_AT, _ARRAY_AT, _COUNT_AT = 16, 24, 32, 40, 48, 56
_HEAD_OF_FIELD_AT = 32
_FIRST_ITEM_AT = 24  # of an entry array; the offset of the next one is before it
_SMALLEST_ARRAY = 4
_DATA_BUCKETS, _FIELD_BUCKETS = 4093, 61
# How far a bucket's chain is searched for a value that is there already. An app could print lines that
# collide on purpose: beyond this they are written again, which costs space and nothing else.
_SEARCHED = 32
_BATCH = 256
_CACHED = 256


class JournalFile:
    """The journal files of one machine in `directory`, which only the caller's user may write.

    Nothing is made before the first entry. Entries are not made durable: a journal that matters after a power
    cut is the host's. Every method that writes raises OSError (a full disk); what was to be written is lost
    then, and the object stays usable.
    """

    __slots__ = (
        *("_base", "_boot", "_chains", "_counters", "_counts", "_directory", "_fd", "_fields", "_file_id"),
        *("_head", "_known", "_machine", "_new", "_patches", "_sequence", "_tail_time"),
    )

    def __init__(self, directory: str, machine: bytes, boot: bytes) -> None:
        """`machine` and `boot` are the 16 bytes of the IDs of the machine and of its boot."""
        self._directory = directory
        self._machine = machine
        self._boot = boot
        self._fd = -1
        self._file_id = b""
        self._sequence = b""
        self._forget()

    def _forget(self) -> None:
        """Know nothing that is not in the file."""
        self._known: dict[bytes, tuple[int, int]] = {}
        self._fields: dict[bytes, int] = {}
        self._chains: dict[int, _Chain] = {}
        self._new = bytearray()
        self._patches: dict[int, int] = {}
        self._counts: dict[int, int] = {}

    # -- entries

    def append(self, entries: Sequence[tuple[bytes, ...]]) -> None:
        """Append entries, each given as its fields: `NAME=value`, values as they are."""
        for first in range(0, len(entries), _BATCH):
            self._append(entries[first : first + _BATCH])

    def _append(self, entries: Sequence[tuple[bytes, ...]]) -> None:
        now, monotonic = time.time_ns() // 1000, time.monotonic_ns() // 1000
        if self._fd < 0:
            self._open()
        # Readers search a file by time: a clock that was set back begins a new one.
        if self._base >= LIMIT or now < self._tail_time:
            self._archive()
            self._create()
        if len(self._known) > _CACHED:
            self._known.clear()
        if len(self._chains) > _CACHED:
            self._chains.clear()
        try:
            for fields in entries:
                self._entry(fields, now, monotonic)
            _write(self._fd, self._new, self._base)
        except BaseException:
            # Nothing refers to what was appended: the file is as it was before.
            self.close()
            raise
        self._link_up()

    def _entry(self, fields: tuple[bytes, ...], now: int, monotonic: int) -> None:
        items = sorted({self._data(payload) for payload in fields})
        head, combined = self._head, 0
        for _, value in items:
            combined ^= value
        head.sequence_number += 1
        size = _ENTRY_HEAD.size + 16 * len(items)
        offset = self._add(
            _ENTRY_HEAD.pack(_ENTRY, size, head.sequence_number, now, monotonic, self._boot, combined)
            + b"".join(struct.pack("<QQ", *item) for item in items)
        )
        if not head.entries:
            head.first_sequence_number, head.first_time = head.sequence_number, now
        head.last_time, head.last_monotonic = now, monotonic
        self._tail_time = now
        chain = self._chain_of_all()
        self._link(chain, offset)
        head.entries += 1
        for data, _ in items:
            self._refer(data, offset)

    def _refer(self, data: int, entry: int) -> None:
        """Note in a data object, or in its entry arrays, that the entry has it."""
        chain = self._chains.get(data)
        if chain is None:
            count = self._get(data + _COUNT_AT)
            chain = self._chains[data] = self._load_chain(data + _ARRAY_AT, count - 1, count)
        if chain.count:
            self._link(chain, entry)
        else:
            self._put(data + _FIRST_ENTRY_AT, entry)
        chain.count += 1
        if data >= self._base:
            self._put(data + _COUNT_AT, chain.count)
        else:
            self._counts[data + _COUNT_AT] = chain.count

    def _data(self, payload: bytes) -> tuple[int, int]:
        """The offset of the data object for `payload`, and its hash; one is made if there is none."""
        known = self._known.get(payload)
        if known is not None:
            return known
        value = lookup3(payload)
        bucket = self._head.data_table + value % _DATA_BUCKETS * 16
        found = self._search(bucket, value, payload, _DATA_HEAD.size)
        if not found:
            field = self._field(payload[: payload.index(b"=")])
            following = self._get(field + _HEAD_OF_FIELD_AT)
            size = _DATA_HEAD.size + len(payload)
            found = self._add(_DATA_HEAD.pack(_DATA, size, value, 0, following, 0, 0, 0) + payload)
            self._chains[found] = _Chain(found + _ARRAY_AT, 0, 0, 0, 0)
            self._put(field + _HEAD_OF_FIELD_AT, found)
            self._hang(bucket, found)
            self._head.data += 1
        self._known[payload] = found, value
        return found, value

    def _field(self, name: bytes) -> int:
        if name in self._fields:
            return self._fields[name]
        value = lookup3(name)
        bucket = self._head.field_table + value % _FIELD_BUCKETS * 16
        found = self._search(bucket, value, name, _FIELD_HEAD.size)
        if not found:
            found = self._add(_FIELD_HEAD.pack(_FIELD, _FIELD_HEAD.size + len(name), value, 0, 0) + name)
            self._hang(bucket, found)
            self._head.fields += 1
        self._fields[name] = found
        return found

    # -- hash tables and entry arrays

    def _search(self, bucket: int, value: int, payload: bytes, head: int) -> int:
        """The object with `payload` in a bucket's chain; 0 if there is none."""
        at = self._get(bucket)
        for _ in range(_SEARCHED):
            if not at:
                return 0
            like = self._get(at + _HASH_AT) == value and self._get(at + 8) == head + len(payload)
            if like and self._bytes(at + head, len(payload)) == payload:
                return at
            at = self._get(at + _NEXT_AT)
        return 0

    def _hang(self, bucket: int, offset: int) -> None:
        """Put an object at the end of a bucket's chain."""
        last = self._get(bucket + 8)
        self._put(last + _NEXT_AT if last else bucket, offset)
        self._put(bucket + 8, offset)

    def _chain_of_all(self) -> _Chain:
        if 0 not in self._chains:
            self._chains[0] = self._load_chain(0, self._head.entries, self._head.entries)
        return self._chains[0]

    def _load_chain(self, root: int, items: int, count: int) -> _Chain:
        """Find the end of the entry arrays that `root` leads to (0: those of the header) with `items`."""
        chain = _Chain(root, 0, 0, 0, count)
        at = self._get(root) if root else self._head.array
        while at:
            items -= chain.room
            chain.array, chain.room, chain.used = at, (self._get(at + 8) - _FIRST_ITEM_AT) // 8, items
            at = self._get(at + 16)
        return chain

    def _link(self, chain: _Chain, entry: int) -> None:
        if chain.used == chain.room:
            room = max(_SMALLEST_ARRAY, 2 * chain.room)
            size = _FIRST_ITEM_AT + 8 * room
            offset = self._add(struct.pack("<B7xQ", _ARRAY, size) + bytes(size - 16))
            if chain.array:
                self._put(chain.array + 16, offset)
            elif chain.root:
                self._put(chain.root, offset)
            else:
                self._head.array = offset
            chain.array, chain.room, chain.used = offset, room, 0
            self._head.arrays += 1
        self._put(chain.array + _FIRST_ITEM_AT + 8 * chain.used, entry)
        chain.used += 1

    # -- the file as it will be: what is to be appended from `_base` on, and numbers to change before that

    def _add(self, content: bytes) -> int:
        offset = self._base + len(self._new)
        self._new += content
        self._new += bytes(-len(content) % 8)
        self._head.objects += 1
        self._head.tail_object = offset
        return offset

    def _get(self, offset: int) -> int:
        if offset in self._patches:
            return self._patches[offset]
        return int.from_bytes(self._bytes(offset, 8), "little")

    def _bytes(self, offset: int, size: int) -> bytes:
        if offset >= self._base:
            return bytes(self._new[offset - self._base : offset - self._base + size])
        return os.pread(self._fd, size, offset)

    def _put(self, offset: int, value: int) -> None:
        if offset >= self._base:
            struct.pack_into("<Q", self._new, offset - self._base, value)
        else:
            self._patches[offset] = value

    def _link_up(self) -> None:
        """Have what is before refer to what was appended."""
        try:
            # A reader believes a count, so what it counts comes before it, and the header last.
            for numbers in (self._patches, self._counts):
                for offset, content in _runs(numbers):
                    _write(self._fd, content, offset)
            self._base += len(self._new)
            self._write_header(_ONLINE)
        except OSError:
            # It stays marked as being written, which is how the next one to open it knows.
            os.close(self._fd)
            self._fd = -1
            raise
        self._new.clear()
        self._patches.clear()
        self._counts.clear()

    # -- files

    def _open(self) -> None:
        """Carry on with the file that another process has left in order, or begin one."""
        self._forget()
        try:
            flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
            self._fd = os.open(f"{self._directory}/{NAME}", flags)
        except FileNotFoundError:
            self._create()
            return
        read = os.pread(self._fd, _HEADER.size, 0)
        fields = _HEADER.unpack(read) if len(read) == _HEADER.size else (b"",)
        # As the format has it: what is not offline, or another machine's, is not written to.
        if fields[0] != _SIGNATURE or fields[3] != _OFFLINE or fields[5:7] != (self._machine, self._boot):
            self._archive()
            self._create()
            return
        self._file_id, self._sequence = fields[4], fields[7]
        self._head = _Head(fields[8:])
        self._base = self._head.end
        self._tail_time = self._head.last_time
        self._write_state(_ONLINE)

    def _create(self) -> None:
        self._forget()
        path = f"{self._directory}/{NAME}"
        tables = bytearray()
        head = _Head(None)
        for kind, buckets in ((_DATA_TABLE, _DATA_BUCKETS), (_FIELD_TABLE, _FIELD_BUCKETS)):
            tables += struct.pack("<B7xQ", kind, 16 + 16 * buckets) + bytes(16 * buckets)
        head.data_table = _HEADER.size + 16
        head.field_table = head.data_table + 16 * _DATA_BUCKETS + 16
        head.tail_object = head.field_table - 16
        head.objects = 2
        # Written under another name: a reader that waits for files never sees half of one.
        flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        self._fd = os.open(f"{path}.new", flags, 0o640)
        try:
            if self._sequence:
                head.sequence_number = self._head.sequence_number
            else:
                self._sequence = os.urandom(16)
            self._head, self._file_id = head, os.urandom(16)
            self._base, self._tail_time = _HEADER.size + len(tables), 0
            _write(self._fd, tables, _HEADER.size)
            self._write_header(_ONLINE)
            os.rename(f"{path}.new", path)
        except OSError:
            os.close(self._fd)
            self._fd = -1
            raise

    def _archive(self) -> None:
        """Give the file the name of an archive, in the place of the archive before, and close it."""
        try:
            for name in os.listdir(self._directory):
                if name.startswith("system@"):
                    os.unlink(f"{self._directory}/{name}")
            read = os.pread(self._fd, _HEADER.size, 0)
            fields = _HEADER.unpack(read) if len(read) == _HEADER.size else ()
            sequence, head = (fields[7], _Head(fields[8:])) if fields else (bytes(16), _Head(None))
            which = f"{sequence.hex()}-{head.first_sequence_number:016x}-{head.first_time:016x}"
            self._write_state(_ARCHIVED)
            os.rename(f"{self._directory}/{NAME}", f"{self._directory}/system@{which}.journal")
        finally:
            os.close(self._fd)
            self._fd = -1

    def _write_header(self, state: int) -> None:
        identifiers = (self._file_id, self._machine, self._boot, self._sequence)
        numbers = self._head.numbers(self._base)
        _write(self._fd, _HEADER.pack(_SIGNATURE, 0, 0, state, *identifiers, *numbers), 0)

    def _write_state(self, state: int) -> None:
        # Not synchronised, as a file is never carried on with after the boot that it was begun in.
        _write(self._fd, bytes((state,)), _STATE_AT)

    def close(self) -> None:
        """Leave the file in order; a later append opens it again."""
        if self._fd >= 0:
            try:
                self._write_state(_OFFLINE)
            finally:
                os.close(self._fd)
                self._fd = -1


class _Chain:
    """The end of a chain of entry arrays: `room` items in the last `array`, `used` of them; `count` entries
    in all. `root` is where the offset of the first array belongs; 0 stands for the header.
    """

    __slots__ = ("array", "count", "room", "root", "used")

    def __init__(self, root: int, array: int, room: int, used: int, count: int) -> None:
        self.root, self.array, self.room, self.used, self.count = root, array, room, used, count


class _Head:
    """The numbers of the header."""

    __slots__ = (
        *("array", "arrays", "data", "data_table", "end", "entries", "field_table", "fields"),
        *("first_sequence_number", "first_time", "last_monotonic", "last_time", "objects"),
        *("sequence_number", "tail_object"),
    )

    def __init__(self, numbers: tuple[int, ...] | None) -> None:
        if numbers is None:
            numbers = (0,) * 21
        size, arena, self.data_table, _, self.field_table, _, self.tail_object = numbers[:7]
        self.end = size + arena
        self.objects, self.entries, self.sequence_number, self.first_sequence_number = numbers[7:11]
        self.array, self.first_time, self.last_time, self.last_monotonic = numbers[11:15]
        self.data, self.fields, _, self.arrays = numbers[15:19]

    def numbers(self, end: int) -> tuple[int, ...]:
        """As they are in the file, of which `end` bytes are in use."""
        tables = (self.data_table, 16 * _DATA_BUCKETS, self.field_table, 16 * _FIELD_BUCKETS)
        return (
            *(_HEADER.size, end - _HEADER.size, *tables, self.tail_object),
            *(self.objects, self.entries, self.sequence_number, self.first_sequence_number),
            *(self.array, self.first_time, self.last_time, self.last_monotonic),
            *(self.data, self.fields, 0, self.arrays, 0, 0),
        )


def _runs(numbers: dict[int, int]) -> list[tuple[int, bytes]]:
    """The numbers in few pieces: (offset, the bytes from there on)."""
    runs: list[tuple[int, bytearray]] = []
    end = -1
    for offset in sorted(numbers):
        if offset != end:
            runs.append((offset, bytearray()))
        runs[-1][1].extend(numbers[offset].to_bytes(8, "little"))
        end = offset + 8
    return [(offset, bytes(content)) for offset, content in runs]


def _write(fd: int, content: bytes | bytearray, offset: int) -> None:
    with memoryview(content) as view:
        done = 0
        while done < len(content):
            done += os.pwrite(fd, view[done:], offset + done)


def lookup3(data: bytes) -> int:
    """Bob Jenkins' hash `hashlittle2` (lookup3.c, public domain, 2006), its two halves as one number."""
    all_bits = 0xFFFFFFFF
    a = b = c = (0xDEADBEEF + len(data)) & all_bits
    if not data:
        return c << 32 | b
    words: tuple[int, ...] = struct.unpack(f"<{-(-len(data) // 12) * 3}I", data + bytes(-len(data) % 12))
    for at in range(0, len(words) - 3, 3):
        a += words[at]
        b += words[at + 1]
        c = (c + words[at + 2]) & all_bits
        a = (a - c ^ (c << 4 | c >> 28)) & all_bits
        c = (c + b) & all_bits
        b = (b - a ^ (a << 6 | a >> 26)) & all_bits
        a = (a + c) & all_bits
        c = (c - b ^ (b << 8 | b >> 24)) & all_bits
        b = (b + a) & all_bits
        a = (a - c ^ (c << 16 | c >> 16)) & all_bits
        c = (c + b) & all_bits
        b = (b - a ^ (a << 19 | a >> 13)) & all_bits
        a = (a + c) & all_bits
        c = (c - b ^ (b << 4 | b >> 28)) & all_bits
        b = (b + a) & all_bits
    a, b, c = (a + words[-3]) & all_bits, (b + words[-2]) & all_bits, (c + words[-1]) & all_bits
    c = ((c ^ b) - (b << 14 | b >> 18)) & all_bits
    a = ((a ^ c) - (c << 11 | c >> 21)) & all_bits
    b = ((b ^ a) - (a << 25 | a >> 7)) & all_bits
    c = ((c ^ b) - (b << 16 | b >> 16)) & all_bits
    a = ((a ^ c) - (c << 4 | c >> 28)) & all_bits
    b = ((b ^ a) - (a << 14 | a >> 18)) & all_bits
    c = ((c ^ b) - (b << 24 | b >> 8)) & all_bits
    return c << 32 | b
