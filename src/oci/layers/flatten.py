"""A stack of layers as one directory or one archive: nothing is written that does not stay.

Each layer is read twice, by a process in a cage (rules R1 to R5): first for its names, which decide what
stays, then for the content of that. So there is nothing to remove, and no order of entries is an attack.
"""

from __future__ import annotations

import fcntl
import json
import os

from appc.aci import cage, header, tar
from appc.aci.errors import LimitExceeded
from appc.aci.extract import Extracted
from appc.aci.limits import DEFAULT, Limits
from appc.aci.tar import Entry
from appc.aci.treehash import TreeHash, measure
from appc.aci.unpack import Unpacker
from appc.errors import AppcError
from linux.files import write_all
from linux.named_tuple import NamedTuple
from oci.layers.plain import OpenLayer, Tap, check_diff_id
from oci.layers.tree import Content, Node, Tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from typing import Any, BinaryIO

    from oci.types.digest import Digest

#: Bytes of a file that `Facts.files` may hold: /etc/passwd of an honest image has two thousand.
_LARGEST_WANTED = 1 << 20
_PIECE = 1 << 20
_LARGEST_FACTS = 64 << 20
#: What overlayfs would take orders from.
_NOT_ATTRIBUTES = (b"trusted.overlay.", b"user.overlay.")


class Source(NamedTuple):
    """A layer: its file (any compression, from its start), and the digest that its plain bytes must have."""

    file: BinaryIO
    diff_id: Digest | None = None


class Facts(NamedTuple):
    """What is known before the first entry comes: wanted files that are there, and all paths of each layer.

    `paths[n]` is what there is when the layers up to number n are applied, if that was asked for;
    `links_below[n]` says whether that layer has a hard link into a lower one.
    """

    files: Mapping[bytes, bytes]
    paths: Sequence[Sequence[bytes]]
    links_below: Sequence[bool]


class Plan:
    """What stays of `layers`: computed inside the cage, from what was opened outside."""

    def __init__(
        self,
        layers: Sequence[OpenLayer],
        sources: Sequence[Source],
        limits: Limits,
        *,
        wanted: frozenset[bytes] = frozenset(),
        every_path: bool = False,
        top_only: bool = False,
        links: Mapping[bytes, bytes] | None = None,
    ) -> None:
        self.tree = Tree(limits)
        self.links_below: list[bool] = []
        #: Below this layer nothing is wanted but what the top one links to.
        self._lowest = len(layers) - 1 if top_only else 0
        self.diff_ids: list[str] = []
        self.paths: list[list[bytes]] = []
        self._layers = layers
        self._limits = limits
        self._links = dict(links or {})
        self._read: dict[Content, bytes] = {}
        for place, (layer, source) in enumerate(zip(layers, sources, strict=True)):
            tap = Tap(layer.chunks(), source.diff_id)
            self.tree.start()
            self._add(place, tar.TarReader(iter(tap), limits, rooted=True), wanted)
            self.diff_ids.append(tap.diff_id)
            self.links_below.append(self.tree.links_below)
            if every_path:
                self.paths.append([name for name, node in self.tree.walk() if _is_there(node)])
        self.names = self._names()

    def _add(self, place: int, reader: tar.TarReader, wanted: frozenset[bytes]) -> None:
        for ordinal, entry in enumerate(reader):
            self.tree.add(ordinal, entry)
            if entry.name in wanted and entry.kind is tar.FILE and entry.size <= _LARGEST_WANTED:
                node = self.tree.find(entry.name)
                if node is not None and node.content is not None and node.content.layer == place:
                    self._read[node.content] = reader.read()

    def files(self, wanted: Iterable[bytes]) -> dict[bytes, bytes]:
        """The wanted files that are there in the end; links are not followed."""
        found: dict[bytes, bytes] = {}
        for name in wanted:
            node = self.tree.find(name)
            if node is not None and node.content is not None and node.content in self._read:
                found[name] = self._read[node.content]
        return found

    def _names(self) -> dict[tuple[int, int], list[bytes]]:
        """The names of each content that stays, its own first."""
        names: dict[tuple[int, int], list[bytes]] = {}
        size = 0
        for name, node in self.tree.walk():
            content = node.content
            if content is None or node.touched < self._lowest:
                continue
            known = names.setdefault((content.layer, content.ordinal), [])
            if not known:
                size += content.entry.size
            if name == content.entry.name:
                known.insert(0, name)
            else:
                known.append(name)
        if size > self._limits.size:
            raise LimitExceeded(f"{size} bytes in all layers")
        return names

    def entries(self) -> Iterator[tuple[Entry, Iterable[memoryview]]]:
        """Everything that stays: directories, then each layer's content, each with its further names."""
        if self.tree.root.entry is not None and self.tree.root.described >= self._lowest:
            yield _clean(self.tree.root.entry), ()
        for name, node in self.tree.walk():
            if node.entry is not None and node.described >= self._lowest:
                yield _clean(node.entry._replace(name=name)), ()
        yield from self._device_links()
        needed = {layer for layer, _ in self.names}
        for place, layer in enumerate(self._layers):
            if place not in needed:
                continue
            reader = tar.TarReader(layer.chunks(1), self._limits, rooted=True)
            for ordinal, entry in enumerate(reader):
                if names := self.names.get((place, ordinal)):
                    yield _clean(entry._replace(name=names[0])), reader.content()
                    for name in names[1:]:
                        yield _hard_link(entry, name, names[0]), ()

    def _device_links(self) -> Iterator[tuple[Entry, Iterable[memoryview]]]:
        """The links that were asked for, where there is nothing yet."""
        for name in sorted(self._links):
            above = self.tree.find(name.rpartition(b"/")[0] or b".")
            if above is not None and above.content is not None:
                raise AppcError(f'invalid layer: "/{name.rpartition(b"/")[0].decode()}" is not a directory')
            if self.tree.find(name) is None:
                yield Entry(name, tar.SYMLINK, 0o777, 0, 0, 0, 0, self._links[name], (0, 0), {}), ()


def _is_there(node: Node) -> bool:
    """Whether a layer says something about the path, not only about what is below it."""
    return node.content is not None or node.entry is not None


def _clean(entry: Entry) -> Entry:
    if not entry.xattrs:
        return entry
    kept = {key: value for key, value in entry.xattrs.items() if not key.startswith(_NOT_ATTRIBUTES)}
    return entry._replace(xattrs=kept)


def _hard_link(entry: Entry, name: bytes, target: bytes) -> Entry:
    return entry._replace(name=name, kind=tar.HARD_LINK, size=0, target=target, device=(0, 0), xattrs={})


class _Opened:
    """All layers opened for another process, and closed in the end."""

    def __init__(self, sources: Sequence[Source], limits: Limits) -> None:
        self.layers: list[OpenLayer] = []
        try:
            for source in sources:
                self.layers.append(OpenLayer(source.file, limits))
        except BaseException:
            self.close()
            raise

    @property
    def fds(self) -> tuple[int, ...]:
        return tuple(fd for layer in self.layers for fd in layer.fds())

    def finish(self) -> None:
        """All were read at least once."""
        for layer in self.layers:
            layer.finish(passes=1)

    def close(self) -> None:
        for layer in self.layers:
            layer.close()


def to_directory(
    sources: Sequence[Source], directory: int | str, *, limits: Limits = DEFAULT, measured: bool = False
) -> Extracted:
    """Put what the layers come to (the lowest first) into the empty `directory` (fd or path).

    As `appc.aci.extract.extract_layers`: device nodes are left out and counted, owners kept by root only,
    nothing is durable yet, and what was written until a failure is the caller's to remove. The caller must
    have a single thread. InvalidArchive for broken layers, DigestMismatch for others than were promised.
    """
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    root = os.open(directory, flags) if isinstance(directory, str) else -1
    opened = _Opened(sources, limits)
    try:
        owners = os.geteuid() == 0

        def work(inside: int) -> bytes:
            digests: dict[int, bytes] | None = {} if measured else None
            unpacker = Unpacker(inside, owners=owners, digests=digests)
            plan = Plan(opened.layers, sources, limits)
            for entry, content in plan.entries():
                unpacker.add(entry, content)
            unpacker.finish()
            tree = None
            if digests is not None:
                tree = measure(inside, known=lambda status: digests.get(status.st_ino))
            return json.dumps([unpacker.devices, unpacker.attributes, tree, plan.diff_ids]).encode()

        target = directory if isinstance(directory, int) else root
        with cage.start(work, directory=target, keep=opened.fds, file_size=limits.size) as child:
            devices, attributes, tree, diff_ids = json.loads(child.result())
            opened.finish()
            _check(sources, diff_ids)
            return Extracted(devices, attributes, child.walls, tree and TreeHash(*tree))
    finally:
        opened.close()
        if root >= 0:
            os.close(root)


def survey(
    sources: Sequence[Source],
    *,
    wanted: Iterable[bytes] = (),
    every_path: bool = False,
    limits: Limits = DEFAULT,
) -> Facts:
    """What the layers come to, without their content. Raises as `to_directory`."""
    opened = _Opened(sources, limits)
    try:
        names = frozenset(wanted)

        def work(inside: int) -> bytes:
            del inside
            plan = Plan(opened.layers, sources, limits, wanted=names, every_path=every_path)
            return json.dumps([_facts_json(plan, names), plan.diff_ids]).encode()

        with cage.start(work, keep=opened.fds) as child:
            facts, diff_ids = json.loads(child.result())
            opened.finish()
            _check(sources, diff_ids)
            return _facts(facts)
    finally:
        opened.close()


def to_archive(
    sources: Sequence[Source],
    sink: Callable[[bytes], object],
    *,
    head: Callable[[Facts], bytes],
    prefix: bytes = b"",
    wanted: Iterable[bytes] = (),
    top_only: bool = False,
    links: Mapping[bytes, bytes] | None = None,
    limits: Limits = DEFAULT,
) -> None:
    """Give `sink` the bytes of a plain archive of what the layers come to, the lowest first.

    `head(facts)` is called once, and what it returns goes in front; `prefix` (such as ``rootfs``) in front of
    every name. `wanted` names files that the facts hold, `links` are symbolic links to add where nothing is.
    With `top_only` it is the topmost layer alone, complete: what it links to in lower ones is in it.
    Raises as `to_directory`; what went into `sink` until then is worth nothing.
    """
    opened = _Opened(sources, limits)
    reading, writing = os.pipe()
    try:
        fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, _PIECE)
        names = frozenset(wanted)

        def work(inside: int) -> bytes:
            del inside
            plan = Plan(opened.layers, sources, limits, wanted=names, top_only=top_only, links=links)
            _write_facts(writing, plan, names)
            _write_entries(writing, plan, prefix)
            os.close(writing)
            return json.dumps(plan.diff_ids).encode()

        with cage.start(work, keep=(*opened.fds, writing)) as child:
            os.close(writing)
            writing = -1
            facts = _read_facts(reading)
            if facts is not None:
                sink(head(facts))
                while data := os.read(reading, _PIECE):
                    sink(data)
            diff_ids = json.loads(child.result())
            opened.finish()
            _check(sources, diff_ids)
    finally:
        opened.close()
        os.close(reading)
        if writing >= 0:
            os.close(writing)


def _check(sources: Sequence[Source], diff_ids: Sequence[str]) -> None:
    for place, (source, found) in enumerate(zip(sources, diff_ids, strict=True)):
        check_diff_id(source.diff_id, found, place)


def _facts_json(plan: Plan, wanted: Iterable[bytes]) -> list[object]:
    files = {name.decode("latin-1"): data.decode("latin-1") for name, data in plan.files(wanted).items()}
    return [files, [[name.decode("latin-1") for name in names] for names in plan.paths], plan.links_below]


def _facts(value: list[Any]) -> Facts:
    files, paths, links_below = value
    return Facts(
        {name.encode("latin-1"): text.encode("latin-1") for name, text in files.items()},
        [[name.encode("latin-1") for name in names] for names in paths],
        links_below,
    )


def _write_facts(pipe: int, plan: Plan, wanted: Iterable[bytes]) -> None:
    data = json.dumps(_facts_json(plan, wanted)).encode()
    write_all(pipe, len(data).to_bytes(4, "big") + data)


def _read_facts(pipe: int) -> Facts | None:
    """What `_write_facts` wrote; None when the child died of an error before."""
    size = _take(pipe, 4)
    if len(size) < 4 or (count := int.from_bytes(size, "big")) > _LARGEST_FACTS:
        return None
    data = _take(pipe, count)
    return _facts(json.loads(data)) if len(data) == count else None


def _take(pipe: int, count: int) -> bytes:
    parts: list[bytes] = []
    while count and (data := os.read(pipe, min(count, _PIECE))):
        parts.append(data)
        count -= len(data)
    return b"".join(parts)


def _write_entries(pipe: int, plan: Plan, prefix: bytes) -> None:
    pending = bytearray()
    root = prefix or b"."
    inside = prefix + b"/" if prefix else b""
    if prefix and plan.tree.root.entry is None:
        pending += header.encode(Entry(root, tar.DIRECTORY, 0o755, 0, 0, 0, 0, b"", (0, 0), {}))
    for entry, content in plan.entries():
        name = root if entry.name == b"." else inside + entry.name
        target = inside + entry.target if entry.kind is tar.HARD_LINK else entry.target
        pending += header.encode(entry._replace(name=name, target=target))
        for piece in content:
            pending += piece
            if len(pending) >= _PIECE:
                write_all(pipe, bytes(pending))
                pending.clear()
        pending += bytes(-entry.size % tar.BLOCK)
    pending += header.END
    write_all(pipe, bytes(pending))
