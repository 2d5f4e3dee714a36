"""What a run takes beside the layers: a scratch directory, and places in the image to mount on."""

from __future__ import annotations

import os

from acbuild.engines import root
from acbuild.engines.supervision import NoOverlay
from linux.files import remove_tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from acbuild.engines import Layers


class Places:
    """Directories and files to mount on, parents first, that the run needs in the root filesystem."""

    def __init__(self, directories: tuple[str, ...], *, resolver: bool) -> None:
        self.directories = directories
        self.files = (root.RESOLV_CONF,) if resolver else ()
        if resolver and "etc" not in directories:
            self.directories = (*directories, "etc")


class Workspace:
    """``with Workspace(layers, places)``: made before the run, when what a killed one left is removed too."""

    def __init__(self, layers: Layers, places: Places) -> None:
        self._layers = layers
        self._places = places
        self._mount_point = f"{layers.scratch}/base"
        self._work = f"{layers.scratch}/work"
        self._placeholders = root.Placeholders(layers.upper, f"{layers.scratch}/placeholders")

    def __enter__(self) -> Workspace:
        self._placeholders.remove()
        remove_tree(self._layers.scratch)
        for path in (self._layers.scratch, self._mount_point, self._work):
            os.mkdir(path, 0o700)
        return self

    def __exit__(self, *_: object) -> None:
        root.remove_skeleton_marks(self._layers, self._places.directories, self._places.files)
        self._placeholders.remove()
        remove_tree(self._layers.scratch)

    def mount(self) -> tuple[int, int]:
        """Mount the root filesystem; fds of the base and of the root in it. In the child's namespace.

        NoOverlay when there are lower layers and no overlay can be made here.
        """
        root.make_private()
        base = root.base(self._mount_point)
        return base, root.attach_root(base, self._top(base))

    @property
    def path(self) -> str:
        """Where `mount` mounts the root filesystem."""
        return f"{self._mount_point}/root"

    def _top(self, base: int) -> int:
        lowest = root.skeleton(base, self._places.directories, self._places.files)
        try:
            return root.stacked(self._layers, lowest, self._work)
        except OSError as error:
            if error.errno not in root.NO_OVERLAY:
                raise
        finally:
            os.close(lowest)
        if self._layers.lowers:
            raise NoOverlay
        self._placeholders.make(self._places.directories, self._places.files)
        return root.plain(self._layers.upper)


def stacked_or_copied(layers: Layers, once: Callable[[Layers], int], *, say: Callable[[str], None]) -> int:
    """Call `once` with `layers`, or if no overlay can be made of them with a copy of them all."""
    try:
        return once(layers)
    except NoOverlay:
        from acbuild.engines import copied

        say("no overlay is possible here: what the image depends on is copied for the run")
        return copied.run(layers, once)
