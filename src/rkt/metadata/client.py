"""Registering pods with the metadata service, from the command that runs or collects them.

On the way of `rkt run`: nothing is imported that a pod without --mds-register would pay for.
"""

from __future__ import annotations

import os
import time

from rkt.errors import RktError
from rkt.metadata import PORT, SOCKET

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

_ATTEMPTS = 3
_PAUSE = 1.0  # seconds between attempts
_TIMEOUT = 10.0


def new_token() -> str:
    """256 bits that nobody can guess: the pod's right to ask, and a part of the address it asks at."""
    return os.urandom(32).hex()


def register(
    uuid: str,
    token: str,
    pod_manifest: bytes,
    images: Mapping[str, bytes],
    *,
    net_info: str = "",
    local: bool = False,
    path: str = SOCKET,
) -> int:
    """Register a pod with the image manifests of its apps; the port at which the service hears pods.

    `net_info` is the path of the pod's net-info.json, which may be written later: requests must come from
    the addresses in it. `local` is for a pod in the host's network. Tried three times, a second apart.
    """
    from urllib.parse import quote

    query = f"token={token}" + (f"&netinfo={quote(net_info, safe='')}" if net_info else "")
    query += "&local=1" if local else ""
    answer = _request("PUT", f"/pods/{uuid}?{query}", pod_manifest, path)
    for app, manifest in images.items():
        _request("PUT", f"/pods/{uuid}/{app}", manifest, path)
    return _port(answer)


def unregister(uuid: str, *, path: str = SOCKET) -> None:
    """Forget a pod. A service that is not running, or does not know the pod, is no error."""
    try:
        _exchange("DELETE", f"/pods/{uuid}", b"", path)
    except (OSError, RktError):
        return


def url(token: str, port: int, host: str) -> str:
    """AC_METADATA_URL for a pod that reaches the service at the address `host` of the host."""
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/{token}"


def _port(answer: bytes) -> int:
    from appc import jsonfield

    try:
        fields = jsonfield.Fields(jsonfield.parse(answer))
        port = fields.required("port", jsonfield.between(1, 65535))
        fields.finish()
    except ValueError:
        return PORT
    return port


def _request(method: str, target: str, body: bytes, path: str) -> bytes:
    attempt = 1
    while True:
        try:
            return _exchange(method, target, body, path)
        except OSError as error:
            if attempt == _ATTEMPTS:
                raise RktError(
                    f"failed to register pod: {path}: {error.strerror or error}",
                    hint="is `rkt metadata-service` running?",
                ) from error
        time.sleep(_PAUSE)
        attempt += 1


def _exchange(method: str, target: str, body: bytes, path: str) -> bytes:
    """One request over the unix socket; the body of a good answer, RktError with the text of another."""
    import socket

    head = f"{method} {target} HTTP/1.1\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as sock:
        sock.settimeout(_TIMEOUT)
        sock.connect(path)
        sock.sendall(head.encode() + body)
        answer = b""
        while data := sock.recv(1 << 16):
            answer += data
            if len(answer) > 1 << 20:
                raise RktError(f"{path}: the metadata service sends without end")
    first, _, rest = answer.partition(b"\r\n")
    words = first.split(b" ", 2)
    text = rest.partition(b"\r\n\r\n")[2]
    if len(words) < 2 or not words[1].isdigit():
        raise RktError(f"{path}: what answers there is no metadata service")
    if words[1] != b"200":
        reason = text.decode("utf-8", "replace").strip()
        raise RktError(f"failed to register pod: the metadata service refuses: {reason}")
    return text
