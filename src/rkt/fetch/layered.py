"""Images of layers from registries and files: bring the blobs, check who vouches for it, then the record.

What is fetched is kept as it came; see `rkt.store.oci`.
"""

from __future__ import annotations

import time

from oci.convert.to_manifest import Origin
from oci.registry import configured, pull
from oci.types.platform import Platform
from oci.types.reference import Reference
from rkt.fetch.accepted import Acceptance
from rkt.store.oci import content

TYPE_CHECKING = False
if TYPE_CHECKING:
    from appc.types.image_id import ImageID
    from oci.image import Image
    from oci.registry.logins import Logins
    from oci.registry.settings import Settings
    from rkt.fetch.argument import Source
    from rkt.fetch.messages import Messages
    from rkt.settings import GlobalOptions
    from rkt.store import Store

#: Seconds from which on the user hears that a registry wants to be left alone.
_LONG = 2.0


class Layered:
    """What brings images of layers, for one command."""

    def __init__(self, settings: GlobalOptions, store: Store, messages: Messages) -> None:
        self._settings = settings
        self._store = store
        self._messages = messages
        self._acceptance = Acceptance(settings, messages)

    def registry(self, reference: Reference, signature: str | None) -> ImageID:
        """The image `reference` of a registry, as it is there now."""
        accepted = self._acceptance.of(reference.name, pinned=reference.digest is not None)
        accepted.refuse_early(str(reference), signature)
        with content.InUse(self._store.paths):
            image = self._pull(reference)
            accepted.check(image.descriptor, reference, signature)
            return self._import(image, Origin.of(reference), str(reference))

    def _pull(self, reference: Reference) -> Image:
        with self._messages.progress(f"Downloading {reference}") as progress:

            def advance(count: int, total: int) -> None:
                progress.total = total
                progress.advance(count)

            return pull.pull(
                reference,
                content.blobs(self._store.paths),
                Platform.of_host(),
                settings=registry_settings(self._settings),
                logins=logins(self._settings),
                progress=advance,
                wait=self._wait,
            ).image

    def _wait(self, seconds: float) -> None:
        if seconds >= _LONG:
            self._messages.say(f"the registry asks for patience: waiting {seconds:.0f} s")
        time.sleep(seconds)

    def file(self, source: Source, signature: str | None) -> ImageID:
        """The image in an OCI layout or a docker archive."""
        from rkt.fetch import imagefile

        accepted = self._acceptance.of("", pinned=bool(source.digest))
        accepted.refuse_early(source.text, signature)
        blobs = content.blobs(self._store.paths)
        with content.InUse(self._store.paths), imagefile.opened(source, Platform.of_host()) as found:
            reference = imagefile.reference(found)
            accepted.check(found.image.descriptor, reference, signature)
            return self._import(found.image.copy_to(blobs), imagefile.origin(source, found), "")

    def _import(self, image: Image, origin: Origin, reference: str) -> ImageID:
        origin = origin._replace(original=reference or origin.original)
        return self._store.import_layers(image, origin, reference, note=self._messages.warn)


def registry_settings(settings: GlobalOptions) -> Settings:
    """Mirrors, certificates and such of the configuration, under the checks that the user left on."""
    return configured.settings(
        settings.config_dirs(),
        plain_http="http" in settings.insecure,
        insecure_tls="tls" in settings.insecure,
    )


def logins(settings: GlobalOptions) -> Logins:
    """Who we are at registries: what auth.d says, then what docker and podman have in their files."""
    return configured.logins(settings.config_dirs())
