"""What an ELF file says about the files that it needs: its interpreter, its libraries, where they are sought.

The file may be anybody's: it is read with pread within bounds, and never executed or loaded (as `ldd` does).
An own reader of a hundred lines rather than pyelftools, because `acbuild run` looks at each program before it
starts it, and the verbs of a build use nothing but the standard library. Source: elf(5), the System V gABI.
"""

from __future__ import annotations

import os
import struct

from linux.named_tuple import NamedTuple

MAGIC = b"\x7fELF"
_PT_LOAD, _PT_DYNAMIC, _PT_INTERP = 1, 2, 3
_DT_NEEDED, _DT_STRTAB, _DT_STRSZ, _DT_RPATH, _DT_RUNPATH, _DT_FLAGS_1 = 1, 5, 10, 15, 29, 0x6FFFFFFB
_DF_1_NODEFLIB = 0x800
_EXECUTABLE, _SHARED = 2, 3
_MOST_HEADERS = 4096
_DYNAMIC_LIMIT = 1 << 20
_STRINGS_LIMIT = 16 << 20
_PATH_LIMIT = 4096

# e_machine, with the word that uname(2) has for it.
_MACHINES = {
    3: "i386", 8: "mips", 20: "ppc", 21: "ppc64", 22: "s390x", 40: "arm", 62: "x86_64", 183: "aarch64",
    243: "riscv64", 258: "loongarch64",
}  # fmt: skip
_MACHINE_OFFSET = 18


class Elf(NamedTuple):
    """One file. `kind` names class, byte order and machine: only files of one kind go together.

    `interpreter` is "" for a static program or a library. `rpath` is empty where there is a `runpath`, which
    takes its place; both hold ``$ORIGIN`` and the like as written. `own_paths_only`: not in the default
    directories.
    """

    kind: tuple[int, int, int]
    interpreter: str
    needed: tuple[str, ...]
    rpath: tuple[str, ...]
    runpath: tuple[str, ...]
    own_paths_only: bool

    @property
    def bits(self) -> int:
        """32 or 64."""
        return 64 if self.kind[0] == 2 else 32

    @property
    def machine(self) -> str:
        """The machine, as uname(2) calls it."""
        return machine_of(self.kind)

    @property
    def static(self) -> bool:
        """Whether it needs no other file."""
        return not (self.interpreter or self.needed)


def machine_of(kind: tuple[int, int, int]) -> str:
    """The machine of a `kind`, as uname(2) calls it."""
    return _MACHINES.get(kind[2], f"machine {kind[2]}")


def read(fd: int) -> Elf | None:
    """The ELF file open as `fd`; None for any other file. ValueError for one that is damaged."""
    head = os.pread(fd, 64, 0)
    if not head.startswith(MAGIC):
        return None
    try:
        return _File(fd, head).read()
    except (struct.error, OverflowError, OSError) as error:
        raise ValueError(f"damaged ELF file ({error})") from None


class _File:
    """A file being read: the layout of its class, and where its segments lie."""

    def __init__(self, fd: int, head: bytes) -> None:
        self.fd = fd
        if len(head) < 52 or head[4] not in {1, 2} or head[5] not in {1, 2}:
            raise ValueError("damaged ELF file (neither 32 nor 64 bits)")
        self.wide = head[4] == 2
        self.order = "<" if head[5] == 1 else ">"
        (machine,) = struct.unpack_from(self.order + "H", head, _MACHINE_OFFSET)
        (kind,) = struct.unpack_from(self.order + "H", head, 16)
        if kind not in {_EXECUTABLE, _SHARED}:
            raise ValueError("an ELF file, but neither a program nor a library")
        self.kind = (head[4], head[5], machine)
        word = "Q" if self.wide else "I"
        (self.table,) = struct.unpack_from(self.order + word, head, 32 if self.wide else 28)
        self.size, self.count = struct.unpack_from(self.order + "HH", head, 54 if self.wide else 42)
        #: (virtual address, file offset, size in the file) of what is loaded.
        self.loads: list[tuple[int, int, int]] = []

    def read(self) -> Elf:
        interpreter, dynamic = "", b""
        for kind, offset, address, size in self._segments():
            if kind == _PT_LOAD:
                self.loads.append((address, offset, size))
            elif kind == _PT_INTERP:
                interpreter = os.fsdecode(self._at(offset, min(size, _PATH_LIMIT)).split(b"\0", 1)[0])
            elif kind == _PT_DYNAMIC:
                dynamic = self._at(offset, min(size, _DYNAMIC_LIMIT))
        entries = self._entries(dynamic)
        strings = self._strings(entries)

        def texts(tag: int) -> list[str]:
            return [_text(strings, value) for key, value in entries if key == tag]

        runpath = _paths(texts(_DT_RUNPATH))
        return Elf(
            self.kind,
            interpreter,
            tuple(dict.fromkeys(texts(_DT_NEEDED))),
            () if runpath else _paths(texts(_DT_RPATH)),
            runpath,
            any(key == _DT_FLAGS_1 and value & _DF_1_NODEFLIB for key, value in entries),
        )

    def _segments(self) -> list[tuple[int, int, int, int]]:
        """Type, file offset, address and size in the file of each program header."""
        form = self.order + ("I4xQQ8xQ" if self.wide else "III4xI")
        if self.size < struct.calcsize(form) or self.count > _MOST_HEADERS:
            raise ValueError("damaged ELF file (its program headers)")
        data = self._at(self.table, self.size * self.count)
        return [struct.unpack_from(form, data, place * self.size) for place in range(self.count)]

    def _entries(self, dynamic: bytes) -> list[tuple[int, int]]:
        form = struct.Struct(self.order + ("qQ" if self.wide else "iI"))
        found = []
        for place in range(0, len(dynamic) - form.size + 1, form.size):
            key, value = form.unpack_from(dynamic, place)
            if key == 0:
                break
            found.append((key & 0xFFFFFFFF if key < 1 << 32 else key, value))
        return found

    def _strings(self, entries: list[tuple[int, int]]) -> bytes:
        values = dict(entries)
        address, size = values.get(_DT_STRTAB), values.get(_DT_STRSZ, 0)
        if address is None:
            return b""
        for start, offset, length in self.loads:
            if start <= address < start + length:
                return self._at(offset + address - start, min(size, _STRINGS_LIMIT))
        raise ValueError("damaged ELF file (its names lie nowhere)")

    def _at(self, offset: int, size: int) -> bytes:
        data = os.pread(self.fd, size, offset)
        if len(data) < size:
            raise ValueError("damaged ELF file (it is cut short)")
        return data


def _text(strings: bytes, place: int) -> str:
    end = strings.find(b"\0", place)
    if place >= len(strings) or end < 0:
        raise ValueError("damaged ELF file (a name without an end)")
    return os.fsdecode(strings[place : min(end, place + _PATH_LIMIT)])


def _paths(values: list[str]) -> tuple[str, ...]:
    return tuple(path for value in values for path in value.split(":") if path)
