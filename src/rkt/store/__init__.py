"""The image store: archives by their hash, rendered trees, and an index that can be made anew from them."""

from __future__ import annotations

from rkt.store.blobs import NoSuchImage
from rkt.store.store import ImageInfo, Store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rkt.store.index import Remote as Remote
    from rkt.store.trees import Tree as Tree

__all__ = ["ImageInfo", "NoSuchImage", "Remote", "Store", "Tree"]


def __getattr__(name: str) -> object:
    """Load `Remote` or `Tree` when they are asked for (PEP 562): not every command needs SQLite."""
    if name == "Remote":
        from rkt.store.index import Remote

        return Remote
    if name == "Tree":
        from rkt.store.trees import Tree

        return Tree
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
