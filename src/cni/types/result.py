"""The result of an ADD, in every version of the specification.

In memory there is one form, that of 1.1.0; `Result.from_json` and `Result.to_json` know the three
families 0.1/0.2, 0.3/0.4 and 1.x. Converting is reading in one version and writing in another.
"""

from __future__ import annotations

from cni.fields import Fields
from cni.types import version as versions
from cni.types.address import Cidr, format_ip, parse_ip

TYPE_CHECKING = False  # not from typing: a plugin lives too short to import it
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Final


class Value:
    """A value made of its slots: equal to, and hashed like, another with equal ones."""

    __slots__: tuple[str, ...] = ()

    def _slots(self) -> tuple[object, ...]:
        return tuple(getattr(self, name) for name in self.__slots__)

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self) or not isinstance(other, Value):
            return NotImplemented
        return self._slots() == other._slots()

    def __hash__(self) -> int:
        return hash(self._slots())

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.__slots__)
        return f"{type(self).__name__}({shown})"


class Interface(Value):
    """An interface that was made or used. `sandbox` is the netns path, "" for one of the host's."""

    __slots__ = ("mac", "mtu", "name", "pci_id", "sandbox", "socket_path")

    def __init__(
        self,
        name: str,
        *,
        mac: str = "",
        mtu: int = 0,
        sandbox: str = "",
        socket_path: str = "",
        pci_id: str = "",
    ) -> None:
        self.name: Final = name
        self.mac: Final = mac
        self.mtu: Final = mtu
        self.sandbox: Final = sandbox
        self.socket_path: Final = socket_path
        self.pci_id: Final = pci_id

    @classmethod
    def from_json(cls, fields: Fields) -> Interface:
        return cls(
            fields.string("name"),
            mac=fields.string("mac"),
            mtu=fields.integer("mtu"),
            sandbox=fields.string("sandbox"),
            socket_path=fields.string("socketPath"),
            pci_id=fields.string("pciID"),
        )

    def to_json(self, *, extended: bool) -> dict[str, object]:
        """`extended`: with what 1.x has more than 0.3."""
        shown: dict[str, object] = {"name": self.name}
        if self.mac:
            shown["mac"] = self.mac
        if self.mtu and extended:
            shown["mtu"] = self.mtu
        if self.sandbox:
            shown["sandbox"] = self.sandbox
        if self.socket_path and extended:
            shown["socketPath"] = self.socket_path
        if self.pci_id and extended:
            shown["pciID"] = self.pci_id
        return shown


class IPConfig(Value):
    """An address. `interface` is an index into the result's interfaces, None when unknown.

    `label` is what a 0.3 or 0.4 result called the family ("4", "6", perhaps wrongly), "" to go by the
    address; converting to 0.1 and 0.2 goes by it.
    """

    __slots__ = ("address", "gateway", "interface", "label")

    def __init__(
        self,
        address: Cidr,
        *,
        gateway: bytes | None = None,
        interface: int | None = None,
        label: str | None = None,
    ) -> None:
        self.address: Final = address
        self.gateway: Final = gateway
        self.interface: Final = interface
        self.label: Final = ("6" if address.v6 else "4") if label is None else label

    @classmethod
    def from_json(cls, fields: Fields, *, labelled: bool) -> IPConfig:
        return cls(
            Cidr.parse(fields.string("address")),
            gateway=_gateway(fields, "gateway"),
            interface=fields.optional_integer("interface"),
            label=fields.string("version") if labelled else None,
        )

    def to_json(self, *, labelled: bool) -> dict[str, object]:
        shown: dict[str, object] = {"version": self.label} if labelled else {}
        if self.interface is not None:
            shown["interface"] = self.interface
        shown["address"] = str(self.address)
        if self.gateway:
            shown["gateway"] = format_ip(self.gateway)
        return shown


class Route(Value):
    """A route. `gw` None: through the gateway of the address, else on the link.

    `dst` is as it was written, perhaps with bits after the prefix: the kernel wants `dst.network`.
    """

    __slots__ = ("advmss", "dst", "gw", "mtu", "priority", "scope", "table")

    def __init__(
        self,
        dst: Cidr,
        *,
        gw: bytes | None = None,
        mtu: int = 0,
        advmss: int = 0,
        priority: int = 0,
        table: int | None = None,
        scope: int | None = None,
    ) -> None:
        self.dst: Final = dst
        self.gw: Final = gw
        self.mtu: Final = mtu
        self.advmss: Final = advmss
        self.priority: Final = priority
        self.table: Final = table
        self.scope: Final = scope

    @classmethod
    def from_json(cls, fields: Fields) -> Route:
        return cls(
            Cidr.parse(fields.string("dst")),
            gw=_gateway(fields, "gw"),
            mtu=fields.integer("mtu"),
            advmss=fields.integer("advmss"),
            priority=fields.integer("priority"),
            table=fields.optional_integer("table"),
            scope=fields.optional_integer("scope"),
        )

    def to_json(self, *, extended: bool = True) -> dict[str, object]:
        """`extended`: with what 0.2 does not have, and converting to it drops."""
        shown: dict[str, object] = {"dst": str(self.dst)}
        if self.gw:
            shown["gw"] = format_ip(self.gw)
        if extended:
            for name in ("mtu", "advmss", "priority"):
                if getattr(self, name):
                    shown[name] = getattr(self, name)
            for name in ("table", "scope"):
                if getattr(self, name) is not None:
                    shown[name] = getattr(self, name)
        return shown


class DNS(Value):
    """What belongs into the container's resolv.conf. False when nothing does."""

    __slots__ = ("domain", "nameservers", "options", "search")

    def __init__(
        self,
        *,
        nameservers: Sequence[str] = (),
        domain: str = "",
        search: Sequence[str] = (),
        options: Sequence[str] = (),
    ) -> None:
        self.nameservers: Final = tuple(nameservers)
        self.domain: Final = domain
        self.search: Final = tuple(search)
        self.options: Final = tuple(options)

    def __bool__(self) -> bool:
        return bool(self.nameservers or self.domain or self.search or self.options)

    @classmethod
    def from_json(cls, fields: Fields) -> DNS:
        return cls(
            nameservers=fields.strings("nameservers"),
            domain=fields.string("domain"),
            search=fields.strings("search"),
            options=fields.strings("options"),
        )

    def to_json(self) -> dict[str, object]:
        shown: dict[str, object] = {}
        if self.nameservers:
            shown["nameservers"] = list(self.nameservers)
        if self.domain:
            shown["domain"] = self.domain
        if self.search:
            shown["search"] = list(self.search)
        if self.options:
            shown["options"] = list(self.options)
        return shown


class Result(Value):
    """What an ADD made. An IPAM plugin's has no interfaces, and its addresses no interface index.

    `version` is the one it was read in, "" for a result that was made here.
    """

    __slots__ = ("dns", "interfaces", "ips", "routes", "version")

    def __init__(
        self,
        *,
        interfaces: Sequence[Interface] = (),
        ips: Sequence[IPConfig] = (),
        routes: Sequence[Route] = (),
        dns: DNS | None = None,
        version: str = "",
    ) -> None:
        self.interfaces: Final = tuple(interfaces)
        self.ips: Final = tuple(ips)
        self.routes: Final = tuple(routes)
        self.dns: Final = dns or DNS()
        self.version: Final = version

    def _slots(self) -> tuple[object, ...]:
        return (self.interfaces, self.ips, self.routes, self.dns)

    @classmethod
    def from_json(cls, value: object, default_version: str = versions.IMPLICIT) -> Result:
        """Read a result of any known version; without a cniVersion it is of `default_version`.

        Raises ValueError for an unknown version and for what is not as that version says.
        """
        fields = Fields(value)
        version = result_version(fields, default_version)
        family = versions.family(version)
        if versions.IMPLICIT in family:
            return _from_legacy(fields, version)
        labelled = "0.4.0" in family
        return cls(
            interfaces=[Interface.from_json(each) for each in fields.mappings("interfaces")],
            ips=[IPConfig.from_json(each, labelled=labelled) for each in fields.mappings("ips")],
            routes=[Route.from_json(each) for each in fields.mappings("routes")],
            dns=DNS.from_json(fields.mapping("dns")),
            version=version,
        )

    def to_json(self, version: str) -> dict[str, object]:
        """The result in `version` ("" is 0.1.0); ValueError when it is unknown or cannot hold it.

        Keys stand in the order other implementations print them in; an empty `dns` is printed
        before 1.0.0 only.
        """
        version = version or versions.IMPLICIT
        family = versions.family(version)
        if versions.IMPLICIT in family:
            return self._to_legacy(version)
        labelled = "0.4.0" in family
        shown: dict[str, object] = {"cniVersion": version}
        if self.interfaces:
            shown["interfaces"] = [each.to_json(extended=not labelled) for each in self.interfaces]
        if self.ips:
            shown["ips"] = [each.to_json(labelled=labelled) for each in self.ips]
        if self.routes:
            shown["routes"] = [each.to_json() for each in self.routes]
        if labelled or self.dns:
            shown["dns"] = self.dns.to_json()
        return shown

    def _to_legacy(self, version: str) -> dict[str, object]:
        """0.1 and 0.2: one address of each family, each with the routes of its family."""
        shown: dict[str, object] = {"cniVersion": version}
        converted = self.version not in versions.family(version)
        for key, label in (("ip4", "4"), ("ip6", "6")):
            found = next((each for each in self.ips if each.label == label), None)
            if found is None:
                continue
            entry: dict[str, object] = {"ip": str(found.address)}
            if found.gateway:
                entry["gateway"] = format_ip(found.gateway)
            routes = [
                each.to_json(extended=not converted) for each in self.routes if each.dst.v6 == (label == "6")
            ]
            if routes:
                entry["routes"] = routes
            shown[key] = entry
        if len(shown) == 1 and converted:
            raise ValueError(f"cannot convert to version {version}: no valid IP addresses")
        shown["dns"] = self.dns.to_json()
        return shown


def result_version(fields: Fields, default: str) -> str:
    """The cniVersion of a result, `default` when it has none."""
    return fields.string("cniVersion") or default or versions.IMPLICIT


def _from_legacy(fields: Fields, version: str) -> Result:
    ips: list[IPConfig] = []
    routes: list[Route] = []
    for key, label in (("ip4", "4"), ("ip6", "6")):
        if fields.get(key) is None:
            continue
        entry = fields.mapping(key)
        ips.append(IPConfig(Cidr.parse(entry.string("ip")), gateway=_gateway(entry, "gateway"), label=label))
        routes += [Route.from_json(each) for each in entry.mappings("routes")]
    return Result(ips=ips, routes=routes, dns=DNS.from_json(fields.mapping("dns")), version=version)


def _gateway(fields: Fields, key: str) -> bytes | None:
    text = fields.string(key)
    return parse_ip(text) if text else None
