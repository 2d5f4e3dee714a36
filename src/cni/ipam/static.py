"""static: the addresses that the configuration, or whoever starts the container, says. Nothing is allocated.

So there is nothing to give back, to collect or to run out of; two attachments that are told one address both
get it.
"""

from __future__ import annotations

from cni.errors import CniError
from cni.types import version as versions
from cni.types.address import Cidr, format_ip, parse_ip
from cni.types.result import DNS, IPConfig, Result, Route

TYPE_CHECKING = False  # not from typing: a plugin lives too short to import it
if TYPE_CHECKING:
    from cni.request import Request

NAME = "static"
GATEWAY_CHANGED = 100  # CHECK: an address has another gateway than the configuration says


def add(request: Request) -> Result:
    """The addresses, each with the gateway it was given; the routes and the DNS of the configuration."""
    addresses = _addresses(request)
    return Result(
        ips=[IPConfig(address, gateway=gateway) for address, gateway in addresses],
        routes=[Route.from_json(each) for each in request.ipam.mappings("routes")],
        dns=DNS.from_json(request.ipam.mapping("dns")),
    )


def check(request: Request) -> None:
    """An address of the attachment that is configured has the gateway that is configured.

    One that is missing is no error: a plugin behind the interface's may have moved it.
    """
    previous = request.prev_result
    if previous is None:
        raise request.refuse("CHECK needs prevResult")
    configured = dict(_addresses(request))
    for each in previous.ips:
        if each.address not in configured:
            continue
        wanted = configured[each.address]
        if wanted is not None and each.gateway != wanted:
            has = format_ip(each.gateway) if each.gateway else "none"
            raise CniError(
                GATEWAY_CHANGED,
                f"{each.address} has another gateway",
                f"{has} instead of {format_ip(wanted)}",
            )


def delete(request: Request) -> None:
    """Nothing was allocated."""


def status(request: Request) -> None:
    """Nothing can run out; CniError 7 for a configuration that no ADD could use."""
    _configured(request)


def collect(request: Request) -> None:
    """Nothing was allocated."""


def _addresses(request: Request) -> list[tuple[Cidr, bytes | None]]:
    """(address, gateway) of an attachment: what the runtime asks for, else the arguments, else configured."""
    found = _configured(request)
    arguments = request.cni_args(("IP", "GATEWAY", "MAC"))  # the last is for the plugin before
    found += [(Cidr.parse(text.strip()), None) for text in _listed(arguments.get("IP", ""))]
    for gateway in [parse_ip(text.strip()) for text in _listed(arguments.get("GATEWAY", ""))]:
        found = [(each, gateway if each.contains(gateway) else old) for each, old in found]
    for wanted in (
        request.fields.mapping("args").mapping("cni").strings("ips"),
        request.runtime_config.strings("ips"),
    ):
        if wanted:
            found = [(Cidr.parse(text), None) for text in wanted]
    if "0.2.0" in versions.family(request.version):
        for v6 in (False, True):
            if sum(each.v6 == v6 for each, _ in found) > 1:
                raise request.refuse(
                    f"CNI version {request.version} does not support more than 1 address per family"
                )
    return found


def _configured(request: Request) -> list[tuple[Cidr, bytes | None]]:
    if request.fields.get("ipam") is None:
        raise request.refuse("IPAM config missing 'ipam' key")
    found: list[tuple[Cidr, bytes | None]] = []
    for each in request.ipam.mappings("addresses"):
        address, gateway = Cidr.parse(each.string("address")), each.string("gateway")
        found.append((address, parse_ip(gateway) if gateway else None))
    return found


def _listed(text: str) -> list[str]:
    return text.split(",") if text else []
