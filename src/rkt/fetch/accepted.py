"""Who vouches for an image of layers: the digest in its name, a signature, or nobody, if the user says so.

As for an ACI, an image that nobody vouches for needs --insecure-options=image; or a policy of the host
(`policy.d`) that takes anything from where it comes.
"""

from __future__ import annotations

from linux.named_tuple import NamedTuple
from rkt.config.policies import ANYTHING, DIGEST, SIGNATURE, Policy, policy_for
from rkt.errors import RktError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oci.types.descriptor import Descriptor
    from oci.types.reference import Reference
    from rkt.fetch.messages import Messages
    from rkt.settings import GlobalOptions


class Acceptance:
    """The policies of the host, and the check that the user may have switched off."""

    def __init__(self, settings: GlobalOptions, messages: Messages) -> None:
        from rkt.config.merged import load_policies

        self._settings = settings
        self._messages = messages
        self._policies = load_policies(settings.config_dirs())

    def of(self, name: str, *, pinned: bool) -> Accepted:
        """What holds for the image `name`; `pinned`: its digest is what the user asked for."""
        if "tls" in self._settings.insecure:
            self._messages.warn("TLS verification has been disabled")
        policy = policy_for(self._policies, name)
        if "image" in self._settings.insecure:
            self._messages.warn("image signature verification has been disabled")
            policy = policy._replace(accept=(ANYTHING,))
        elif ANYTHING in policy.accept:
            self._messages.say(f"no signature is looked for: {policy.path} accepts anything for {name}")
        return Accepted(self._settings, self._messages, policy, pinned)


class Accepted(NamedTuple):
    """What vouches for one image."""

    settings: GlobalOptions
    messages: Messages
    policy: Policy
    pinned: bool

    @property
    def _needs_signature(self) -> bool:
        return ANYTHING not in self.policy.accept and not (self.pinned and DIGEST in self.policy.accept)

    def refuse_early(self, shown: str, signature: str | None) -> None:
        """RktError when nothing that comes could make the image acceptable: it need not come."""
        if not self._needs_signature:
            return
        if not self.policy.accept:
            raise RktError(f"{shown}: {self.policy.path} accepts no image of this name")
        if SIGNATURE in self.policy.accept and (signature or self.policy.lookaside):
            return
        ways = ["take it unverified with --insecure-options=image"]
        if DIGEST in self.policy.accept:
            ways.insert(0, "name it by its digest (NAME@sha256:…)")
        if SIGNATURE in self.policy.accept:
            ways.append("say in policy.d where its signatures are")
        raise RktError(f"{shown}: nobody vouches for the image", hint=", or ".join(ways))

    def check(self, manifest: Descriptor, reference: Reference | None, signature: str | None) -> None:
        """Verify the signature, if one is needed. RktError, SignatureError."""
        if not self._needs_signature:
            return
        from rkt.fetch.simplesigning import verify

        verify(self.settings, self.messages, manifest, reference, signature, self.policy.lookaside)
