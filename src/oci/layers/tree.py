"""What a stack of layers comes to: every path, and which entry of which layer it shows.

Layers are read from the lowest up, and nothing is written: names only are kept, in one tree. The work is
linear in the number of entries, whatever they are. Rules (image-spec, layer.md):

* An entry takes the place of what a lower layer has there; a directory over a directory keeps what is in it.
* ``.wh.NAME`` removes NAME of lower layers, ``.wh..wh..opq`` all that is in its directory; both spare what
  the same layer holds, wherever in the archive it stands. Other names beginning with ``.wh..wh.`` are an old
  filesystem's own.
* A hard link may lead into a lower layer.

What no two programs understand alike is refused (rule R1): a file twice in one layer, an entry below
something that its own layer says is no directory, a hard link to a directory or to nothing.
"""

from __future__ import annotations

from appc.aci import tar
from appc.aci.errors import InvalidArchive, LimitExceeded, shown
from appc.aci.limits import DEFAULT, Limits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from appc.aci.tar import Entry

WHITEOUT = b".wh."
OPAQUE = b".wh..wh..opq"
_RESERVED = b".wh..wh."


class Content:
    """What is behind one or more names: the entry number `ordinal` of layer number `layer`."""

    __slots__ = ("entry", "layer", "ordinal")

    def __init__(self, layer: int, ordinal: int, entry: Entry) -> None:
        self.layer = layer
        self.ordinal = ordinal
        self.entry = entry


class Node:
    """One path, a directory where `content` is None; its `entry` is None where no layer describes it."""

    __slots__ = ("children", "content", "described", "entry", "pruned", "touched")

    def __init__(self, touched: int, content: Content | None = None) -> None:
        self.content = content
        self.children: dict[bytes, Node] = {}
        self.entry: Entry | None = None
        #: The layer that has an entry for the directory.
        self.described = -1
        #: The last layer that has something here or below.
        self.touched = touched
        #: The last layer that removed what lower ones have below.
        self.pruned = -1


class Tree:
    """The paths of all layers added so far. `limits` bound all layers together.

    With `alone` there is one layer, without those that it was made for: a hard link to something that is not
    in it is no fault, but makes `links_below` true.
    """

    def __init__(self, limits: Limits = DEFAULT, *, alone: bool = False) -> None:
        self._alone = alone
        self.root = Node(0)
        self._limits = limits
        self._entries = 0
        self._bytes = 0
        self._layer = -1
        #: The directory that the last entry was in: the next one is mostly there too. Nothing that a layer
        #: has put in place goes away again while that layer is read.
        self._above: tuple[bytes, Node] = b"", self.root
        #: Of the last layer: names that it removes from lower ones, directories whose content it hides.
        self.whiteouts: set[bytes] = set()
        self.opaques: set[bytes] = set()
        #: Whether a hard link of the last layer leads into a lower one.
        self.links_below = False

    def start(self) -> None:
        """What follows is a new layer, on top of those before."""
        self._layer += 1
        self._above = b"", self.root
        self.whiteouts = set()
        self.opaques = set()
        self.links_below = False

    def add(self, ordinal: int, entry: Entry) -> bool:
        """Entry number `ordinal` (from 0) of the current layer. Whether it is something: an order is not."""
        name = entry.name
        self._count(len(name))
        if WHITEOUT in name and self._special(name):
            return False
        if name == b".":
            self._describe(self.root, entry)
            return True
        parent, base = self._parent(name)
        found = parent.children.get(base)
        if entry.kind is tar.DIRECTORY:
            self._directory(parent, base, found, entry)
            return True
        self._refuse_twice(found, name)
        content = Content(self._layer, ordinal, entry)
        if entry.kind is tar.HARD_LINK:
            content = self._link(entry) or content
        parent.children[base] = Node(self._layer, content)
        return True

    def _count(self, length: int) -> None:
        """Count a path of so many bytes, named or implied: all are kept, and the implied ones made."""
        self._entries += 1
        self._bytes += length
        if self._entries > self._limits.entries:
            raise LimitExceeded(f"more than {self._limits.entries} files and directories in all layers")
        if self._bytes > self._limits.names:
            raise LimitExceeded(f"names of more than {self._limits.names} bytes in all layers")

    def _refuse_twice(self, found: Node | None, name: bytes) -> None:
        if found is None or found.touched != self._layer:
            return
        if found.content is not None:
            raise InvalidArchive(f"{shown(name)} occurs twice in one layer")
        raise InvalidArchive(f"{shown(name)}: is a directory and something else in one layer")

    def _directory(self, parent: Node, base: bytes, found: Node | None, entry: Entry) -> None:
        if found is None or found.content is not None:
            if found is not None and found.touched == self._layer:
                raise InvalidArchive(f"{shown(entry.name)}: is a directory and something else in one layer")
            found = parent.children[base] = Node(self._layer)
        found.touched = self._layer
        self._describe(found, entry)

    def _describe(self, node: Node, entry: Entry) -> None:
        if entry.kind is not tar.DIRECTORY:
            raise InvalidArchive(f"the root of a layer is a {entry.kind}")
        node.entry = entry
        node.described = self._layer

    def _link(self, entry: Entry) -> Content | None:
        """What the link stands for; None where a layer that is not here has it."""
        node = self.find(entry.target)
        if node is None and self._alone:
            self.links_below = True
            return None
        if node is None or node.content is None:
            what = "is not there" if node is None else "is a directory"
            raise InvalidArchive(f"{shown(entry.name)}: a hard link to {shown(entry.target)}, which {what}")
        if node.touched != self._layer:
            self.links_below = True
        return node.content

    # --- what layers remove

    def _special(self, name: bytes) -> bool:
        """Deal with a name that is an order; False for one that only looks like it."""
        directory, _, base = name.rpartition(b"/")
        parts = directory.split(b"/") if directory else []
        if any(part.startswith(_RESERVED) for part in parts):
            return True
        if any(part.startswith(WHITEOUT) for part in parts):
            raise InvalidArchive(f"{shown(name)}: lies below a whiteout")
        if base == OPAQUE:
            self._hide(directory)
            return True
        if base.startswith(_RESERVED):
            return True
        if not base.startswith(WHITEOUT):
            return False
        gone = base[len(WHITEOUT) :]
        if gone in {b"", b".", b".."}:
            raise InvalidArchive(f"{shown(name)}: a whiteout of no name")
        self._remove(directory, gone)
        return True

    def _remove(self, directory: bytes, base: bytes) -> None:
        """Take away what lower layers have at `base`, if they have anything there."""
        self.whiteouts.add(directory + b"/" + base if directory else base)
        parent = self.find(directory) if directory else self.root
        found = None if parent is None else parent.children.get(base)
        if found is None or parent is None:
            return
        if found.touched != self._layer:
            del parent.children[base]
        elif found.content is None:
            self._prune(found)

    def _hide(self, directory: bytes) -> None:
        """Take away what lower layers have in `directory`, which this layer has too."""
        self.opaques.add(directory or b".")
        if not directory:
            node = self.root
        else:
            parent, base = self._parent(directory)
            found = parent.children.get(base)
            if found is None or found.content is not None:
                if found is not None and found.touched == self._layer:
                    raise InvalidArchive(f"{shown(directory)}: is opaque, but no directory")
                found = parent.children[base] = Node(self._layer)
            found.touched = self._layer
            node = found
        self._prune(node, keep_entry=True)

    def _prune(self, top: Node, *, keep_entry: bool = False) -> None:
        """Remove what is from lower layers below `top`, and what they say about the directories that stay."""
        if not keep_entry:
            self._forget(top)
        stack = [top]
        while stack:
            node = stack.pop()
            if node.pruned == self._layer:
                continue
            node.pruned = self._layer
            node.children = {name: one for name, one in node.children.items() if one.touched == self._layer}
            for one in node.children.values():
                self._forget(one)
                stack.append(one)

    def _forget(self, node: Node) -> None:
        if node.described != self._layer:
            node.entry = None

    # --- looking

    def _parent(self, name: bytes) -> tuple[Node, bytes]:
        """The directory above `name`, made where lower layers have no directory, and the last part."""
        above, _, base = name.rpartition(b"/")
        if above == self._above[0] and above:
            return self._above[1], base
        node = self.root
        node.touched = self._layer
        start = 0
        while (end := name.find(b"/", start)) >= 0:
            part = name[start:end]
            below = node.children.get(part)
            if below is None or below.content is not None:
                if below is not None and below.touched == self._layer:
                    raise InvalidArchive(
                        f"{shown(name)}: {shown(name[:end])} is no directory in the same layer"
                    )
                below = node.children[part] = Node(self._layer)
                self._count(end)
            below.touched = self._layer
            node, start = below, end + 1
        self._above = above, node
        return node, base

    def find(self, name: bytes) -> Node | None:
        """What is at `name` now; None for nothing. Links are not followed."""
        node = self.root
        if name == b".":
            return node
        for part in name.split(b"/"):
            if (below := node.children.get(part)) is None:
                return None
            node = below
        return node

    def walk(self) -> Iterator[tuple[bytes, Node]]:
        """Every path but the root, sorted as bytes, each directory before what is in it."""
        stack: list[tuple[bytes, Node]] = [(b"", self.root)]
        while stack:
            name, node = stack.pop()
            if name:
                yield name, node
            children = node.children
            bases = sorted(children, reverse=True)
            stack.extend((name + b"/" + base if name else base, children[base]) for base in bases)
