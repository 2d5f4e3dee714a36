"""The compressions an image may come in: found by magic number, taken off under limits, put on.

`inflate` is a generator of plain chunks, each of at most a few MiB whatever the input says, so that neither
a bomb nor a huge file costs memory. The formats allow members one behind the other (pigz, pbzip2, `xz -T`);
behind the last one only zeros may follow, as tapes leave them.
"""

from __future__ import annotations

import os

from appc.aci.errors import InvalidArchive, LimitExceeded, UnknownFormat
from appc.aci.limits import DEFAULT, Limits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any, BinaryIO, Protocol

    class Decompressor(Protocol):
        """What bz2, lzma and the zstd of Python 3.14 share: one member, bounded output."""

        @property
        def eof(self) -> bool: ...
        @property
        def needs_input(self) -> bool: ...
        @property
        def unused_data(self) -> bytes: ...

        def decompress(self, data: bytes, max_length: int = ..., /) -> bytes: ...


NONE, GZIP, BZIP2, XZ, ZSTD = "none", "gzip", "bzip2", "xz", "zstd"

_MAGIC = (
    (b"\x1f\x8b", GZIP),
    (b"BZh", BZIP2),
    (b"\xfd7zXZ\x00", XZ),
    (b"\x28\xb5\x2f\xfd", ZSTD),
)
#: Where POSIX and GNU archives have their magic. The reference knows a plain archive by nothing else.
_USTAR_OFFSET = 257
#: Bytes that `detect` wants to see.
PREFIX = 512

_INPUT = 128 << 10
_OUTPUT = 1 << 20
#: A member may be empty or tiny, but a file of nothing else is there to burn time.
_FREE_MEMBERS = 1000
_BYTES_PER_MEMBER = 1024


def detect(prefix: bytes) -> str | None:
    """The compression of a file that starts with `prefix`, NONE for a plain tar, None for neither."""
    for magic, kind in _MAGIC:
        if prefix.startswith(magic):
            return kind
    if prefix[_USTAR_OFFSET : _USTAR_OFFSET + 5] == b"ustar":
        return NONE
    return None


def peek(file: BinaryIO) -> bytes:
    """The first bytes of a seekable `file`, which is left at its start."""
    file.seek(0)
    prefix = file.read(PREFIX)
    file.seek(0)
    return prefix


def inflate(file: BinaryIO, *, limits: Limits = DEFAULT, kind: str | None = None) -> Iterator[bytes]:
    """The plain bytes of `file` (seekable, read from its start), in chunks.

    Raises UnknownFormat, LimitExceeded, or InvalidArchive for data that is damaged or cut short.
    """
    kind = kind or detect(peek(file))
    if kind is None:
        raise UnknownFormat(
            "neither a tar archive nor gzip, bzip2, xz or zstd",
            hint="an image is a tar archive, compressed or not; `file` may tell what this is",
        )
    file.seek(0)
    taken = _Taken(file)
    return _bounded(_INFLATERS[kind](taken, limits), taken, limits)


class Opened:
    """An image about to be read by another process: what it takes to read it is imported or started now.

    That process calls `chunks` and needs nothing but the fd `fileno()`.
    """

    def __init__(self, file: BinaryIO, limits: Limits = DEFAULT) -> None:
        self._file = _opened_again(file)
        self._limits = limits
        self._process: Any = None
        self._size = os.fstat(self._file.fileno()).st_size
        try:
            self._kind = detect(peek(self._file))
            if self._kind == ZSTD and not zstd_is_built_in():
                self._process = _start_zstd(self._file, limits)
            elif self._kind is not None:
                _IMPORTS[self._kind]()
        except BaseException:
            self._file.close()
            raise

    def fileno(self) -> int:
        """The fd that the reading process must keep."""
        return int((self._process.stdout if self._process else self._file).fileno())

    def chunks(self) -> Iterator[bytes]:
        """As `inflate`."""
        if self._process is None:
            return inflate(self._file, limits=self._limits, kind=self._kind)
        taken = _Taken(self._file)
        taken.count = self._size  # the program reads it, not we
        return _bounded(_from_program(self._process), taken, self._limits)

    def finish(self) -> None:
        """All chunks were read: InvalidArchive if the helper program says that the data was damaged."""
        if self._process is not None and self._process.wait():
            raise InvalidArchive("damaged zstd data")

    def close(self) -> None:
        """End the helper program if there is one. The caller's file stays open, and where it was."""
        self._file.close()
        if self._process is not None:
            self._process.stdout.close()
            self._process.kill()
            self._process.wait()


def _opened_again(file: BinaryIO) -> BinaryIO:
    """The file under a position of its own: another process that reads on must not move the caller's."""
    return open(f"/proc/self/fd/{file.fileno()}", "rb")


class _Taken:
    """A file that counts what was read of it."""

    __slots__ = ("count", "file")

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.count = 0

    def read(self) -> bytes:
        data = self.file.read(_INPUT)
        self.count += len(data)
        return data


def _bounded(chunks: Iterator[bytes], taken: _Taken, limits: Limits) -> Iterator[bytes]:
    total = 0
    for chunk in chunks:
        total += len(chunk)
        if total > limits.size:
            raise LimitExceeded(f"more than {limits.size} bytes when uncompressed")
        if total > limits.ratio_grace and total > taken.count * limits.ratio:
            raise LimitExceeded(
                f"{total} bytes came out of the first {taken.count}: over the limit of {limits.ratio} to 1"
            )
        yield chunk


def _plain(taken: _Taken, limits: Limits) -> Iterator[bytes]:
    del limits  # a plain file is no larger than itself
    while data := taken.file.read(_OUTPUT):
        taken.count += len(data)
        yield data


def _gzip(taken: _Taken, limits: Limits) -> Iterator[bytes]:
    import zlib

    class Member:
        """zlib's object in the shape of its younger siblings."""

        def __init__(self) -> None:
            self._z = zlib.decompressobj(16 + zlib.MAX_WBITS)
            self._rest = b""
            self.eof = False
            self.needs_input = True
            self.unused_data = b""

        def decompress(self, data: bytes, max_length: int = -1) -> bytes:
            z = self._z
            plain = z.decompress(self._rest + data if self._rest else data, max_length)
            self._rest = z.unconsumed_tail
            self.eof = z.eof
            self.unused_data = z.unused_data
            self.needs_input = not self._rest and len(plain) < max_length
            return plain

    return _members(taken, Member, GZIP, zlib.error)


def _bzip2(taken: _Taken, limits: Limits) -> Iterator[bytes]:
    import bz2

    return _members(taken, bz2.BZ2Decompressor, BZIP2, OSError)


def _xz(taken: _Taken, limits: Limits) -> Iterator[bytes]:
    import lzma

    def member() -> Decompressor:
        return lzma.LZMADecompressor(format=lzma.FORMAT_XZ, memlimit=limits.memory)

    return _members(taken, member, XZ, lzma.LZMAError)


def _zstd(taken: _Taken, limits: Limits) -> Iterator[bytes]:
    if (module := _zstd_module()) is not None:
        window = limits.memory.bit_length() - 1
        options = {module.DecompressionParameter.window_log_max: window}
        return _members(taken, lambda: module.ZstdDecompressor(options=options), ZSTD, module.ZstdError)
    try:
        import zstandard
    except ModuleNotFoundError:
        return _zstd_program(taken, limits)

    class Frame:
        """One frame of python-zstandard, which cannot bound its output: so the input is fed in slices.

        The densest input is a run of 4-byte blocks of 128 KiB each, 16 MiB from one slice.
        """

        SLICE = 512

        def __init__(self) -> None:
            self._z = zstandard.ZstdDecompressor(max_window_size=limits.memory).decompressobj()
            self._rest = b""
            self.eof = False
            self.needs_input = True
            self.unused_data = b""

        def decompress(self, data: bytes, max_length: int = -1) -> bytes:
            data = self._rest + data if self._rest else data
            plain: list[bytes] = []
            size = at = 0
            while at < len(data) and size < max_length and not self.eof:
                out = self._z.decompress(data[at : at + self.SLICE])
                at += self.SLICE
                size += len(out)
                plain.append(out)
                self.eof = self._z.eof
            self._rest = data[at:]
            if self.eof:
                self.unused_data = self._z.unused_data + self._rest
                self._rest = b""
            self.needs_input = not self._rest
            return b"".join(plain)

    return _members(taken, Frame, ZSTD, zstandard.ZstdError)


def _zstd_module() -> Any:
    """The zstd module of Python 3.14, or its backport, or None."""
    from importlib import import_module

    for name in ("compression.zstd", "backports.zstd"):
        try:
            return import_module(name)
        except ModuleNotFoundError:
            continue
    return None


def zstd_is_built_in() -> bool:
    """Whether zstd works in this very process, without a helper program. Imports what does it."""
    if _zstd_module() is not None:
        return True
    try:
        import zstandard  # noqa: F401
    except ModuleNotFoundError:
        return False
    return True


def _zstd_program(taken: _Taken, limits: Limits) -> Iterator[bytes]:
    with _opened_again(taken.file) as file:
        process = _start_zstd(file, limits)
    taken.count = os.fstat(taken.file.fileno()).st_size
    try:
        yield from _from_program(process)
        if process.wait():
            raise InvalidArchive("damaged zstd data")
    finally:
        process.stdout.close()
        process.kill()
        process.wait()


def _start_zstd(file: BinaryIO, limits: Limits) -> Any:
    """The host's zstd as last resort: it reads the open file itself."""
    import subprocess

    os.lseek(file.fileno(), 0, os.SEEK_SET)  # where Python's buffer has not read ahead
    arguments = ["zstd", "-d", "-c", "-q", f"--memory={limits.memory}"]
    try:
        return subprocess.Popen(
            arguments,
            stdin=file.fileno(),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"},
        )
    except FileNotFoundError:
        raise UnknownFormat(
            "compressed with zstd, which this host cannot read",
            hint="install the program zstd or the Python package zstandard",
        ) from None


def _from_program(process: Any) -> Iterator[bytes]:
    """What the program writes; how it ended is another question."""
    while data := process.stdout.read(_OUTPUT):
        yield data


def _members(
    taken: _Taken,
    new: Callable[[], Decompressor],
    kind: str,
    failure: type[Exception],
) -> Iterator[bytes]:
    """All members of a file, one behind the other, each through a decompressor of its own."""
    data = taken.read()
    members = total = 0
    try:
        while data:
            member = new()
            members += 1
            if members > _FREE_MEMBERS + total // _BYTES_PER_MEMBER:
                raise LimitExceeded(f"{members} {kind} members that hold {total} bytes")
            while True:
                plain = member.decompress(data, _OUTPUT)
                if plain:
                    total += len(plain)
                    yield plain
                if member.eof:
                    break
                data = b""
                if member.needs_input and not (data := taken.read()) and not plain:
                    raise InvalidArchive(f"the {kind} data is cut short")
            data = _next_member(member.unused_data or taken.read(), taken, kind)
    except failure as error:
        text = str(error)
        if "emory" in text and kind == XZ:
            raise LimitExceeded(f"the {kind} data needs too much memory to read") from error
        raise InvalidArchive(f"damaged {kind} data ({text})") from error


def _next_member(data: bytes, taken: _Taken, kind: str) -> bytes:
    """`data` from where the next member starts: b"" at the end of the file or of the zeros behind it."""
    magic = next(magic for magic, name in _MAGIC if name == kind)
    while data and len(data) < len(magic) and (more := taken.read()):
        data += more
    if not data or data.startswith(magic):
        return data
    if kind == ZSTD and data[1:4] == b"\x2a\x4d\x18" and data[0] & 0xF0 == 0x50:
        return data  # a skippable frame (RFC 8878, section 3.1.2)
    while data:
        if data.strip(b"\0"):
            rest = data.lstrip(b"\0")
            if kind == XZ and rest.startswith(magic):
                return rest  # stream padding between two streams is legal in this format alone
            raise InvalidArchive(f"data that is not {kind} behind the end of the {kind} data")
        data = taken.read()
    return b""


_INFLATERS: dict[str, Callable[[_Taken, Limits], Iterator[bytes]]] = {
    NONE: _plain,
    GZIP: _gzip,
    BZIP2: _bzip2,
    XZ: _xz,
    ZSTD: _zstd,
}


def _import_nothing() -> None:
    pass


def _import_gzip() -> None:
    import zlib  # noqa: F401


def _import_bzip2() -> None:
    import bz2  # noqa: F401


def _import_xz() -> None:
    import lzma  # noqa: F401


#: What a process that cannot import any more must have: `_zstd_module` and `zstd_is_built_in` see to theirs.
_IMPORTS: dict[str, Callable[[], object]] = {
    NONE: _import_nothing,
    GZIP: _import_gzip,
    BZIP2: _import_bzip2,
    XZ: _import_xz,
    ZSTD: zstd_is_built_in,
}


def deflater(kind: str) -> tuple[Callable[[bytes], bytes], Callable[[], bytes]]:
    """Two functions: one compresses a piece (and may keep it back), one gives the rest at the end.

    No time stamp and no file name go in: the same input gives the same output.
    """
    if kind == NONE:
        return lambda data: data, bytes
    if kind == GZIP:
        from appc.aci.gzip_blocks import GzipBlocks

        z = GzipBlocks()
        return z.compress, z.flush
    if kind == BZIP2:
        import bz2

        b = bz2.BZ2Compressor()
        return b.compress, b.flush
    if kind == XZ:
        import lzma

        x = lzma.LZMACompressor()
        return x.compress, x.flush
    if kind == ZSTD:
        return _zstd_deflater()
    raise ValueError(f"{kind!r} is no compression (choose from {', '.join(_INFLATERS)})")


def _zstd_deflater() -> tuple[Callable[[bytes], bytes], Callable[[], bytes]]:
    if (module := _zstd_module()) is not None:
        compressor = module.ZstdCompressor()
        return compressor.compress, compressor.flush
    try:
        import zstandard
    except ModuleNotFoundError:
        raise ValueError("writing zstd needs the Python package zstandard") from None
    z = zstandard.ZstdCompressor().compressobj()
    return z.compress, z.flush
