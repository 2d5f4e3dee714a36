"""The signature policy of a fetch: which keys count, when they are looked for, what a signature proves."""

from __future__ import annotations

from rkt.errors import RktError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from appc.keystore import TrustedKey
    from appc.openpgp import Signature
    from appc.schema.image import ImageManifest
    from appc.signature import Verified
    from rkt.fetch.messages import Messages
    from rkt.settings import GlobalOptions


class Verifier:
    """Checks signatures against the key store. `needed` is False with --insecure-options=image."""

    def __init__(self, settings: GlobalOptions, messages: Messages) -> None:
        from appc.keystore import KeyStore

        self._settings = settings
        self._messages = messages
        self._keys = KeyStore(settings.system_config, settings.local_config)
        self.needed = "image" not in settings.insecure
        self._warned = False

    def warn(self) -> None:
        """Say, once a command, what is not checked: every time, as it is never to be forgotten."""
        if self._warned:
            return
        self._warned = True
        if "tls" in self._settings.insecure:
            self._messages.warn("TLS verification has been disabled")
        if not self.needed:
            self._messages.warn("image signature verification has been disabled")

    def find_keys(self, name: str) -> None:
        """Make sure that there are keys for `name`, by discovery if there are none yet.

        Whatever fails here is told, not raised: the key may be there after all, and if not, that is an error.
        """
        from appc.errors import AppcError
        from rkt import trust

        if self._keys.trusted(name):
            self._messages.detail(f'keys already exist for prefix "{name}", not fetching again')
            return
        try:
            trust.discover_and_add(self._settings, self._keys, name, self._messages)
        except (AppcError, RktError, OSError) as error:
            self._messages.say(f"error determining key location: {error}")

    def read(self, data: bytes) -> Signature:
        from appc import signature

        return signature.read(data)

    def check_signer(self, made: Signature, name: str | None) -> None:
        """UnknownSigner if no key that is trusted for `name` (None: for any) can have made the signature."""
        from appc import signature

        try:
            signature.candidates(made, [trusted.key for trusted in self._trusted(name)])
        except signature.UnknownSigner as error:
            error.hint = self._hint(error.key_id, name)
            raise

    def verify(self, fd: int, made: Signature, name: str | None) -> Callable[[ImageManifest], None]:
        """Check the signature over the file `fd`. What is returned must then be asked about the manifest.

        The manifest alone says which image this is, and so whether the key is trusted for it.
        """
        from appc import signature

        try:
            verified = signature.verify(fd, made, [trusted.key for trusted in self._trusted(name)])
        except signature.UnknownSigner as error:
            error.hint = self._hint(error.key_id, name)
            raise

        def check(manifest: ImageManifest) -> None:
            if not self._keys.trusts(verified.key, manifest.name):
                raise signature.UnknownSigner(made, hint=self._hint(verified.key.fingerprint, manifest.name))
            self._tell(verified)

        return check

    def _trusted(self, name: str | None) -> list[TrustedKey]:
        return self._keys.all() if name is None else self._keys.trusted(name)

    def _tell(self, verified: Verified) -> None:
        self._messages.say("signature verified:")
        for user in verified.key.user_ids:
            self._messages.plain(f"  {user}")

    @staticmethod
    def _hint(key_id: str, name: str | None) -> str:
        where = f"--prefix={name}" if name else "--prefix=NAME"
        return (
            f"the signature is by the key {key_id}, which is not trusted for {name or 'any name'}; "
            f"to trust it, run `rkt trust {where} KEYFILE`"
        )
