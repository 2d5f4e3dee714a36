"""Images and archives of files into the root filesystem of a build, in a cage (see `appc.aci.cage`).

Device nodes are never made in there; those of the image are made afterwards, from here, by who may.
"""

from __future__ import annotations

import errno
import os
import stat

from acbuild.errors import AcbuildError
from appc.aci import cage, compression, tar
from appc.aci.extract import below_rootfs, extract
from appc.aci.layout import MANIFEST, ROOTFS
from appc.aci.limits import DEFAULT
from appc.aci.unpack import Unpacker
from linux.named_tuple import NamedTuple
from linux.paths import Root

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import BinaryIO

    from appc.aci.tar import Entry

_DEVICES = (tar.CHARACTER_DEVICE, tar.BLOCK_DEVICE)


def is_image(file: BinaryIO) -> bool:
    """Whether the archive has a manifest and a rootfs at its top: else it is one of files."""
    wanted = {MANIFEST, ROOTFS}
    for entry in tar.TarReader(compression.inflate(file), DEFAULT):
        wanted.discard(entry.name.partition(b"/")[0])
        if not wanted:
            return True
    return False


def image(file: BinaryIO, rootfs: str) -> int:
    """Put the files of an ACI into the empty directory `rootfs`; how many device nodes could not be made."""
    found = extract(file, rootfs)
    return devices(file, rootfs, inside=True).refused if found.devices else 0


def archive(file: BinaryIO, rootfs: str) -> int:
    """Put the files of a tar archive, as they are named there, into the empty directory `rootfs`."""
    root = os.open(rootfs, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    stream = compression.Opened(file)
    owners = os.geteuid() == 0
    try:

        def work(inside: int) -> bytes:
            unpacker = Unpacker(inside, owners=owners)
            reader = tar.TarReader(stream.chunks(), DEFAULT)
            for entry in reader:
                unpacker.add(entry, reader.content())
            unpacker.finish()
            return b"%d" % unpacker.devices

        with cage.start(work, directory=root, keep=(stream.fileno(),), file_size=DEFAULT.size) as child:
            left_out = int(child.result())
            stream.finish()
        return devices(file, rootfs, inside=False).refused if left_out else 0
    finally:
        stream.close()
        os.close(root)


class Devices(NamedTuple):
    """How many device nodes were made, and how many the kernel did not allow."""

    made: int
    refused: int


def devices(file: BinaryIO, rootfs: str, *, inside: bool) -> Devices:
    """Make the device nodes that the archive has. Nothing is opened."""
    made = refused = 0
    with Root.open(rootfs) as root:
        for entry in tar.TarReader(compression.inflate(file), DEFAULT):
            if entry.kind in _DEVICES:
                node = below_rootfs(entry) if inside else entry
                if _make(root, node):
                    made += 1
                else:
                    refused += 1
    return Devices(made, refused)


def _make(root: Root, entry: Entry) -> bool:
    kind = stat.S_IFCHR if entry.kind is tar.CHARACTER_DEVICE else stat.S_IFBLK
    directory, _, name = os.fsdecode(entry.name).rpartition("/")
    parent = root.open_beneath(directory or ".", os.O_RDONLY | os.O_DIRECTORY)
    try:
        times = os.fstat(parent)
        os.mknod(name, kind | entry.mode & 0o777, os.makedev(*entry.device), dir_fd=parent)
        os.chown(name, entry.uid, entry.gid, dir_fd=parent, follow_symlinks=False)
        os.utime(name, ns=(entry.mtime, entry.mtime), dir_fd=parent, follow_symlinks=False)
        os.utime(parent, ns=(times.st_atime_ns, times.st_mtime_ns))
    except FileExistsError:
        raise AcbuildError(f"{os.fsdecode(entry.name)}: occurs twice in the image") from None
    except OSError as failed:
        if failed.errno not in {errno.EPERM, errno.EACCES}:
            raise
        return False
    finally:
        os.close(parent)
    return True


def digest(file: BinaryIO) -> str:
    """The SHA-256 of the file as it is, in hexadecimal digits."""
    import hashlib

    file.seek(0)
    found = hashlib.sha256()
    for data in _pieces(file):
        found.update(data)
    file.seek(0)
    return found.hexdigest()


def _pieces(file: BinaryIO) -> Iterable[bytes]:
    while data := file.read(1 << 20):
        yield data
