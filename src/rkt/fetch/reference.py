"""References to images in registries, and finding what was fetched by one: all that a warm start needs."""

from __future__ import annotations

from oci.types.reference import Reference
from rkt.errors import RktError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from appc.types.image_id import ImageID
    from rkt.fetch.argument import Source
    from rkt.store import Store


def parse(source: Source) -> Reference:
    """The reference that the user means."""
    try:
        return Reference.parse(source.value)
    except ValueError as error:
        raise RktError(str(error), hint="such as docker://busybox or docker://quay.io/a/b:1") from None


def in_store(store: Store, wanted: Reference) -> ImageID | None:
    """The image that was last fetched as `wanted`; None if that is not in the store."""
    from oci.convert.to_manifest import Origin

    return store.find_reference(Origin.of(wanted).name, str(wanted))
