"""Images in the store: brought in, found, listed, removed."""

from __future__ import annotations

import hashlib
import os
import stat
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from appc.aci.errors import InvalidArchive
from appc.errors import AppcError, InvalidManifest
from appc.types.image_id import ImageID
from fixtures import tars
from rkt.errors import RktError
from rkt.store import NoSuchImage, Remote, Store

Put = Callable[..., ImageID]
OTHER = "s390x" if tars.MACHINE != "s390x" else "amd64"


def labels(**values: str) -> list[dict[str, str]]:
    whole = {"os": "linux", "arch": tars.MACHINE, **values}
    return [{"name": name, "value": value} for name, value in whole.items()]


def files_of(store: Store) -> list[str]:
    top = Path(store.paths.cas)
    return sorted(
        str(path.relative_to(top)) for path in top.rglob("*") if path.is_file() and "/db/" not in str(path)
    )


def test_the_archive_is_stored_uncompressed_under_its_hash(store: Store, put: Put) -> None:
    image_id = put(tars.file(b"rootfs/a", b"x"))
    blob = Path(store.paths.blob(image_id)).read_bytes()
    assert blob == tars.image(tars.file(b"rootfs/a", b"x"))
    assert image_id == "sha512-" + hashlib.sha512(blob).hexdigest()
    assert store.manifest_bytes(image_id) == tars.manifest()
    assert store.manifest(image_id).name == "example.com/app"
    with store.open_blob(image_id) as file:
        assert file.read() == blob
    assert files_of(store) == [
        f"blob/sha512/{image_id[7:9]}/{image_id}",
        f"imageManifest/sha512/{image_id[7:9]}/{image_id}",
        f"imagelocks/{image_id}",
    ]


def test_nobody_else_can_look_r24(store: Store, put: Put) -> None:
    image_id = put(tars.file(b"rootfs/su", b"x", mode=0o4755))
    store.tree(image_id)
    top = Path(store.paths.cas)
    for path in (top, *top.rglob("*")):
        if "/rootfs" not in str(path):
            assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


def test_a_group_that_shares_the_store(tmp_path: Path, root: None) -> None:
    """What dist/ sets up for the group rkt: setgid directories whose group may write."""
    cas = tmp_path / "data/cas"
    cas.mkdir(parents=True)
    os.chown(cas, 0, 12345)
    cas.chmod(0o2770)
    with Store(str(tmp_path / "data")) as store, open(_image(tmp_path), "rb") as file:
        image_id = store.import_aci(file)
        blob = Path(store.paths.blob(image_id))
        assert (blob.stat().st_gid, stat.S_IMODE(blob.stat().st_mode)) == (12345, 0o660)
        assert stat.S_IMODE(blob.parent.stat().st_mode) == 0o2770
        assert stat.S_IMODE(Path(store.paths.database).stat().st_mode) == 0o660


def _image(directory: Path) -> Path:
    path = directory / "image.aci"
    path.write_bytes(tars.image())
    return path


def test_twice_the_same_is_one(store: Store, put: Put) -> None:
    first = put()
    before = os.stat(store.paths.blob(first))
    assert put() == first
    assert os.stat(store.paths.blob(first)).st_ino == before.st_ino
    assert len(store.images()) == 1


@pytest.mark.parametrize(
    ("members", "manifest", "error"),
    [
        ([tars.file(b"rootfs2/x")], {}, InvalidArchive),
        ([tars.file(b"rootfs/../../x")], {}, InvalidArchive),
        ([], {"name": "BAD"}, InvalidManifest),
        ([], {"labels": [{"name": "arch", "value": tars.MACHINE}]}, RktError),
        ([], {"labels": [{"name": "os", "value": "linux"}]}, RktError),
        ([], {"labels": labels(os="freebsd", arch="amd64")}, RktError),
        ([], {"labels": labels(arch=OTHER)}, RktError),
        ([], {"expected": "sha512-" + "0" * 128}, RktError),
    ],
)
def test_a_refused_image_leaves_nothing(
    store: Store, put: Put, members: list[bytes], manifest: dict[str, object], error: type[Exception]
) -> None:
    with pytest.raises(error):
        put(*members, **manifest)
    assert files_of(store) == []
    assert os.listdir(store.paths.temporary) == []
    assert store.images() == []


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ([{"name": "arch", "value": tars.MACHINE}], "missing os label in the image manifest"),
        ([{"name": "os", "value": "linux"}], "missing arch label in the image manifest"),
        (labels(arch=OTHER), f'bad arch "{OTHER}" for linux (must be one of: [{tars.MACHINE}])'),
        (labels(os="freebsd", arch="amd64"), 'bad os "freebsd" (must be one of: [linux])'),
    ],
)
def test_platforms_in_rkts_words(put: Put, given: list[dict[str, str]], told: str) -> None:
    with pytest.raises(RktError) as refused:
        put(labels=given)
    assert str(refused.value) == told


def test_the_caller_may_refuse(store: Store, put: Put) -> None:
    def check(manifest: object) -> None:
        raise AppcError("not what was asked for")

    with pytest.raises(AppcError, match="not what"):
        put(check=check)
    assert store.images() == []


def test_lookups_by_beginning(store: Store, put: Put) -> None:
    ids = [put(tars.file(b"rootfs/f", b"%d" % number), name=f"example.com/a{number}") for number in range(40)]
    for image_id in ids:
        assert store.resolve(image_id) == image_id
        assert store.resolve(image_id[:39].upper().replace("SHA", "sha")) == image_id
    doubled = next(one[:9] for one in ids if sum(other.startswith(one[:9]) for other in ids) > 1)
    with pytest.raises(RktError, match="ambiguous image ID"):
        store.resolve(doubled)
    for text in ("sha512-", "sha512-0", "sha512-xyz", "md5-00", "00"):
        with pytest.raises(RktError):
            store.resolve(text)
    unused = next(f"sha512-{n:02x}" for n in range(256) if not any(one[7:9] == f"{n:02x}" for one in ids))
    with pytest.raises(NoSuchImage):
        store.resolve(unused)


def test_find_by_name_and_labels(store: Store, put: Put) -> None:
    one = put(labels=labels(version="1"))
    two = put(labels=labels(version="2", channel="beta"))
    put(name="example.com/other")
    assert store.find("example.com/app", {"version": "1"}) == one
    assert store.find("example.com/app", {"version": "2", "os": "linux"}) == two
    assert store.find("example.com/app", {"channel": "beta"}) == two
    assert store.find("example.com/app") == two  # the one that came last
    assert store.find("example.com/app", {"version": "3"}) is None
    assert store.find("example.com/app", {"nothing": ""}) is None
    assert store.find("example.com/none") is None


def test_the_latest_goes_before_later_ones(store: Store, put: Put) -> None:
    latest = put(labels=labels(version="1"), latest=True)
    put(labels=labels(version="2"))
    assert store.find("example.com/app") == latest
    assert put(labels=labels(version="1")) == latest  # fetched again by its version: still the latest
    assert store.find("example.com/app") == latest


def test_an_image_without_a_row_is_found_all_the_same(store: Store, put: Put) -> None:
    """A crash between the archive and its row leaves that."""
    image_id = put()
    store.index().forget(image_id)
    assert store.find("example.com/app") == image_id
    assert store.index().named("example.com/app") != []


def test_a_lost_or_damaged_index_is_no_lost_image(store: Store, put: Put) -> None:
    image_id = put()
    store.close()
    os.unlink(store.paths.database)
    assert store.find("example.com/app") == image_id
    store.close()
    Path(store.paths.database).write_bytes(os.urandom(8192))
    for suffix in ("-wal", "-shm"):
        Path(store.paths.database + suffix).unlink(missing_ok=True)
    assert [image.id for image in store.images()] == [image_id]
    assert store.resolve(image_id[:20]) == image_id


def test_a_row_without_an_image_is_passed_over(store: Store, put: Put) -> None:
    image_id = put()
    os.unlink(store.paths.blob(image_id))
    assert store.find("example.com/app") is None
    assert store.images() == []


def test_a_lost_manifest_is_read_from_the_archive(store: Store, put: Put) -> None:
    image_id = put()
    os.unlink(store.paths.manifest(image_id))
    assert store.manifest_bytes(image_id) == tars.manifest()
    assert os.path.exists(store.paths.manifest(image_id))


def test_images_tell_times_and_sizes(store: Store, put: Put) -> None:
    before = time.time()
    image_id = put(tars.file(b"rootfs/a", b"x" * 1000), labels=labels(version="1.2"))
    (image,) = store.images()
    size = os.stat(store.paths.blob(image_id)).st_size
    assert (image.id, image.name, image.version, image.size) == (image_id, "example.com/app", "1.2", size)
    assert before - 1 < image.import_time <= image.last_used <= time.time() + 1
    store.tree(image_id)
    (again,) = store.images()
    assert again.size == size + 1000
    assert again.import_time == image.import_time
    assert again.last_used >= image.last_used


def test_remove(store: Store, put: Put) -> None:
    image_id = put(remote=Remote("https://h/a.aci", "", "etag", "", 60, 1.0))
    store.remove(image_id)
    assert store.images() == []
    assert store.find("example.com/app") is None
    assert store.remote("https://h/a.aci") is None
    assert files_of(store) == []
    for call in (store.remove, store.manifest_bytes, store.resolve):
        with pytest.raises(NoSuchImage):
            call(image_id)
    assert put() == image_id


def test_remote(store: Store, put: Put) -> None:
    assert store.remote("https://h/a.aci") is None
    image_id = put(remote=Remote("https://h/a.aci", "https://h/a.aci.asc", '"tag"', "", 60, 12.5))
    known = store.remote("https://h/a.aci")
    assert known == Remote("https://h/a.aci", "https://h/a.aci.asc", '"tag"', image_id, 60, 12.5)
    store.put_remote(known._replace(etag="new"))
    again = store.remote("https://h/a.aci")
    assert again is not None
    assert again.etag == "new"


def test_a_shortened_archive_is_replaced_by_the_next_import(store: Store, put: Put) -> None:
    image_id = put()
    blob = Path(store.paths.blob(image_id))
    blob.write_bytes(blob.read_bytes()[:100])
    assert put() == image_id
    assert blob.read_bytes() == tars.image()


def test_fifty_imports_at_once_are_one_blob(store: Store, tmp_path: Path) -> None:
    image = tmp_path / "image.aci"
    image.write_bytes(tars.image(tars.file(b"rootfs/a", os.urandom(100_000))))
    children = []
    for _ in range(50):
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                with Store(store.data_dir) as own, open(image, "rb") as file:
                    own.import_aci(file)
                code = 0
            finally:
                os._exit(code)
        children.append(pid)
    assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children] == [0] * 50
    assert len(store.images()) == 1
    assert os.listdir(store.paths.temporary) == []
    assert store.index().check() == []


def test_readers_do_not_wait_for_a_writer(store: Store, put: Put) -> None:
    image_id = put()
    database = store.index()._open()
    database.execute("BEGIN IMMEDIATE")
    try:
        with Store(store.data_dir) as other:
            started = time.monotonic()
            assert other.find("example.com/app") == image_id
            assert [image.id for image in other.images()] == [image_id]
            assert other.resolve(image_id[:20]) == image_id
            assert time.monotonic() - started < 5
    finally:
        database.execute("ROLLBACK")


def test_an_image_that_vanishes_while_it_is_listed_is_left_out(store: Store, put: Put) -> None:
    stop = threading.Event()
    image_id = put()
    blob, aside = store.paths.blob(image_id), str(Path(store.paths.cas) / "aside")

    def flicker() -> None:
        while not stop.is_set():
            os.rename(blob, aside)
            os.rename(aside, blob)

    thread = threading.Thread(target=flicker)
    thread.start()
    try:
        for _ in range(200):
            assert len(store.images()) <= 1
            store.find("example.com/app")
    finally:
        stop.set()
        thread.join()


def test_a_newer_index_is_not_touched(store: Store, put: Put) -> None:
    put()
    store.index()._open().execute("PRAGMA user_version = 99")
    store.close()
    with pytest.raises(RktError, match="version is 99"):
        put(name="example.com/other")
