"""How the plugin and the daemon speak: one JSON object on a line, one back, over a Unix socket.

Each side tells any other protocol from it, among them net/rpc of the reference's plugin and daemon, and says
so. The daemon is told the names of lease files (`cni.ipam.dhcp.leases`); all it knows is in them.
"""

from __future__ import annotations

from cni import jsontext
from cni.fields import Fields
from cni.ipam.dhcp.client import Settings
from linux.bare import socket

SOCKET = "/run/cni/dhcp.sock"
VERSION = 1
LONGEST = 4096  # bytes of a line

HELLO = "hello"  # answers with the settings
KEEP = "keep"  # the lease is bound: renew it
FORGET = "forget"  # the lease is about to be given back
_METHODS = (HELLO, KEEP, FORGET)
_TIMEOUT = 5.0
# What Go's HTTP client shows of an answer is its first line, and it takes that for a failure.
_OTHER = b"HTTP/1.0 501 this is the dhcp daemon of rkt-platform: use the dhcp plugin beside it\r\n\r\n"


class DaemonAway(Exception):
    """Nobody answers at the socket; the text says why."""


class OtherDaemon(Exception):
    """Somebody answers who speaks another protocol."""


def call(path: str, method: str, lease: str = "") -> Fields:
    """Ask the daemon at `path`; DaemonAway and OtherDaemon.

    Asked once more when it hangs up: it was killed, and its service manager starts another one.
    """
    line = jsontext.dumps({"version": VERSION, "method": method, "lease": lease}).encode() + b"\n"
    data = _exchange(path, line) or _exchange(path, line)
    if not data:
        raise DaemonAway(f"{path}: it hung up")
    try:
        answer = Fields(jsontext.loads(data, limit=LONGEST), "the answer")
        if answer.integer("version") != VERSION:
            raise ValueError("another version")
        problem = answer.string("error")
    except ValueError:
        raise OtherDaemon(f"{path}: whoever listens there is not the dhcp daemon of rkt-platform") from None
    if problem:
        raise OtherDaemon(f"{path}: {problem}")
    return answer


def _exchange(path: str, line: bytes) -> bytes:
    """What is answered to a line; b"" when whoever listens there hangs up."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    data = b""
    try:
        connection.settimeout(_TIMEOUT)
        connection.connect(path)
        connection.sendall(line)
        while not data.endswith(b"\n") and len(data) <= LONGEST and (piece := connection.recv(LONGEST)):
            data += piece
    except (ConnectionResetError, BrokenPipeError):
        return b""
    except (OSError, ValueError) as failed:
        raise DaemonAway(f"{path}: {getattr(failed, 'strerror', None) or failed}") from None
    finally:
        connection.close()
    return data


def hello(path: str) -> Settings:
    """The settings of the daemon at `path`; DaemonAway and OtherDaemon."""
    answer = call(path, HELLO)
    try:
        return Settings(
            timeout=answer.integer("timeout", low=1) / 1000,
            resend_max=answer.integer("resendMax", low=1) / 1000,
            resend_timeout=answer.integer("resendTimeout", low=1) / 1000,
            broadcast=answer.boolean("broadcast"),
        )
    except ValueError as bad:
        raise OtherDaemon(f"{path}: {bad}") from None


def answer_hello(settings: Settings) -> bytes:
    return _answer(
        timeout=int(settings.timeout * 1000),
        resendMax=int(settings.resend_max * 1000),
        resendTimeout=int(settings.resend_timeout * 1000),
        broadcast=settings.broadcast,
    )


def answer_done() -> bytes:
    return _answer()


def answer_error(text: str) -> bytes:
    return _answer(error=text)


def answer_other() -> bytes:
    """For whoever speaks something else: an error in HTTP, which the reference's plugin shows its user."""
    return _OTHER


def read_call(line: bytes) -> tuple[str, str]:
    """(method, lease) of a question; ValueError for what is none."""
    fields = Fields(jsontext.loads(line, limit=LONGEST), "the question")
    if fields.integer("version") != VERSION:
        raise ValueError(f"version {fields.integer('version')} is not spoken here")
    method = fields.string("method")
    if method not in _METHODS:
        raise ValueError(f"no method {method!r}")
    return method, fields.string("lease")


def _answer(**values: object) -> bytes:
    return jsontext.dumps({"version": VERSION, **values}).encode() + b"\n"
