"""flannel: asks another plugin for an attachment in the subnet that flanneld has for this host.

The configuration for that plugin, ``bridge`` unless another is wished, is made of `delegate` and of what
flanneld writes into subnet.env. It is kept per attachment: DEL must not depend on a file that may have
changed, or be gone, by then.
"""

from __future__ import annotations

import errno
import os

from cni import delegate, invoke, jsontext, state
from cni.attachment import teardown, verify
from cni.errors import INVALID_CONFIG, PLUGIN_NOT_AVAILABLE, TRY_AGAIN_LATER, CniError
from cni.fields import Fields
from cni.types import names
from cni.types.address import Cidr
from cni.undo import Undo

TYPE_CHECKING = False  # not from typing: a plugin lives too short to import it
if TYPE_CHECKING:
    from collections.abc import Iterator

    from cni.request import Request
    from cni.types.result import Result

NAME = "flannel"

SUBNET_FILE = "/run/flannel/subnet.env"
# Where the reference plugin keeps, and looks for, the configuration of an attachment: by container ID.
DATA_DIRECTORY = "/var/lib/cni/flannel"

_LONGEST_FILE = 1 << 16  # bytes; flanneld's has a few hundred
_LONGEST_NAME = 200
# In a file of ours: whose it is among the container's interfaces. Others do not look at it.
_IFNAME = "rkt-platform/ifname"
_VALID_ATTACHMENTS = ("cni.dev/valid-attachments", "cni.dev/attachments")


class Subnet:
    """What flanneld says of this host; ValueError for a file that says less.

    `networks` are the whole cluster's, `subnets` those of this host's containers, one of each family at most.
    `masquerades` is true when flanneld does that itself.
    """

    __slots__ = ("masquerades", "mtu", "networks", "subnets")

    def __init__(self, text: str, path: str) -> None:
        found: dict[str, str] = {}
        for line in text.splitlines():
            key, equals, value = line.strip().partition("=")
            if equals and value.strip("\"' "):
                found[key] = value.strip("\"' ")
        missing = []
        for one, other in (
            ("FLANNEL_NETWORK", "FLANNEL_IPV6_NETWORK"),
            ("FLANNEL_SUBNET", "FLANNEL_IPV6_SUBNET"),
        ):
            if one not in found and other not in found:
                missing += [one, other]
        missing += [key for key in ("FLANNEL_MTU", "FLANNEL_IPMASQ") if key not in found]
        if missing:
            raise ValueError(f"{path} is missing {', '.join(missing)}")
        try:
            # Of several networks, as flanneld has them for more than one cluster range, each is named.
            self.networks = [*_networks(found, "FLANNEL_NETWORK"), *_networks(found, "FLANNEL_IPV6_NETWORK")]
            self.subnets = [*_networks(found, "FLANNEL_SUBNET"), *_networks(found, "FLANNEL_IPV6_SUBNET")]
        except ValueError as bad:
            raise ValueError(f"{path}: {bad}") from None
        mtu = found["FLANNEL_MTU"]
        if not (mtu.isascii() and mtu.isdigit() and len(mtu) < 6):
            raise ValueError(f"{path}: FLANNEL_MTU {mtu!r} is not a number of bytes")
        self.mtu = int(mtu)
        self.masquerades = found["FLANNEL_IPMASQ"] == "true"


def add(request: Request) -> Result:
    """ADD on the other plugin, whose result is this one's."""
    config = _delegate_config(request, TRY_AGAIN_LATER)
    if state.load(request, NAME) is not None:
        delete(request)  # of an ADD that was killed
    invoke.find(_type(config), request.path)  # before anything is recorded: what is not there undoes nothing
    with Undo() as undo:
        undo.push(lambda: delete(request))
        path = _file(request)
        state.save(request, NAME, {"config": config, "file": path})
        _save_for_others(path, {**config, _IFNAME: request.ifname})
        return delegate.add(request.with_config(config), _type(config))


def check(request: Request) -> None:
    config = _kept_config(request)
    if config is None:
        raise verify.damaged("nothing is known of this attachment", f"in {_directory(request)}")
    delegate.check(_with_result(request, config), _type(config))


def delete(request: Request) -> None:
    """DEL on the plugin that made the attachment; nothing to do when none is known to have."""
    config = _kept_config(request)
    if config is not None:
        try:
            delegate.delete(_with_result(request, config), _type(config))
        except CniError as failed:
            # What a built-in plugin refuses now it has refused at ADD; else the record stayed for ever.
            if failed.code != INVALID_CONFIG or invoke.find(_type(config), request.path) is not None:
                raise
    _forget(request, state.load(request, NAME) or {"file": _file_of_others(request)})


def status(request: Request) -> None:
    """Code 50 until flanneld has a subnet; then what the other plugin says."""
    config = _delegate_config(request, PLUGIN_NOT_AVAILABLE)
    delegate.status(request.with_config(config), _type(config))


def collect(request: Request) -> None:
    """DEL of what nobody wants, then the other plugin's GC. What a reboot left of files goes, too."""
    from functools import partial

    from cni.plugin import perform

    valid = request.valid_attachments
    steps = teardown.Steps()
    for each in state.stale(NAME, request.name, valid):
        steps.run(partial(perform, NAME, each))
    steps.run(lambda: _collect_for_others(request, {container for container, _ in valid}))
    try:
        config = _delegate_config(request, PLUGIN_NOT_AVAILABLE)
    except CniError:
        config = {}  # flanneld is away: what its subnet was is not known, nor whether it has changed
    if config:
        for key in _VALID_ATTACHMENTS:
            if request.fields.get(key) is not None:
                config[key] = request.fields.get(key)
        steps.run(lambda: delegate.collect(request.with_config(config), _type(config)))
    steps.finish()


def _networks(found: dict[str, str], key: str) -> Iterator[Cidr]:
    for text in found.get(key, "").split(","):
        if text.strip():
            try:
                yield Cidr.parse(text.strip()).network
            except ValueError as bad:
                raise ValueError(f"{key}: {bad}") from None


def _subnet(request: Request, code: int) -> Subnet:
    """CniError `code` when flanneld has not said anything, or not enough."""
    path = request.fields.string("subnetFile") or SUBNET_FILE
    message = "failed to load flannel 'subnet.env' file"
    try:
        with open(path, "rb") as file:
            return Subnet(file.read(_LONGEST_FILE).decode(), path)
    except OSError as failed:
        details = f"open {path}: {(failed.strerror or str(failed)).lower()}"
    except ValueError as bad:
        details = str(bad)
    raise CniError(code, message, details, hint="look at the log of flanneld on this node") from None


def _delegate_config(request: Request, code: int) -> dict[str, object]:
    """The configuration for the other plugin; CniError 7 for a bad `delegate`, `code` without a subnet."""
    given = request.fields.mapping("delegate")
    for key in ("name", "ipam"):
        if key in given.values:
            raise request.refuse(
                f"'delegate' dictionary must not have '{key}' field, it'll be set by flannel"
            )
    kind = given.string("type") if "type" in given.values else "bridge"
    names.check_plugin_type(kind)
    if kind == NAME:
        raise request.refuse("'delegate' dictionary must not have 'type' flannel")
    subnet = _subnet(request, code)
    config: dict[str, object] = {"type": kind, "ipMasq": not subnet.masquerades, "mtu": subnet.mtu}
    if kind == "bridge":
        config["isGateway"] = True
    config.update(given.values)
    runtime = request.runtime_config.values
    if runtime:
        config["runtimeConfig"] = runtime
    config["name"] = request.name
    if request.fields.string("cniVersion"):
        config["cniVersion"] = request.version
    config["ipam"] = _ipam(request, subnet)
    return dict(sorted(config.items()))


def _ipam(request: Request, subnet: Subnet) -> dict[str, object]:
    """What the configuration has under `ipam`, with this host's subnets and ways to the whole network."""
    given = request.ipam
    routes = [*given.array("routes"), *({"dst": str(each)} for each in subnet.networks)]
    ranges = [[{"subnet": str(each)}] for each in subnet.subnets]
    kind = given.string("type") or "host-local"
    return dict(sorted({**given.values, "type": kind, "ranges": ranges, "routes": routes}.items()))


def _type(config: dict[str, object]) -> str:
    return Fields(config).string("type")


def _with_result(request: Request, config: dict[str, object]) -> Request:
    """The same request to the other plugin, with what the runtime gives to a DEL or CHECK."""
    more = {
        key: request.fields.get(key)
        for key in ("prevResult", "runtimeConfig")
        if request.fields.get(key) is not None
    }
    return request.with_config({**config, **more})


def _kept_config(request: Request) -> dict[str, object] | None:
    """The configuration that the attachment was made with; None when it is not known."""
    record = state.load(request, NAME)
    if record is not None:
        return Fields(record).mapping("config").values
    path = _file_of_others(request)
    return _read(path, request.name, request.ifname) if path else None


def _directory(request: Request) -> str:
    directory = request.fields.string("dataDir") or DATA_DIRECTORY
    if "\0" in directory:
        raise ValueError("dataDir is not a path")
    return directory


def _file(request: Request) -> str:
    """Where the reference plugin would look; if an attachment of the container has that, one of our own."""
    path = f"{_directory(request)}/{request.container_id}"
    if len(request.container_id) > _LONGEST_NAME:
        return ""
    return path if not os.path.lexists(path) else f"{path}:{request.ifname}"


def _file_of_others(request: Request) -> str:
    """The file of an attachment of which there is no record (of this boot); "" for none."""
    for name in (f"{request.container_id}:{request.ifname}", request.container_id):
        path = f"{_directory(request)}/{name}"
        if len(name) <= _LONGEST_NAME and _read(path, request.name, request.ifname) is not None:
            return path
    return ""


def _save_for_others(path: str, config: dict[str, object]) -> None:
    """Durable, unlike a record: addresses may be kept on disk too, and be released after a reboot."""
    if not path:
        return
    from linux.files import write_atomically

    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    write_atomically(path, jsontext.dumps(config).encode(), mode=0o600)


def _read(path: str, network: str, ifname: str = "") -> dict[str, object] | None:
    """The configuration in a file, if it is one for `network`, and for no other interface than `ifname`."""
    try:
        with open(path, "rb") as file:
            config = Fields(jsontext.loads(file.read()))
        owner = config.string(_IFNAME, ifname)
        if config.string("name") != network or not config.string("type") or ifname not in ("", owner):
            return None
    except OSError as failed:
        if failed.errno in (errno.ENOENT, errno.ENOTDIR, errno.EISDIR):
            return None
        raise
    except ValueError:
        return None
    return {key: value for key, value in config.values.items() if key != _IFNAME}


def _forget(request: Request, made: dict[str, object]) -> None:
    path = Fields(made).string("file")
    if path:
        _remove(path)
    state.remove(request, NAME)


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        return


def _collect_for_others(request: Request, living: set[str]) -> None:
    """Remove the files of this network's containers that do not live. The IPAM plugin frees addresses."""
    from linux.files import collect_temporary

    directory = _directory(request)
    if not os.path.isdir(directory):
        return
    collect_temporary(directory)
    for name in os.listdir(directory):
        container = name.partition(":")[0]
        known = names.is_identifier(container) and _read(f"{directory}/{name}", request.name) is not None
        if known and container not in living:
            _remove(f"{directory}/{name}")
