"""As much of OpenPGP (RFC 4880) as is needed to know what a file holds before gpgv is asked about it.

Nothing here verifies anything. It takes the armor off, cuts a file into packets, and refuses what has no
place in a detached signature or a public key, so that gpgv sees one packet sequence that can mean one thing.
"""

from __future__ import annotations

import binascii
import hashlib
import re
from typing import TYPE_CHECKING

from appc.errors import AppcError
from linux.named_tuple import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

SIGNATURE_LIMIT = 64 * 1024  # bytes of a signature file
KEY_LIMIT = 1 << 20  # bytes of a file of keys

_SIGNATURE, _SECRET_KEY, _PUBLIC_KEY, _SECRET_SUBKEY = 2, 5, 6, 7
_TRUST, _USER_ID, _PUBLIC_SUBKEY, _USER_ATTRIBUTE = 12, 13, 14, 17
_BINARY_DOCUMENT = 0x00
_CREATED, _ISSUER, _ISSUER_FINGERPRINT = 2, 16, 33

# Hash algorithms by their number; only these are strong enough (SHA-256, SHA-384, SHA-512).
STRONG_HASHES = frozenset((8, 9, 10))
_HASH_NAMES = {1: "MD5", 2: "SHA-1", 3: "RIPEMD-160", 11: "SHA-224"}

_ARMOR = re.compile(
    rb"\s*-----BEGIN PGP (?P<kind>[A-Z ]+)-----[ \t]*\r?\n"
    rb"(?:[A-Za-z]+: [^\r\n]*\r?\n)*[ \t]*\r?\n"
    rb"(?P<body>[A-Za-z0-9+/= \t\r\n]*)"
    rb"-----END PGP (?P=kind)-----\s*"
)


class MalformedError(AppcError):
    """A file that is not the OpenPGP data which it should be."""


class Packet(NamedTuple):
    """One packet: its kind, its content, and its bytes with the header."""

    tag: int
    body: bytes
    raw: bytes


class Signature(NamedTuple):
    """A detached signature over a file's bytes.

    `packet` is the packet alone. It says (without proof) who made it: `key_id` is 16 upper-case digits,
    `fingerprint` 40 or empty. `created` is a Unix time, `hash_name` is empty unless the hash is a weak one.
    """

    packet: bytes
    key_id: str
    fingerprint: str
    created: int
    hash_name: str


class PublicKey(NamedTuple):
    """A public key with its subkeys: fingerprints of 40 upper-case digits, and the packets."""

    fingerprint: str
    subkeys: tuple[str, ...]
    user_ids: tuple[str, ...]
    data: bytes

    def may_have_made(self, signature: Signature) -> bool:
        """Whether the signature names this key or one of its subkeys."""
        for fingerprint in (self.fingerprint, *self.subkeys):
            if fingerprint[-16:] == signature.key_id and signature.fingerprint in {"", fingerprint}:
                return True
        return False


def read_signature(data: bytes) -> Signature:
    """The one detached signature that a file holds, armored or not. MalformedError for everything else."""
    if len(data) > SIGNATURE_LIMIT:
        raise MalformedError(f"the signature has {len(data)} bytes, the limit is {SIGNATURE_LIMIT}")
    binary = data if data[:1] >= b"\x80" else dearmored(data, b"SIGNATURE", "a detached signature")
    packets = list(_packets(binary))
    if len(packets) != 1 or packets[0].tag != _SIGNATURE:
        count = sum(packet.tag == _SIGNATURE for packet in packets)
        raise MalformedError(
            f"the signature file holds {count} signatures and {len(packets)} packets, not one"
        )
    return _signature(packets[0])


def _signature(packet: Packet) -> Signature:
    body = packet.body
    if body[:1] != b"\x04" or len(body) < 6:
        raise MalformedError("the signature is not of version 4")
    if body[1] != _BINARY_DOCUMENT:
        raise MalformedError(f"the signature is of class {body[1]:#04x}, not over the bytes of a file")
    hashed, rest = _counted(body[4:])
    unhashed, _ = _counted(rest)
    trusted = dict(_subpackets(hashed))
    hints = {**dict(_subpackets(unhashed)), **trusted}
    created = trusted.get(_CREATED, b"")
    if len(created) != 4:
        raise MalformedError("the signature does not say when it was made")
    fingerprint = hints.get(_ISSUER_FINGERPRINT, b"")
    fingerprint = fingerprint[1:] if fingerprint[:1] == b"\x04" and len(fingerprint) == 21 else b""
    key_id = fingerprint[-8:] or hints.get(_ISSUER, b"")
    if len(key_id) != 8:
        raise MalformedError("the signature does not say which key made it")
    algorithm = body[3]
    weak = "" if algorithm in STRONG_HASHES else _HASH_NAMES.get(algorithm, f"hash algorithm {algorithm}")
    return Signature(
        packet.raw, key_id.hex().upper(), fingerprint.hex().upper(), int.from_bytes(created, "big"), weak
    )


def _counted(data: bytes) -> tuple[bytes, bytes]:
    """An area with its length (two bytes) in front, and what comes behind it."""
    length = int.from_bytes(data[:2], "big")
    if len(data) < 2 + length:
        raise MalformedError("the signature ends too early")
    return data[2 : 2 + length], data[2 + length :]


def _subpackets(area: bytes) -> Iterator[tuple[int, bytes]]:
    """Type and content of each subpacket (RFC 4880, section 5.2.3.1)."""
    while area:
        first = area[0]
        if first < 192:
            start, length = 1, first
        elif first < 255 and len(area) >= 2:
            start, length = 2, ((first - 192) << 8) + area[1] + 192
        else:
            start, length = 5, int.from_bytes(area[1:5], "big")
        content = area[start : start + length]
        if not content or len(content) != length:
            raise MalformedError("the signature has a malformed subpacket")
        yield content[0] & 0x7F, content[1:]
        area = area[start + length :]


def read_keys(data: bytes, *, armored_only: bool = True) -> list[PublicKey]:
    """The public keys that a file holds, at least one. MalformedError also for a file with secret keys."""
    if len(data) > KEY_LIMIT:
        raise MalformedError(f"the file of keys has {len(data)} bytes, the limit is {KEY_LIMIT}")
    if data[:1] >= b"\x80":
        if armored_only:
            raise MalformedError(
                "the key is not armored", hint="export it with `gpg --armor --export <fingerprint>`"
            )
        binary = data
    else:
        binary = dearmored(data, b"PUBLIC KEY BLOCK", "an armored public key")
    keys: list[list[Packet]] = []
    for packet in _packets(binary):
        if packet.tag in {_SECRET_KEY, _SECRET_SUBKEY}:
            raise MalformedError("the file holds a secret key", hint="keep it secret; give the public one")
        if packet.tag == _PUBLIC_KEY:
            keys.append([])
        elif packet.tag not in {_SIGNATURE, _TRUST, _USER_ID, _PUBLIC_SUBKEY, _USER_ATTRIBUTE}:
            raise MalformedError(f"the file of keys holds a packet of kind {packet.tag}")
        if not keys:
            raise MalformedError("the file of keys does not begin with a key")
        keys[-1].append(packet)
    if not keys:
        raise MalformedError("the file holds no key")
    return [_key(packets) for packets in keys]


def _key(packets: list[Packet]) -> PublicKey:
    return PublicKey(
        _fingerprint(packets[0]),
        tuple(_fingerprint(packet) for packet in packets if packet.tag == _PUBLIC_SUBKEY),
        tuple(packet.body.decode("utf-8", "replace") for packet in packets if packet.tag == _USER_ID),
        # Trust packets are local to gpg's own key rings; nobody's but ours shall be believed.
        b"".join(packet.raw for packet in packets if packet.tag != _TRUST),
    )


def _fingerprint(packet: Packet) -> str:
    """SHA-1 over the key packet (RFC 4880, section 12.2)."""
    if packet.body[:1] != b"\x04":
        raise MalformedError("the key is not of version 4, the only one that gpgv knows")
    head = b"\x99" + len(packet.body).to_bytes(2, "big") if len(packet.body) < 1 << 16 else b""
    if not head:
        raise MalformedError("the key is too long")
    return hashlib.sha1(head + packet.body, usedforsecurity=False).hexdigest().upper()


_WRITERS = {
    b"PUBLIC KEY BLOCK": "`gpg --armor --export KEY` writes one",
    b"SIGNATURE": "`gpg --armor --detach-sign FILE` writes one",
}


def dearmored(data: bytes, kind: bytes, wanted: str) -> bytes:
    """The bytes inside the one armor block that `data` consists of (RFC 4880, section 6)."""
    found = _ARMOR.fullmatch(data)
    if found is None or found["kind"] != kind:
        begun = re.search(rb"-----BEGIN PGP ([A-Z ]{1,40})-----", data)
        if begun is None:
            problem = f"the file is not {wanted}: it holds no PGP armor"
        elif begun[1] == kind:
            problem = f"the file holds more than {wanted}, or only a part of it"
        else:
            problem = f"the file is a PGP {begun[1].decode().lower()}, not {wanted}"
        raise MalformedError(problem, hint=_WRITERS.get(kind))
    lines = found["body"].split()
    checksum = None
    if lines and re.fullmatch(rb"=[A-Za-z0-9+/]{4}", lines[-1]):
        checksum = binascii.a2b_base64(lines.pop()[1:])
    text = b"".join(lines)
    try:
        binary = binascii.a2b_base64(text, strict_mode=True)
    except binascii.Error:
        raise MalformedError("the armor does not hold base64") from None
    if checksum is not None and _crc24(binary) != checksum:
        raise MalformedError("the armor's checksum does not fit its content")
    return binary


def armored_key(key: PublicKey) -> bytes:
    """The key in the form in which it is kept in files."""
    import base64

    text = base64.encodebytes(key.data)
    checksum = base64.b64encode(_crc24(key.data))
    return b"".join((
        b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n\n",
        text,
        b"=" + checksum + b"\n",
        b"-----END PGP PUBLIC KEY BLOCK-----\n",
    ))


def grouped(fingerprint: str) -> str:
    """A fingerprint as people compare it: groups of four digits, a wider gap in the middle."""
    groups = [fingerprint[i : i + 4] for i in range(0, len(fingerprint), 4)]
    middle = len(groups) // 2
    return " ".join(groups[:middle]) + "  " + " ".join(groups[middle:])


def _crc24(data: bytes) -> bytes:
    """RFC 4880, section 6.1, a byte at a time."""
    crc = 0xB704CE
    for byte in data:
        crc ^= byte << 16
        for _ in range(8):
            crc <<= 1
            if crc & 0x1000000:
                crc ^= 0x1864CFB
    return crc.to_bytes(3, "big")


def _packets(data: bytes) -> Iterator[Packet]:
    """The packets of `data` (RFC 4880, section 4.2). Lengths that are open or partial are refused."""
    position = 0
    while position < len(data):
        first = data[position]
        if not first & 0x80:
            raise MalformedError("the OpenPGP data is malformed")
        if first & 0x40:
            tag, (size, length) = first & 0x3F, _new_length(data, position + 1)
        else:
            tag, size = (first >> 2) & 0x0F, (1, 2, 4, 0)[first & 3]
            length = int.from_bytes(data[position + 1 : position + 1 + size], "big") if size else -1
        start = position + 1 + size
        if length < 0 or start + length > len(data):
            raise MalformedError("the OpenPGP data ends in the middle of a packet")
        yield Packet(tag, data[start : start + length], data[position : start + length])
        position = start + length


def _new_length(data: bytes, position: int) -> tuple[int, int]:
    """How many bytes the length takes, and the length; -1 for a partial one."""
    head = data[position : position + 5]
    if not head or 224 <= head[0] < 255:
        return 1, -1
    if head[0] < 192:
        return 1, head[0]
    if head[0] < 224:
        return 2, ((head[0] - 192) << 8) + (head[1] if len(head) > 1 else 0) + 192
    return 5, int.from_bytes(head[1:5], "big") if len(head) == 5 else -1
