"""Leases as files, durable: what the plugin and the daemon both go by, whichever of them is alive.

One file for each attachment, written before the server is asked to commit itself. A lease of another boot
speaks of a namespace that is gone; it is no lease any more.
"""

from __future__ import annotations

import fcntl
import os
from time import CLOCK_BOOTTIME, clock_gettime

from cni import jsontext, state
from cni.fields import Fields
from cni.ipam.dhcp.message import Message
from cni.types.address import format_ip, parse_ip

TYPE_CHECKING = False  # not from typing: a plugin lives too short to import it
if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType
    from typing import Final

    from cni.ipam.dhcp.options import Wishes

DIRECTORY = "/var/lib/cni/dhcp"

ASKING = "asking"  # a server was asked for the address, and may have given it
BOUND = "bound"
LOST = "lost"  # expired or refused: the interface no longer has the address, the server is asked again
RELEASING = "releasing"

FOREVER = 0xFFFFFFFF
_SUFFIX = ".json"
_LONGEST_NAME = 200
_VERSION = 1


def now() -> float:
    """Seconds since the boot, those asleep included: leases run on while a machine sleeps."""
    return clock_gettime(CLOCK_BOOTTIME)


class Lease:
    """A lease of one attachment. Times are seconds of `now`; `mac` and `server_mac` are 6 bytes.

    `inode` is the network namespace's, so that another one at the same path is told from it. `address` is
    b"" as long as none has been asked for, `answer` the server's message as it came. `expires` is None for
    a lease without an end.
    """

    __slots__ = (
        "address", "answer", "container_id", "expires", "ifname", "inode", "mac", "netns", "network",
        "priority", "provided", "rebind_at", "renew_at", "requested", "routes", "server", "server_mac",
        "socket", "state",
    )  # fmt: skip

    def __init__(self, network: str, container_id: str, ifname: str, *, mac: bytes, wishes: Wishes) -> None:
        self.network: Final = network
        self.container_id: Final = container_id
        self.ifname: Final = ifname
        self.mac: Final = mac
        self.provided: Final = wishes.provided
        self.requested: Final = wishes.requested
        self.priority: Final = wishes.priority
        self.netns = ""
        self.inode = 0
        self.socket = ""
        self.state = ASKING
        self.address = b""
        self.server = b""
        self.server_mac = b""
        self.answer = b""
        self.renew_at = 0.0
        self.rebind_at = 0.0
        self.expires: float | None = None
        self.routes: list[dict[str, object]] = []

    @property
    def name(self) -> str:
        """The name of its file, by which plugin and daemon speak of it."""
        return file_name(self.network, self.container_id, self.ifname)

    @property
    def message(self) -> Message:
        """The server's answer; ValueError when there is none."""
        return Message.decode(self.answer)

    def netns_lives(self, root: str = "") -> bool:
        """Whether the namespace that the lease was made in is still where it was, below `root`."""
        try:
            return os.stat(root + self.netns).st_ino == self.inode
        except OSError:
            return False

    def encode(self) -> bytes:
        value: dict[str, object] = {
            "version": _VERSION,
            "boot": state.boot_id(),
            "network": self.network,
            "containerID": self.container_id,
            "ifname": self.ifname,
            "netns": self.netns,
            "inode": self.inode,
            "socket": self.socket,
            "mac": self.mac.hex(),
            "provided": {str(code): value.hex() for code, value in self.provided.items()},
            "requested": list(self.requested),
            "priority": self.priority,
            "state": self.state,
            "address": format_ip(self.address) if self.address else "",
            "server": format_ip(self.server) if self.server else "",
            "serverMAC": self.server_mac.hex(),
            "answer": self.answer.hex(),
            "renewAt": self.renew_at,
            "rebindAt": self.rebind_at,
            "expires": self.expires,
            "routes": self.routes,
        }
        return jsontext.dumps(value).encode()

    @classmethod
    def decode(cls, data: bytes) -> Lease | None:
        """Read a file; None for a lease of another boot, ValueError for what is no lease."""
        from cni.ipam.dhcp.options import Wishes

        fields = Fields(jsontext.loads(data), "the lease")
        if fields.integer("version") != _VERSION:
            raise ValueError(f"a lease of version {fields.integer('version')}")
        if fields.string("boot") != state.boot_id():
            return None
        provided = fields.mapping("provided")
        requested = [each for each in fields.array("requested") if isinstance(each, int)]
        lease = cls(
            fields.string("network"),
            fields.string("containerID"),
            fields.string("ifname"),
            mac=bytes.fromhex(fields.string("mac")),
            wishes=Wishes(
                {int(code): bytes.fromhex(provided.string(code)) for code in provided.values},
                tuple(requested),
                fields.integer("priority"),
            ),
        )
        lease.netns = fields.string("netns")
        lease.inode = fields.integer("inode")
        lease.socket = fields.string("socket")
        lease.state = fields.string("state")
        lease.address = _address(fields.string("address"))
        lease.server = _address(fields.string("server"))
        lease.server_mac = bytes.fromhex(fields.string("serverMAC"))
        lease.answer = bytes.fromhex(fields.string("answer"))
        lease.renew_at = _seconds(fields, "renewAt")
        lease.rebind_at = _seconds(fields, "rebindAt")
        lease.expires = None if fields.get("expires") is None else _seconds(fields, "expires")
        lease.routes = [each.values for each in fields.mappings("routes")]
        if lease.state in (BOUND, LOST):
            lease.message  # noqa: B018  ValueError when there is none
        return lease


def file_name(network: str, container_id: str, ifname: str) -> str:
    # None of the three can hold a colon or a slash (cni.types.names), so the parts cannot run together.
    name = f"{network}:{container_id}:{ifname}"
    if len(name) > _LONGEST_NAME:
        from hashlib import sha512

        name = f"{sha512(f'{network}:{container_id}'.encode()).hexdigest()}:{ifname}"
    return name + _SUFFIX


class Locked:
    """``with Locked() as leases:`` nobody else reads or changes leases.

    `root`: where the host's root directory is. `create`: make the directory.
    """

    __slots__ = ("_fd", "path")

    def __init__(self, root: str = "", *, create: bool = False) -> None:
        self.path = root + DIRECTORY
        self._fd = -1
        if create:
            os.makedirs(self.path, mode=0o700, exist_ok=True)

    def __enter__(self) -> Locked:
        try:
            self._fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            return self
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        failure: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def load(self, name: str) -> Lease | None:
        """The lease in the file `name`; None when there is none, or none of this boot, or a damaged one."""
        if self._fd < 0 or "/" in name:
            return None
        try:
            fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=self._fd)
        except FileNotFoundError:
            return None
        with open(fd, "rb") as file:
            try:
                return Lease.decode(file.read(1 << 20))
            except ValueError:
                return None

    def save(self, lease: Lease) -> None:
        from linux.files import write_atomically

        write_atomically(lease.name, lease.encode(), mode=0o600, dir_fd=self._fd)

    def remove(self, name: str) -> None:
        """Forget a lease; no error when there is none."""
        if self._fd < 0:
            return
        try:
            os.unlink(name, dir_fd=self._fd)
        except FileNotFoundError:
            return

    def every(self) -> Iterator[Lease]:
        """All leases. Files of another boot, and damaged ones, are removed: they are of no use to anybody."""
        for name in os.listdir(self._fd) if self._fd >= 0 else ():
            if not name.endswith(_SUFFIX) or name.startswith("."):
                continue
            lease = self.load(name)
            if lease is None:
                self.remove(name)
            else:
                yield lease


def _address(text: str) -> bytes:
    return parse_ip(text) if text else b""


def _seconds(fields: Fields, key: str) -> float:
    value = fields.get(key)
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise ValueError(f"{fields.path(key)} is not a number")
    return float(value)
