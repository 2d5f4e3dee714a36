"""What is mounted: /proc/PID/mountinfo as typed entries."""

from __future__ import annotations


class MountEntry:
    """One line of mountinfo (proc(5)). `optional` holds words such as ``shared:7`` or ``master:1``."""

    __slots__ = (
        "device", "fstype", "id", "optional", "options",
        "parent", "root", "source", "super_options", "target",
    )  # fmt: skip

    def __init__(self, line: str) -> None:
        head, _, tail = line.rstrip("\n").partition(" - ")
        fields = head.split(" ")
        self.id = int(fields[0])
        self.parent = int(fields[1])
        self.device = fields[2]
        self.root = _unescape(fields[3])
        self.target = _unescape(fields[4])
        self.options = fields[5].split(",")
        self.optional = fields[6:]
        fstype, source, *rest = tail.split(" ")
        self.fstype = fstype
        self.source = _unescape(source)
        self.super_options = rest[0].split(",") if rest else []

    def __repr__(self) -> str:
        return f"<MountEntry {self.fstype} {self.source} on {self.target}>"


def _unescape(text: str) -> str:
    """Undo the kernel's octal escapes: space, tab, newline, backslash and hash in names."""
    if "\\" not in text:
        return text
    head, *rest = text.split("\\")
    return head + "".join(chr(int(part[:3], 8)) + part[3:] for part in rest)


def mounts(pid: int | str = "self") -> list[MountEntry]:
    """The mounts in the mount namespace of `pid`, as its root shows them, in the order they were made.

    ProcessLookupError or FileNotFoundError when there is no such process.
    """
    with open(f"/proc/{pid}/mountinfo", encoding="utf-8", errors="surrogateescape", newline="\n") as file:
        return [MountEntry(line) for line in file]


def below(directory: str, pid: int | str = "self") -> list[MountEntry]:
    """The mounts on `directory` and under it, the last made first: so they can be unmounted."""
    prefix = directory.rstrip("/") + "/"
    return [entry for entry in reversed(mounts(pid)) if (entry.target + "/").startswith(prefix)]
