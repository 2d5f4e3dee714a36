"""The files of the images that a build depends on: rendered once, below the image's own in every run.

What a command deletes of them is kept as a list in the context and taken out of the rendered files, so that
the image's own files are a plain directory at any time. An ACI expresses a deletion by a path whitelist: all
paths but the deleted ones (`whitelisted`).
"""

from __future__ import annotations

import hashlib
import os

from acbuild.context import CURRENT
from acbuild.errors import AcbuildError
from acbuild.running.changes import merged
from linux import files
from linux.paths import Root

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from acbuild.context import Build
    from acbuild.settings import Settings
    from appc.schema.image import ImageManifest

#: In the context: a directory by the dependencies that it is rendered of.
RENDERED = "depstore-expanded"
#: Names below the root of what was deleted, each ended by a NUL.
DELETED = f"{CURRENT}/deleted"


def rendered(
    build: Build,
    manifest: ImageManifest,
    settings: Settings,
    *,
    insecure: bool = False,
    say: Callable[[str], None],
) -> tuple[str, ...]:
    """The directories to have below the image's own files, the topmost first; fetched if they must be."""
    if not manifest.dependencies:
        return ()
    place = _place(build, manifest)
    if not os.path.isdir(place):
        _render(build, manifest, settings, place, insecure=insecure, say=say)
    with Root.open(place) as root:
        for name in deleted(build):
            root.remove(os.fsdecode(name))
    return (place,)


def _place(build: Build, manifest: ImageManifest) -> str:
    listed = repr([dependency.to_json() for dependency in manifest.dependencies])
    key = hashlib.sha256(listed.encode("utf-8", "surrogateescape")).hexdigest()
    return f"{build.path}/{RENDERED}/{key}"


def _render(
    build: Build,
    manifest: ImageManifest,
    settings: Settings,
    place: str,
    *,
    insecure: bool,
    say: Callable[[str], None],
) -> None:
    from acbuild import fetch, provenance
    from appc import render
    from appc.types.image_id import ImageID

    closure = fetch.dependencies(settings, manifest, insecure=insecure, say=say)
    top = ImageID.from_digest(bytes(64))  # no image has it: the one that is being built

    def find(image_id: ImageID) -> render.Image:
        if image_id == top:
            return render.Image(top, closure.direct, ())
        below, whitelist = closure.images[image_id]
        return render.Image(image_id, below, whitelist)

    files.remove_tree(f"{build.path}/{RENDERED}")
    os.mkdir(f"{build.path}/{RENDERED}", 0o700)
    new = f"{build.path}/{RENDERED}/new"
    os.mkdir(new, 0o755)
    steps = render.flatten(top, find)[:-1]
    done = render.render(render.needed(steps), closure.open, new)
    if done.devices:
        say(f"{done.devices} device nodes of the dependencies are not there in a run")
    for image_id in closure.images:
        provenance.note(build, f"appc:{image_id}", {"sha512": image_id.removeprefix("sha512-")})
    os.rename(new, place)


def deleted(build: Build) -> set[bytes]:
    """What was deleted of the dependencies so far."""
    try:
        with open(f"{build.path}/{DELETED}", "rb") as file:
            return set(file.read().split(b"\0")[:-1])
    except FileNotFoundError:
        return set()


def note_deleted(build: Build, names: Iterable[bytes]) -> None:
    """Note that these were deleted too: before the image's own files forget it."""
    known = deleted(build)
    wanted = known.union(names)
    if wanted != known:
        data = b"".join(name + b"\0" for name in sorted(wanted))
        files.write_atomically(f"{build.path}/{DELETED}", data, durable=False)


def forget_deleted(build: Build) -> None:
    """The image has no dependencies any more."""
    files.remove_tree(f"{build.path}/{RENDERED}")
    try:
        os.unlink(f"{build.path}/{DELETED}")
    except FileNotFoundError:
        return


def whitelisted(build: Build, manifest: ImageManifest) -> ImageManifest:
    """The manifest as it has to be written: with a whitelist of all that is not deleted, if anything is.

    A whitelist that the image has already loses what is deleted.
    """
    if not manifest.dependencies or not deleted(build):
        return manifest
    place = _place(build, manifest)
    if not os.path.isdir(place):
        raise AcbuildError(
            "the dependencies are others than those that files were deleted of",
            hint="have them rendered: by an `acbuild run`, or `acbuild squash`",
        )
    from appc.aci import whitelist

    with Root.open(place) as root:
        for name in deleted(build):
            root.remove(os.fsdecode(name))
    names = merged(build.rootfs, (place,))
    own = whitelist.paths(manifest.path_whitelist)
    kept = names if own is None else names & own
    try:
        paths = sorted("/" if name == b"." else f"/{name.decode()}" for name in kept)
    except UnicodeDecodeError as error:
        shown = error.object.decode("utf-8", "backslashreplace")
        raise AcbuildError(
            f"/{shown}: has no place in a whitelist, which is Unicode", hint="use `acbuild squash`"
        ) from None
    return manifest.replace(path_whitelist=tuple(paths or ["/"]))
