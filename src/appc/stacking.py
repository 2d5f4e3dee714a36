"""When overlayfs may stack images, each in a directory of its own, instead of their being rendered into one.

Both give the same root filesystem unless an image leaves something out (a path whitelist, a device node that
stands where a lower image has a file), links into another image, or lies in a directory that it does not
describe itself: an overlay shows the properties of the topmost directory, rendering those of the last entry.
"""

from __future__ import annotations

from appc.aci import compression, tar
from appc.aci.extract import below_rootfs
from appc.aci.layout import MANIFEST, Layout
from appc.aci.limits import DEFAULT, Limits
from appc.render import needed
from linux.named_tuple import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import BinaryIO

    from appc.render import Step
    from appc.types.image_id import ImageID


class Shape(NamedTuple):
    """What decides whether an image can be stacked. Names are below the rootfs, which is ``.`` itself."""

    #: Every path that the image makes, directories above its entries included.
    names: frozenset[bytes]
    #: Directories that have no entry, but something in them.
    implied: frozenset[bytes]
    devices: frozenset[bytes]
    links_elsewhere: bool


def shape(image: BinaryIO, *, limits: Limits = DEFAULT) -> Shape:
    """Read the shape of the image in `image` (seekable). InvalidArchive for one that breaks the layout."""
    layout = Layout(limits)
    explicit: set[bytes] = set()
    directories: set[bytes] = {b"."}
    devices: set[bytes] = set()
    targets: set[bytes] = set()
    for entry in tar.TarReader(compression.inflate(image, limits=limits), limits):
        layout.see(entry)
        layout.raise_if_bad()
        if entry.name in {MANIFEST, b"."}:
            continue
        inside = below_rootfs(entry)
        if inside.kind in {tar.CHARACTER_DEVICE, tar.BLOCK_DEVICE}:
            devices.add(inside.name)
        else:
            explicit.add(inside.name)
        if inside.kind is tar.HARD_LINK:
            targets.add(inside.target)
        above = inside.name.rpartition(b"/")[0]
        while above and above not in directories:
            directories.add(above)
            above = above.rpartition(b"/")[0]
    return Shape(
        frozenset(explicit | directories),
        frozenset(directories - explicit),
        frozenset(devices),
        not targets <= explicit,
    )


def stacked(steps: Sequence[Step], shape_of: Callable[[ImageID], Shape]) -> tuple[ImageID, ...] | None:
    """The images to stack, the topmost first, for what `steps` render; None when that is not the same."""
    if any(step.allowed is not None for step in steps):
        return None
    order = [step.image_id for step in needed(steps)]
    below: set[bytes] = set()
    for image_id in order:
        found = shape_of(image_id)
        if found.links_elsewhere or found.implied & below or found.devices & below:
            return None
        below |= found.names
    return tuple(reversed(order))
