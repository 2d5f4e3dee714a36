"""Which keys are trusted for which names: prefixes, masks, files that are not what their name says."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from appc import openpgp
from appc.keystore import KeyStore, KeyStoreError
from fixtures.openpgp import Owner, armor


class Store:
    """A key store in a temporary directory, with three keys to put into it."""

    def __init__(self, directory: Path) -> None:
        self.system, self.local = directory / "usr", directory / "etc"
        self.keys = KeyStore(str(self.system), str(self.local))
        self.owners = [Owner(user=f"Owner {number}") for number in range(3)]

    def put(self, base: Path, place: str, owner: Owner, *, name: str = "", data: bytes | None = None) -> Path:
        path = base / "trustedkeys" / place / (name or owner.fingerprint.lower())
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(owner.armored() if data is None else data)
        return path

    def trusted(self, name: str) -> set[int]:
        found = {trusted.key.fingerprint for trusted in self.keys.trusted(name)}
        return {number for number, owner in enumerate(self.owners) if owner.fingerprint in found}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def test_no_directory_no_trust(store: Store) -> None:
    assert store.trusted("example.com/app") == set()
    assert store.keys.all() == []


def test_root_keys_are_for_all_names_and_prefix_keys_for_what_is_below(store: Store) -> None:
    store.put(store.system, "root.d", store.owners[0])
    store.put(store.local, "prefix.d/example.com/app", store.owners[1])
    store.put(store.system, "prefix.d/example.com", store.owners[2])
    assert store.trusted("example.com/app") == {0, 1, 2}
    assert store.trusted("example.com/app/sub") == {0, 1, 2}
    assert store.trusted("example.com") == {0, 2}
    assert store.trusted("example.com/other") == {0, 2}
    assert store.trusted("other.com/app") == {0}


def test_a_prefix_ends_at_a_path_component(store: Store) -> None:
    store.put(store.local, "prefix.d/example.com/app", store.owners[0])
    assert store.trusted("example.com/app-evil") == set()
    assert store.trusted("example.com/application") == set()
    assert store.trusted("example.com/app") == {0}
    store.put(store.local, "prefix.d/example.co", store.owners[1])
    assert store.trusted("example.com/app") == {0}


def test_an_empty_local_file_masks_a_key_of_the_system(store: Store) -> None:
    store.put(store.system, "root.d", store.owners[0])
    store.put(store.system, "prefix.d/example.com", store.owners[1])
    assert store.trusted("example.com/app") == {0, 1}
    store.keys.mask(store.owners[0].fingerprint, None)
    store.keys.mask(store.owners[1].fingerprint, "example.com")
    assert store.trusted("example.com/app") == set()


def test_a_mask_for_a_prefix_holds_below_it_alone(store: Store) -> None:
    store.put(store.system, "root.d", store.owners[0])
    store.keys.mask(store.owners[0].fingerprint, "example.com/app")
    assert store.trusted("example.com/app/x") == set()
    assert store.trusted("example.com/other") == {0}


def test_a_local_key_may_be_added_below_a_mask(store: Store) -> None:
    store.put(store.system, "prefix.d/example.com", store.owners[0])
    store.keys.mask(store.owners[0].fingerprint, "example.com")
    store.put(store.local, "prefix.d/example.com/app", store.owners[0])
    assert store.trusted("example.com/app") == {0}
    assert store.trusted("example.com/other") == set()


def test_a_file_named_after_another_key_is_an_error(store: Store) -> None:
    store.put(store.local, "root.d", store.owners[0], name=store.owners[1].fingerprint.lower())
    with pytest.raises(KeyStoreError, match="fingerprint mismatch"):
        store.trusted("example.com/app")
    assert store.keys.all() == []


@pytest.mark.parametrize(
    "data",
    [b"rubbish", Owner().public(), armor(Owner().public() * 2, "PUBLIC KEY BLOCK")],
    ids=["rubbish", "not armored", "two keys"],
)
def test_a_file_that_holds_no_single_armored_key_is_an_error(store: Store, data: bytes) -> None:
    store.put(store.local, "prefix.d/example.com", store.owners[0], data=data)
    with pytest.raises(KeyStoreError):
        store.trusted("example.com/app")
    assert store.trusted("other.com/app") == set()


def test_other_files_are_passed_over(store: Store) -> None:
    store.put(store.local, "root.d", store.owners[0], name="README", data=b"hello")
    store.put(store.local, "root.d", store.owners[1], name=store.owners[1].fingerprint)  # upper case
    os.mkfifo(store.local / "trustedkeys/root.d" / ("0" * 40))
    (store.local / "trustedkeys/root.d" / ("1" * 40)).mkdir()
    (store.local / "trustedkeys/root.d" / ("2" * 40)).symlink_to("nowhere")
    assert store.trusted("example.com/app") == set()


def test_all_finds_every_key_once(store: Store) -> None:
    store.put(store.system, "root.d", store.owners[0])
    store.put(store.local, "prefix.d/a.com/b", store.owners[0])
    store.put(store.local, "prefix.d/c.com", store.owners[1])
    found = [trusted.key.fingerprint for trusted in store.keys.all()]
    assert sorted(found) == sorted(owner.fingerprint for owner in store.owners[:2])


def test_added_keys_are_trusted_and_readable_by_everybody(store: Store) -> None:
    first, second = (openpgp.read_keys(owner.armored())[0] for owner in store.owners[:2])
    old = os.umask(0o077)
    try:
        path = Path(store.keys.add(first, "example.com/app"))
        root = Path(store.keys.add(second, None, data=store.owners[1].armored()))
    finally:
        os.umask(old)
    assert path == store.local / "trustedkeys/prefix.d/example.com/app" / first.fingerprint.lower()
    assert root == store.local / "trustedkeys/root.d" / second.fingerprint.lower()
    assert root.read_bytes() == store.owners[1].armored()
    assert store.trusted("example.com/app") == {0, 1}
    assert store.keys.trusts(first, "example.com/app")
    assert not store.keys.trusts(first, "example.com/other")
    assert path.stat().st_mode & 0o777 == 0o644
    assert path.parent.stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize("name", ["../../etc", "a//b", "/a", "", "A.com", "a/../b", "a\n"])
def test_names_that_are_none_never_become_paths(store: Store, name: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        store.keys.trusted(name)
    with pytest.raises(ValueError, match=r"."):
        store.keys.add(openpgp.read_keys(store.owners[0].armored())[0], name)
    assert not store.local.exists()
