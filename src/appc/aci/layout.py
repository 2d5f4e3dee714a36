"""What an image may hold (appc spec, "Image Layout"): a manifest, a rootfs, nothing else, nothing twice."""

from __future__ import annotations

from appc.aci import tar
from appc.aci.errors import MAX_PROBLEMS, InvalidArchive, LimitExceeded, shown
from appc.aci.limits import DEFAULT, Limits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from appc.aci.tar import Entry

MANIFEST = b"manifest"
ROOTFS = b"rootfs"
INSIDE = b"rootfs/"


class Layout:
    """Watches the entries of one archive go by. `problems` fills with what is against the layout.

    Also what the specification leaves open but no directory tree can hold is a problem: something below a
    file or a link (rule R1: it would be written through the link), a hard link to a directory.
    """

    def __init__(self, limits: Limits = DEFAULT) -> None:
        self._limits = limits
        #: Every name seen or implied as a parent; whether it is a directory.
        self._names: dict[bytes, bool] = {}
        self._explicit: set[bytes] = set()
        self._bytes = 0
        self._most_bytes = limits.names
        self._parent = b""
        self.problems: list[str] = []
        self.has_manifest = False
        self.has_rootfs = False

    def problem(self, text: str) -> None:
        """Note a problem; a hostile archive does not fill memory with them."""
        if len(self.problems) <= MAX_PROBLEMS:
            self.problems.append(text)

    def see(self, entry: Entry) -> None:
        """Check the next entry."""
        name = entry.name
        if not name.startswith(INSIDE):
            self._top_level(entry)
            return
        is_directory = entry.kind is tar.DIRECTORY
        names = self._names
        if name in names:
            self._again(name, is_directory=is_directory)
        elif is_directory:
            names[name] = True
            self._explicit.add(name)
        else:
            names[name] = False
        self._keep(name)
        parent = name[: name.rfind(b"/")]
        if parent != self._parent:
            self._walk_up(parent, name)
            self._parent = parent
        elif not names[parent]:
            self.problem(f"{shown(name)}: its parent {shown(parent)} is no directory")
        if entry.kind is tar.HARD_LINK:
            self._hard_link(entry)

    def _again(self, name: bytes, *, is_directory: bool) -> None:
        if not self._names[name] or name in self._explicit:
            self.problem(f"{shown(name)} occurs twice")
        elif is_directory:
            self._explicit.add(name)  # implied before, named now
        else:
            self.problem(f"{shown(name)}: something lies below it, but it is no directory")

    def _walk_up(self, parent: bytes, name: bytes) -> None:
        names = self._names
        while parent != ROOTFS:
            if parent in names:
                if not names[parent]:
                    self.problem(f"{shown(name)}: its parent {shown(parent)} is no directory")
                return
            names[parent] = True
            self._keep(parent)
            parent = parent[: parent.rfind(b"/")]
        self.has_rootfs = True
        names.setdefault(ROOTFS, True)

    def _keep(self, name: bytes) -> None:
        """Count what the names take of memory: all are kept, those of implied directories too."""
        self._bytes += len(name)
        if self._bytes > self._most_bytes:
            raise LimitExceeded(f"names of more than {self._most_bytes} bytes together")
        if len(self._names) > self._limits.entries + 1:  # and the rootfs
            raise LimitExceeded(f"more than {self._limits.entries} files and directories")

    def _hard_link(self, entry: Entry) -> None:
        target = entry.target
        if not target.startswith(INSIDE):
            self.problem(f"{shown(entry.name)}: a hard link to {shown(target)}, outside rootfs")
        elif target == entry.name:
            self.problem(f"{shown(entry.name)}: a hard link to itself")
        elif self._names.get(target):
            self.problem(f"{shown(entry.name)}: a hard link to the directory {shown(target)}")

    def _top_level(self, entry: Entry) -> None:
        name = entry.name
        if name in self._explicit:
            self.problem(f"{shown(name)} occurs twice")
            return
        if name == MANIFEST:
            self._explicit.add(name)
            self.has_manifest = True
            if entry.kind is not tar.FILE:
                self.problem(f"manifest is a {entry.kind}, not a file")
            elif entry.size > self._limits.manifest:
                raise LimitExceeded(f"a manifest of {entry.size} bytes")
        elif name == ROOTFS:
            self._explicit.add(name)
            self.has_rootfs = True
            self._names[ROOTFS] = entry.kind is tar.DIRECTORY
            if entry.kind is not tar.DIRECTORY:
                self.problem("rootfs is not a directory")
        elif name == b".":
            self._explicit.add(name)
            if entry.kind is not tar.DIRECTORY:
                self.problem(f"the root of the archive is a {entry.kind}")
        else:
            self.problem(f"{shown(name)}: only manifest and rootfs may be in an image")

    @property
    def implies_rootfs(self) -> bool:
        """Whether files lie in a rootfs that is no entry itself. A tree can be made of it all the same."""
        return self.has_rootfs and ROOTFS not in self._explicit

    def finish(self) -> None:
        """Note what is missing at the end of the archive."""
        if not self.has_manifest:
            self.problem("no manifest")
        if not self.has_rootfs:
            self.problem("no rootfs")

    def raise_if_bad(self) -> None:
        """InvalidArchive with all problems, if there are any."""
        if self.problems:
            raise InvalidArchive(self.problems)
