"""What the configurations of address plugins have in common: range sets, addresses asked for, resolv.conf."""

from __future__ import annotations

from cni.ipam import ranges
from cni.types import version as versions
from cni.types.address import Cidr, parse_ip
from cni.types.result import DNS

TYPE_CHECKING = False  # not from typing: a plugin lives too short to import it
if TYPE_CHECKING:
    from collections.abc import Sequence

    from cni.ipam.ranges import RangeSet
    from cni.request import Request


def range_sets(request: Request) -> tuple[RangeSet, ...]:
    """The sets of the configuration; raises CniError 7 for more than the version's result has room for."""
    if request.fields.get("ipam") is None:
        raise request.refuse("IPAM config missing 'ipam' key")
    sets = ranges.read_sets(request.ipam, request.runtime_config)
    if "0.2.0" in versions.family(request.version):
        for v6 in (False, True):
            if sum(each.v6 == v6 for each in sets) > 1:
                raise request.refuse(
                    f"CNI version {request.version} does not support more than 1 address per family"
                )
    return sets


def requested_addresses(request: Request, known: Sequence[str] = ("IP",)) -> list[bytes]:
    """Addresses that somebody wants, from the three places where they may stand; a length is passed over.

    `known` are the keys of CNI_ARGS that the plugin knows.
    """
    texts = [request.cni_args(known).get("IP", "")]
    texts += request.fields.mapping("args").mapping("cni").strings("ips")
    texts += request.runtime_config.strings("ips")
    found: list[bytes] = []
    for text in texts:
        if text:
            packed = Cidr.parse(text).packed if "/" in text else parse_ip(text)
            if packed not in found:
                found.append(packed)
    return found


def dns(request: Request) -> DNS:
    """What the file `resolvConf` says; raises CniError 7 when it cannot be read."""
    path = request.ipam.string("resolvConf")
    if not path:
        return DNS()
    from cni.ipam import resolvconf

    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return resolvconf.parse(file.read(1 << 16))
    except OSError as failed:
        raise request.refuse(f"cannot read resolvConf {path}", failed.strerror or "") from None
