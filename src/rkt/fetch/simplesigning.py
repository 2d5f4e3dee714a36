"""Signatures of images of layers in the way of podman and skopeo ("simple signing", containers-signature(5)).

A signature is an OpenPGP message whose content claims: the manifest with this digest is the image of this
name. It lies beside the registry, in a directory or on a web server (the "lookaside"), as
``REPOSITORY@ALGORITHM=DIGITS/signature-N``, or in a file that the user names. The keys are those of
`rkt trust`, for the image's name.
"""

from __future__ import annotations

import os

from appc import jsonfield, signature, signedmessage
from appc.errors import AppcError
from appc.http.errors import BadStatus
from appc.jsonfield import obj, string
from appc.keystore import KeyStore
from appc.schema.kind import exactly
from linux.named_tuple import NamedTuple
from oci.convert.to_manifest import identifier
from oci.types.digest import Digest
from oci.types.reference import Reference
from rkt.errors import RktError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from oci.types.descriptor import Descriptor
    from rkt.fetch.messages import Messages
    from rkt.settings import GlobalOptions

_TYPE = "atomic container signature"
#: Signatures that are looked at: a server may have any number, and each costs a run of gpgv.
_MOST = 16
_UNREADABLE = "error opening signature file"


class Claim(NamedTuple):
    """What a signature says: the image `reference` has the manifest `digest`."""

    reference: str
    digest: Digest

    @classmethod
    def parse(cls, data: bytes) -> Claim:
        """ValueError for what is no claim; what stands in a critical place must be understood."""
        whole = _only(jsonfield.parse(data, limit=signedmessage.LIMIT), "critical", "optional")
        critical = _only(whole.get("critical"), "type", "identity", "image")
        identity = _only(critical.get("identity"), "docker-reference")
        image = _only(critical.get("image"), "docker-manifest-digest")
        exactly(_TYPE)(critical.get("type"))
        return cls(string(identity.get("docker-reference")), Digest(image.get("docker-manifest-digest")))


def _only(value: object, *names: str) -> dict[str, object]:
    """The object, which has no other members than these."""
    found = obj(value)
    if unknown := sorted(set(found) - set(names)):
        raise ValueError(f"the claim has a member {jsonfield.quoted(unknown[0])}, which is not known")
    return found


def verify(
    settings: GlobalOptions,
    messages: Messages,
    manifest: Descriptor,
    reference: Reference | None,
    signature_file: str | None,
    lookaside: str,
) -> None:
    """Find a signature that says that `reference` is the image with `manifest`, by a key trusted for it.

    Raises RktError, with the reason for each signature that was found.
    """
    if reference is None:
        raise RktError(
            "the image has no name that a signature could be for",
            hint="name it by its digest, or take it unverified with --insecure-options=image",
        )
    keys = KeyStore(settings.system_config, settings.local_config)
    failures: list[str] = []
    for place, data in _signatures(settings, manifest.digest, reference, signature_file, lookaside):
        try:
            users = _check(data, manifest.digest, reference, keys)
        except (AppcError, RktError, ValueError) as error:
            failures.append(f"{place}: {error}")
            continue
        messages.say("signature verified:")
        for user in users:
            messages.plain(f"  {user}")
        return
    prefix = identifier(reference.name)
    raise RktError(
        f"{reference}: " + ("; ".join(failures) or "there is no signature for the image"),
        hint=f"to trust the key of who signs it, run `rkt trust --prefix={prefix} KEYFILE`",
    )


def _check(data: bytes, digest: Digest, reference: Reference, keys: KeyStore) -> tuple[str, ...]:
    """The user IDs of the key that made the signature, if it proves what it has to."""
    made, content = signedmessage.read(data)
    # Docker Hub is `docker.io` in references, and what it is asked by in the names of images.
    names = {identifier(reference.name), identifier(f"{reference.host}/{reference.repository}")}
    trusted = {one.key.fingerprint: one.key for name in sorted(names) for one in keys.trusted(name)}
    fd = os.memfd_create("claim", os.MFD_CLOEXEC)
    try:
        os.write(fd, content)
        verified = signature.verify(fd, made, trusted.values())
    finally:
        os.close(fd)
    claim = Claim.parse(content)
    if claim.digest != digest:
        raise RktError(f"is for the manifest {claim.digest}, not {digest}")
    claimed = Reference.parse(claim.reference)
    # As containers-policy.json(5) has it for matchRepoDigestOrExact: a digest says more than a tag.
    same_tag = reference.digest is not None or claimed.shown_tag == reference.shown_tag
    if claimed.name != reference.name or not same_tag:
        raise RktError(f"is for {claim.reference}")
    return verified.key.user_ids


def _signatures(
    settings: GlobalOptions,
    digest: Digest,
    reference: Reference,
    signature_file: str | None,
    lookaside: str,
) -> Iterator[tuple[str, bytes]]:
    """Where each signature was found, and its bytes."""
    if signature_file is not None:
        from rkt.fetch.remote import read_regular

        yield signature_file, read_regular(signature_file, _UNREADABLE, signedmessage.LIMIT)
        return
    base = f"{lookaside}/{reference.repository}@{digest.algorithm}={digest.hex}"
    for number in range(1, _MOST + 1):
        place = f"{base}/signature-{number}"
        data = _read_file(place) if place.startswith("file://") else _download(settings, place)
        if data is None:
            return
        yield place, data


def _read_file(address: str) -> bytes | None:
    from rkt.fetch.remote import read_regular

    path = address.removeprefix("file://")
    if not os.path.lexists(path):
        return None
    return read_regular(path, _UNREADABLE, signedmessage.LIMIT)


def _download(settings: GlobalOptions, address: str) -> bytes | None:
    from rkt.fetch.remote import web_client

    with web_client(settings) as client:
        try:
            return client.document(address, limit=signedmessage.LIMIT)
        except BadStatus as error:
            if error.status == 404:
                return None
            raise
