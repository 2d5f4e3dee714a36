"""acserver: publish images that are pushed to it."""

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

    from appc.server.config import Config

#: The version of acserver whose protocol and configuration these are.
VERSION = "0.1.0"
VERBS = (Verb("", "appc.cli.acserver", "publish images that are pushed to it"),)
EXAMPLES = """\
  acserver
  acserver /etc/acserver.yml
"""
DESCRIPTION = """\
Serves the images below its root, with the pages that discovery asks for, and takes new ones from `acpush`, in
the foreground until SIGTERM. An image is published when it is there as a whole and a key of the file
pubkeys.gpg in the root has signed it; another web server may serve the root as well.

CONFIG is a file of YAML with the sections `api` (serverName, port, https, username, password, passwordFile,
address, certificate, key) and `storage` (rootPath, unsigned, allowOverride, maxSize). Sockets may be passed
by a service manager (LISTEN_FDS). The server may be killed and started again at any time: pushes go on.
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", metavar="CONFIG", nargs="?", help="the configuration file (default: none)")
    parser.add_argument("-V", "--version", action="store_true", help="show the version")
    parser.add_argument("--debug", action="store_true", help="show the trail of an error")


def run(options: argparse.Namespace, out: Output) -> int:
    from appc.server import config as configuration
    from appc.server import service
    from appc.site.tree import Site, checked_base

    out.where, out.debugging = "acserver", options.debug
    if options.version:
        out.line(_version())
        return 0
    if options.config:
        config = configuration.load(options.config)
    else:
        out.note("No configuration file set, using only default values")
        config = configuration.Config()
    _warn(config, options.config, out)
    os.umask(0o022)
    try:
        os.makedirs(config.root, mode=0o755, exist_ok=True)
    except OSError as error:
        raise AppcError(f"{config.root}: {error.strerror}", hint="see storage.rootPath") from None
    base = checked_base(f"{config.scheme}://{config.server_name}") if config.server_name else ""
    site = Site(config.root, base)
    running = service.Service(config, site, out.note)
    sockets = service.inherited() or service.listen(config.address, config.port)
    try:
        site.keys()
        site.refresh()
        shown = ", ".join(str(sock.getsockname()[1]) for sock in sockets)
        out.note(f"listening on port {shown}, publishing {config.root}")
        running.serve(sockets, service.notify_ready)
    finally:
        for sock in sockets:
            sock.close()
    return 0


def _warn(config: Config, path: str | None, out: Output) -> None:
    if not config.username:
        out.warn("no username set: anybody may push", hint="set api.username and api.password")
    elif not config.https:
        out.warn(
            "the password of pushes is not encrypted on its way", hint="set api.https or api.certificate"
        )
    if config.unsigned:
        out.warn("images are published without a signature")
    if config.password and path and os.stat(path).st_mode & 0o004:
        out.warn(f"{path}: everybody may read the password in it", hint=f"chmod o-r {path}")


def _version() -> str:
    return f"acserver version {VERSION}+rkt-platform"


PROGRAM = Program(
    "acserver",
    "publish images that are pushed to it",
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
