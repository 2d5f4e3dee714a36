"""What was pushed becomes a published release, when everything about it is right."""

from __future__ import annotations

import os

from appc import jsonfield, signature
from appc.aci import reader
from appc.errors import AppcError
from appc.schema.image import ImageManifest
from appc.server import uploads
from appc.site import release, tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from appc.aci.reader import Archive
    from appc.server.config import Config
    from appc.server.uploads import Upload
    from appc.site.release import Release
    from appc.site.tree import Site


class Refused(AppcError):
    """A push that is not published; the text is for the client."""


def publish(config: Config, site: Site, upload: Upload) -> tuple[Release, bool]:
    """Publish what `upload` holds: what it is, and whether that changed anything. AppcError says why not."""
    if not upload.has(uploads.MANIFEST):
        raise Refused("manifest wasn't uploaded")
    signed = upload.has(uploads.SIGNATURE)
    if not config.unsigned and not signed:
        raise Refused("signature wasn't uploaded")
    if not upload.has(uploads.IMAGE):
        raise Refused("ACI wasn't uploaded")
    draft = site.draft()
    with draft as directory:
        image = f"{directory}/{tree.IMAGE}"
        os.link(f"{upload.path}/{uploads.IMAGE}", image)
        with open(image, "rb") as file:
            archive = reader.read_caged(file)
            manifest = _manifest(archive, upload)
            new = release.of_manifest(manifest)
            if config.server_name and not _is_below(new.name, config.server_name.partition(":")[0]):
                raise Refused(f"{new.name}: this server publishes names of {config.server_name} alone")
            if signed:
                made = upload.read(uploads.SIGNATURE)
                _verify(file.fileno(), made, config, site)
                with open(f"{directory}/{tree.SIGNATURE}", "xb") as out:
                    out.write(made)
        return new, site.publish(new, draft, replace=config.allow_override)


def _manifest(archive: Archive, upload: Upload) -> ImageManifest:
    """The image's manifest, which has to be the one that was sent beside it."""
    inside = ImageManifest.parse(archive.manifest)
    sent = ImageManifest.parse(upload.read(uploads.MANIFEST))
    if jsonfield.encode(inside.to_json()) != jsonfield.encode(sent.to_json()):
        raise Refused("the manifest that was uploaded is not that of the image")
    return inside


def _is_below(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(f"{prefix}/")


def _verify(fd: int, data: bytes, config: Config, site: Site) -> None:
    """Refuse a signature that no key of the site has made; without keys only where none is needed."""
    made = signature.read(data)
    keys = site.keys()
    if keys:
        signature.verify(fd, made, keys)
    elif not config.unsigned:
        raise Refused("the server has no pubkeys.gpg to verify the signature with")
