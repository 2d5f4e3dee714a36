"""actool sign: sign an image with gpg."""

from __future__ import annotations

import os

from appc.errors import AppcError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from console.output import Output

EXAMPLES = """\
  actool sign app.aci
  actool sign --key=0123456789ABCDEF --overwrite app.aci
  actool sign app.aci -- --homedir ./keys --batch
"""
DESCRIPTION = """\
Writes FILE.aci.asc, the detached, armoured OpenPGP signature that goes beside the image. Words after `--` are
given to gpg as they are. Sign the image as it will be published: compressing it again changes it.
"""
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


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("words", metavar="FILE.aci [-- GPG-ARGUMENT…]", nargs="*", help="the image")
    parser.add_argument("--key", metavar="KEY", help="the key to sign with (default: gpg's default key)")
    parser.add_argument("--output", metavar="FILE", help="the signature (default: FILE.aci.asc)")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing signature")


def run(options: argparse.Namespace, out: Output) -> int:
    import subprocess

    from appc.aci.output import replacing

    if not options.words:
        raise AppcError("Must provide an image", hint="actool sign FILE.aci")
    image, *more = options.words
    target = options.output or f"{image}.asc"
    if os.path.lexists(target) and not options.overwrite:
        raise AppcError(f"Target file exists (try --overwrite): {target}")
    command = ["gpg", "--armor", "--detach-sign", "--digest-algo", "SHA512", "--output", "-"]
    if options.key:
        command += ["--local-user", options.key]
    environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    with open(image, "rb") as file:
        try:
            done = subprocess.run(
                [*command, *more, "--", "-"],
                stdin=file,
                capture_output=True,
                env=environment,
                check=False,
            )
        except FileNotFoundError:
            raise AppcError("gpg is not installed", hint="install the package gnupg") from None
    told = done.stderr.decode("utf-8", "replace").strip()
    if done.returncode or not done.stdout.startswith(b"-----BEGIN PGP SIGNATURE-----"):
        raise AppcError(
            f"gpg failed: {told or f'status {done.returncode}'}", hint="see `gpg --list-secret-keys`"
        )
    with replacing(target, overwrite=options.overwrite) as signature:
        signature.write(done.stdout)
    out.debug(told)
    out.debug(f"{target}: written")
    return 0
