"""What stacks of layers come to: whiteouts, opaque directories, links across layers, and what is refused."""

from __future__ import annotations

import tempfile
from typing import IO, TYPE_CHECKING, Any

import pytest

from appc.aci import tar
from appc.aci.errors import InvalidArchive, LimitExceeded
from appc.aci.limits import DEFAULT
from appc.errors import AppcError
from fixtures import tars
from oci.errors import DigestMismatch
from oci.layers import flatten
from oci.layers.flatten import Source
from oci.layers.tree import Tree
from oci.types.digest import Digest

if TYPE_CHECKING:
    from collections.abc import Iterator

D, F, L, H = tars.directory, tars.file, tars.symlink, tars.hard_link


@pytest.fixture(autouse=True)
def _files() -> Iterator[None]:
    OPEN.clear()
    yield
    for file in OPEN:
        file.close()


OPEN: list[IO[bytes]] = []


def layer(*members: bytes, end: bytes = tars.END, diff_id: Digest | None = None) -> Source:
    file = tempfile.TemporaryFile()  # noqa: SIM115  closed by the fixture
    OPEN.append(file)
    file.write(b"".join(members) + end)
    file.seek(0)
    return Source(file, diff_id)  # type: ignore[arg-type]


def flat(*layers: Source, **options: Any) -> dict[str, object]:
    """Name to content, to `->target`, `=target` of hard links, or the mode of a directory."""
    out: list[bytes] = []
    flatten.to_archive(layers, out.append, head=lambda facts: b"", **options)
    found: dict[str, object] = {}
    reader = tar.TarReader(iter([b"".join(out)]))
    for entry in reader:
        name = entry.name.decode()
        assert name not in found
        match entry.kind:
            case tar.FILE:
                found[name] = reader.read().decode()
            case tar.SYMLINK:
                found[name] = f"->{entry.target.decode()}"
            case tar.HARD_LINK:
                assert entry.target.decode() in found, "a link before what it links to"
                found[name] = f"={entry.target.decode()}"
            case tar.DIRECTORY:
                found[name] = entry.mode
            case kind:
                found[name] = kind
    return found


def test_later_layers_win() -> None:
    one = layer(D(b"d"), F(b"d/a", b"1"), F(b"b", b"1"), L(b"l", b"x"))
    two = layer(D(b"d", 0o700), F(b"d/c", b"2"), F(b"b", b"2"), F(b"l", b"file"))
    assert flat(one, two) == {"d": 0o700, "d/a": "1", "d/c": "2", "b": "2", "l": "file"}


def test_names_from_the_root_as_ko_writes_them() -> None:
    assert flat(layer(D(b"/"), D(b"/ko-app"), F(b"/ko-app/x", b"1"), H(b"/y", b"/ko-app/x"))) == {
        ".": 0o755,
        "ko-app": 0o755,
        "ko-app/x": "1",
        "y": "=ko-app/x",
    }


def test_a_whiteout_removes_a_file_and_a_tree() -> None:
    one = layer(D(b"d"), F(b"d/a", b"1"), F(b"d/b", b"1"), D(b"t"), F(b"t/x", b"1"))
    assert flat(one, layer(F(b"d/.wh.a"), F(b".wh.t"), F(b".wh.absent"))) == {"d": 0o755, "d/b": "1"}


@pytest.mark.parametrize("order", [0, 1])
def test_a_whiteout_spares_its_own_layer_wherever_it_stands(order: int) -> None:
    one = layer(F(b"a", b"1"), D(b"d", 0o700), F(b"d/old", b"1"))
    members = [F(b".wh.a"), F(b".wh.d")], [F(b"a", b"2"), F(b"d/new", b"2")]
    two = layer(*members[order], *members[1 - order])
    assert flat(one, two) == {"a": "2", "d/new": "2"}  # what the lower layer said of d is gone as well


@pytest.mark.parametrize("order", [0, 1])
def test_an_opaque_directory_hides_lower_layers_only(order: int) -> None:
    one = layer(D(b"d"), F(b"d/a", b"1"), D(b"d/sub"), F(b"d/sub/x", b"1"))
    members = [F(b"d/.wh..wh..opq")], [D(b"d", 0o700), F(b"d/b", b"2"), F(b"d/sub/y", b"2")]
    two = layer(*members[order], *members[1 - order])
    assert flat(one, two) == {"d": 0o700, "d/b": "2", "d/sub/y": "2"}
    three = layer(F(b"d/.wh..wh..opq"))
    assert flat(one, two, three) == {"d": 0o700}


def test_other_aufs_names_are_nothing() -> None:
    assert flat(
        layer(F(b".wh..wh.aufs"), D(b".wh..wh.plnk"), F(b".wh..wh.plnk/1.2", b"x"), F(b"a.wh.b"))
    ) == {"a.wh.b": ""}


def test_a_directory_becomes_a_link_and_a_link_a_directory() -> None:
    one = layer(D(b"v"), F(b"v/x", b"1"), L(b"lib", b"usr/lib"), D(b"usr/lib"), F(b"usr/lib/a", b"1"))
    two = layer(L(b"v", b"/r"), F(b"lib/b", b"2"))
    # never through the link of a lower layer (as an overlay of both would show it)
    assert flat(one, two) == {"v": "->/r", "usr/lib": 0o755, "usr/lib/a": "1", "lib/b": "2"}


def test_hard_links_across_layers() -> None:
    one = layer(F(b"l1", b"yes"), H(b"l2", b"l1"), H(b"l3", b"l1"))
    assert flat(one, layer(F(b".wh.l1"))) == {"l2": "yes", "l3": "=l2"}
    assert flat(one, layer(F(b"l1", b"new"))) == {"l1": "new", "l2": "yes", "l3": "=l2"}
    assert flat(one, layer(F(b".wh.l1"), F(b".wh.l2"))) == {"l3": "yes"}
    assert flat(one, layer(H(b"a/l4", b"l2"), F(b".wh.l2"))) == {"l1": "yes", "l3": "=l1", "a/l4": "=l1"}


def test_the_top_layer_alone_holds_what_it_links_to() -> None:
    one, two = layer(F(b"a", b"1"), F(b"b", b"1")), layer(H(b"c", b"a"), F(b"d", b"2"))
    assert flat(one, two, top_only=True) == {"c": "1", "d": "2"}


def test_empty_layers() -> None:
    zeros = layer(end=bytes(4096))
    assert flat(layer(end=b""), zeros, layer(F(b"a", b"1")), layer(end=tars.END)) == {"a": "1"}


def test_facts_come_before_the_content() -> None:
    one = layer(F(b"etc/passwd", b"old"), F(b"a", b"1"))
    two = layer(F(b"etc/passwd", b"new"), L(b"etc/group", b"passwd"))
    three = layer(F(b".wh.a"), F(b"b", b""))
    found: list[flatten.Facts] = []
    flatten.to_archive(
        [one, two],
        lambda data: None,
        head=lambda facts: found.append(facts) or b"",  # type: ignore[func-returns-value]
        wanted=(b"etc/passwd", b"etc/group"),
    )
    assert found[0].files == {b"etc/passwd": b"new"}
    survey = flatten.survey([one, two, three], every_path=True)
    assert survey.paths == [
        [b"a", b"etc/passwd"],
        [b"a", b"etc/group", b"etc/passwd"],
        [b"b", b"etc/group", b"etc/passwd"],
    ]


def test_links_are_added_where_nothing_is() -> None:
    links = {b"dev/fd": b"/proc/self/fd", b"dev/null": b"x"}
    assert flat(layer(F(b"dev/null", b"")), links=links) == {"dev/fd": "->/proc/self/fd", "dev/null": ""}
    with pytest.raises(AppcError, match='"/dev" is not a directory'):
        flat(layer(L(b"dev", b"/etc")), links=links)


def test_a_diff_id_is_checked() -> None:
    whole = F(b"a", b"1") + tars.END
    assert flat(layer(F(b"a", b"1"), diff_id=Digest.of(whole))) == {"a": "1"}
    with pytest.raises(DigestMismatch, match="layer 2"):
        flat(layer(F(b"a", b"1")), layer(F(b"a", b"2"), diff_id=Digest.of(whole)))


def test_attributes_of_overlays_do_not_pass() -> None:
    records = [(b"SCHILY.xattr.trusted.overlay.opaque", b"y"), (b"SCHILY.xattr.user.mine", b"1")]
    out: list[bytes] = []
    source = layer(tars.pax(*records) + F(b"a", b"1"))
    flatten.to_archive([source], out.append, head=lambda facts: b"")
    assert [dict(entry.xattrs) for entry in tar.TarReader(iter([b"".join(out)]))] == [{b"user.mine": b"1"}]


# --- refused


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([F(b"a", b"1"), F(b"a", b"2")], "twice"),
        ([F(b"a", b"1"), F(b"./a", b"2")], "twice"),
        ([F(b"a", b"1"), F(b"/a", b"2")], "twice"),
        ([L(b"a", b"/etc"), F(b"a/b", b"2")], "no directory"),
        ([F(b"a", b"1"), D(b"a")], "directory and something else"),
        ([F(b"a/b", b"1"), F(b"a", b"1")], "directory and something else"),
        ([F(b"a", b"1"), F(b"a/.wh..wh..opq")], "no directory|opaque"),
        ([F(b"../a", b"1")], r"'\.\.'"),
        ([F(b"/../a", b"1")], r"'\.\.'"),
        ([F(b"a/../../b", b"1")], r"'\.\.'"),
        ([H(b"a", b"../../etc/passwd")], r"'\.\."),
        ([H(b"a", b"b")], "not there"),
        ([D(b"d"), H(b"a", b"d")], "is a directory"),
        ([L(b".", b"/etc")], "root of a layer"),
        ([F(b".wh.", b"")], "no name"),
        ([F(b".wh...", b"")], "no name"),
        ([F(b".wh..", b"")], "no name"),
        ([F(b".wh.a/b", b"")], "below a whiteout"),
        ([tars.header(b"s", b"S")], "sparse"),
    ],
)
def test_what_readers_could_understand_differently(members: list[bytes], message: str) -> None:
    with pytest.raises(InvalidArchive, match=message):
        flat(layer(*members))


def test_cve_2016_8579_a_layer_that_leaves_the_root_ends_at_once() -> None:
    """docker2aci went round in circles over such a name (D2)."""
    with pytest.raises(InvalidArchive):
        flat(layer(F(b"a", b"1")), layer(F(b"../a", b"1"), F(b"../.wh.a")))


def test_what_is_no_archive_is_no_empty_layer() -> None:
    with pytest.raises(InvalidArchive, match="neither a tar archive"):
        flat(layer(end=b"not a tar file at all"))
    with pytest.raises(InvalidArchive, match="cut short"):
        flat(layer(F(b"a", b"x" * 2000)[:1000], end=b""))


def test_limits_hold_for_all_layers_together() -> None:
    few = DEFAULT._replace(entries=10)
    layers = [layer(*[F(b"%d-%d" % (n, m)) for m in range(6)]) for n in range(2)]
    with pytest.raises(LimitExceeded):
        flat(*layers, limits=few)
    small = DEFAULT._replace(size=100_000)
    with pytest.raises(LimitExceeded):
        flat(*[layer(F(b"%d" % n, b"x" * 60_000)) for n in range(2)], limits=small)


def test_implied_directories_are_bounded_too() -> None:
    few = DEFAULT._replace(entries=1000)
    deep = [F(b"%d" % n + b"/d" * 50 + b"/f") for n in range(20)]
    long = [F(b"%04d" % n + b"n" * 900) for n in range(150)]
    for members, told in ((deep, "more than 1000 files and"), (long, "names of more than 128000")):
        with pytest.raises(LimitExceeded, match=told):
            flat(layer(*members), limits=few)
        flat(layer(*members[:9]), limits=few)


def test_orders_of_any_kind_cost_no_more_than_entries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nested opaque directories over a large tree: each is looked through once a layer."""
    tree = Tree()
    tree.start()
    deep = b"d" + b"/d" * 100
    entry = next(iter(tar.TarReader(iter([F(b"x") + tars.END]))))
    for n in range(20_000):
        tree.add(n, entry._replace(name=deep + b"/%d" % n))
    tree.start()
    for n in range(2_000):
        tree.add(n, entry._replace(name=deep + b"/new%d" % n))
    looked_at = []
    monkeypatch.setattr(Tree, "_forget", lambda self, node: looked_at.append(node))
    for level in range(100):
        tree.add(0, entry._replace(name=b"d" + b"/d" * level + b"/.wh..wh..opq"))
    assert len(looked_at) < 3_000
    assert len(list(tree.walk())) == 101 + 2_000


def test_streams_that_are_compressed() -> None:
    from appc.aci import compression

    for kind in ("gzip", "zstd", "none"):
        compress, flush = compression.deflater(kind)
        data = compress(F(b"a", b"x" * 5000) + tars.END) + flush()
        source = layer(end=data)
        assert flat(source) == {"a": "x" * 5000}, kind
