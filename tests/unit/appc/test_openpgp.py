"""OpenPGP files are cut into packets, and what has no place in them is refused before gpgv sees it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from appc import openpgp
from fixtures.openpgp import SHA512, Owner, armor, packet, subpacket

if TYPE_CHECKING:
    from conftest import SigningKey

DATA = b"some image"


@pytest.fixture(scope="module")
def owner() -> Owner:
    return Owner()


def test_a_signature_tells_who_claims_to_have_made_it_and_when(owner: Owner) -> None:
    made = owner.key.signature(DATA, created=1_700_000_000, hash_id=SHA512)
    for data in (made, armor(made), b"\n\n" + armor(made) + b"\n", armor(made).replace(b"\n", b"\r\n")):
        signature = openpgp.read_signature(data)
        assert signature.fingerprint == owner.fingerprint
        assert signature.key_id == owner.fingerprint[-16:]
        assert signature.created == 1_700_000_000
        assert signature.packet == made
        assert not signature.hash_name


def test_armor_headers_and_a_checksum_are_understood(owner: Owner) -> None:
    text = armor(owner.key.signature(DATA)).decode()
    head, _, rest = text.partition("\n\n")
    assert openpgp.read_signature(f"{head}\nVersion: GnuPG v1\nComment: hello\n\n{rest}".encode())
    tail = "-----END PGP SIGNATURE-----"
    with pytest.raises(openpgp.MalformedError, match="checksum"):
        openpgp.read_signature(text.replace(tail, "=AAAA\n" + tail).encode())


def test_what_gpg_writes_is_understood(signing_key: SigningKey, tmp_path: pytest.TempPathFactory) -> None:
    image = tmp_path / "image"  # type: ignore[operator]
    image.write_bytes(DATA)
    signature = openpgp.read_signature(signing_key.sign(image).read_bytes())
    [key] = openpgp.read_keys(signing_key.public.read_bytes())
    assert key.fingerprint == signing_key.fingerprint == signature.fingerprint
    assert key.user_ids == ("Test <test@example.com>",)
    assert key.may_have_made(signature)
    assert openpgp.read_keys(openpgp.armored_key(key)) == [key]


def signatures_that_are_none(owner: Owner) -> dict[str, bytes]:
    good = owner.key.signature(DATA)
    return {
        "nothing": b"",
        "text": b"hello",
        "two": good * 2,
        "two armored": armor(good) * 2,
        "text around": b"see below\n" + armor(good),
        "text behind": armor(good) + b"more",
        "cleartext": b"-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\nhi\n" + armor(good),
        "message": armor(packet(8, b"\0"), "MESSAGE"),
        "signed message": packet(4, bytes(13)) + packet(11, b"b\0\0\0\0\0hi") + good,
        "literal data": packet(11, b"b\0\0\0\0\0hi"),
        "compressed data": packet(8, b"\0" + good),
        "marker in front": packet(10, b"PGP") + good,
        "key": owner.public(),
        "armored key": owner.armored(),
        "other class": owner.key.signature(DATA, kind=0x01),
        "certification": owner.key.signature(DATA, kind=0x10),
        "version 3": packet(2, b"\x03\x05\x00" + bytes(30)),
        "version 5": owner.key.signature(DATA, version=5),
        "version 6": owner.key.signature(DATA, version=6),
        "nobody's": owner.key.signature(DATA, issuer=""),
        "empty packet": packet(2, b""),
        "cut": good[:-5],
        "cut area": packet(2, good[6:14]),
        "partial length": b"\xc2\xe1" + good,
        "open length": b"\x8b" + good,
        "bad subpacket": packet(2, b"\x04\0\x16\x08\0\x02\x05\x02\0\0"),
        "large": armor(packet(2, bytes(70_000))),
        "bad base64": armor(good).replace(b"\n\n", b"\n\n="),
        "zero bytes": bytes(100),
    }


@pytest.mark.parametrize(
    "name", signatures_that_are_none.__annotations__ and sorted(signatures_that_are_none(Owner()))
)
def test_what_is_no_detached_signature(owner: Owner, name: str) -> None:
    with pytest.raises(openpgp.MalformedError):
        openpgp.read_signature(signatures_that_are_none(owner)[name])


@pytest.mark.parametrize(("number", "name"), [(1, "MD5"), (2, "SHA-1"), (3, "RIPEMD-160"), (11, "SHA-224")])
def test_weak_hashes_are_named(owner: Owner, number: int, name: str) -> None:
    assert openpgp.read_signature(owner.key.signature(DATA, hash_id=number)).hash_name == name


def test_the_issuer_is_taken_from_the_signed_part_first(owner: Owner) -> None:
    other = Owner()
    signature = openpgp.read_signature(owner.key.signature(DATA, issuer=other.fingerprint))
    assert signature.fingerprint == other.fingerprint
    [key] = openpgp.read_keys(owner.armored())
    assert not key.may_have_made(signature)


def test_several_keys_in_a_file_and_subkeys_are_told_apart() -> None:
    first, second = Owner(user="First"), Owner(user="Second")
    sub = second.subkey()
    data = armor(first.public() + second.public(), "PUBLIC KEY BLOCK")
    one, two = openpgp.read_keys(data)
    assert (one.user_ids, two.user_ids) == (("First",), ("Second",))
    assert two.subkeys == (sub.fingerprint,)
    assert one.data == first.public()
    assert two.may_have_made(openpgp.read_signature(sub.signature(DATA)))
    assert not one.may_have_made(openpgp.read_signature(sub.signature(DATA)))


def test_only_armored_public_keys_are_taken() -> None:
    owner = Owner()
    with pytest.raises(openpgp.MalformedError, match="not armored") as refused:
        openpgp.read_keys(owner.public())
    assert "--armor" in (refused.value.hint or "")
    assert openpgp.read_keys(owner.public(), armored_only=False)
    for data in (
        b"",
        armor(b"", "PUBLIC KEY BLOCK"),
        armor(owner.key.signature(b""), "PUBLIC KEY BLOCK"),
        armor(owner.public()),
        owner.armored() * 2,
        armor(packet(6, b"\x03" + bytes(20)), "PUBLIC KEY BLOCK"),
        armor(packet(6, b"\x06" + bytes(20)), "PUBLIC KEY BLOCK"),
        armor(owner.public() + packet(11, b"b"), "PUBLIC KEY BLOCK"),
        armor(packet(13, b"me") + owner.public(), "PUBLIC KEY BLOCK"),
        b"x" * ((1 << 20) + 1),
    ):
        with pytest.raises(openpgp.MalformedError):
            openpgp.read_keys(data)


@pytest.mark.parametrize("tag", [5, 7])
def test_secret_keys_are_refused(tag: int) -> None:
    owner = Owner()
    with pytest.raises(openpgp.MalformedError, match="secret key"):
        openpgp.read_keys(armor(owner.public() + packet(tag, owner.key.body), "PUBLIC KEY BLOCK"))


def test_trust_packets_are_left_out() -> None:
    owner = Owner()
    [key] = openpgp.read_keys(armor(owner.public() + packet(12, b"\x06"), "PUBLIC KEY BLOCK"))
    assert key.data == owner.public()


def test_fingerprints_are_grouped_as_rkt_shows_them() -> None:
    text = openpgp.grouped("8B86DE38890DDB7291867B025210BD8888182190")
    assert text == "8B86 DE38 890D DB72 9186  7B02 5210 BD88 8818 2190"


def test_a_hostile_file_takes_linear_time() -> None:
    started = time.process_time()
    for data in (
        b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n" + b"A: b\n" * 200_000,
        b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n\n" + b"A" * 1_000_000,
        b"-----BEGIN PGP " * 60_000,
        b"\xcd\x00" * 500_000,
        b" " * 1_000_000,
    ):
        with pytest.raises(openpgp.MalformedError):
            openpgp.read_keys(data, armored_only=False)
    many = packet(2, b"\x04\0\x16\x08\xff\x00" + subpacket(100, b"") * 32000)
    with pytest.raises(openpgp.MalformedError):
        openpgp.read_signature(many[:60_000])
    assert time.process_time() - started < 5
