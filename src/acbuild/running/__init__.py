"""Running a command in the image of a build."""

from __future__ import annotations

import time

from acbuild import rootless
from acbuild.engines import Command, Layers
from acbuild.image.appc import AppcImage
from acbuild.tree.places import source_date_epoch
from linux import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from acbuild.context import Build
    from acbuild.settings import Settings

#: In the context: what an engine needs for a run, on the filesystem of the image.
SCRATCH = "work"
#: CLOCK_REALTIME_COARSE, from which the kernel takes the times of files.
_COARSE = 5


class Wanted:
    """What to run and how: the words of the command line."""

    def __init__(
        self, argv: list[str], *, engine: str, working_directory: str, network: bool, insecure: bool
    ) -> None:
        self.argv = tuple(argv)
        self.engine = engine
        self.working_directory = working_directory
        self.network = network
        self.insecure = insecure


def run(build: Build, settings: Settings, wanted: Wanted, *, say: Callable[[str], None]) -> int:
    """Run the command in the image, over what the image depends on; its exit code.

    What it changed is in the image then, whatever its code. Its files and directories have the time 0, or
    SOURCE_DATE_EPOCH, as all that acbuild makes.
    """
    from acbuild import engines
    from acbuild.running.changes import Changes

    lowers: tuple[str, ...] = ()
    image = build.image
    if isinstance(image, AppcImage):
        from acbuild.running.dependencies import rendered

        lowers = rendered(build, image.manifest, settings, insecure=wanted.insecure, say=say)
    command = Command(
        wanted.argv,
        image.environment(),
        wanted.working_directory or image.working_directory() or "/",
        network=wanted.network,
    )
    build.about_to_change()
    rootless.mark(build.path)
    start = time.clock_gettime_ns(_COARSE)
    layers = Layers(lowers, build.rootfs, f"{build.path}/{SCRATCH}", set())
    try:
        return engines.run(wanted.engine, layers, command, say=say)
    finally:
        changes = Changes(build.rootfs, lowers)
        changes.settle(start, source_date_epoch() or 0)
        if deleted := changes.deleted | layers.deleted:
            from acbuild.running.dependencies import note_deleted

            note_deleted(build, deleted)
        changes.forget_marks()
        files.remove_tree(layers.scratch)
