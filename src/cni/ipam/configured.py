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


def sticky_name(request: Request, known: Sequence[str]) -> str:
    """What an address is kept for, by the option `sticky`; "" for nothing, or when the caller does not say.

    "pod": its name (CNI_ARGS of a kubelet); "container": its ID; "label:KEY": a label's value (`args`).
    """
    wish = request.ipam.string("sticky")
    kind, _, label = wish.partition(":")
    value = ""
    if wish == "pod":
        arguments = request.cni_args(known)
        if arguments.get("K8S_POD_NAME"):
            value = f"{arguments.get('K8S_POD_NAMESPACE', '')}/{arguments['K8S_POD_NAME']}"
    elif wish == "container":
        value = request.container_id
    elif kind == "label" and label:
        labels = request.fields.mapping("args").mapping("cni").mappings("labels")
        value = next((each.string("value") for each in labels if each.string("key") == label), "")
    elif wish:
        raise ValueError(f"{request.ipam.path('sticky')}: {wish!r} is not one of pod, container, label:KEY")
    return f"{wish} {value} {request.ifname}" if value else ""


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
