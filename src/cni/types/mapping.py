"""A mapped port: from a port of the host to one of a container."""

from __future__ import annotations

TYPE_CHECKING = False  # not from typing: a plugin lives too short to import it
if TYPE_CHECKING:
    from collections.abc import Sequence

    from cni.fields import Fields
    from cni.types.address import Cidr

# Whose source address is changed: that of neighbours and of this host's 127.0.0.1, everybody's, nobody's.
SNAT, SNAT_ALL, NO_SNAT = "snat", "all", "none"


class Mapping:
    """One mapping: `protocol` and `host_port`, at `host_ip` or ("") at every address, to `container_port`."""

    __slots__ = ("container_port", "host_ip", "host_port", "protocol")

    def __init__(self, protocol: str, host_ip: str, host_port: int, container_port: int) -> None:
        self.protocol = protocol
        self.host_ip = host_ip
        self.host_port = host_port
        self.container_port = container_port

    @classmethod
    def from_json(cls, fields: Fields) -> Mapping:
        """As a record has it."""
        return cls(
            fields.string("protocol"),
            fields.string("hostIP"),
            fields.integer("hostPort"),
            fields.integer("containerPort"),
        )

    def to_json(self) -> dict[str, object]:
        return {
            "protocol": self.protocol,
            "hostIP": self.host_ip,
            "hostPort": self.host_port,
            "containerPort": self.container_port,
        }

    def concerns(self, *, v6: bool) -> bool:
        """Whether it is for that family: every one is, unless its host address is of the other."""
        return not self.host_ip or (":" in self.host_ip) == v6

    @property
    def is_specific(self) -> bool:
        return self.host_ip not in ("", "0.0.0.0", "::")  # noqa: S104  compared with, not listened on


class Plan:
    """How an attachment's ports are to be mapped.

    `conditions` are raw words of the backend that a packet has to meet, by family (True IPv6). `mark` is the
    bit that says "change its source" between chains of iptables, `mark_chain` a chain of somebody else's
    that sets one; the other backend needs neither.
    """

    __slots__ = ("conditions", "mappings", "mark", "mark_chain", "snat")

    def __init__(
        self,
        mappings: Sequence[Mapping],
        snat: str = SNAT,
        conditions: dict[bool, tuple[str, ...]] | None = None,
        mark: int = 13,
        mark_chain: str = "",
    ) -> None:
        self.mappings = list(mappings)
        self.snat = snat
        self.conditions = conditions or {}
        self.mark = mark
        self.mark_chain = mark_chain

    def concerned(self, targets: Sequence[Cidr]) -> list[Cidr]:
        """Those of `targets` to which a port is mapped: not one of a family that no mapping is for."""
        return [each for each in targets if any(mapping.concerns(v6=each.v6) for mapping in self.mappings)]

    @classmethod
    def from_json(cls, fields: Fields) -> Plan:
        """As a record has it."""
        found = {False: fields.strings("conditionsV4"), True: fields.strings("conditionsV6")}
        return cls(
            [Mapping.from_json(each) for each in fields.mappings("mappings")],
            fields.string("snat", SNAT),
            {v6: words for v6, words in found.items() if words},
            fields.integer("mark", 13),
            fields.string("markChain"),
        )

    def to_json(self) -> dict[str, object]:
        return {
            "mappings": [each.to_json() for each in self.mappings],
            "snat": self.snat,
            "conditionsV4": list(self.conditions.get(False, ())),
            "conditionsV6": list(self.conditions.get(True, ())),
            "mark": self.mark,
            "markChain": self.mark_chain,
        }


class Busy(Exception):
    """A port belongs to another attachment: `where` names it, `owner` is what is known of whose it is."""

    def __init__(self, where: str, owner: str) -> None:
        super().__init__(f"{where} belongs to {owner or 'somebody else'}")
        self.where = where
        self.owner = owner
