"""Options that several interface plugins have."""

from __future__ import annotations

from cni.attachment import names
from cni.errors import INVALID_CONFIG, CniError
from cni.types.result import DNS

TYPE_CHECKING = False  # not from typing: a plugin lives too short to import it
if TYPE_CHECKING:
    from cni.request import Request
    from cni.types.result import Result

# IP and GATEWAY are for the IPAM plugin.
_ARGUMENTS = ("MAC", "IP", "GATEWAY")
_MTU_HIGHEST = 65535
DEFAULT_BACKEND = "nftables"
_BACKENDS = ("nftables", "iptables")


def mac(request: Request) -> str:
    """The hardware address that somebody asks for, "" for none: runtimeConfig, args.cni, then CNI_ARGS."""
    text = (
        request.runtime_config.string("mac")
        or request.fields.mapping("args").mapping("cni").string("mac")
        or request.cni_args(_ARGUMENTS).get("MAC", "")
    )
    return names.check_mac(text) if text else ""


def own_mac(request: Request) -> str:
    """The same for plugins with `mac` in their configuration: runtimeConfig, CNI_ARGS, then that."""
    text = (
        request.runtime_config.string("mac")
        or request.cni_args(_ARGUMENTS).get("MAC", "")
        or request.fields.string("mac")
    )
    return names.check_mac(text) if text else ""


def has_ipam(request: Request) -> bool:
    """Whether there is an IPAM plugin to ask; CniError 7 when it is named but cannot be found.

    Looked up before anything is recorded: what was never there has nothing to take back.
    """
    from cni import delegate, invoke

    name = delegate.ipam_type(request)
    if name:
        invoke.find(name, request.path)
    return bool(name)


def mtu(request: Request) -> int:
    """Bytes; 0 is the kernel's own idea."""
    return request.fields.integer("mtu", low=0, high=_MTU_HIGHEST)


def masquerade(request: Request) -> str:
    """The backend that `ipMasq` is to use; "" when nothing is to be masqueraded."""
    return backend(request, "ipMasqBackend") if request.fields.boolean("ipMasq") else ""


def backend(request: Request, key: str) -> str:
    """The firewall to use, nftables unless the configuration asks for another."""
    wanted = request.fields.string(key) or DEFAULT_BACKEND
    if wanted not in _BACKENDS:
        raise CniError(INVALID_CONFIG, f"unknown {key}", f"{wanted!r} is none of {', '.join(_BACKENDS)}")
    return wanted


def dns(request: Request, given: Result | None) -> DNS:
    """The configuration's DNS if it has any, else the IPAM plugin's."""
    own = DNS.from_json(request.fields.mapping("dns"))
    if own or given is None:
        return own
    return given.dns
