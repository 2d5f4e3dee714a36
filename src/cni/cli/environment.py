"""What the verbs of cnitool work on: their two arguments, the flags, and the environment variables.

NETCONFPATH is the directory of configurations, CNI_PATH those of plugins, CNI_ARGS ``K=V;K=V``, CAP_ARGS a
JSON object of capability arguments, CNI_IFNAME the interface.
"""

from __future__ import annotations

import os

from cni import config
from cni.cache import DIRECTORY as CACHE
from cni.cache import Attachment, Cache
from cni.errors import INVALID_ENVIRONMENT, CniError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from cni.config import NetworkConfig
    from cni.runtime import Runtime
    from console.output import Output

ENVIRONMENT = """\
Reads NETCONFPATH, the directory of network configurations (default: /etc/cni/net.d); CNI_PATH, the
directories of plugins (built-in ones need none, an executable found there goes before the built-in of its
name); CNI_ARGS, KEY=VALUE;KEY=VALUE; CAP_ARGS, capability arguments as a JSON object; CNI_IFNAME. The
container ID is made from the path of the namespace, so that it is the same every time. A configuration file
that is broken is a warning, unless it is that of the network.
"""
_DIGEST = 10  # bytes of it make a container ID


def operands(parser: argparse.ArgumentParser) -> None:
    """The arguments of the verbs that work on a namespace."""
    parser.usage = "[flags] NET NETNS"
    parser.add_argument("network", metavar="NET", nargs="?", help="the name of a network")
    parser.add_argument("netns", metavar="NETNS", nargs="?", help="the path of a network namespace")
    # Go's cnitool takes more arguments than it looks at; so do scripts written for it.
    parser.add_argument("ignored", nargs="*", help="==SUPPRESS==")
    parser.add_argument(
        "-i", "--ifname", metavar="IF", help="the interface in it (default: $CNI_IFNAME, else eth0)"
    )


def setting(options: argparse.Namespace, name: str) -> str:
    """A global flag, wherever it stood; "" when it was not given."""
    return str(options.settings.get(name) or "")


def network_directory() -> str:
    return os.environ.get("NETCONFPATH") or config.DIRECTORY


def plugin_path() -> list[str]:
    return [each for each in os.environ.get("CNI_PATH", "").split(":") if each]


def runtime(options: argparse.Namespace) -> Runtime:
    """A runtime with the cache that the flags name; plugins inherit the environment."""
    from cni.runtime import Runtime

    cache = Cache(setting(options, "cache-dir") or CACHE)
    return Runtime(plugin_path(), cache=cache, environment=dict(os.environ))


def target(options: argparse.Namespace, out: Output) -> tuple[NetworkConfig, Attachment]:
    """The network and the attachment that the command line is about; raises CniError and UsageError."""
    from console.errors import UsageError

    if options.netns is None:
        raise UsageError(
            f"requires at least 2 arg(s), only received {0 if options.network is None else 1}",
            hint=f"cnitool {options.verb.name} NETWORK NAMESPACE, such as /run/netns/NAME",
        )
    network = config.load(network_directory(), options.network, strict=False, warn=out.warn)
    # Two slashes at the front are kept by POSIX, but mean nothing to Linux.
    netns = "/" + os.path.abspath(options.netns).lstrip("/")
    ifname = (
        options.ifname
        or setting(options, "ifname")
        or setting(options, "i")
        or os.environ.get("CNI_IFNAME")
        or "eth0"
    )
    return network, Attachment(
        container_id(netns),
        ifname,
        netns=netns,
        args=cni_args(os.environ.get("CNI_ARGS", "")),
        capability_args=capability_args(os.environ.get("CAP_ARGS", "")),
    )


def container_id(netns: str) -> str:
    """The ID that cnitool gives to the namespace at the absolute path `netns`."""
    from hashlib import sha512

    return f"cnitool-{sha512(os.fsencode(netns)).digest()[:_DIGEST].hex()}"


def cni_args(text: str) -> list[tuple[str, str]]:
    """``K=V;K=V`` as pairs; CniError 4 when a part is no pair with two sides."""
    pairs = []
    for part in text.split(";") if text else ():
        key, _, value = part.partition("=")
        if not key or not value or "=" in value:
            raise CniError(INVALID_ENVIRONMENT, f'invalid CNI_ARGS pair "{part}"')
        pairs.append((key, value))
    return pairs


def capability_args(text: str) -> dict[str, object]:
    """The JSON object in `text`, {} for an empty one; CniError 4 when it is none."""
    from cni import jsontext
    from cni.fields import Fields

    if not text:
        return {}
    try:
        return Fields(jsontext.loads(text), "CAP_ARGS").values
    except ValueError as bad:
        raise CniError(INVALID_ENVIRONMENT, "CAP_ARGS is not a JSON object", str(bad)) from None


def network_names(_settings: object) -> list[str]:
    """For completion: the configured networks."""
    return [each.name for each in config.available(network_directory())[0]]


def namespace_paths(_settings: object) -> list[str]:
    """For completion: the namespaces that have a name."""
    try:
        return [f"/run/netns/{name}" for name in sorted(os.listdir("/run/netns"))]
    except OSError:
        return []
