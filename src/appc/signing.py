"""Making signatures: gpg does it, over the very bytes of an open file."""

from __future__ import annotations

import os

from appc.errors import AppcError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

#: What gpg and its agent need of the environment: their keys, and the terminal to ask for a passphrase on.
_ENVIRONMENT = (
    "PATH",
    "HOME",
    "GNUPGHOME",
    "GPG_TTY",
    "TERM",
    "DISPLAY",
    "WAYLAND_DISPLAY",
    "XDG_RUNTIME_DIR",
)
_BEGINNING = b"-----BEGIN PGP SIGNATURE-----"


def sign(fd: int, arguments: Sequence[str] = ()) -> tuple[bytes, str]:
    """A detached, armoured OpenPGP signature over all of the file `fd`, and what gpg told.

    `arguments` are given to gpg as they are. Raises AppcError when there is no signature.
    """
    command = ["--armor", "--detach-sign", "--digest-algo", "SHA512", "--output", "-"]
    os.lseek(fd, 0, os.SEEK_SET)
    made, told = _gpg([*command, *arguments, "--", "-"], fd, "--list-secret-keys")
    if not made.startswith(_BEGINNING):
        raise AppcError(f"gpg failed: {told or 'it made no signature'}", hint="see `gpg --list-secret-keys`")
    return made, told


def public_key(key: str) -> bytes:
    """The armoured public half of gpg's key `key`. AppcError when there is none."""
    made, _ = _gpg(["--armor", "--export", "--", key], None, "--list-keys")
    if not made:
        raise AppcError(f"gpg has no key {key}", hint="see `gpg --list-keys`")
    return made


def _gpg(words: Sequence[str], stdin: int | None, listing: str) -> tuple[bytes, str]:
    """What gpg writes, and what it tells; `listing` is where a user looks who gets the error."""
    import subprocess

    environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    try:
        done = subprocess.run(
            ["gpg", *words],
            stdin=subprocess.DEVNULL if stdin is None else stdin,
            capture_output=True,
            env=environment,
            check=False,
        )
    except FileNotFoundError:
        raise AppcError("gpg is not installed", hint="install the package gnupg") from None
    told = done.stderr.decode("utf-8", "replace").strip()
    if done.returncode:
        raise AppcError(f"gpg failed: {told or f'status {done.returncode}'}", hint=f"see `gpg {listing}`")
    return done.stdout, told
