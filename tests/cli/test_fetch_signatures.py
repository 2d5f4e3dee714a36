"""The signature matrix at the command line: what is not well signed is never in the store."""

from __future__ import annotations

import os
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from fixtures.openpgp import Owner, armor, subpacket

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import Rkt
    from fixtures.publisher import Publisher

NAME = "localhost/app"


def trust(rkt: Rkt, owner: Owner, place: str = "prefix.d/localhost") -> None:
    keys = rkt.directory / "etc/trustedkeys" / place
    keys.mkdir(parents=True, exist_ok=True)
    (keys / owner.fingerprint.lower()).write_bytes(owner.armored())


def good(owner: Owner, data: bytes) -> bytes:
    return armor(owner.key.signature(data))


def binary(owner: Owner, data: bytes) -> bytes:
    return owner.key.signature(data)


def by_subkey(owner: Owner, data: bytes) -> bytes:
    return armor(owner.subkey().signature(data))


def other_content(owner: Owner, data: bytes) -> bytes:
    return good(owner, data + b"x")


def unknown_key(_owner: Owner, data: bytes) -> bytes:
    return good(Owner(), data)


def expired(owner: Owner, data: bytes) -> bytes:
    life = subpacket(3, (60).to_bytes(4, "big"))
    return armor(owner.key.signature(data, created=int(time.time()) - 1000, extra=life))


def revoked(owner: Owner, data: bytes) -> bytes:
    made = good(owner, data)
    owner.revoke()
    return made


def with_md5(owner: Owner, data: bytes) -> bytes:
    return armor(owner.key.signature(data, hash_id=1))


def with_sha1(owner: Owner, data: bytes) -> bytes:
    return armor(owner.key.signature(data, hash_id=2))


def cleartext(owner: Owner, data: bytes) -> bytes:
    return b"-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\nhi\n" + good(owner, data)


def two_signatures(owner: Owner, data: bytes) -> bytes:
    return armor(owner.key.signature(data) * 2)


def unbound_subkey(owner: Owner, data: bytes) -> bytes:
    return armor(owner.subkey(bound=False).signature(data))


def false_key_id(owner: Owner, data: bytes) -> bytes:
    return armor(Owner().key.signature(data, issuer=owner.fingerprint))


def text_mode(owner: Owner, data: bytes) -> bytes:
    return armor(owner.key.signature(data, kind=1))


def empty(_owner: Owner, _data: bytes) -> bytes:
    return b""


GOOD = (good, binary, by_subkey)
BAD = (
    other_content,
    unknown_key,
    expired,
    revoked,
    with_md5,
    with_sha1,
    cleartext,
    two_signatures,
    unbound_subkey,
    false_key_id,
    text_mode,
    empty,
)
WAYS = ("file", "address", "name")


def offer(publisher: Publisher, image: Path, signature: bytes, way: str) -> str:
    """Make the image available one way; the argument for it."""
    if way == "file":
        image.with_name(image.name + ".asc").write_bytes(signature)
        return str(image)
    url = publisher.publish(image, signature=signature)
    return url if way == "address" else NAME


def is_empty(rkt: Rkt) -> bool:
    temporary = rkt.directory / "data/cas/tmp"
    return not rkt("image", "list", "--no-legend").stdout and not (
        temporary.exists() and os.listdir(temporary)
    )


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("sign", GOOD, ids=lambda sign: sign.__name__)
def test_good_signatures_pass(
    publisher: Publisher, rkt: Rkt, sign: Callable[[Owner, bytes], bytes], way: str
) -> None:
    owner, image = Owner(), publisher.aci()
    argument = offer(publisher, image, sign(owner, image.read_bytes()), way)
    trust(rkt, owner)
    assert "signature verified:\n  Owner <owner@example.com>" in rkt("fetch", argument).stderr


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("sign", BAD, ids=lambda sign: sign.__name__)
def test_bad_signatures_are_refused_and_nothing_is_stored(
    publisher: Publisher, rkt: Rkt, sign: Callable[[Owner, bytes], bytes], way: str
) -> None:
    owner, image = Owner(), publisher.aci()
    argument = offer(publisher, image, sign(owner, image.read_bytes()), way)
    trust(rkt, owner)
    assert "openpgp: " in rkt("fetch", argument, code=254).stderr
    assert is_empty(rkt)


@pytest.mark.parametrize("way", WAYS)
def test_no_signature(publisher: Publisher, rkt: Rkt, way: str) -> None:
    image = publisher.aci()
    argument = str(image) if way == "file" else publisher.publish(image)
    if way == "name":
        argument = NAME
    text = "error opening signature file" if way == "file" else "error downloading the signature file"
    done = rkt("fetch", argument, code=254)
    assert text in done.stderr
    assert "--insecure-options=image" in done.stderr
    assert is_empty(rkt)


@pytest.mark.parametrize("way", WAYS)
def test_trust_for_another_prefix_is_none(publisher: Publisher, rkt: Rkt, way: str) -> None:
    owner, image = Owner(), publisher.aci()
    argument = offer(publisher, image, good(owner, image.read_bytes()), way)
    for place in ("prefix.d/example.com", "prefix.d/localhost/ap", "prefix.d/localhost/app/x"):
        trust(rkt, owner, place)
    done = rkt("fetch", argument, code=254)
    assert "openpgp: signature made by unknown entity" in done.stderr
    assert "rkt trust --prefix=localhost/app" in done.stderr
    assert is_empty(rkt)
    trust(rkt, owner, "prefix.d/localhost/app")
    rkt("fetch", argument)


def test_an_image_cannot_borrow_the_trust_of_anothers_name(publisher: Publisher, rkt: Rkt) -> None:
    """S28: A's key signs an image that says it is B's; A is trusted for A's names alone."""
    owner = Owner()
    trust(rkt, owner, "prefix.d/a.example.com")
    image = publisher.aci("b.example.com/app")
    argument = offer(publisher, image, good(owner, image.read_bytes()), "file")
    assert "signature made by unknown entity" in rkt("fetch", argument, code=254).stderr
    assert is_empty(rkt)


def test_a_signature_file_of_the_users_choice(publisher: Publisher, rkt: Rkt) -> None:
    owner, image, other = Owner(), publisher.aci(), publisher.aci("localhost/other")
    trust(rkt, owner)
    signature = rkt.directory / "signature"
    signature.write_bytes(good(owner, image.read_bytes()))
    rkt("fetch", image, f"--signature={signature}")
    url = publisher.publish(image)
    rkt("fetch", url, "--signature", signature)
    done = rkt("fetch", image, f"--signature={signature}", other, f"--signature={signature}", code=254)
    assert "the signature does not fit the file" in done.stderr


def test_switching_the_check_off_is_said_every_time(publisher: Publisher, rkt: Rkt) -> None:
    image = publisher.aci()
    url = publisher.publish(image)
    for argument in (image, url, NAME):
        for _ in range(2):
            done = rkt("--insecure-options=image", "fetch", argument)
            assert "image signature verification has been disabled" in done.stderr


def test_a_changed_byte_is_refused_wherever_it_is(publisher: Publisher, rkt: Rkt) -> None:
    owner, image = Owner(), publisher.aci()
    trust(rkt, owner)
    data = image.read_bytes()
    offer(publisher, image, good(owner, data), "file")
    for place in (4, len(data) // 2, len(data) - 1):
        image.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        assert "the signature does not fit the file" in rkt("fetch", image, code=254).stderr
    image.write_bytes(data + b"\0")
    rkt("fetch", image, code=254)
    assert is_empty(rkt)


def test_a_key_file_of_another_name_is_an_error(publisher: Publisher, rkt: Rkt) -> None:
    owner, image = Owner(), publisher.aci()
    keys = rkt.directory / "etc/trustedkeys/root.d"
    keys.mkdir(parents=True)
    (keys / Owner().fingerprint.lower()).write_bytes(owner.armored())
    publisher.publish(image, signature=good(owner, image.read_bytes()))
    assert "fingerprint mismatch" in rkt("fetch", NAME, code=254).stderr
    assert is_empty(rkt)


def test_an_empty_local_file_takes_the_systems_trust_away(publisher: Publisher, rkt: Rkt) -> None:
    owner, image = Owner(), publisher.aci()
    system = rkt.directory / "usr/trustedkeys/prefix.d/localhost"
    system.mkdir(parents=True)
    (system / owner.fingerprint.lower()).write_bytes(owner.armored())
    argument = offer(publisher, image, good(owner, image.read_bytes()), "file")
    rkt("fetch", argument)
    rkt("image", "rm", rkt("fetch", argument).stdout.strip())
    local = rkt.directory / "etc/trustedkeys/prefix.d/localhost"
    local.mkdir(parents=True)
    (local / owner.fingerprint.lower()).write_bytes(b"")
    assert "signature made by unknown entity" in rkt("fetch", argument, code=254).stderr
    assert is_empty(rkt)


@pytest.mark.parametrize(
    "script", [None, "exit 0", "kill -9 $$", "exec sleep 0.1", 'echo "[GNUPG:] GOODSIG x"'], ids=str
)
def test_a_broken_gpgv_fails_closed(
    root: None, publisher: Publisher, rkt: Rkt, tmp_path: Path, script: str | None
) -> None:
    """S27. The tests' mount namespace is their own: the real gpgv is covered by a file."""
    owner, image = Owner(), publisher.aci()
    trust(rkt, owner)
    argument = offer(publisher, image, good(owner, image.read_bytes()), "file")
    cover = tmp_path / "gpgv"
    cover.write_text("" if script is None else f"#!/bin/sh\n{script}\n")
    cover.chmod(0o644 if script is None else 0o755)
    subprocess.run(["mount", "--bind", cover, "/usr/bin/gpgv"], check=True)
    try:
        assert "signature" in rkt("fetch", argument, code=254).stderr
    finally:
        subprocess.run(["umount", "/usr/bin/gpgv"], check=True)
    assert is_empty(rkt)
    rkt("fetch", argument)
