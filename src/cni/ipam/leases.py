"""Addresses given out, as files: the on-disk format of the reference host-local plugin, shared with it.

``DIRECTORY/NETWORK/ADDRESS`` holds the container ID, CR LF, and the interface, ``last_reserved_ip.N`` the
address given out last of set N, and ``lock`` is locked by whoever looks or writes. On top of that each file
of ours carries the boot it was made in, as an extended attribute: containers do not outlive a boot, so a
lease of another boot is free to be taken. So is an empty file, which only a power cut leaves; and, once
nothing else is free, a lease whose network namespace is gone: its runtime has forgotten it.

Giving out is one link(2) of a complete file and costs the same however many leases there are.
"""

from __future__ import annotations

import fcntl
import os
from itertools import islice

from cni.ipam import netnsmark
from cni.state import boot_id
from cni.types.address import format_ip, parse_ip

TYPE_CHECKING = False  # not from typing: start-up time counts here
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

    from cni.ipam.ranges import Range, RangeSet

DIRECTORY = "/var/lib/cni/networks"
_BOOT = "user.cni.boot"
_NETNS = "user.cni.netns"  # cni.ipam.netnsmark
_LAST = "last_reserved_ip."
_PROBES = 32  # names tried one by one before the directory is listed
_SEPARATOR = "\r\n"


class Leases:
    """The leases of one network, locked for as long as the `with` block lasts.

    `create`: make the directory when it is missing; else there are no leases, and none can be made.
    """

    def __init__(self, network: str, directory: str = "", *, create: bool = False) -> None:
        self.path = f"{directory or DIRECTORY}/{network}"
        self._create = create
        self._fd = -1
        self._lock = -1
        self._boot = ""

    def __enter__(self) -> Leases:
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
        try:
            self._fd = os.open(self.path, flags)
        except FileNotFoundError:
            if not self._create:
                return self
            os.makedirs(self.path, mode=0o755, exist_ok=True)
            self._fd = os.open(self.path, flags)
        try:
            self._lock = os.open(
                "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o750, dir_fd=self._fd
            )
            fcntl.flock(self._lock, fcntl.LOCK_EX)
            self._boot = boot_id()
        except BaseException as failed:
            self.__exit__(None, None, None)
            if isinstance(failed, OSError) and failed.filename == "lock":
                failed.filename = f"{self.path}/lock"
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        failure: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for fd in (self._lock, self._fd):
            if fd >= 0:
                os.close(fd)
        self._lock = self._fd = -1

    def new(self, container_id: str, ifname: str, netns: str = "") -> NewLease:
        """A lease without an address, to be given one or more."""
        return NewLease(self, container_id, ifname, netns)

    def holder(self, address: bytes) -> tuple[str, str] | None:
        """(container ID, interface) of the lease of an address; None for none, and for one that is free.

        Leases of very old plugins have no interface.
        """
        return self._holder(format_ip(address))

    def release(self, address: bytes, container_id: str, ifname: str) -> bool:
        """Remove the lease of an address if it is this attachment's. Whether it was."""
        name = format_ip(address)
        if not _is(self._holder(name, stale=True), container_id, ifname):
            return False
        self._unlink(name)
        return True

    def find(self, container_id: str, ifname: str) -> list[bytes]:
        """All addresses that an attachment has. Reads every lease: for when nobody knows better."""
        return [
            parse_ip(name)
            for name in self._names()
            if _is(self._holder(name, stale=True), container_id, ifname)
        ]

    def collect(self, lives: Callable[[str, str], bool]) -> int:
        """Remove each lease whose attachment does not live, and each of another boot. How many."""
        removed = 0
        for name in self._names():
            holder = self._holder(name)
            if holder is None or not lives(*holder):
                self._unlink(name)
                removed += 1
        return removed

    def held(self) -> list[tuple[str, str, str]]:
        """(address, container ID, interface) of every lease that may be in use."""
        found = []
        for name in self._names():
            holder = self._holder(name)
            if holder is not None:
                found.append((name, *holder))
        return found

    def free(self, given: RangeSet) -> int:
        """How many addresses of a set could be given out now, or at least: leases are read only in need."""
        names = []
        for name in self._names():
            packed = parse_ip(name)
            place = given.range_of(packed)
            if place is not None and packed != place.gateway:
                names.append(name)
        left = given.size() - len(names)
        return left if left > 0 else left + sum(not self._in_use(name) for name in names)

    def last(self, position: int) -> bytes | None:
        """The address given out last of set number `position`; None when unknown, or not to be read."""
        try:
            fd = os.open(f"{_LAST}{position}", os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=self._fd)
        except OSError:
            return None
        try:
            return parse_ip(os.read(fd, 64).decode("ascii", "replace").strip())
        except ValueError:
            return None
        finally:
            os.close(fd)

    def set_last(self, position: int, address: bytes) -> None:
        """A hint to spread addresses: losing it in a power cut does no harm, so it is not synced."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        fd = os.open(f"{_LAST}{position}", flags, 0o600, dir_fd=self._fd)
        text = format_ip(address).encode()
        try:
            os.write(fd, text)
            # Not emptied first: ext4 takes that for a way to replace a file, and hurries it to the disk.
            if os.fstat(fd).st_size != len(text):
                os.ftruncate(fd, len(text))
        finally:
            os.close(fd)

    def _names(self) -> Iterator[str]:
        for name in os.listdir(self._fd) if self._fd >= 0 else ():
            try:
                parse_ip(name)
            except ValueError:
                continue
            yield name

    def _holder(self, name: str, *, stale: bool = False) -> tuple[str, str] | None:
        """`stale`: also of a lease of another boot."""
        if self._fd < 0:
            return None
        try:
            fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=self._fd)
        except FileNotFoundError:
            return None
        try:
            text = os.read(fd, 4096).decode("utf-8", "replace").strip()
            if not text or not (stale or self._of_this_boot(fd)):
                return None
        finally:
            os.close(fd)
        container_id, _, ifname = text.partition(_SEPARATOR)
        return container_id, ifname

    def _of_this_boot(self, fd: int) -> bool:
        """Whether a lease may be in use. One without a mark is the reference plugin's, of any boot."""
        try:
            return os.getxattr(fd, _BOOT).decode("ascii", "replace") == self._boot
        except OSError:
            return True

    def _in_use(self, name: str) -> bool:
        """Whether somebody has the lease, and a namespace that it could be used in."""
        return self._holder(name) is not None and not self._is_abandoned(name)

    def _is_abandoned(self, name: str) -> bool:
        """Whether the namespace that the lease was made for is gone for sure."""
        try:
            mark = os.getxattr(f"/proc/self/fd/{self._fd}/{name}", _NETNS, follow_symlinks=False)
        except OSError:
            return False
        return netnsmark.is_gone(mark.decode("utf-8", "replace"))

    def _unlink(self, name: str) -> None:
        try:
            os.unlink(name, dir_fd=self._fd)
        except FileNotFoundError:
            return

    def _take(self, name: str, source: str, *, abandoned: bool = False) -> bool:
        """Link the file `source` as `name`, unless a lease that may be in use has that name.

        `abandoned`: one whose namespace is gone may be replaced, too.
        """
        try:
            os.link(source, name, dst_dir_fd=self._fd)
        except FileExistsError:
            if self._in_use(name) if abandoned else self._holder(name) is not None:
                return False
            self._unlink(name)
            os.link(source, name, dst_dir_fd=self._fd)
        return True


def collect_other_boots(directory: str = "") -> None:
    """Remove the leases of other boots on all networks; those without a mark are not ours to judge."""
    directory = directory or DIRECTORY
    try:
        networks = os.listdir(directory)
    except FileNotFoundError:
        return
    for network in networks:
        if os.path.isdir(f"{directory}/{network}"):
            with Leases(network, directory) as leases:
                leases.collect(lambda _container_id, _ifname: True)


class NewLease:
    """A complete lease file that has no name yet, or the names of the addresses it was given.

    As a context manager: closed at the end, and in case of an exception the addresses are given back.
    """

    def __init__(self, leases: Leases, container_id: str, ifname: str, netns: str) -> None:
        self._leases = leases
        self._container_id = container_id
        self._ifname = ifname
        self._netns = netns
        self._fd = -1
        self._temporary = ""
        self.addresses: list[bytes] = []

    def __enter__(self) -> NewLease:
        directory = self._leases._fd
        try:
            self._fd = os.open(".", os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o600, dir_fd=directory)
        except OSError:  # a filesystem that cannot: make it under a name that is no address
            self._temporary = f".lease-{os.getpid()}"
            self._leases._unlink(self._temporary)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            self._fd = os.open(self._temporary, flags, 0o600, dir_fd=directory)
        try:
            os.write(self._fd, f"{self._container_id}{_SEPARATOR}{self._ifname}".encode())
            try:
                os.setxattr(self._fd, _BOOT, self._leases._boot.encode())
                if mark := netnsmark.mark(self._netns):
                    os.setxattr(self._fd, _NETNS, mark.encode())
            except OSError:
                pass  # no extended attributes here: the lease ends by DEL or GC only
            # After a power cut the reference plugin must find no empty file: it could never release it.
            os.fsync(self._fd)
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        failure: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if failure is not None:
            for address in self.addresses:
                self._leases.release(address, self._container_id, self._ifname)
        self._close()

    def take(self, address: bytes, *, abandoned: bool = False) -> bool:
        """Take this very address; False when it is in use. `abandoned`: also if only by a namespace gone."""
        self.addresses.append(address)  # intent first: an interrupt after the link must find it here
        if self._leases._take(format_ip(address), f"/proc/self/fd/{self._fd}", abandoned=abandoned):
            return True
        self.addresses.remove(address)
        return False

    def take_next(self, given: RangeSet, last: bytes | None) -> tuple[Range, bytes] | None:
        """Take the first free address of a set after `last`; None when there is none."""
        candidates = given.after(last)
        for place, address in islice(candidates, _PROBES):
            if self.take(address):
                return place, address
        # Crowded. Names that are not there first: asking each lease for its boot is the slow part.
        names = set(os.listdir(self._leases._fd))
        crowded = []
        for place, address in candidates:
            if format_ip(address) in names:
                crowded.append((place, address))
            elif self.take(address):
                return place, address
        for place, address in crowded:
            if self.take(address):
                return place, address
        for place, address in given.after(last):
            if self.take(address, abandoned=True):
                return place, address
        return None

    def _close(self) -> None:
        if self._temporary:
            self._leases._unlink(self._temporary)
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _is(holder: tuple[str, str] | None, container_id: str, ifname: str) -> bool:
    """Whether a lease is this attachment's; an old one without an interface is all of its container's."""
    return holder is not None and holder[0] == container_id and holder[1] in ("", ifname)
