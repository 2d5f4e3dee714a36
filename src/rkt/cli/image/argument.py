"""What the user means by an image of the store: an ID, its beginning, a name with labels, docker://…."""

from __future__ import annotations

from rkt.errors import RktError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from appc.types.image_id import ImageID
    from rkt.store import Store

#: Characters that are shown of an image ID: of the short form, and of the one that rkt called full.
SHORT, FULL = 39, 71


def image(store: Store, text: str) -> ImageID:
    """The image that `text` means. NoSuchImage, or RktError for what is ambiguous or no name."""
    from rkt.store import NoSuchImage

    if not text:
        raise RktError("image ID or name cannot be empty")
    if text.startswith("sha512-"):
        return store.resolve(text)
    if text.startswith("docker:"):
        return _by_reference(store, text)
    from appc import app_string

    try:
        name, labels = app_string.parse(text)
    except ValueError as error:
        raise RktError(str(error)) from None
    found = store.find(name, labels)
    if found is None:
        raise NoSuchImage(f"{text}: no such image in the store", hint="see `rkt image list`")
    return found


def _by_reference(store: Store, text: str) -> ImageID:
    """What was last fetched as ``docker://…``."""
    from rkt.fetch import argument, reference
    from rkt.store import NoSuchImage

    found = reference.in_store(store, reference.parse(argument.parse(text)))
    if found is None:
        raise NoSuchImage(f"{text}: no such image in the store", hint=f"get it with `rkt fetch {text}`")
    return found
