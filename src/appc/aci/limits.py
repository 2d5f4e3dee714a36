"""How much of the host one archive may take (rule R4), and how users say otherwise."""

from __future__ import annotations

from linux.named_tuple import NamedTuple

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30


class Limits(NamedTuple):
    """Upper bounds; sizes in bytes."""

    #: The uncompressed archive.
    size: int = 16 * GIB
    entries: int = 500_000
    #: One name, and the target of one link: PATH_MAX without its NUL.
    name: int = 4095
    #: Directories in one name.
    depth: int = 256
    manifest: int = 4 * MIB
    #: The records of one PAX header, and the extended attributes of the whole archive.
    pax_header: int = MIB
    xattrs: int = 16 * MIB
    #: Plain bytes per compressed byte, looked at once `ratio_grace` plain bytes have come out. gzip cannot
    #: pass 1030; images are between 2 and 10.
    ratio: int = 100
    ratio_grace: int = 256 * MIB
    #: What a decompressor may allocate: xz -9 needs 65 MiB, zstd --ultra -22 needs 128 MiB.
    memory: int = 128 * MIB

    @property
    def names(self) -> int:
        """Bytes of all names together, those of directories that are only implied included: 128 for each
        entry. A name of 4 KB with 250 directories in it implies half a megabyte.
        """
        return self.entries * 128

    @property
    def records(self) -> int:
        """Records in all PAX headers together: 16 for each entry, where most have one to four."""
        return self.entries * 16


DEFAULT = Limits()
#: What users may change: `images.d` of rkt, `--limit` of actool. What reading takes of memory is not among
#: it, nor a manifest's size.
CHANGEABLE = ("size", "entries", "depth", "xattrs", "ratio")
_LARGEST = 2**62


def changed(limits: Limits, name: str, value: object) -> Limits:
    """`limits` with another value, a whole number or text such as ``64Gi``, for one of CHANGEABLE.

    Raises ValueError.
    """
    from appc.types.quantity import NANO, Quantity

    if name not in CHANGEABLE:
        raise ValueError(f"there is no limit {name!r} to change: choose from {', '.join(CHANGEABLE)}")
    amount = Quantity.from_json(value)
    if amount.nanos % NANO or not 0 < amount.value() <= _LARGEST:
        raise ValueError(f"{name}: {amount} is not a whole number from 1 to {_LARGEST} (2^62)")
    return limits._replace(**{name: amount.value()})
