"""rkt metadata-service: serve the appc metadata service."""

from __future__ import annotations

from rkt.metadata import PORT, SOCKET

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from console.output import Output

EXAMPLES = """\
  rkt metadata-service
  rkt metadata-service --listen-port=18112 --listen-address=172.16.28.1
  systemd-run rkt metadata-service
"""
DESCRIPTION = """\
Serves registered pods (`rkt run --mds-register`) their manifests, annotations and UUID, and signs for them,
in the foreground until SIGTERM. Pods are heard on TCP, from their own addresses and with their own token;
pods are registered on a unix socket that only root may use. Both sockets may be passed by a service manager
(LISTEN_FDS). The service may be restarted at any time: registrations are kept under /run/rkt.
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--listen-port", metavar="PORT", type=int, default=PORT, help=f"TCP port for pods (default: {PORT})"
    )
    parser.add_argument(
        "--listen-address",
        metavar="ADDRESS",
        action="append",
        default=[],
        help="hear pods at this address only; may be repeated (default: at all addresses of the host)",
    )
    parser.add_argument(
        "--socket", metavar="PATH", default=SOCKET, help=f"the registration socket (default: {SOCKET})"
    )


def run(options: argparse.Namespace, out: Output) -> int:
    import asyncio
    import os

    from rkt.errors import RktError
    from rkt.metadata import service
    from rkt.metadata.registry import Registry

    if not 0 <= options.listen_port <= 65535:
        raise RktError(f"--listen-port: {options.listen_port} is no port")
    out.note("metadata service starting...")
    os.umask(0o077)
    service.raise_file_limit()
    unix, public = service.inherited()
    made = "" if unix else options.socket
    unix = unix or [service.listen_unix(options.socket)]
    try:
        public = public or service.listen_tcp(options.listen_address, options.listen_port)
        directory = os.path.splitext(options.socket)[0]
        running = service.Service(Registry(directory), out.note)
        out.note("metadata service running...")
        asyncio.run(running.serve(unix, public))
    finally:
        for sock in (*unix, *public):
            sock.close()
        if made:
            os.unlink(made)
    out.note("metadata service exiting...")
    return 0
