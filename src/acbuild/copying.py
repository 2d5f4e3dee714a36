"""The commands `copy`, `copy-to-dir` and `remove`, on an open build."""

from __future__ import annotations

import os

from acbuild import provenance
from acbuild.errors import AcbuildError, NotFound
from acbuild.tree.places import cleaned

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from acbuild.context import Build


def into(
    build: Build,
    sources: Sequence[str],
    target: str,
    *,
    to_directory: bool,
    chown: str,
    say: Callable[[str], None],
) -> None:
    """Copy `sources` to the path `target` of the image, or into the directory `target`."""
    from acbuild.tree import copying, owners

    for source in sources:
        if not os.path.lexists(source):
            raise AcbuildError(f"no such file or directory: {source}")
    with build.places() as places:
        owner = owners.parse(chown, places.root) if chown else None
        build.about_to_change()
        if to_directory:
            copied = copying.copy_to_directory(places, sources, target, owner=owner)
        else:
            copied = [copying.copy(places, sources[0], target, owner=owner)]
    for one in copied:
        if one.sockets:
            say(f"{one.source}: {one.sockets} sockets were left out")
    provenance.note_copied(build, copied)


def remove(build: Build, paths: Sequence[str]) -> None:
    """Remove what is at `paths` of the image. NotFound, before anything is removed, for what is not there."""
    names = [cleaned(path) for path in paths]
    with build.places() as places:
        for name, path in zip(names, paths, strict=True):
            if name == ".":
                raise AcbuildError(f"{path}: the root of the image cannot be removed")
            if not places.kind(name) and not build.repeats:
                raise NotFound(path, hint=_hint(build))
        build.about_to_change()
        for name in names:
            places.remove(name)


def _hint(build: Build) -> str | None:
    """What is not in the image itself may come of an image below it."""
    from acbuild.context import APPC

    if build.mode != APPC:
        return None
    from acbuild.image.appc import AppcImage

    image = build.image
    if not isinstance(image, AppcImage) or not image.manifest.dependencies:
        return None
    return "what is in a dependency is left out by `acbuild whitelist add`, or after `acbuild squash`"
