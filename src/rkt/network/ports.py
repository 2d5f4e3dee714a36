"""Ports of the host that lead into a pod: the `ports` of a pod manifest, found in the apps."""

from __future__ import annotations

import errno

from linux.named_tuple import NamedTuple
from rkt.errors import RktError

TYPE_CHECKING = False  # not from typing: start-up time counts here
if TYPE_CHECKING:
    from appc.schema.pod import PodManifest
    from appc.types.ports import ExposedPort, Port

_PROTOCOLS = ("tcp", "udp", "sctp")
_HIGHEST = 65535
_ANY = ("", "0.0.0.0")  # noqa: S104  the address is compared with, not listened on


class Forward(NamedTuple):
    """One port: what comes to `host_port` at `host_ip` ("" for every address) goes to `pod_port`."""

    name: str
    protocol: str
    host_ip: str
    host_port: int
    pod_port: int

    def mapping(self) -> dict[str, object]:
        """An element of the CNI capability `portMappings`."""
        shown: dict[str, object] = {
            "hostPort": self.host_port,
            "containerPort": self.pod_port,
            "protocol": self.protocol,
        }
        if self.host_ip not in _ANY:
            shown["hostIP"] = self.host_ip
        return shown

    def conflicts(self, other: Forward) -> bool:
        """Whether both ask for the same port of the host."""
        same_address = self.host_ip == other.host_ip or self.host_ip in _ANY or other.host_ip in _ANY
        return (self.protocol, self.host_port) == (other.protocol, other.host_port) and same_address


def forwards(manifest: PodManifest) -> list[Forward]:
    """All ports that are to be forwarded; one of an app with a `count` gives as many.

    A port with `hostPort` 0 is not forwarded. Raises RktError for a name that no app, or more than one,
    defines, for a protocol that cannot be forwarded, and for two that want the same port of the host.
    """
    found: list[Forward] = []
    for exposed in manifest.ports:
        port = exposed.pod_port or _app_port(manifest, exposed.name)
        if not exposed.host_port:
            continue
        if exposed.host_port + port.count - 1 > _HIGHEST:
            raise RktError(f'port "{exposed.name}": the last of {port.count} ports is above {_HIGHEST}')
        for offset in range(port.count):
            found.append(_forward(exposed, port, offset, found))
    return found


def check_free(wanted: list[Forward]) -> None:
    """RktError if a process of the host listens on one of the ports: nobody would reach it any more.

    Which pod has a port is told by the plugin. To bind to one tells soon that all is well; only if that fails
    it is looked up whether somebody listens: it may be just the near end of a connection.
    """
    for each in wanted:
        if not _can_bind(each) and _is_listened_on(each):
            shown = "-lunp" if each.protocol == "udp" else "-ltnp"
            raise RktError(
                f"host port {each.host_port} is in use by a process of this host",
                hint=f"choose another one, or one address (NAME:IP:PORT); `ss {shown}` shows whose it is",
            )


def _can_bind(wanted: Forward) -> bool:
    import _socket

    if wanted.protocol == "sctp":
        return True
    every = wanted.host_ip in _ANY
    for family, address in ((_socket.AF_INET6, "::"), (_socket.AF_INET, wanted.host_ip or _ANY[1])):
        if family == _socket.AF_INET6 and not every:
            continue
        kind = _socket.SOCK_STREAM if wanted.protocol == "tcp" else _socket.SOCK_DGRAM
        try:
            probe = _socket.socket(family, kind | _socket.SOCK_CLOEXEC)
        except OSError:
            continue  # no IPv6
        try:
            if wanted.protocol == "tcp":
                probe.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 1)
            probe.bind((address, wanted.host_port))
        except OSError as failed:
            return failed.errno != errno.EADDRINUSE
        finally:
            probe.close()
        return True  # an IPv6 socket stands for both
    return True


def _is_listened_on(wanted: Forward) -> bool:
    state = "0A" if wanted.protocol == "tcp" else "07"  # LISTEN, and UDP's only one without a peer
    for table in (wanted.protocol, f"{wanted.protocol}6"):
        try:
            with open(f"/proc/net/{table}", encoding="ascii") as rows:
                for row in rows:
                    fields = row.split()
                    if fields[3] == state and int(fields[1].rpartition(":")[2], 16) == wanted.host_port:
                        return True
        except FileNotFoundError:
            continue
    return False


def _forward(exposed: ExposedPort, port: Port, offset: int, before: list[Forward]) -> Forward:
    protocol = port.protocol.lower()
    if protocol not in _PROTOCOLS:
        raise RktError(
            f'port "{exposed.name}": protocol "{port.protocol}" cannot be forwarded',
            hint="the image can declare tcp, udp or sctp",
        )
    wanted = Forward(
        str(exposed.name), protocol, exposed.host_ip or "", exposed.host_port + offset, port.port + offset
    )
    for other in before:
        if wanted.conflicts(other):
            address = wanted.host_ip or _ANY[1]
            raise RktError(
                f"port {protocol}-{address}:{wanted.host_port} already mapped to pod port {other.pod_port}"
            )
    return wanted


def _app_port(manifest: PodManifest, name: str) -> Port:
    found: Port | None = None
    for app in manifest.apps:
        for port in app.app.ports if app.app is not None else ():
            if port.name == name:
                if found is not None:
                    raise RktError(f'port name "{name}" defined by multiple apps')
                found = port
    if found is None:
        known = sorted({str(port.name) for app in manifest.apps if app.app for port in app.app.ports})
        raise RktError(
            f'port name "{name}" could not be found in any apps',
            hint="the apps define " + (", ".join(known) or "no ports"),
        )
    return found
