"""acpush: push an image to a server that publishes it."""

from __future__ import annotations

import os

from appc.errors import AppcError
from console.output import Output
from console.verbs import Program, Verb

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence
    from typing import NoReturn

    from appc.http.auth import Credentials
    from appc.schema.image import ImageManifest

VERSION = "0.1.0"
VERBS = (Verb("", "appc.cli.acpush", "push an image to a server that publishes it"),)
EXAMPLES = """\
  acpush app.aci app.aci.asc example.com/app
  acpush --sign app.aci example.com/app:1.0 -- --local-user release@example.com
  acpush --username=releases --password-file=secret app.aci app.aci.asc example.com/app
"""
DESCRIPTION = """\
NAME leads to the server by discovery: the page of the name, or of one above it, says where pushes begin. An
address (https://…/startupload) is taken as it is. With --sign or --key the signature is made now by gpg, to
which words behind `--` are given; the image is then followed by the name.

Credentials are those of `auth.d` in the configuration directories, each over https for its own host, or those
of the command line, for the host of the name. A push that breaks off is tried again, and goes on where it
was. Nothing is published before the server has, and has verified, all of it.
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "words",
        metavar="IMAGE [SIGNATURE] NAME [-- GPG-ARGUMENT…]",
        nargs="*",
        help="what to push, and where",
    )
    parser.add_argument("--sign", action="store_true", help="sign with gpg instead of taking a SIGNATURE")
    parser.add_argument("--key", metavar="KEY", help="the key to sign with; as --sign")
    parser.add_argument("--unsigned", action="store_true", help="push without a signature")
    parser.add_argument("--insecure", action="store_true", help="permit plain http, and any TLS certificate")
    parser.add_argument("--port", metavar="PORT", type=int, default=0, help="port to ask for the page")
    parser.add_argument("--username", metavar="USER", help="user name for the host of the name")
    parser.add_argument("--password", metavar="PASSWORD", help="password (others on this host can see it)")
    parser.add_argument("--password-file", metavar="FILE", help="file whose first line is the password")
    parser.add_argument(
        "--system-conf",
        metavar="DIR",
        default="/usr/lib/rkt",
        help="system configuration (default: %(default)s)",
    )
    parser.add_argument(
        "--local-conf", metavar="DIR", default="/etc/rkt", help="local configuration (default: %(default)s)"
    )
    parser.add_argument("--debug", action="store_true", help="tell about each step")
    parser.add_argument("-V", "--version", action="store_true", help="show the version")


def run(options: argparse.Namespace, out: Output) -> int:
    from appc.http.certificates import Certificates
    from appc.http.client import Client
    from appc.push import Parts, Pusher, endpoint

    out.where, out.debugging = "acpush", options.debug
    if options.version:
        out.line(_version())
        return 0
    image, signature_file, where, gpg_words = _words(options)
    with open(image, "rb") as file:
        manifest = _manifest(image)
        signature = _signature(options, file.fileno(), signature_file, gpg_words)
        parts = Parts(manifest.encode(), signature, file.fileno())
        with (
            Client(
                _credentials(options, where),
                certificates=Certificates.of((options.system_conf, options.local_conf)),
                insecure_http=options.insecure,
                insecure_tls=options.insecure,
                agent="acpush",
            ) as client,
            out.progress(f"pushing {os.path.basename(image)}") as progress,
        ):

            def advance(done: int, total: int) -> None:
                progress.total = total
                progress.advance(done - progress.done)

            place = where
            if "://" not in where:
                place = endpoint(client, where, manifest, tell=out.debug, port=options.port)
            Pusher(client, tell=out.debug, progress=advance).push(place, parts)
    out.debug("Upload successful")
    return 0


def _words(options: argparse.Namespace) -> tuple[str, str, str, list[str]]:
    """Image, signature file (empty when there is none), name or address, and what gpg is to get."""
    from console.errors import UsageError

    words = list(options.words)
    makes = options.sign or options.key
    if makes and options.unsigned:
        raise UsageError("--unsigned and --sign exclude each other")
    if makes and len(words) >= 2:
        return words[0], "", words[1], words[2:]
    if options.unsigned and len(words) == 2:
        return words[0], "", words[1], []
    if len(words) != 3 or makes or options.unsigned:
        hint = "acpush IMAGE SIGNATURE NAME, or acpush --sign IMAGE NAME"
        raise UsageError(f"{len(words)} arguments are not what is expected", hint=hint)
    return words[0], words[1], words[2], []


def _manifest(path: str) -> ImageManifest:
    from appc.aci import reader
    from appc.schema.image import ImageManifest

    with open(path, "rb") as file:
        return ImageManifest.parse(reader.read_manifest(file))


def _signature(options: argparse.Namespace, image: int, path: str, words: list[str]) -> bytes | None:
    from appc import openpgp, signing
    from appc import signature as signatures

    if options.unsigned:
        return None
    if path:
        with open(path, "rb") as file:
            made = file.read(openpgp.SIGNATURE_LIMIT + 1)
        try:
            signatures.read(made)
        except AppcError as error:
            raise AppcError(f"{path}: {error}", hint=error.hint) from None
        return made
    return signing.sign(image, [*(("--local-user", options.key) if options.key else ()), *words])[0]


def _credentials(options: argparse.Namespace, where: str) -> Credentials:
    from appc.http.auth import Basic
    from appc.settings import auth

    config = options.system_conf, options.local_conf
    if options.username is None:
        return auth.load(config)
    password = options.password
    if options.password_file:
        with open(options.password_file, encoding="utf-8") as file:
            password = file.readline(4096).rstrip("\r\n")
    if not password:
        raise AppcError("--username: there is no password for it", hint="give --password-file=FILE")
    if "://" in where:
        from appc.http import url

        try:
            host = url.parse(where).host
        except ValueError as error:
            raise AppcError(f"the address {error}") from None
    else:
        host = where.partition("/")[0].partition(":")[0].partition(",")[0]
    return auth.load(config, everywhere=(host, Basic(options.username, password)), plain=options.insecure)


def _version() -> str:
    return f"acpush version {VERSION}+rkt-platform"


PROGRAM = Program(
    "acpush",
    "push an image to a server that publishes it",
    VERBS,
    version=_version,
    failure=1,
    usage_failure=1,
    single_dash=True,
)


def main(argv: Sequence[str] | None = None, out: Output | None = None) -> int:
    from console.main import main as run

    return run(PROGRAM, argv, out)


def command() -> NoReturn:
    """The command as a process of its own."""
    from console.main import process

    process(PROGRAM)


if __name__ == "__main__":
    command()
