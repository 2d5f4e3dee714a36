"""The tar reader: what it understands, and what it refuses (rule R1)."""

from __future__ import annotations

import io
import tarfile

import pytest

from appc.aci import tar
from appc.aci.errors import InvalidArchive, LimitExceeded
from appc.aci.limits import DEFAULT, Limits
from fixtures import tars


def entries(data: bytes, limits: Limits = DEFAULT, *, piece: int = 1 << 20) -> list[tuple[tar.Entry, bytes]]:
    pieces = iter([data[at : at + piece] for at in range(0, len(data), piece)])
    reader = tar.TarReader(pieces, limits)
    return [(entry, b"".join(bytes(part) for part in reader.content())) for entry in reader]


def only(data: bytes) -> tar.Entry:
    found = entries(data + tars.END)
    assert len(found) == 1
    return found[0][0]


@pytest.mark.parametrize("piece", [1, 7, 511, 512, 513, 1 << 20])
def test_content_comes_whole_whatever_the_pieces(piece: int) -> None:
    data = tars.file(b"a", b"x" * 1300) + tars.directory(b"d") + tars.file(b"d/b", b"y") + tars.END
    found = entries(data, piece=piece)
    assert [(entry.name, entry.kind, content) for entry, content in found] == [
        (b"a", tar.FILE, b"x" * 1300),
        (b"d", tar.DIRECTORY, b""),
        (b"d/b", tar.FILE, b"y"),
    ]


def test_content_that_nobody_reads_is_passed_over() -> None:
    data = tars.file(b"a", b"x" * 99_999) + tars.file(b"b", b"y") + tars.END
    reader = tar.TarReader(iter([data]))
    assert [entry.name for entry in reader] == [b"a", b"b"]


def test_all_fields() -> None:
    entry = only(
        tars.header(
            b"name", b"3", mode=0o4755, uid=1000, gid=100, mtime=12345, major=5, minor=1, prefix=b"a/b"
        )
    )
    assert entry == tar.Entry(
        b"a/b/name", tar.CHARACTER_DEVICE, 0o4755, 1000, 100, 0, 12345 * 10**9, b"", (5, 1), {}
    )


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_reads_what_python_writes(form: int) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as writer:
        for name, kind, link in (
            ("dir", tarfile.DIRTYPE, ""),
            ("dir/" + "n" * 90, tarfile.REGTYPE, ""),
            ("dir/link", tarfile.SYMTYPE, "../" + "t" * 80),
            ("dir/hard", tarfile.LNKTYPE, "dir/" + "n" * 90),
            ("dir/fifo", tarfile.FIFOTYPE, ""),
        ):
            info = tarfile.TarInfo(name)
            info.type, info.linkname, info.mtime, info.uid = kind, link, 1_700_000_000, 7
            info.size = 3 if kind == tarfile.REGTYPE else 0
            writer.addfile(info, io.BytesIO(b"abc"))
    found = entries(out.getvalue())
    assert [(e.name.decode(), e.kind, e.target.decode(), e.mtime, e.uid) for e, _ in found] == [
        ("dir", tar.DIRECTORY, "", 1_700_000_000 * 10**9, 7),
        ("dir/" + "n" * 90, tar.FILE, "", 1_700_000_000 * 10**9, 7),
        ("dir/link", tar.SYMLINK, "../" + "t" * 80, 1_700_000_000 * 10**9, 7),
        ("dir/hard", tar.HARD_LINK, "dir/" + "n" * 90, 1_700_000_000 * 10**9, 7),
        ("dir/fifo", tar.FIFO, "", 1_700_000_000 * 10**9, 7),
    ]
    assert found[1][1] == b"abc"


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_reads_long_names_as_python_writes_them(form: int) -> None:
    name, link = "d/" + "n" * 300, "t" * 400
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as writer:
        info = tarfile.TarInfo(name)
        info.type, info.linkname = tarfile.SYMTYPE, link
        writer.addfile(info)
    ((entry, _),) = entries(out.getvalue())
    assert (entry.name.decode(), entry.target.decode()) == (name, link)


def test_base_256_numbers() -> None:
    size = (1 << 95 | 3).to_bytes(12, "big")
    assert entries(tars.header(b"f", size=size) + tars.padded(b"abc") + tars.END)[0][1] == b"abc"
    assert only(tars.header(b"f", uid=(1 << 63 | 4_000_000_000).to_bytes(8, "big"))).uid == 4_000_000_000
    before_1970 = ((1 << 96) - 5).to_bytes(12, "big")
    assert only(tars.header(b"f", mtime=before_1970)).mtime == -5 * 10**9


def test_old_archives() -> None:
    assert only(tars.header(b"dir/", b"\0", magic=bytes(8))).kind is tar.DIRECTORY
    assert only(tars.header(b"file", b"\0", magic=bytes(8))).kind is tar.FILE
    assert only(tars.header(b"file", b"7")).kind is tar.FILE
    assert only(tars.header(b"f", mode=b"0100644")).mode == 0o644  # Go wrote the type too
    gnu = tars.header(b"f", magic=b"ustar  \0", prefix=b"14570000000\x0014570000001\0")
    assert only(gnu).name == b"f"
    star = tars.header(b"f", prefix=b"dir".ljust(131, b"\0") + b"01234567012 ", trailer=b"tar\0")
    assert only(star).name == b"dir/f"


def test_checksum_of_signed_bytes() -> None:
    plain = tars.header("ü".encode())
    signed = sum(b - 256 if b > 127 else b for b in plain[:148] + b" " * 8 + plain[156:])
    assert only(tars.header("ü".encode(), checksum=signed)).name == "ü".encode()


def test_pax_records() -> None:
    data = tars.pax(
        (b"path", b"long/name"),
        (b"uid", b"4294967294"),
        (b"size", b"3"),
        (b"mtime", b"1234.5"),
        (b"SCHILY.xattr.user.a", b"v\n=\0"),
        (b"SCHILY.xattr.user.empty", b""),
        (b"comment", b"anything"),
        (b"VENDOR.key", b"anything"),
    ) + tars.header(b"short", size=0)
    ((entry, content),) = entries(data + tars.padded(b"abc") + tars.END)
    assert (entry.name, entry.uid, entry.size, content) == (b"long/name", 4294967294, 3, b"abc")
    assert entry.mtime == 1234_500_000_000
    assert entry.xattrs == {b"user.a": b"v\n=\0", b"user.empty": b""}


def test_pax_size_counts_and_not_that_of_the_header_cve_2025_62518() -> None:
    inner = tars.file(b"smuggled", b"x")
    data = tars.pax((b"size", b"%d" % len(inner))) + tars.header(b"outer", size=0) + inner + tars.END
    assert [entry.name for entry, _ in entries(data)] == [b"outer"]


def test_bsdtar_attributes() -> None:
    data = tars.pax((b"LIBARCHIVE.xattr.user.a%25", b"dmFsdWU"))
    assert only(data + tars.header(b"f")).xattrs == {b"user.a%": b"value"}


def test_a_harmless_global_header_is_passed_over() -> None:
    comment = tars.pax((b"comment", b"0123456789abcdef"), flag=b"g")
    assert only(comment + tars.header(b"f")).name == b"f"


@pytest.mark.parametrize(
    ("name", "cleaned"),
    [
        (b"./a", b"a"),
        (b"a//b", b"a/b"),
        (b"a/./b/", b"a/b"),
        (b"./", b"."),
        (b".hidden/x", b".hidden/x"),
        (b"..a", b"..a"),
    ],
)
def test_names_are_cleaned(name: bytes, cleaned: bytes) -> None:
    assert only(tars.directory(name)).name == cleaned


@pytest.mark.parametrize("end", [b"", bytes(512), bytes(1024), bytes(10240)])
def test_ends_that_every_reader_takes(end: bytes) -> None:
    assert len(entries(tars.file(b"a", b"x") + end)) == 1


REFUSED = {
    "dot dot": tars.file(b"a/../b"),
    "leading dot dot": tars.file(b"../b"),
    "dot dot at the end": tars.directory(b"a/.."),
    "absolute": tars.file(b"/etc/passwd"),
    "absolute by two slashes": tars.file(b"//etc/passwd"),
    "empty": tars.file(b""),
    "sparse": tars.header(b"f", b"S"),
    "sparse by pax": tars.pax((b"GNU.sparse.major", b"1")) + tars.file(b"f"),
    "sparse by star": tars.pax((b"SCHILY.realsize", b"99999")) + tars.file(b"f"),
    "volume label": tars.header(b"f", b"V"),
    "continued": tars.header(b"f", b"M"),
    "dump directory": tars.header(b"f", b"D"),
    "unknown type": tars.header(b"f", b"Z"),
    "wrong checksum": tars.header(b"f", checksum=1),
    "negative size": tars.header(b"f", size=((1 << 96) - 512).to_bytes(12, "big")),
    "huge size": tars.header(b"f", size=(1 << 95 | 1 << 70).to_bytes(12, "big")),
    "negative uid": tars.header(b"f", uid=((1 << 64) - 1).to_bytes(8, "big")),
    "uid -1": tars.header(b"f", uid=(1 << 63 | 0xFFFFFFFF).to_bytes(8, "big")),
    "uid of 33 bits, CVE-2024-40635": tars.header(b"f", uid=(1 << 63 | 1 << 32).to_bytes(8, "big")),
    "gid by pax": tars.pax((b"gid", b"4294967295")) + tars.file(b"f"),
    "octal with an 8": tars.header(b"f", uid=b"0000008\0"),
    "octal with a sign": tars.header(b"f", uid=b"+000001\0"),
    "octal with an underscore": tars.header(b"f", uid=b"0_00001\0"),
    "octal with a prefix": tars.header(b"f", uid=b"0o00001\0"),
    "octal with a gap": tars.header(b"f", uid=b"00 0001\0"),
    "year 4200": tars.pax((b"mtime", b"70368744177664")) + tars.file(b"f"),
    "directory with content": tars.header(b"d", b"5", size=512) + bytes(512),
    "link with content": tars.header(b"l", b"2", link=b"x", size=512) + bytes(512),
    "hard link with content": tars.header(b"l", b"1", link=b"x", size=512) + bytes(512),
    "device with content": tars.header(b"l", b"3", size=512) + bytes(512),
    "link to nothing": tars.header(b"l", b"2"),
    "hard link out": tars.hard_link(b"rootfs/l", b"/etc/passwd"),
    "hard link up": tars.hard_link(b"rootfs/l", b"rootfs/../../etc/passwd"),
    "device of 13 bits": tars.header(b"c", b"3", major=0o10000),
    "file with a slash": tars.file(b"f/"),
    "symlink with a slash": tars.symlink(b"l/", b"x"),
    "a prefix, or two broken times": tars.header(b"f", magic=b"ustar  \0", prefix=b"rootfs/d"),
    "a prefix without a format": tars.header(b"f", b"\0", magic=bytes(8), prefix=b"rootfs/d"),
    "a size behind a NUL": tars.header(b"f", size=b"\x000000000003") + tars.padded(b"abc"),
    "global between": tars.pax((b"path", b"x")) + tars.pax((b"comment", b"x"), flag=b"g") + tars.file(b"f"),
    "global path": tars.pax((b"path", b"x"), flag=b"g") + tars.file(b"f"),
    "global size": tars.pax((b"size", b"1"), flag=b"g") + tars.file(b"f", b"x"),
    "global owner": tars.pax((b"uid", b"0"), flag=b"g") + tars.file(b"f"),
    "global attribute": tars.pax((b"SCHILY.xattr.user.a", b"x"), flag=b"g") + tars.file(b"f"),
    "pax path with NUL": tars.pax((b"path", b"a\0b")) + tars.file(b"f"),
    "pax target with NUL": tars.pax((b"linkpath", b"a\0b")) + tars.symlink(b"f", b"x"),
    "pax path up": tars.pax((b"path", b"a/../../b")) + tars.file(b"f"),
    "pax number with a sign": tars.pax((b"size", b"+1")) + tars.file(b"f"),
    "pax number of letters": tars.pax((b"uid", b"root")) + tars.file(b"f"),
    "pax number too long": tars.pax((b"size", b"1" * 30)) + tars.file(b"f"),
    "pax time of letters": tars.pax((b"mtime", b"now")) + tars.file(b"f"),
    "pax path twice": tars.pax((b"path", b"a"), (b"path", b"b")) + tars.file(b"f"),
    "pax record too long": tars.raw_pax(b"99 path=a\n") + tars.file(b"f"),
    "pax record without newline": tars.raw_pax(b"9 path=a_") + tars.file(b"f"),
    "pax record without key": tars.raw_pax(b"5 =a\n") + tars.file(b"f"),
    "pax record without equals": tars.raw_pax(b"7 path\n") + tars.file(b"f"),
    "pax record of length 0": tars.raw_pax(b"0 path=a\n") + tars.file(b"f"),
    "pax length with a zero in front": tars.raw_pax(b"010 path=a\n") + tars.file(b"f"),
    "pax length with a sign": tars.raw_pax(b"+9 path=a\n") + tars.file(b"f"),
    "pax attribute without a name": tars.pax((b"SCHILY.xattr.", b"x")) + tars.file(b"f"),
    "pax attribute of bad base 64": tars.pax((b"LIBARCHIVE.xattr.user.a", b"?")) + tars.file(b"f"),
    "two pax headers": tars.pax((b"path", b"a")) + tars.pax((b"path", b"b")) + tars.file(b"f"),
    "two long names": tars.file(b"././@LongLink", b"a", flag=b"L") * 2 + tars.file(b"f"),
    "a long name and a pax path": tars.file(b"L", b"a", flag=b"L")
    + tars.pax((b"path", b"b"))
    + tars.file(b"f"),
    "long name with NUL": tars.file(b"L", b"a\0b\0", flag=b"L") + tars.file(b"f"),
    "long name up": tars.file(b"L", b"../x\0", flag=b"L") + tars.file(b"f"),
    "pax header at the end": tars.pax((b"path", b"a")),
    "long name at the end": tars.file(b"L", b"a", flag=b"L"),
    "one zero block, then more": bytes(512) + tars.file(b"f"),
    "data behind the end": tars.file(b"f") + tars.END + b"x",
}


def test_the_records_of_all_pax_headers_are_counted() -> None:
    header = tars.pax(*[(b"VENDOR.%d" % number, b"x") for number in range(100)])
    data = b"".join(header + tars.file(b"%d" % number) for number in range(4)) + tars.END
    assert len(list(tar.TarReader(iter([data]), Limits(entries=25)))) == 4
    with pytest.raises(LimitExceeded, match="more than 384 records"):
        list(tar.TarReader(iter([data]), Limits(entries=24)))


@pytest.mark.parametrize("data", REFUSED.values(), ids=REFUSED.keys())
def test_refused(data: bytes) -> None:
    with pytest.raises(InvalidArchive):
        entries(data + tars.END)


@pytest.mark.parametrize("length", [1, 511, 513, 1024, 1500])
def test_cut_short(length: int) -> None:
    data = tars.file(b"f", b"x" * 1500)
    with pytest.raises(InvalidArchive, match="cut short"):
        entries(data[:length])


@pytest.mark.parametrize(
    ("data", "limits"),
    [
        (tars.file(b"a") * 4, Limits(entries=3)),
        (tars.pax((b"comment", b"x")) + tars.file(b"a"), Limits(entries=1)),
        (tars.file(b"a", b"x" * 600), Limits(size=599)),
        (tars.file(b"a/" * 40 + b"b"), Limits(depth=39)),
        (tars.file(b"n" * 90), Limits(name=89)),
        (tars.symlink(b"l", b"t" * 90), Limits(name=89)),
        (tars.pax((b"comment", b"x" * 2000)) + tars.file(b"a"), Limits(pax_header=1999)),
        (tars.pax((b"SCHILY.xattr.user.a", b"x" * 100)) + tars.file(b"a"), Limits(xattrs=99)),
    ],
)
def test_limits(data: bytes, limits: Limits) -> None:
    with pytest.raises(LimitExceeded):
        entries(data + tars.END, limits)


def test_headers_alone_are_counted_too() -> None:
    """A million comments in front of one entry would take as long as a million entries."""
    comments = b"".join(tars.pax((b"comment", b"x"), flag=b"g") for _ in range(30))
    with pytest.raises(LimitExceeded):
        entries(comments + tars.file(b"f") + tars.END, Limits(entries=20))


def test_messages_show_no_control_characters() -> None:
    with pytest.raises(InvalidArchive) as refused:
        entries(tars.file(b"a/../\x1b[31m") + tars.END)
    assert "\x1b" not in str(refused.value)


@pytest.mark.parametrize("rooted", [True, False])
def test_the_last_file_of_a_layer_may_lack_its_padding(*, rooted: bool) -> None:
    """umoci 0.4 writes such layers; of an image that is an archive cut short."""
    data = tars.file(b"a", b"whole")[: tars.BLOCK + 5]
    reader = tar.TarReader(iter([data]), rooted=rooted)
    if rooted:
        assert [entry.name for entry in reader] == [b"a"]
    else:
        with pytest.raises(InvalidArchive, match="cut short"):
            list(reader)
    with pytest.raises(InvalidArchive, match="cut short"):
        list(tar.TarReader(iter([data[:-1]]), rooted=True))
