"""Where things lie below DIR/cas: rkt's names and places.

An archive and its manifest are named by the whole image ID (rkt cut it in half), in a directory named by its
first two digits.
"""

from __future__ import annotations

import os

from appc.types.image_id import LENGTH, PREFIX
from linux import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_HEX = "0123456789abcdef"


class Paths:
    """The paths of one store. Nothing is made until something is to be written."""

    __slots__ = (
        "blobs",
        "cas",
        "content",
        "database",
        "image_locks",
        "layers",
        "manifests",
        "temporary",
        "tree_locks",
        "trees",
    )

    def __init__(self, data_dir: str) -> None:
        self.cas = f"{data_dir}/cas"
        self.database = f"{self.cas}/db/rkt.db"
        self.blobs = f"{self.cas}/blob/sha512"
        self.manifests = f"{self.cas}/imageManifest/sha512"
        self.trees = f"{self.cas}/tree"
        self.content = f"{self.cas}/oci"
        self.layers = f"{self.cas}/layer"
        self.temporary = f"{self.cas}/tmp"  # noqa: S108 (no shared directory)
        self.image_locks = f"{self.cas}/imagelocks"
        self.tree_locks = f"{self.cas}/treestorelocks"

    def blob(self, image_id: str) -> str:
        return f"{self.blobs}/{image_id[7:9]}/{image_id}"

    def manifest(self, image_id: str) -> str:
        return f"{self.manifests}/{image_id[7:9]}/{image_id}"

    def image_lock(self, image_id: str) -> str:
        return f"{self.image_locks}/{image_id}"

    def tree(self, tree_id: str) -> str:
        return f"{self.trees}/{tree_id}"

    def tree_lock(self, tree_id: str) -> str:
        return f"{self.tree_locks}/{tree_id}"

    def image_ids(self, prefix: str = "") -> Iterator[str]:
        """The IDs of all archives whose digits begin with `prefix` (lower-case), in order."""
        for group in sorted(_names(self.blobs)):
            if len(group) == 2 and group[: len(prefix)] == prefix[:2]:
                for name in sorted(_names(f"{self.blobs}/{group}")):
                    if is_image_id(name) and name[7:].startswith(prefix):
                        yield name

    def tree_ids(self) -> list[str]:
        """The IDs of all rendered trees."""
        return sorted(name for name in _names(self.trees) if name.startswith("deps-"))


def is_image_id(name: str) -> bool:
    """Whether a file's name is an image ID as the store writes them, in lower case."""
    return len(name) == LENGTH and name.startswith(PREFIX) and not name[len(PREFIX) :].strip(_HEX)


def _names(directory: str) -> list[str]:
    try:
        return os.listdir(directory)
    except FileNotFoundError:
        return []


def make_directory(path: str) -> None:
    """Make `path` and what is missing above it, durably. Mode 0700, or the parent's where a group shares it.

    (dist/ may set DIR/cas up as setgid for a group that may fetch images; see the packaging.)
    """
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        return
    except FileNotFoundError:
        make_directory(os.path.dirname(path))
        try:
            os.mkdir(path, 0o700)
        except FileExistsError:
            return
    parent = os.path.dirname(path)
    mode = os.stat(parent).st_mode
    if mode & 0o2020 == 0o2020:
        os.chmod(path, mode & 0o2770)
    files.sync_directory(parent)


def file_mode(directory: str) -> int:
    """The mode of a new file in `directory`: the group gets what it has there, others get nothing."""
    return 0o600 | os.stat(directory).st_mode & 0o060
