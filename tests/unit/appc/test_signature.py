"""The signature matrix: only a good signature by a good key passes, whatever gpgv's exit code is."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from appc import openpgp, signature
from fixtures.openpgp import CERTIFY, SHA512, Owner, armor, subpacket

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from appc.openpgp import PublicKey

DATA = os.urandom(100_000)
DAY = 86400


@pytest.fixture
def image(tmp_path: Path) -> Iterator[int]:
    (tmp_path / "image").write_bytes(DATA)
    (tmp_path / "image").chmod(0o600)
    fd = os.open(tmp_path / "image", os.O_RDONLY | os.O_CLOEXEC)
    yield fd
    os.close(fd)


def key_of(owner: Owner) -> PublicKey:
    return openpgp.read_keys(owner.armored())[0]


def check(image: int, made: bytes, *owners: Owner) -> signature.Verified:
    return signature.verify(image, signature.read(made), [key_of(owner) for owner in owners])


def test_a_good_signature_names_its_key_and_time(image: int) -> None:
    owner, other = Owner(), Owner()
    when = int(time.time()) - 100
    made = owner.key.signature(DATA, created=when, hash_id=SHA512)
    for data in (made, armor(made)):
        verified = check(image, data, other, owner)
        assert verified.key.fingerprint == owner.fingerprint
        assert verified.created == when


def test_the_whole_file_is_read_wherever_its_offset_is(image: int) -> None:
    owner = Owner()
    os.lseek(image, 5000, os.SEEK_SET)
    assert check(image, owner.key.signature(DATA), owner)
    with pytest.raises(signature.BadSignature):
        check(image, owner.key.signature(DATA[5000:]), owner)


def test_a_bound_subkey_signs_for_its_owner(image: int) -> None:
    owner = Owner()
    sub = owner.subkey()
    assert check(image, sub.signature(DATA), owner).key.fingerprint == owner.fingerprint


def expired_key() -> tuple[Owner, bytes]:
    owner = Owner(lifetime=3600)
    return owner, owner.key.signature(DATA)


def expired_key_signature_made_in_time() -> tuple[Owner, bytes]:
    owner = Owner(lifetime=3600)
    return owner, owner.key.signature(DATA, created=owner.created + 10)


def revoked_key() -> tuple[Owner, bytes]:
    owner = Owner()
    made = owner.key.signature(DATA)
    owner.revoke()
    return owner, made


def expired_signature() -> tuple[Owner, bytes]:
    owner = Owner()
    life = subpacket(3, (10).to_bytes(4, "big"))
    return owner, owner.key.signature(DATA, created=int(time.time()) - 1000, extra=life)


def other_content() -> tuple[Owner, bytes]:
    owner = Owner()
    return owner, owner.key.signature(DATA[:-1] + b"?")


def text_signature() -> tuple[Owner, bytes]:
    owner = Owner()
    return owner, owner.key.signature(DATA, kind=0x01)


def two_signatures() -> tuple[Owner, bytes]:
    owner = Owner()
    return owner, owner.key.signature(DATA) * 2


def good_and_bad_signature() -> tuple[Owner, bytes]:
    owner = Owner()
    return owner, owner.key.signature(DATA) + owner.key.signature(b"")


def cleartext() -> tuple[Owner, bytes]:
    owner = Owner()
    made = armor(owner.key.signature(DATA))
    return owner, b"-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\nhi\n" + made


def in_the_future() -> tuple[Owner, bytes]:
    owner = Owner()
    return owner, owner.key.signature(DATA, created=int(time.time()) + 30 * DAY)


def older_than_the_key() -> tuple[Owner, bytes]:
    owner = Owner()
    return owner, owner.key.signature(DATA, created=owner.created - DAY)


def key_without_the_right_to_sign() -> tuple[Owner, bytes]:
    owner = Owner(flags=CERTIFY)
    return owner, owner.key.signature(DATA)


def unbound_subkey() -> tuple[Owner, bytes]:
    owner = Owner()
    return owner, owner.subkey(bound=False).signature(DATA)


def subkey_without_back_signature() -> tuple[Owner, bytes]:
    owner = Owner()
    return owner, owner.subkey(back_signed=False).signature(DATA)


def revoked_subkey() -> tuple[Owner, bytes]:
    owner = Owner()
    return owner, owner.subkey(revoked=True).signature(DATA)


def expired_subkey() -> tuple[Owner, bytes]:
    owner = Owner()
    return owner, owner.subkey(lifetime=3600).signature(DATA)


def key_certified_with_sha1() -> tuple[Owner, bytes]:
    owner = Owner(self_hash=2)
    return owner, owner.key.signature(DATA)


def key_without_self_signature() -> tuple[Owner, bytes]:
    owner = Owner()
    del owner.parts[2:]
    return owner, owner.key.signature(DATA)


def false_issuer() -> tuple[Owner, bytes]:
    owner = Owner()
    return owner, Owner().key.signature(DATA, issuer=owner.fingerprint)


def unknown_critical_subpacket() -> tuple[Owner, bytes]:
    owner = Owner()
    return owner, owner.key.signature(DATA, extra=subpacket(0x80 | 100, b"x"))


BAD = (
    expired_key,
    expired_key_signature_made_in_time,
    revoked_key,
    expired_signature,
    other_content,
    text_signature,
    two_signatures,
    good_and_bad_signature,
    cleartext,
    in_the_future,
    older_than_the_key,
    key_without_the_right_to_sign,
    unbound_subkey,
    subkey_without_back_signature,
    revoked_subkey,
    expired_subkey,
    key_certified_with_sha1,
    key_without_self_signature,
    false_issuer,
    unknown_critical_subpacket,
)


@pytest.mark.parametrize("make", BAD, ids=lambda make: make.__name__)
def test_a_bad_signature_is_refused(image: int, make: Callable[[], tuple[Owner, bytes]]) -> None:
    owner, made = make()
    with pytest.raises(signature.BadSignature, match="openpgp: invalid signature"):
        check(image, made, owner)


@pytest.mark.parametrize("hash_id", [1, 2, 3, 11])
def test_weak_hashes_are_refused(image: int, hash_id: int) -> None:
    owner = Owner()
    with pytest.raises(signature.BadSignature, match="can be forged"):
        check(image, owner.key.signature(DATA, hash_id=hash_id), owner)


def test_weak_hashes_are_refused_by_gpgv_too(image: int) -> None:
    owner = Owner()
    parsed = openpgp.read_signature(owner.key.signature(DATA, hash_id=2))
    with pytest.raises(signature.BadSignature):
        signature.verify(image, parsed, [key_of(owner)])


def test_an_unknown_key_is_told_apart(image: int) -> None:
    made = Owner().key.signature(DATA)
    for owners in ((), (Owner(),)):
        with pytest.raises(signature.UnknownSigner, match="openpgp: signature made by unknown entity"):
            check(image, made, *owners)


def test_a_second_key_of_the_same_id_gets_its_turn(image: int) -> None:
    """Key IDs can be made to collide: the first key that has the ID is not the only one that is tried."""
    owner = Owner()
    good = key_of(owner)
    clash = good._replace(data=key_of(Owner()).data)
    parsed = signature.read(owner.key.signature(DATA))
    assert signature.verify(image, parsed, [clash, good]).key is good


@pytest.fixture
def other_programs(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory that is the only place where gpgv is looked for, open to the user it runs as."""
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o755)
        monkeypatch.setattr(signature, "ENVIRONMENT", {"PATH": directory})
        yield Path(directory)


def test_a_missing_gpgv_fails_closed(image: int, other_programs: Path) -> None:
    owner = Owner()
    with pytest.raises(signature.VerifierFailed, match="gpgv is not installed"):
        check(image, owner.key.signature(DATA), owner)


PROOF = "[GNUPG:] NEWSIG\\n[GNUPG:] GOODSIG $k u\\n[GNUPG:] VALIDSIG $v\\n"
FAKES = {
    "killed": "kill -9 $$",
    "killed after the proof": f'printf "{PROOF}" >/proc/self/fd/$fd; kill -9 $$',
    "silent": "exit 0",
    "garbage": "echo hello >/proc/self/fd/$fd",
    "no proof": 'printf "[GNUPG:] NEWSIG\\n[GNUPG:] GOODSIG $k u\\n" >/proc/self/fd/$fd',
    "two proofs": f'printf "{PROOF}{PROOF}" >/proc/self/fd/$fd',
    "proof and flaw": f'printf "{PROOF}[GNUPG:] EXPKEYSIG $k u\\n" >/proc/self/fd/$fd',
    "proof and failure": f'printf "{PROOF}" >/proc/self/fd/$fd; exit 1',
    "proof and garbage": f'printf "{PROOF}hello\\n" >/proc/self/fd/$fd',
}


def fake_gpgv(directory: Path, owner: Owner, what: str) -> None:
    k = owner.fingerprint
    script = (
        f"#!/bin/sh\nk={k}; v='{k} 2020-01-01 1577836800 0 4 0 22 8 00 {k}'\n"
        f"for a; do case $a in --status-fd=*) fd=${{a#*=}};; esac; done\n{what}\n"
    )
    (directory / "gpgv").write_text(script)
    (directory / "gpgv").chmod(0o755)


@pytest.mark.parametrize("name", FAKES)
def test_a_gpgv_that_does_not_prove_it_fails_closed(image: int, other_programs: Path, name: str) -> None:
    owner = Owner()
    fake_gpgv(other_programs, owner, FAKES[name])
    with pytest.raises(signature.SignatureError):
        check(image, owner.key.signature(DATA), owner)


def test_the_fake_itself_would_be_believed(image: int, other_programs: Path) -> None:
    owner = Owner()
    fake_gpgv(other_programs, owner, f'printf "{PROOF}" >/proc/self/fd/$fd')
    assert check(image, owner.key.signature(DATA), owner).created == 1577836800


def lines(*texts: str) -> list[list[str]]:
    return [text.split(" ") for text in texts]


def test_status_lines_are_judged_strictly() -> None:
    owner = Owner()
    key, k = key_of(owner), owner.fingerprint
    valid = f"VALIDSIG {k} 2020-01-01 1577836800 0 4 0 22 8 00 {k}"
    good = ("NEWSIG me", f"GOODSIG {k} Me", valid)
    assert signature.judge(lines(*good), key) == 1577836800
    other = "A" * 40
    for bad in (
        (),
        good[:2],
        good[1:],
        (*good, *good),
        (*good, "NEWSIG"),
        (*good, valid),
        (good[0], good[1], valid.replace(k, other)),
        (good[0], good[1], valid[:-40] + other),
        (good[0], good[1], valid.replace(" 8 00 ", " 2 00 ")),
        (good[0], good[1], valid.replace(" 8 00 ", " 8 01 ")),
        (good[0], good[1], "VALIDSIG " + k),
        (good[0], good[1], valid.replace("1577836800", "x")),
        *(
            (*good, flaw + " x")
            for flaw in (
                "BADSIG",
                "EXPSIG",
                "EXPKEYSIG",
                "REVKEYSIG",
                "ERRSIG",
                "NO_PUBKEY",
                "NODATA",
                "FAILURE",
                "ERROR",
                "UNEXPECTED",
                "KEYREVOKED",
            )
        ),
    ):
        with pytest.raises(signature.SignatureError):
            signature.judge(lines(*bad), key)
    with pytest.raises(signature.SignatureError):
        signature.judge(lines(*good), key, (2, ""))


def test_cve_2018_12020_a_user_id_cannot_write_status_lines(image: int) -> None:
    forged = "x\n[GNUPG:] GOODSIG DEADBEEF x\n[GNUPG:] VALIDSIG x"
    owner = Owner(user=forged)
    assert check(image, owner.key.signature(DATA), owner).key.fingerprint == owner.fingerprint
    with pytest.raises(signature.BadSignature):
        check(image, owner.key.signature(b"other"), owner)


def test_a_huge_user_id_does_not_block_the_verifier(image: int) -> None:
    owner = Owner(user="x" * 200_000)
    try:
        check(image, owner.key.signature(DATA), owner)
    except signature.BadSignature:
        pass  # gpgv may refuse such a user ID; it must only come to an end
