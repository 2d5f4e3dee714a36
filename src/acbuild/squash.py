"""Making an image of mode appc independent: what it has of its dependencies becomes its own.

The image is rendered as an executor would render it, from the archives of its dependencies and one of itself.
"""

from __future__ import annotations

import os

from acbuild import fetch, provenance
from acbuild.context import CURRENT
from acbuild.errors import AcbuildError
from acbuild.image.appc import AppcImage
from acbuild.running import dependencies
from acbuild.tree import unpacking
from appc.types.image_id import ImageID
from linux import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import BinaryIO

    from acbuild.context import Build
    from acbuild.settings import Settings

#: Where the new root filesystem is made, and where the old one waits for its end.
_NEW, _OLD = f"{CURRENT}/rendered", f"{CURRENT}/replaced"


def squash(build: Build, settings: Settings, *, insecure: bool, say: Callable[[str], None]) -> None:
    """Render the image into its own root filesystem, and drop dependencies and whitelist."""
    from appc import render

    image = build.image
    if not isinstance(image, AppcImage):
        raise AcbuildError("is for builds of mode appc")
    if dependencies.deleted(build):
        dependencies.rendered(build, image.manifest, settings, insecure=insecure, say=say)
    manifest = dependencies.whitelisted(build, image.manifest)
    if not manifest.dependencies and not manifest.path_whitelist:
        return
    closure = fetch.dependencies(settings, manifest, insecure=insecure, say=say)
    if not os.path.lexists(build.rootfs):
        os.rename(f"{build.path}/{_OLD}", build.rootfs)  # a squash was killed between the two renames below
    for name in (_NEW, _OLD):
        files.remove_tree(f"{build.path}/{name}")  # of a squash that was killed
    new = f"{build.path}/{_NEW}"
    with _archived(build) as own:
        top = ImageID.from_digest(bytes(64))  # no image has it

        def find(image_id: ImageID) -> render.Image:
            if image_id == top:
                return render.Image(top, closure.direct, manifest.path_whitelist)
            below, whitelist = closure.images[image_id]
            return render.Image(image_id, below, whitelist)

        def open_image(image_id: ImageID) -> BinaryIO:
            if image_id == top:
                return open(f"/proc/self/fd/{own.fileno()}", "rb")
            return closure.open(image_id)

        steps = render.flatten(top, find)
        os.mkdir(new, 0o755)
        build.about_to_change()
        rendered = render.render(render.needed(steps), open_image, new)
        if rendered.devices:
            own.seek(0)
            made = unpacking.devices(own, new, inside=True).made
            if made < rendered.devices:
                say(f"{rendered.devices - made} device nodes were left out")
    for image_id in closure.images:
        provenance.note(build, f"appc:{image_id}", {"sha512": image_id.removeprefix("sha512-")})
    os.rename(build.rootfs, f"{build.path}/{_OLD}")
    os.rename(new, build.rootfs)
    image.manifest = manifest.replace(dependencies=(), path_whitelist=())
    image.save()
    dependencies.forget_deleted(build)
    files.remove_tree(f"{build.path}/{_OLD}")


def _archived(build: Build) -> BinaryIO:
    """The image as it is, as an archive in a file without a name."""
    from appc.aci import writer

    fd = files.anonymous_file(build.path)
    file = os.fdopen(fd, "w+b")
    try:
        writer.build(build.rootfs, build.image.text("manifest", pretty=False), file, compression="none")
        file.seek(0)
    except BaseException:
        file.close()
        raise
    return file
