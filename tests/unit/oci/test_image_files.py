"""Docker archives and OCI layouts that are broken or hostile: refused, and nothing is read outside."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest

from appc.aci import compression
from oci import layout, source
from oci.blobs import BlobDirectory
from oci.errors import DigestMismatch, InvalidImage, NoSuchImage, OciError
from oci.image import Image
from oci.types import media
from oci.types.descriptor import Descriptor
from oci.types.digest import Digest
from oci.types.manifest import Index, Manifest
from oci.types.platform import Platform
from oci.types.reference import Reference

HOST = Platform("linux", "amd64")
IDS = [hashlib.sha256(b"%d" % n).hexdigest() for n in range(4)]


def archive(path: Path, members: dict[str, bytes | str], *, kind: str = "none") -> Path:
    """A tar archive; a text is the target of a symbolic link."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            if isinstance(content, str):
                info.type, info.linkname = tarfile.SYMTYPE, content
                tar.addfile(info)
            else:
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    compress, flush = compression.deflater(kind)
    path.write_bytes(compress(out.getvalue()) + flush())
    return path


def text(value: object) -> bytes:
    return json.dumps(value).encode()


def layer(content: bytes = b"x") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        info = tarfile.TarInfo("file")
        info.size = len(content)
        tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


def config(*layers: bytes) -> bytes:
    ids = ["sha256:" + hashlib.sha256(one).hexdigest() for one in layers]
    return text({"architecture": "amd64", "os": "linux", "config": {}, "rootfs": {"diff_ids": ids}})


def read(path: Path, wanted: str = "") -> bytes:
    """The content of the lowest layer of the image."""
    with source.opened(str(path), Reference.parse(wanted) if wanted else None, HOST) as found:
        return content(found.image)


def content(image: Image) -> bytes:
    with image.open_layer(image.layers[0]) as file:
        return file.read()


def saved(**changes: Any) -> dict[str, bytes | str]:
    one = {"Config": "c.json", "RepoTags": ["a/b:1"], "Layers": ["l/layer.tar"], **changes}
    return {"c.json": config(layer()), "l/layer.tar": layer(), "manifest.json": text([one])}


# --- docker archives


@pytest.mark.parametrize("kind", ["none", "gzip", "xz", "zstd"])
def test_an_archive_may_be_compressed(tmp_path: Path, kind: str) -> None:
    assert read(archive(tmp_path / "x.tar", saved(), kind=kind)) == layer()


def test_several_images(tmp_path: Path) -> None:
    two = saved()
    entries = json.loads(two["manifest.json"])
    other = layer(b"other")
    two |= {"d.json": config(other), "m/layer.tar": other}
    entries.append({"Config": "d.json", "RepoTags": ["c/d:2", "quay.io/c/d:3"], "Layers": ["m/layer.tar"]})
    two["manifest.json"] = text(entries)
    path = archive(tmp_path / "x.tar", two)
    with pytest.raises(NoSuchImage) as refused:
        read(path)
    assert refused.value.hint == "say which: a/b:1, c/d:2, quay.io/c/d:3"
    assert read(path, "c/d:2") == read(path, "quay.io/c/d:3") == other
    assert read(path, "a/b:1") == layer()
    with pytest.raises(NoSuchImage, match=r"no image a/b:2"):
        read(path, "a/b:2")


@pytest.mark.parametrize(
    "members",
    [
        saved(Layers=["absent"]),
        saved(Config="absent"),
        saved(Config="../../../etc/passwd"),
        saved(Layers=["../../../etc/passwd"]),
        saved(Layers=["/etc/passwd"]),
        saved(Layers="x"),
        saved(Layers=["l/layer.tar"] * 501),
        saved(Layers=[]),
        saved(Layers=["l/layer.tar", "l/layer.tar"]),
        {**saved(), "manifest.json": b"{}"},
        {**saved(), "manifest.json": b"["},
        {**saved(), "manifest.json": b"[]"},
        {**saved(), "manifest.json": b"[null]"},
        {**saved(), "c.json": b'{"rootfs": {"type": "layers", "diff_ids": ["sha256:0"]}}'},
        {**saved(), "c.json": b" " * (9 << 20)},
        {**saved(), "l/layer.tar": "layer.tar"},
        {**saved(), "l/layer.tar": "../../../../../etc/passwd"},
        {**saved(), "l/layer.tar": "/etc/passwd"},
        {"nothing": b""},
    ],
)
def test_broken_docker_archives(tmp_path: Path, members: dict[str, bytes | str]) -> None:
    with pytest.raises(OciError):
        read(archive(tmp_path / "x.tar", members))


def test_a_layer_that_is_a_link_to_anothers(tmp_path: Path) -> None:
    linked = saved() | {"l/layer.tar": "../shared.tar", "shared.tar": layer()}
    assert read(archive(tmp_path / "x.tar", linked)) == layer()


def test_a_name_twice_is_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        for name, data in [*saved().items(), ("c.json", b"{}")]:
            info = tarfile.TarInfo(name)
            assert isinstance(data, bytes)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    with pytest.raises(InvalidImage, match="twice"):
        read(tmp_path / "x.tar")


def chain(parents: dict[int, object], top: object = IDS[0]) -> dict[str, bytes | str]:
    """What docker save wrote in the beginning; `parents` maps each layer to the one below it."""
    members: dict[str, bytes | str] = {"repositories": text({"a/b": {"1": top}})}
    for number, parent in parents.items():
        value = {"id": IDS[number], "os": "linux", "architecture": "amd64", "config": {}}
        value |= {"parent": parent} if parent else {}
        members |= {f"{IDS[number]}/json": text(value), f"{IDS[number]}/layer.tar": layer(b"%d" % number)}
    return members


def test_the_oldest_form(tmp_path: Path) -> None:
    path = archive(tmp_path / "x.tar", chain({0: IDS[1], 1: IDS[2], 2: ""}))
    with source.opened(str(path), None, HOST) as found:
        assert [one.id for one in found.chain] == [IDS[2], IDS[1], IDS[0]]
        assert content(found.image) == layer(b"2")


@pytest.mark.parametrize(
    "members",
    [
        chain({0: IDS[0]}),
        chain({0: IDS[1], 1: IDS[2], 2: IDS[0]}),
        chain({0: IDS[1]}),
        chain({0: "../../etc"}),
        chain({0: 7}),
        chain({0: ""}, top="../../../etc"),
        chain({0: ""}, top=IDS[0].upper()),
        chain({0: ""}, top={"x": 1}),
        {"repositories": text({"a/b": {"bad tag": IDS[0]}})},
        {"repositories": text([])},
        {"repositories": b"{"},
    ],
)
def test_cve_2016_8579_chains_that_never_end_or_lead_away(
    tmp_path: Path, members: dict[str, bytes | str]
) -> None:
    with pytest.raises(OciError):
        read(archive(tmp_path / "x.tar", members))


# --- layouts


def make_layout(top: Path) -> dict[str, Any]:
    """A layout of one image; the descriptor of its manifest."""
    blobs = top / "blobs/sha256"
    blobs.mkdir(parents=True)

    def put(data: bytes, media_type: str) -> dict[str, Any]:
        digest = hashlib.sha256(data).hexdigest()
        (blobs / digest).write_bytes(data)
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}

    manifest = {
        "schemaVersion": 2,
        "config": put(config(layer()), media.OCI_CONFIG),
        "layers": [put(layer(), media.OCI_LAYER)],
    }
    found = put(text(manifest), media.OCI_MANIFEST)
    (top / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    set_index(top, {**found, "annotations": {"org.opencontainers.image.ref.name": "v1"}})
    return found


def set_index(top: Path, *manifests: dict[str, Any]) -> None:
    (top / "index.json").write_bytes(text({"schemaVersion": 2, "manifests": list(manifests)}))


def blob(top: Path, descriptor: dict[str, Any]) -> Path:
    return top / "blobs/sha256" / str(descriptor["digest"]).partition(":")[2]


def test_a_layout(tmp_path: Path) -> None:
    found = make_layout(tmp_path)
    assert read(tmp_path) == read(tmp_path, "x:v1") == layer()
    with pytest.raises(NoSuchImage) as refused:
        read(tmp_path, "x:v2")
    assert refused.value.hint == "there are: v1"
    one = {**found, "annotations": {"org.opencontainers.image.ref.name": "v2"}}
    set_index(tmp_path, found, one)
    assert read(tmp_path, "x:v2") == layer()
    (tmp_path / "index.json").unlink()
    (tmp_path / "refs").mkdir()
    (tmp_path / "refs/old").write_bytes(text(found))
    assert layout.read_directory(str(tmp_path)).names() == ["old"]
    assert read(tmp_path) == layer()


@pytest.mark.parametrize("what", ["manifest", "config", "layer"])
@pytest.mark.parametrize("how", ["flip", "longer", "gone", "link", "fifo", "directory"])
def test_content_that_is_not_what_its_digest_says(tmp_path: Path, what: str, how: str) -> None:
    top = tmp_path / "layout"
    top.mkdir()
    found = make_layout(top)
    document = json.loads(blob(top, found).read_bytes())
    path = blob(top, {"manifest": found, "config": document["config"], "layer": document["layers"][0]}[what])
    data = path.read_bytes()
    path.unlink()
    match how:
        case "flip":
            path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        case "longer":
            path.write_bytes(data + b"\0")
        case "link":
            (tmp_path / "same").write_bytes(data)
            path.symlink_to(tmp_path / "same")
        case "fifo":
            os.mkfifo(path)
        case "directory":
            path.mkdir()
    with pytest.raises((OciError, OSError)):
        read(top)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("oci-layout", None),
        ("oci-layout", b"{"),
        ("oci-layout", b'{"imageLayoutVersion": "2.0.0"}'),
        ("oci-layout", b" " * (1 << 17)),
        ("index.json", None),
        ("index.json", b"[]"),
        ("index.json", b'{"schemaVersion": 2, "manifests": []}'),
        ("index.json", b'{"schemaVersion": 2, "layers": [], "config": {}}'),
        ("index.json", b" " * (5 << 20)),
    ],
)
def test_broken_layouts(tmp_path: Path, name: str, data: bytes | None) -> None:
    make_layout(tmp_path)
    (tmp_path / name).unlink()
    if data is not None:
        (tmp_path / name).write_bytes(data)
    with pytest.raises((OciError, OSError)):
        read(tmp_path)


def test_indexes_without_end(tmp_path: Path) -> None:
    found = make_layout(tmp_path)
    for _ in range(5):
        data = text({"schemaVersion": 2, "mediaType": media.OCI_INDEX, "manifests": [found]})
        digest = "sha256:" + hashlib.sha256(data).hexdigest()
        found = {"mediaType": media.OCI_INDEX, "digest": digest, "size": len(data)}
        blob(tmp_path, found).write_bytes(data)
    set_index(tmp_path, found)
    with pytest.raises(InvalidImage, match="index in an index"):
        read(tmp_path)


# --- blobs


def test_two_writers_of_one_blob(tmp_path: Path) -> None:
    blobs = BlobDirectory(str(tmp_path))
    descriptor = Descriptor.of("x", b"content")
    with blobs.receive(descriptor) as first:
        first.write(b"con")
    with blobs.receive(descriptor) as second:
        assert second.have == 3
        second.write(b"tent")
        second.finish()
    with blobs.receive(descriptor) as third:
        assert third.complete
    assert blobs.has(descriptor)
    assert sorted(path.name for path in tmp_path.rglob("*")) == sorted(["sha256", descriptor.digest.hex])
    with blobs.open(descriptor) as file:
        assert file.read() == b"content"


def receive(blobs: BlobDirectory, descriptor: Descriptor, data: bytes) -> None:
    with blobs.receive(descriptor) as incoming:
        incoming.write(data)
        incoming.finish()


def test_what_does_not_fit_is_not_kept(tmp_path: Path) -> None:
    blobs = BlobDirectory(str(tmp_path))
    descriptor = Descriptor("x", Digest.of(b"content"), 7)
    for data in (b"contenT", b"contents"):
        with pytest.raises(DigestMismatch):
            receive(blobs, descriptor, data)
        assert not blobs.has(descriptor)
        assert not (tmp_path / ".partial").exists()


def test_new_content_has_no_name_until_it_is_complete(tmp_path: Path) -> None:
    blobs = BlobDirectory(str(tmp_path))
    with blobs.create() as new:
        new.write(b"con")
        assert os.listdir(tmp_path / "sha256") == []
    assert os.listdir(tmp_path / "sha256") == []
    for _ in range(2):
        with blobs.create() as new:
            new.write(b"content")
            assert new.finish("x") == Descriptor.of("x", b"content")


def flat(path: Path, *, index: bool) -> bytes:
    """A directory as `skopeo copy … dir:` writes it, with `--all` an index; the content of its layer."""
    path.mkdir()
    plain = layer()
    parts = [Descriptor.of(media.OCI_CONFIG, config(plain)), Descriptor.of(media.OCI_LAYER, plain)]
    for described, data in zip(parts, (config(plain), plain), strict=True):
        (path / described.digest.hex).write_bytes(data)
    manifest = Manifest(media.OCI_MANIFEST, parts[0], (parts[1],)).encode()
    if index:
        described = Descriptor.of(media.OCI_MANIFEST, manifest)
        (path / f"{described.digest.hex}.manifest.json").write_bytes(manifest)
        manifest = Index(media.OCI_INDEX, (described,)).encode()
    (path / "manifest.json").write_bytes(manifest)
    (path / "version").write_bytes(b"Directory Transport Version: 1.1\n")
    return plain


@pytest.mark.parametrize("index", [False, True])
def test_a_directory_of_skopeos(tmp_path: Path, *, index: bool) -> None:
    plain = flat(tmp_path / "dir", index=index)
    assert read(tmp_path / "dir") == plain

    (tmp_path / "dir" / Digest.of(plain).hex).write_bytes(plain[:-1] + b"!")
    with pytest.raises(DigestMismatch):
        read(tmp_path / "dir")
    (tmp_path / "dir/manifest.json").unlink()
    with pytest.raises(NoSuchImage, match=r"there is no manifest\.json"):
        read(tmp_path / "dir")


def test_a_directory_of_skopeos_leads_nowhere_else(tmp_path: Path) -> None:
    plain = flat(tmp_path / "dir", index=False)
    place = tmp_path / "dir" / Digest.of(plain).hex
    place.rename(tmp_path / "outside")
    place.symlink_to(tmp_path / "outside")
    with pytest.raises(InvalidImage, match="is a link"):
        read(tmp_path / "dir")
