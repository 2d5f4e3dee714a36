"""Which device of the host a configuration means: by name, address, place in the kernel's tree, or bus."""

from __future__ import annotations

import os

from cni.errors import INVALID_CONFIG, CniError
from linux.netlink import link

TYPE_CHECKING = False  # not from typing: a plugin lives too short to import it
if TYPE_CHECKING:
    from cni.request import Request
    from linux.netlink.link import Link
    from linux.netlink.socket import Socket

_PCI = "/sys/bus/pci/devices"
_AUXILIARY = "/sys/bus/auxiliary/devices"
_TREE = "/sys/devices/"
# Drivers that hand a PCI device to a program (DPDK): the kernel has no network interface of it.
_USER_SPACE_DRIVERS = ("vfio-pci", "uio_pci_generic", "igb_uio")
_WORD = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.:-")


_KEYS = ("device", "hwaddr", "kernelpath", "pciBusID")


def is_named(request: Request) -> bool:
    """Whether the request names a device; if not, the runtime has to choose one for each container."""
    return any(request.fields.string(key) for key in _KEYS) or bool(request.runtime_config.get("deviceID"))


class Wanted:
    """The device that a request is about. One of the five is not empty: the first in this order counts.

    `pci` and `auxiliary` are names on these buses; what the runtime chose (``deviceID``) comes before
    ``pciBusID``. CniError 7 when there is none, or when it makes no sense.
    """

    __slots__ = ("auxiliary", "device", "hardware_address", "path", "pci")

    def __init__(self, request: Request) -> None:
        fields = request.fields
        self.device = fields.string("device")
        if self.device:
            link.check_name(self.device)
        self.hardware_address = fields.string("hwaddr").lower().replace("-", ":")
        self.path = fields.string("kernelpath")
        if self.path and (not self.path.startswith(_TREE) or ".." in self.path.split("/")):
            raise request.refuse(f"kernelpath {self.path!r} is not below {_TREE}")
        self.pci, self.auxiliary = _bus_name(request, "pciBusID", fields.string("pciBusID")), ""
        chosen = _bus_name(request, "deviceID", request.runtime_config.string("deviceID"))
        if chosen:
            self.pci, self.auxiliary = (chosen, "") if _is_pci(chosen) else ("", chosen)
        if not (self.device or self.hardware_address or self.path or self.pci or self.auxiliary):
            raise request.refuse('specify either "device", "hwaddr", "kernelpath" or "pciBusID"')

    @property
    def driven_by_program(self) -> bool:
        """Whether a program drives it (DPDK), so that there is no interface to move."""
        if self.device or self.hardware_address or self.path or not self.pci:
            return False
        try:
            driver = os.path.basename(os.readlink(f"{_PCI}/{self.pci}/driver"))
        except OSError:
            return False  # no such device, or no driver: `find` says so
        return driver in _USER_SPACE_DRIVERS

    def __str__(self) -> str:
        return (
            self.device
            or self.hardware_address
            or self.path
            or (f"PCI {self.pci}" if self.pci else f"auxiliary {self.auxiliary}")
        )


def find(socket: Socket, wanted: Wanted) -> Link | None:
    """The device as a link of the socket's namespace, None when it is not there."""
    if wanted.device:
        return link.get(socket, wanted.device)
    if wanted.hardware_address:
        same = [each for each in link.links(socket) if each.mac == wanted.hardware_address]
        # A VLAN has the address of what it is made on: that comes first.
        return min(same, key=lambda each: (each.kind != "", each.index), default=None)
    if wanted.path:
        names = _listed(f"{wanted.path}/net")
    elif wanted.pci:
        names = _pci_interfaces(wanted.pci)
    else:
        names = _listed(f"{_AUXILIARY}/{wanted.auxiliary}/net")
    found = (link.get(socket, each) for each in names)
    return next((each for each in found if each is not None), None)


def _pci_interfaces(name: str) -> list[str]:
    base = f"{_PCI}/{name}"
    found = _listed(f"{base}/net")
    if not found:
        # A virtual machine's: the interface belongs to the virtio device on the PCI device.
        for each in _listed(base):
            if each.startswith("virtio"):
                found += _listed(f"{base}/{each}/net")
    return found


def _bus_name(request: Request, key: str, name: str) -> str:
    if name and (not set(name) <= _WORD or name in (".", "..")):
        raise request.refuse(f"{key} {name!r} is not the name of a device")
    return name


def _is_pci(name: str) -> bool:
    if os.path.exists(f"{_PCI}/{name}"):
        return True
    if os.path.exists(f"{_AUXILIARY}/{name}"):
        return False
    raise CniError(INVALID_CONFIG, f"runtime config DeviceID {name} not found or unsupported")


def _listed(directory: str) -> list[str]:
    try:
        return sorted(os.listdir(directory))
    except OSError:
        return []
