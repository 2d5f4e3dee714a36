"""Plain tar archives of files: what layouts and docker archives are sent around as."""

from __future__ import annotations

from appc.aci import header, tar
from appc.aci.tar import Entry
from oci.errors import OciError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import BinaryIO

_PIECE = 1 << 20


class ArchiveWriter:
    """Files of root's, of the year 1970, in the order in which they are written."""

    def __init__(self, out: BinaryIO) -> None:
        self._out = out

    def file(self, name: str, data: bytes) -> None:
        """A small file."""
        self._head(name, len(data))
        self._out.write(data + bytes(-len(data) % tar.BLOCK))

    def stream(self, name: str, file: BinaryIO, size: int) -> None:
        """A file whose content is read from `file`, to its end."""
        self._head(name, size)
        written = 0
        while data := file.read(_PIECE):
            written += len(data)
            self._out.write(data)
        if written != size:
            raise OciError(f"{name}: changed size while it was read")
        self._out.write(bytes(-written % tar.BLOCK))

    def finish(self) -> None:
        """End the archive."""
        self._out.write(header.END)
        self._out.flush()

    def _head(self, name: str, size: int) -> None:
        entry = Entry(name.encode(), tar.FILE, 0o644, 0, 0, size, 0, b"", (0, 0), {})
        self._out.write(header.encode(entry))
