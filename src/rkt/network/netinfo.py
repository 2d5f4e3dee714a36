"""net-info.json in the pod directory: the networks a pod has joined, for `list`, `status` and others."""

from __future__ import annotations

from cni import jsontext
from cni.fields import Fields
from cni.types.address import Cidr, format_ip, parse_ip
from cni.types.result import DNS, Result, Value

TYPE_CHECKING = False  # not from typing: start-up time counts here
if TYPE_CHECKING:
    from typing import Final

FILE = "net-info.json"


class NetInfo(Value):
    """One network of a pod. `ip4` and `ip6` are its first addresses there, None without one.

    `conf_path` is the copy of the configuration in the pod directory. `gateway` is of `ip4`.
    """

    __slots__ = ("args", "conf_path", "dns", "gateway", "if_name", "ip4", "ip6", "name")

    def __init__(
        self,
        name: str,
        if_name: str,
        *,
        conf_path: str = "",
        args: str = "",
        ip4: Cidr | None = None,
        ip6: Cidr | None = None,
        gateway: bytes | None = None,
        dns: DNS | None = None,
    ) -> None:
        self.name: Final = name
        self.if_name: Final = if_name
        self.conf_path: Final = conf_path
        self.args: Final = args
        self.ip4: Final = ip4
        self.ip6: Final = ip6
        self.gateway: Final = gateway
        self.dns: Final = dns or DNS()

    @classmethod
    def from_result(cls, name: str, if_name: str, conf_path: str, args: str, result: Result) -> NetInfo:
        """What a plugin's result says of the interface; addresses of the host's side are not ours."""
        ours = [
            each
            for each in result.ips
            if each.interface is None
            or (each.interface < len(result.interfaces) and result.interfaces[each.interface].sandbox)
        ]
        first4 = next((each for each in ours if not each.address.v6), None)
        first6 = next((each for each in ours if each.address.v6), None)
        return cls(
            name,
            if_name,
            conf_path=conf_path,
            args=args,
            ip4=first4.address if first4 else None,
            ip6=first6.address if first6 else None,
            gateway=first4.gateway if first4 else None,
            dns=result.dns,
        )

    @classmethod
    def from_json(cls, fields: Fields) -> NetInfo:
        ip, mask, ip6 = fields.string("ip"), fields.string("mask"), fields.string("ip6")
        length = int.from_bytes(parse_ip(mask), "big").bit_count() if mask else 32
        gateway = fields.string("hostIP")
        return cls(
            fields.string("netName"),
            fields.string("ifName"),
            conf_path=fields.string("netConf"),
            args=fields.string("args"),
            ip4=Cidr(parse_ip(ip), length) if ip else None,
            ip6=Cidr(parse_ip(ip6), fields.integer("ip6Length", 128)) if ip6 else None,
            gateway=parse_ip(gateway) if gateway else None,
            dns=DNS.from_json(fields.mapping("dns")),
        )

    def to_json(self) -> dict[str, object]:
        """rkt's keys, with `ip6`, `ip6Length`, `hostIP` and `dns` added where there is something to say."""
        shown: dict[str, object] = {
            "netName": self.name,
            "netConf": self.conf_path,
            "ifName": self.if_name,
            "ip": self.ip4.address if self.ip4 else "",
            "args": self.args,
            "mask": _mask(self.ip4.length) if self.ip4 else "",
        }
        if self.ip6:
            shown["ip6"] = self.ip6.address
            shown["ip6Length"] = self.ip6.length
        if self.gateway:
            shown["hostIP"] = format_ip(self.gateway)
        if self.dns:
            shown["dns"] = self.dns.to_json()
        return shown


def encode(networks: list[NetInfo]) -> bytes:
    """The contents of the file."""
    return jsontext.dumps([each.to_json() for each in networks]).encode()


def decode(data: bytes) -> list[NetInfo]:
    """Read what `encode` wrote; ValueError when it is damaged."""
    return [
        NetInfo.from_json(each) for each in Fields({"networks": jsontext.loads(data)}).mappings("networks")
    ]


def _mask(length: int) -> str:
    return format_ip(((1 << 32) - (1 << 32 - length)).to_bytes(4, "big"))
