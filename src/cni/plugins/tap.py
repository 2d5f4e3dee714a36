"""tap: an interface of the container whose packets a program there, such as a virtual machine, has."""

from __future__ import annotations

import errno
import os

from cni.attachment import inner, names, options, verify
from cni.attachment.inner import Inner
from cni.errors import INVALID_CONFIG, TRY_AGAIN_LATER, UNSUPPORTED_FIELD, CniError
from linux import tap
from linux.netlink import link
from linux.netlink.batch import commit

TYPE_CHECKING = False  # not from typing: a plugin lives too short to import it
if TYPE_CHECKING:
    from cni.attachment.veth import Namespaces
    from cni.fields import Fields
    from cni.request import Request
    from cni.types.result import Result
    from linux.netlink.link import Link

NAME = "tap"
KIND = "tun"  # the kernel's name for both of its kinds

_SELINUX = "/sys/fs/selinux/enforce"
_EXEC_LABEL = "/proc/thread-self/attr/exec"
_IP = "/sbin/ip"
_ID_HIGHEST = (1 << 32) - 2  # of a user or group; the last number means none
_PATIENCE = 30.0  # seconds, for ip(8)


class Config:
    """The configuration of a request, checked. `owner` and `group` are numbers, None for nobody."""

    __slots__ = ("bridge", "group", "has_ipam", "label", "mac", "mtu", "multi_queue", "owner")

    def __init__(self, request: Request) -> None:
        fields = request.fields
        self.mtu = options.mtu(request)
        self.mac = options.own_mac(request) or names.mac(request, "container")
        self.multi_queue = fields.boolean("multiQueue")
        self.owner = fields.optional_integer("owner", low=0, high=_ID_HIGHEST)
        self.group = fields.optional_integer("group", low=0, high=_ID_HIGHEST)
        self.label = fields.string("selinuxContext")
        self.bridge = fields.string("bridge")
        if self.bridge:
            link.check_name(self.bridge)
        self.has_ipam = options.has_ipam(request)
        if self.label and not os.path.exists(_SELINUX):
            raise CniError(
                UNSUPPORTED_FIELD, "selinuxContext is not supported", "this kernel runs without SELinux"
            )


def add(request: Request) -> Result:
    """Make the attachment; when that fails nothing of it is left."""
    config = Config(request)
    made = Inner(request, NAME, KIND, mac=config.mac)

    def find(namespaces: Namespaces) -> None:
        if config.bridge:
            _bridge(request, namespaces, config.bridge)

    def make(namespaces: Namespaces) -> None:
        _create(namespaces, made.container, config)
        found = link.get(namespaces.container, made.container)
        if found is None:
            raise CniError(TRY_AGAIN_LATER, f"{made.container} went away while it was set up")
        made.index = found.index
        bridge = _bridge(request, namespaces, config.bridge).index if config.bridge else None
        commit(
            namespaces.container,
            link.change(made.container, mac=config.mac, mtu=config.mtu, master=bridge),
        )

    return inner.add(request, made, make, find=find, has_ipam=config.has_ipam)


def check(request: Request) -> None:
    config = Config(request)

    def look(namespaces: Namespaces, inside: Link, record: Fields) -> None:
        if config.bridge and inside.master != _bridge(request, namespaces, config.bridge).index:
            raise verify.damaged(f"{inside.name} is not a port of {config.bridge}")

    inner.check(request, NAME, KIND, look)


def status(request: Request) -> None:
    """Code 50 when the kernel has no taps, or what the IPAM plugin says."""
    Config(request)
    if not tap.is_supported():
        raise inner.unsupported(KIND)
    inner.status(request)


def delete(request: Request) -> None:
    """Take the interface away, also from a program that has it open, and give the addresses back."""
    inner.delete(request, NAME, KIND)


def _create(namespaces: Namespaces, name: str, config: Config) -> None:
    from linux.namespaces import inside

    try:
        with inside(namespaces.fd):
            if config.label:
                _create_labelled(name, config)
                return
            tap.create(
                name,
                multi_queue=config.multi_queue,
                # As other implementations make it: their users open it with that in mind.
                vnet_header=config.owner is not None and config.group is not None,
                owner=config.owner,
                group=config.group,
            )
    except OSError as failed:
        if failed.errno in (errno.ENODEV, errno.ENOENT):
            raise inner.unsupported(KIND, str(failed)) from None
        raise


def _create_labelled(name: str, config: Config) -> None:
    """The same by ip(8), started under the label: SELinux gives a tap that of the program that makes it."""
    from linux.process import run

    argv = [_IP, "tuntap", "add", "dev", name, "mode", "tap"]
    argv += ["multi_queue"] if config.multi_queue else []
    argv += ["user", str(config.owner)] if config.owner is not None else []
    argv += ["group", str(config.group)] if config.group is not None else []
    _label_next_program(config.label)
    try:
        done = run(argv, timeout=_PATIENCE)
    finally:
        _label_next_program("")
    if done.returncode:
        raise CniError(
            INVALID_CONFIG, f"tap {name} cannot be made", done.stderr.decode(errors="replace").strip()
        )


def _label_next_program(label: str) -> None:
    fd = os.open(_EXEC_LABEL, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, label.encode())
    except OSError as failed:
        raise CniError(
            INVALID_CONFIG, f"selinuxContext {label!r} is refused", failed.strerror or ""
        ) from None
    finally:
        os.close(fd)


def _bridge(request: Request, namespaces: Namespaces, name: str) -> Link:
    """The bridge in the container that the tap becomes a port of."""
    found = link.get(namespaces.container, name)
    if found is None or found.kind != "bridge":
        raise request.refuse(f"the container has no bridge {name}", f"in {namespaces.path}")
    return found
