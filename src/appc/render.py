"""Rendering: from an image and what it depends on to one root filesystem (appc spec, "Dependency Matching").

Depth first: for each image its dependencies in the order they are listed, then the image itself, later ones
over earlier ones. An image that is reached twice is applied twice, each time under the whitelists of its
branch.
"""

from __future__ import annotations

from appc.aci import whitelist
from appc.aci.limits import DEFAULT, Limits
from appc.errors import AppcError
from linux.named_tuple import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import BinaryIO

    from appc.aci.extract import Extracted
    from appc.types.image_id import ImageID

#: Steps of one rendering. Images that share dependencies multiply: thirty levels of two are 10^9 steps.
MAX_STEPS = 1000
MAX_DEPTH = 100


class Image(NamedTuple):
    """What rendering has to know of an image. `dependencies` are resolved: IDs of images that are there."""

    image_id: ImageID
    dependencies: Sequence[ImageID] = ()
    path_whitelist: Iterable[str] = ()


class Step(NamedTuple):
    """An image to apply; `allowed` are the names below the rootfs that may come of it (None: all)."""

    image_id: ImageID
    allowed: frozenset[bytes] | None


def flatten(top: ImageID, find: Callable[[ImageID], Image]) -> tuple[Step, ...]:
    """The steps that render the image `top`, the lowest first; `find` looks images up.

    Raises AppcError for images that depend on each other in a circle, and for more than MAX_STEPS.
    """
    steps: list[Step] = []
    branch: list[ImageID] = []

    def visit(image_id: ImageID, allowed: frozenset[bytes] | None) -> None:
        if image_id in branch:
            circle = " -> ".join(one.short for one in (*branch[branch.index(image_id) :], image_id))
            raise AppcError(f"images depend on each other in a circle: {circle}")
        if len(branch) >= MAX_DEPTH:
            raise AppcError(f"{top.short}: dependencies are more than {MAX_DEPTH} levels deep")
        image = find(image_id)
        allowed = whitelist.both(allowed, whitelist.paths(image.path_whitelist))
        branch.append(image_id)
        for dependency in image.dependencies:
            visit(dependency, allowed)
        branch.pop()
        if len(steps) >= MAX_STEPS:
            raise AppcError(f"{top.short}: rendering takes more than {MAX_STEPS} images")
        steps.append(Step(image_id, allowed))

    visit(top, None)
    return tuple(steps)


def needed(steps: Sequence[Step]) -> tuple[Step, ...]:
    """`steps` without those that a later one of the same image overwrites completely.

    That is the case when the later one allows all that the earlier one did: it puts every path of the image
    in place again, over whatever came between.
    """
    kept: list[Step] = []
    for place, step in enumerate(steps):
        later = (s for s in steps[place + 1 :] if s.image_id == step.image_id)
        if not any(s.allowed is None or s.allowed == step.allowed for s in later):
            kept.append(step)
    return tuple(kept)


def render(
    steps: Sequence[Step],
    open_image: Callable[[ImageID], BinaryIO],
    directory: int | str,
    *,
    limits: Limits = DEFAULT,
    measured: bool = False,
    meanwhile: Callable[[], None] | None = None,
) -> Extracted:
    """Apply `steps` to the empty `directory` (fd or path), in a cage; see `appc.aci.extract`."""
    from contextlib import ExitStack

    from appc.aci.extract import Layer, extract_layers

    with ExitStack() as stack:
        layers = [Layer(stack.enter_context(open_image(step.image_id)), step.allowed) for step in steps]
        return extract_layers(layers, directory, limits=limits, measured=measured, meanwhile=meanwhile)
