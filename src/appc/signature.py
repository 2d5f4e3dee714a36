"""Whether a file was signed by one of some keys: gpgv decides, by its status lines and not its exit code.

gpgv exits with 0 for signatures of revoked and expired keys, so what counts is exactly one VALIDSIG with its
GOODSIG and no line that tells of a flaw. Whatever is out of the ordinary - no gpgv, one that is killed, a
status line too many - is a failure: nothing here can succeed by accident.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from appc import openpgp
from appc.errors import AppcError
from linux.named_tuple import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

    from appc.openpgp import PublicKey, Signature

NOBODY = 65534
# All that gpgv gets of an environment; the user's own is of no consequence.
ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C"}
_SLOWEST = 2_000_000  # bytes a second that gpgv is given at least
_PATIENCE = 30.0  # seconds on top of that

_CLOCK_SLACK = 86400  # seconds by which the signer's clock may be ahead

# What each of these status words means (GnuPG's doc/DETAILS). Any of them ends the matter.
_FLAWS = {
    "BADSIG": "the signature does not fit the file",
    "EXPSIG": "the signature has expired",
    "EXPKEYSIG": "the key that made the signature has expired",
    "REVKEYSIG": "the key that made the signature was revoked",
    "KEYREVOKED": "the key that made the signature was revoked",
    "KEYEXPIRED": "the key that made the signature has expired",
    "ERRSIG": "the signature cannot be checked",
    "NO_PUBKEY": "the key that made the signature is not usable",
    "NODATA": "there is no signature",
    "UNEXPECTED": "there is more than a signature",
    "FAILURE": "gpgv failed",
    "ERROR": "gpgv failed",
}


class SignatureError(AppcError):
    """A signature that proves nothing."""


class BadSignature(SignatureError):
    """The signature is malformed, of a refused kind, or not over this file."""


class UnknownSigner(SignatureError):
    """None of the keys made the signature. `key_id` is what the signature itself says."""

    def __init__(self, signature: Signature, *, hint: str | None = None) -> None:
        super().__init__("openpgp: signature made by unknown entity", hint=hint)
        self.key_id = signature.fingerprint or signature.key_id


class VerifierFailed(SignatureError):
    """gpgv is missing, was killed, or said what it never should."""


class Verified(NamedTuple):
    """The proof: the key (as it was given) that made the signature, and the Unix time when."""

    key: PublicKey
    created: int


def read(data: bytes) -> Signature:
    """The detached signature in `data`, if it is of a kind that is ever accepted. BadSignature else."""
    try:
        signature = openpgp.read_signature(data)
    except openpgp.MalformedError as error:
        raise BadSignature(f"openpgp: invalid signature: {error}", hint=error.hint) from None
    if signature.hash_name:
        raise BadSignature(
            f"openpgp: invalid signature: made with {signature.hash_name}, which can be forged",
            hint="sign again with `gpg --digest-algo SHA512`",
        )
    return signature


def candidates(signature: Signature, keys: Iterable[PublicKey]) -> list[PublicKey]:
    """The keys that the signature may be of. UnknownSigner when there are none.

    This proves nothing, but spares the download of an image whose signature cannot be good.
    """
    found = [key for key in keys if key.may_have_made(signature)]
    if not found:
        raise UnknownSigner(signature)
    return found


def verify(fd: int, signature: Signature, keys: Iterable[PublicKey]) -> Verified:
    """Check `signature` over all bytes of the regular file `fd` (its offset moves).

    Raises a SignatureError unless one of `keys` made it, and both are valid now.
    """
    failure: SignatureError = UnknownSigner(signature)
    for key in candidates(signature, keys):
        # One key at a time: of two keys with one key ID gpgv would look at the first alone.
        try:
            return Verified(key, _verify_with(fd, signature, key))
        except BadSignature as error:
            failure = error
    raise failure


def _verify_with(fd: int, signature: Signature, key: PublicKey) -> int:
    os.lseek(fd, 0, os.SEEK_SET)
    ring = status = packet = -1
    try:
        ring = _memory("key", key.data)
        packet = _memory("signature", signature.packet)
        status = _memory("status", b"")
        told = _run_gpgv(fd, ring, packet, status)
        lines = _status_lines(os.pread(status, 1 << 20, 0))
    finally:
        for opened in (ring, packet, status):
            if opened >= 0:
                os.close(opened)
    return judge(lines, key, told)


def _memory(name: str, data: bytes) -> int:
    """An fd of a file in memory. gpgv opens it by /proc/self/fd, so it may be read by the user it runs as."""
    fd = os.memfd_create(name, os.MFD_CLOEXEC)
    os.write(fd, data)
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def _run_gpgv(fd: int, ring: int, packet: int, status: int) -> tuple[int, str]:
    from linux.process import run

    command = (
        "gpgv",
        "--homedir=/proc/self/none",  # no home: there is no configuration that could change the answer
        f"--status-fd={status}",
        "--weak-digest=SHA1",
        "--weak-digest=RIPEMD160",
        f"--keyring=/proc/self/fd/{ring}",
        f"/proc/self/fd/{packet}",
        "-",
    )
    patience = _PATIENCE + os.fstat(fd).st_size / _SLOWEST
    try:
        done = run(
            command,
            env=ENVIRONMENT,
            timeout=patience,
            pass_fds=(ring, packet, status),
            stdin=fd,
            user=NOBODY,
        )
    except FileNotFoundError:
        raise VerifierFailed(
            "cannot verify the signature: gpgv is not installed", hint="install the package gpgv"
        ) from None
    except TimeoutError:
        raise VerifierFailed(f"cannot verify the signature: gpgv took more than {patience:.0f} s") from None
    except OSError as error:
        raise VerifierFailed(f"cannot verify the signature: gpgv: {error.strerror}") from error
    if done.returncode < 0:
        raise VerifierFailed(f"cannot verify the signature: gpgv was ended by signal {-done.returncode}")
    return done.returncode, done.stderr.decode("utf-8", "replace")[-500:].strip()


def _status_lines(data: bytes) -> list[list[str]]:
    """The words of each status line."""
    prefix = b"[GNUPG:] "
    lines = [line for line in data.split(b"\n") if line]
    if any(not line.startswith(prefix) for line in lines):
        raise VerifierFailed("cannot verify the signature: gpgv wrote something that is no status line")
    return [line[len(prefix) :].decode("utf-8", "replace").split(" ") for line in lines]


def judge(lines: list[list[str]], key: PublicKey, told: tuple[int, str] = (0, "")) -> int:
    """The time of the signature, if gpgv's status `lines` tell of one good signature by `key` and no more.

    `told` is gpgv's exit code and the end of what it told a human.
    """
    code, text = told
    for words in lines:
        if flaw := _FLAWS.get(words[0]):
            raise BadSignature(f"openpgp: invalid signature: {flaw}", hint=_hint(words, text))
    counts = {word: sum(words[0] == word for words in lines) for word in ("NEWSIG", "GOODSIG", "VALIDSIG")}
    if code != 0 or set(counts.values()) != {1}:
        raise BadSignature("openpgp: invalid signature: gpgv does not confirm it", hint=text or None)
    valid = next(words[1:] for words in lines if words[0] == "VALIDSIG")
    # fingerprint, date, time, expiry, version, reserved, key algorithm, hash algorithm, class, primary key
    if len(valid) != 10 or not valid[2].isdigit():
        raise VerifierFailed("cannot verify the signature: gpgv says VALIDSIG in an unknown way")
    signer, primary = valid[0], valid[9]
    if primary != key.fingerprint or signer not in {key.fingerprint, *key.subkeys}:
        raise BadSignature("openpgp: invalid signature: made by a key that was not asked about")
    if valid[8] != "00" or valid[7] not in {str(number) for number in openpgp.STRONG_HASHES}:
        raise BadSignature("openpgp: invalid signature: of a kind that is not accepted")
    created = int(valid[2])
    if created > time.time() + _CLOCK_SLACK:
        raise BadSignature(
            "openpgp: invalid signature: made in the future", hint="check the clocks, here and of the signer"
        )
    return created


def _hint(words: list[str], text: str) -> str | None:
    if words[0] == "NO_PUBKEY" or (words[0] == "ERRSIG" and "SHA1" in text):
        return (
            "gpgv does not accept the key, perhaps because its own signatures are made with SHA-1: "
            "its owner should renew them"
        )
    return None
