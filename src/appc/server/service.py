"""The sockets of acserver, and a process for each connection.

Processes, not threads: reading an image in a cage and running gpgv fork, and what a hostile client makes of
one connection ends with it. Their number is bounded, in all and for one address; each lives under the
deadlines of `wire`. No process knows anything that is not on the disk, so any may be killed at any time.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys

from appc.errors import AppcError
from appc.server import wire
from appc.server.answers import Answers, said
from appc.server.uploads import Uploads
from linux.process import set_parent_death_signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Sequence

    from appc.server.answers import Answer
    from appc.server.config import Config
    from appc.site.tree import Site

IN_ALL = 128
PER_ADDRESS = 32
_BACKLOG = 512
_TURNED_AWAY = (
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
)


class Service:
    """One running server. `log` gets a line for each request; tokens of uploads are cut short in it."""

    def __init__(self, config: Config, site: Site, log: Callable[[str], None]) -> None:
        self._config = config
        self._site = site
        self._log = log
        self._uploads = Uploads(site.root)
        self._tls = tls_context(config.certificate, config.key) if config.certificate else None
        self._children: dict[int, str] = {}
        self._stopped = False

    def serve(self, sockets: Sequence[socket.socket], ready: Callable[[], None]) -> None:
        """Serve until SIGTERM or SIGINT. The sockets listen already; `ready` is called when all is set up."""
        self._uploads.prepare()
        reading, writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
        for sock in sockets:
            sock.settimeout(0)
        listeners = {reading: None, **{sock.fileno(): sock for sock in sockets}}
        ready()
        try:
            while not self._stopped:
                readable, _, _ = select.select(list(listeners), [], [])
                self._reap()
                if reading in readable:
                    os.read(reading, 4096)
                for fd in readable:
                    if (listener := listeners[fd]) is not None:
                        self._accept(listener, (writing, *listeners))
        finally:
            signal.set_wakeup_fd(-1)
            os.close(reading)
            os.close(writing)
            for pid in self._children:
                os.kill(pid, signal.SIGTERM)
            for pid in list(self._children):
                os.waitpid(pid, 0)

    def _stop(self, _number: int, _frame: object) -> None:
        self._stopped = True

    def _reap(self) -> None:
        for pid in list(self._children):
            if os.waitpid(pid, os.WNOHANG)[0]:
                del self._children[pid]

    def _accept(self, listener: socket.socket, close: Sequence[int]) -> None:
        try:
            client, address = listener.accept()
        except OSError:
            return  # it has gone again, or we are out of descriptors for a moment
        with client:
            peer = str(address[0]) if isinstance(address, tuple) else "local"
            peer = peer.removeprefix("::ffff:")
            mine = sum(each == peer for each in self._children.values())
            if len(self._children) >= IN_ALL or mine >= self._share(peer):
                _turn_away(client)
                return
            server = os.getpid()
            try:
                pid = os.fork()
            except OSError as error:
                self._log(f"{peer} cannot be served: {error.strerror}")
                return
            if pid == 0:
                self._be_child(client, peer, server, close)
            self._children[pid] = peer

    def _share(self, peer: str) -> int:
        """Connections that one address may have; a proxy that speaks TLS for us has everybody's."""
        is_proxy = self._config.https and self._tls is None and (peer == "::1" or peer.startswith("127."))
        return IN_ALL if is_proxy else PER_ADDRESS

    def _be_child(self, client: socket.socket, peer: str, server: int, close: Sequence[int]) -> None:
        """The whole life of a child: it never returns."""
        code = 1
        try:
            set_parent_death_signal(server)
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
                signal.signal(number, signal.SIG_DFL)
            for fd in close:
                os.close(fd)
            self._converse(client, peer)
            code = 0
        except Exception as error:  # noqa: BLE001  the process's edge
            self._log(f"{peer} internal error: {type(error).__name__}: {error}")
        finally:
            try:
                sys.stderr.flush()
            finally:
                os._exit(code)

    def _converse(self, client: socket.socket, peer: str) -> None:
        client.settimeout(wire.HEADERS)
        if client.family in {socket.AF_INET, socket.AF_INET6}:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._tls is not None:
            try:
                client = self._tls.wrap_socket(client, server_side=True)
            except OSError:  # ssl.SSLError is one: no TLS, or no client
                return
        connection = wire.Connection(client)
        answers = Answers(self._config, self._site, self._uploads, lambda text: self._log(f"{peer} {text}"))
        try:
            for request in connection.requests():
                self._answer(connection, request, answers, peer)
        except wire.BadRequest as error:
            self._log(f"{peer} bad request - {error.status}")
            connection.last()
            _reply(connection, said(error.status, str(error)), head_only=False)
        except wire.Gone:
            pass
        connection.close()

    def _answer(
        self, connection: wire.Connection, request: wire.Request, answers: Answers, peer: str
    ) -> None:
        try:
            answer = answers.answer(request)
        except wire.BadRequest as error:
            answer = said(error.status, str(error))
        except wire.Gone:
            self._log(f"{peer} {request.method} {_shown(request.path)} - gone")
            raise
        except Exception as error:  # noqa: BLE001  one request's failure is no other's
            self._log(f"{peer} internal error: {type(error).__name__}: {error}")
            answer = said(500, "internal error")
        if not request.body.done:
            connection.last()
        self._log(f"{peer} {request.method} {_shown(request.path)} - {answer.status}")
        try:
            _reply(connection, answer, head_only=request.method == "HEAD")
        finally:
            if answer.file is not None:
                answer.file.close()


def _reply(connection: wire.Connection, answer: Answer, *, head_only: bool) -> None:
    try:
        connection.reply(
            answer.status,
            answer.headers,
            answer.content,
            file=answer.file,
            part=answer.part,
            head_only=head_only,
        )
    except wire.Gone:
        return


def _shown(path: str) -> str:
    """A path for the log: a token gives the right to write to an upload."""
    import re

    return re.sub(r"([0-9a-f]{8})[0-9a-f]{56}", r"\1…", path[:512])


def _turn_away(client: socket.socket) -> None:
    """Say that there are too many connections, if that can be said without waiting."""
    try:
        client.settimeout(0)
        client.send(_TURNED_AWAY)
    except OSError:
        return


def tls_context(certificate: str, key: str) -> ssl.SSLContext:
    """TLS 1.2 and later with this certificate chain. AppcError when the files do not hold one."""
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(certificate, key or None)
    except ssl.SSLError as error:
        raise AppcError(
            f"{certificate}: cannot be used: {error.reason or error}",
            hint="the certificate and its key have to be PEM and belong together",
        ) from None
    except OSError as error:
        raise AppcError(f"{error.filename or certificate}: {error.strerror}") from None
    return context


def listen(address: str, port: int) -> list[socket.socket]:
    """A listening socket at `address`, or without one at all addresses of the host."""
    try:
        if address:
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            return [socket.create_server((address, port), family=family, backlog=_BACKLOG)]
        if socket.has_dualstack_ipv6():
            made = socket.create_server(
                ("::", port), family=socket.AF_INET6, backlog=_BACKLOG, dualstack_ipv6=True
            )
        else:
            made = socket.create_server(("0.0.0.0", port), backlog=_BACKLOG)  # noqa: S104  as asked for
    except OSError as error:
        raise AppcError(f"cannot listen on port {port}: {error.strerror}") from None
    return [made]


def inherited() -> list[socket.socket]:
    """The sockets that a service manager has passed."""
    from linux.systemd import listen as passed

    try:
        return [socket.socket(fileno=each.fd) for each in passed.take()]
    except (ValueError, OSError) as error:
        raise AppcError(f"sockets of the service manager: {error}") from None


def notify_ready() -> None:
    """Tell the service manager, if there is one, that requests are answered now."""
    from linux.systemd.notify import Notifier

    notifier = Notifier.take()
    if notifier is not None:
        notifier.send("READY=1")
