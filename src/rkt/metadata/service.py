"""The sockets of the metadata service: a private one for registration, a public one for pods.

Bounds (R28): so many connections in all and from one address, so many bytes, so much time; a pod that uses up
its share keeps nobody else waiting. Addresses that no registered pod has are not listened to at all.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import struct
from contextlib import suppress

from rkt.errors import RktError
from rkt.metadata import answers, wire
from rkt.metadata.registry import Registry, normal_address

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

PUBLIC_BODY = 64 * 1024
REGISTRATION_BODY = 16 << 20
PER_ADDRESS = 64
IN_ALL = 1024
BACKLOG = 4096  # connections that wait to be looked at; with less, a flood delays others by seconds


class Service:
    """One running service. `log` gets a line for each request, with tokens left out."""

    def __init__(
        self, registry: Registry, log: Callable[[str], None], *, times: wire.Times | None = None
    ) -> None:
        self._registry = registry
        self._log = log
        self._times = times or wire.Times()
        self._open: dict[str, int] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0

    async def serve(self, registration: Sequence[socket.socket], public: Sequence[socket.socket]) -> None:
        """Serve until SIGTERM or SIGINT. The sockets listen already; they are closed at the end."""
        self.port = public[0].getsockname()[1] if public else 0
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        servers = [
            await asyncio.start_unix_server(self._registration, sock=sock, limit=wire.HEAD_LIMIT)
            for sock in registration
        ]
        servers += [
            await asyncio.start_server(self._public, sock=sock, limit=wire.HEAD_LIMIT, backlog=BACKLOG)
            for sock in public
        ]
        notify_ready()
        try:
            await stop.wait()
        finally:
            for server in servers:
                server.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _public(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = normal_address(writer.get_extra_info("peername")[0])
        ours = normal_address(writer.get_extra_info("sockname")[0])
        local = peer == ours or _is_loopback(peer)
        if not self._registry.expects(peer, local=local) or not self._admit(peer):
            writer.transport.abort()
            return
        try:
            await self._guarded(self._converse(reader, writer, peer, ours, local=local), writer)
        finally:
            self._open[peer] -= 1
            if not self._open[peer]:
                del self._open[peer]

    def _admit(self, peer: str) -> bool:
        """Whether one more connection of the peer is within bounds; if so it is counted."""
        mine = self._open.get(peer, 0)
        if mine >= PER_ADDRESS or sum(self._open.values()) >= IN_ALL:
            return False
        self._open[peer] = mine + 1
        return True

    async def _converse(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, peer: str, ours: str, *, local: bool
    ) -> None:
        while True:
            request = await wire.read(reader, writer, PUBLIC_BODY, self._times)
            if request is None:
                return
            if not _is_for_us(request.headers.get("host"), ours):
                # A name in its place: somebody made a browser or a client believe that we are a web site.
                raise wire.BadRequest(403, "the host must be the address of this service")
            reply = answers.public(self._registry, request, peer, local=local)
            self._log(f"{request.method} {_without_token(request.path)} - {reply.status}")
            await self._send(writer, reply, keep=request.keep)
            if not request.keep:
                return

    async def _registration(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        uid = _peer_uid(writer.get_extra_info("socket"))
        if uid not in {0, os.geteuid()}:
            writer.transport.abort()
            return
        await self._guarded(self._register(reader, writer), writer)

    async def _register(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            request = await wire.read(reader, writer, REGISTRATION_BODY, self._times)
            if request is None:
                return
            reply = answers.registration(self._registry, request, self.port)
            self._log(f"{request.method} {request.path} - {reply.status}")
            await self._send(writer, reply, keep=request.keep)
            if not request.keep:
                return

    async def _guarded(self, work: Coroutine[None, None, None], writer: asyncio.StreamWriter) -> None:
        """Run one connection's conversation; whatever the peer does ends this connection alone."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        try:
            await task
        except wire.BadRequest as error:
            with suppress(OSError, TimeoutError):
                await self._send(writer, error.reply, keep=False)
        except (OSError, TimeoutError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            writer.close()
            with suppress(OSError, asyncio.CancelledError):
                await writer.wait_closed()

    async def _send(self, writer: asyncio.StreamWriter, reply: wire.Reply, *, keep: bool) -> None:
        writer.write(reply.encode(keep=keep))
        await asyncio.wait_for(writer.drain(), self._times.body)


def _is_loopback(address: str) -> bool:
    return address == "::1" or address.startswith("127.")


def _is_for_us(host: str | None, ours: str) -> bool:
    """Whether a Host header names the address at which we were reached (none at all is HTTP/1.0's right)."""
    if host is None:
        return True
    name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    return normal_address(name) == ours or (name == "localhost" and _is_loopback(ours))


def _without_token(path: str) -> str:
    return "/…/" + path[1:].partition("/")[2]


def _peer_uid(sock: socket.socket) -> int:
    data = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    return int(struct.unpack("3i", data)[1])


def listen_unix(path: str) -> socket.socket:
    """The registration socket: for root alone, by its own mode and by that of its directory when we make it.

    RktError when another service listens there; what a dead one left is replaced.
    """
    directory = os.path.dirname(path)
    os.makedirs(directory, mode=0o700, exist_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except FileNotFoundError:
            pass
        except ConnectionRefusedError:
            os.unlink(path)
        else:
            raise RktError(f"{path}: another metadata service is running")
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        old = os.umask(0o177)
        try:
            sock.bind(path)
        finally:
            os.umask(old)
        sock.listen(128)
    except BaseException:
        sock.close()
        raise
    return sock


def listen_tcp(addresses: Sequence[str], port: int) -> list[socket.socket]:
    """Sockets for pods: at the given addresses, or at all of this host's (strangers are not heard)."""
    made: list[socket.socket] = []
    try:
        if not addresses:
            dual = socket.has_dualstack_ipv6()
            where, family = ("::", socket.AF_INET6) if dual else ("0.0.0.0", socket.AF_INET)  # noqa: S104
            made.append(
                socket.create_server((where, port), family=family, backlog=BACKLOG, dualstack_ipv6=dual)
            )
        for address in addresses:
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            made.append(socket.create_server((address, port), family=family, backlog=BACKLOG))
    except OSError as error:
        for sock in made:
            sock.close()
        raise RktError(f"error listening on port {port}: {error.strerror or error}") from error
    return made


def inherited() -> tuple[list[socket.socket], list[socket.socket]]:
    """The unix and the other sockets that a service manager has passed."""
    from linux.systemd import listen

    try:
        passed = [socket.socket(fileno=each.fd) for each in listen.take()]
    except (ValueError, OSError) as error:
        raise RktError(f"sockets of the service manager: {error}") from error
    unix = [sock for sock in passed if sock.family == socket.AF_UNIX]
    return unix, [sock for sock in passed if sock not in unix]


def notify_ready() -> None:
    """Tell the service manager, if there is one, that requests are answered now."""
    from linux.systemd.notify import Notifier

    notifier = Notifier.take()
    if notifier is not None:
        notifier.send("READY=1")


def raise_file_limit() -> None:
    """Allow as many descriptors as connections, if the hard limit lets us."""
    import resource

    wanted = IN_ALL + 128
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
