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


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("words", metavar="FILE.aci [-- GPG-ARGUMENT…]", nargs="*", help="the image")
    parser.add_argument("--key", metavar="KEY", help="the key to sign with (default: gpg's default key)")
    parser.add_argument("--output", metavar="FILE", help="the signature (default: FILE.aci.asc)")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing signature")


def run(options: argparse.Namespace, out: Output) -> int:
    from appc import signing
    from appc.aci.output import replacing

    if not options.words:
        raise AppcError("Must provide an image", hint="actool sign FILE.aci")
    image, *more = options.words
    target = options.output or f"{image}.asc"
    if os.path.lexists(target) and not options.overwrite:
        raise AppcError(f"Target file exists (try --overwrite): {target}")
    arguments = [*(("--local-user", options.key) if options.key else ()), *more]
    with open(image, "rb") as file:
        made, told = signing.sign(file.fileno(), arguments)
    with replacing(target, overwrite=options.overwrite) as signature:
        signature.write(made)
    out.debug(told)
    out.debug(f"{target}: written")
    return 0
