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
    import subprocess

    command = ["gpg", "--armor", "--detach-sign", "--digest-algo", "SHA512", "--output", "-"]
    environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    os.lseek(fd, 0, os.SEEK_SET)
    try:
        done = subprocess.run(
            [*command, *arguments, "--", "-"], stdin=fd, capture_output=True, env=environment, check=False
        )
    except FileNotFoundError:
        raise AppcError("gpg is not installed", hint="install the package gnupg") from None
    told = done.stderr.decode("utf-8", "replace").strip()
    if done.returncode or not done.stdout.startswith(_BEGINNING):
        raise AppcError(
            f"gpg failed: {told or f'status {done.returncode}'}", hint="see `gpg --list-secret-keys`"
        )
    return done.stdout, told
