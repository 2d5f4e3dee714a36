"""Ports that an app serves, and those that a pod exposes on its host (spec/aci.md, spec/pods.md)."""

from __future__ import annotations

from appc import query
from appc.jsonfield import Fields, between, boolean, nonempty, quoted, string
from appc.types.names import ACName
from appc.types.record import Record

HIGHEST = 65535


class Port(Record):
    """A named port, or `count` of them from `port` on. `protocol` is free text; tcp and udp are usual."""

    name: ACName
    protocol: str
    port: int
    count: int = 1
    socket_activated: bool = False

    @classmethod
    def from_json(cls, value: object) -> Port:
        """Every port up to ``port + count - 1`` must exist."""
        fields = Fields(value)
        name = fields.required("name", ACName)
        protocol = fields.required("protocol", nonempty)
        port = fields.required("port", between(1, HIGHEST))
        count = fields.optional("count", between(1, HIGHEST), 1)
        activated = fields.optional("socketActivated", boolean, default=False)
        if fields.sound and port + count - 1 > HIGHEST:
            fields.problem("count", f"the last port, {port + count - 1}, is above {HIGHEST}")
        fields.finish()
        return cls(name=name, protocol=protocol, port=port, count=count, socket_activated=activated)

    @classmethod
    def from_string(cls, text: str) -> Port:
        """``NAME,protocol=tcp,port=8080[,count=N][,socketActivated=BOOL]``.

        A missing protocol is left empty, as the reference does: the manifest that takes it up refuses it.
        """
        values = query.unique_pairs("name=" + text)
        port, count, protocol, activated = 0, 1, "", False
        for key, value in values.items():
            if key == "protocol":
                protocol = value
            elif key == "port":
                port = query.number(value, highest=HIGHEST)
            elif key == "count":
                count = max(1, query.number(value, highest=HIGHEST))
            elif key == "socketActivated":
                activated = query.boolean(value)
            elif key != "name":
                raise ValueError(f"unknown port parameter {quoted(key)}")
        name = ACName(values["name"])
        if not 1 <= port <= HIGHEST:
            raise ValueError(f"port {name}: the port must be between 1 and {HIGHEST}")
        if port + count - 1 > HIGHEST:
            raise ValueError(f"port {name}: the last port, {port + count - 1}, is above {HIGHEST}")
        return cls(name=name, protocol=protocol, port=port, count=count, socket_activated=activated)

    def to_json(self) -> dict[str, object]:
        """The JSON form; all members are written, as by the reference."""
        return {
            "name": self.name,
            "protocol": self.protocol,
            "port": self.port,
            "count": self.count,
            "socketActivated": self.socket_activated,
        }


class ExposedPort(Record):
    """A port of the pod that is reachable on the host.

    `host_port` 0 means that none was chosen; `host_ip` None means every address of the host; `pod_port`
    replaces the look-up of `name` among the ports of the apps.
    """

    name: ACName
    host_port: int
    host_ip: str | None = None
    pod_port: Port | None = None

    @classmethod
    def from_json(cls, value: object) -> ExposedPort:
        """The address is IPv4 in dotted decimals without leading zeros (spec/pods.md)."""
        fields = Fields(value)
        name = fields.required("name", ACName)
        host_port = fields.required("hostPort", between(0, HIGHEST))
        host_ip = fields.optional("hostIP", ipv4_or_none, None)
        pod_port = fields.optional("podPort", Port.from_json, None)
        fields.finish()
        return cls(name=name, host_port=host_port, host_ip=host_ip, pod_port=pod_port)

    def to_json(self) -> dict[str, object]:
        """The JSON form."""
        value: dict[str, object] = {"name": self.name, "hostPort": self.host_port}
        if self.host_ip is not None:
            value["hostIP"] = self.host_ip
        if self.pod_port is not None:
            value["podPort"] = self.pod_port.to_json()
        return value


def ipv4_or_none(value: object) -> str | None:
    """An IPv4 address; the empty string stands for none."""
    text = string(value)
    if not text:
        return None
    parts = text.split(".")
    if len(parts) != 4 or not all(_octet(part) for part in parts):
        raise ValueError(f"{quoted(text)} is not an IPv4 address")
    return text


def _octet(part: str) -> bool:
    return (
        0 < len(part) <= 3
        and not part.strip("0123456789")
        and int(part) <= 255
        and (part == "0" or part[0] != "0")
    )
