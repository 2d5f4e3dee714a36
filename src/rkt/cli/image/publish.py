"""rkt image publish: write a directory of images that any web server can serve."""

from __future__ import annotations

import os

from appc.errors import AppcError
from rkt.errors import RktError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from typing import BinaryIO

    from appc.schema.image import ImageManifest
    from appc.site.release import Release
    from appc.site.tree import Site
    from console.output import Output

EXAMPLES = """\
  rkt image publish --base-url=https://example.com --key=release@example.com /srv/www app.aci
  rkt image publish /srv/www example.com/app:1.2 other.aci
  rkt image publish --base-url=https://images.example.com /srv/www
"""
DESCRIPTION = """\
Puts images into DIR, with their signatures, the keys that made these, and a page for each name with the tags
of discovery. When a web server serves DIR at the address, `rkt fetch` finds and verifies the images by name.
Also under DIR: `latest`, which is the highest version unless an image calls itself so.

An IMAGE is a file, with its signature beside it (FILE.asc), or an image of the store. What has no signature
is signed with --key. An image needs the labels version, os and arch. Each image appears, or replaces another
one of its version, at once with its signature; the same again changes nothing. Without an IMAGE the pages are
written anew, as after --base-url or when files were removed from DIR by hand.
"""
_PIECE = 1 << 20


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "directory", metavar="DIR", help="what the web server serves; made when it is missing"
    )
    parser.add_argument("images", metavar="IMAGE", nargs="*", help="a file, or an image of the store")
    parser.add_argument("--base-url", metavar="URL", help="where DIR is served (default: as the last time)")
    parser.add_argument("--key", metavar="KEY", help="gpg's key to sign with; its public half is published")
    parser.add_argument(
        "--pubkeys", metavar="FILE", action="append", default=[], help="publish these public keys too"
    )
    parser.add_argument("--unsigned", action="store_true", help="publish images without a signature as well")
    parser.add_argument("--no-replace", action="store_true", help="fail when another image has the version")


def run(options: argparse.Namespace, out: Output) -> int:
    from appc.site import tree

    base = _base(options)
    try:
        os.makedirs(options.directory, mode=0o755, exist_ok=True)
    except OSError as error:
        raise RktError(f"{options.directory}: {error.strerror}") from None
    tree.remember_base(options.directory, base)
    site = tree.Site(options.directory, base)
    _add_keys(site, options)
    for text in options.images:
        release, changed = _publish(site, text, options)
        out.line(f"{base}/{release.path}")
        out.debug(f"{release.path}: " + ("published" if changed else "was published already"))
        if site.page_of(release.name) is None:
            out.warn(
                f"{release.name} cannot be discovered here: its page is not below {base}",
                hint=f"let https://{release.name} hold its tag ac-discovery, or serve DIR at the host's root",
            )
    if not options.images:
        site.refresh()
    return 0


def _base(options: argparse.Namespace) -> str:
    from appc.site import tree

    if options.base_url is None:
        base = tree.remembered_base(options.directory)
        if not base:
            raise RktError(
                f"{options.directory}: it is not known where it is served", hint="give --base-url=URL"
            )
        return base
    try:
        return tree.checked_base(options.base_url)
    except ValueError as error:
        raise RktError(f"--base-url {error}") from None


def _add_keys(site: Site, options: argparse.Namespace) -> None:
    from appc import openpgp, signing

    keys = []
    for path in options.pubkeys:
        with open(path, "rb") as file:
            data = file.read(openpgp.KEY_LIMIT + 1)
        try:
            keys += openpgp.read_keys(data, armored_only=False)
        except openpgp.MalformedError as error:
            raise RktError(f"{path}: {error}", hint=error.hint) from None
    if options.key:
        keys += openpgp.read_keys(signing.public_key(options.key))
    if keys:
        site.add_keys(keys)


def _publish(site: Site, text: str, options: argparse.Namespace) -> tuple[Release, bool]:
    """Publish one image: what it is, and whether that changed anything."""
    from appc.aci import reader
    from appc.schema.image import ImageManifest
    from appc.site import release, tree

    draft = site.draft()
    with draft as directory:
        image, signature = f"{directory}/{tree.IMAGE}", f"{directory}/{tree.SIGNATURE}"
        with open(image, "xb+") as file:
            beside = _copy(text, file, options)
            file.flush()
            archive = reader.read_caged(file)
            manifest: ImageManifest = ImageManifest.parse(archive.manifest)
            try:
                new = release.of_manifest(manifest)
            except AppcError as error:
                raise RktError(f"{text}: {error}", hint=error.hint) from None
            made = _signature(site, new, file, beside, options)
            if made is not None:
                with open(signature, "xb") as out:
                    out.write(made)
        return new, site.publish(new, draft, replace=not options.no_replace)


def _copy(text: str, file: BinaryIO, options: argparse.Namespace) -> bytes | None:
    """Write the image that `text` means to `file`; the signature beside it, if there is one.

    What comes from the store is compressed; the same image gives the same bytes.
    """
    from rkt.fetch import argument

    source = argument.parse(text)
    if source.kind == argument.FILE:
        import shutil

        with open(text, "rb") as found:
            shutil.copyfileobj(found, file, _PIECE)
        return _read_signature(f"{text}.asc")
    if source.kind not in {argument.HASH, argument.NAME}:
        raise RktError(f"{text}: is not in the store", hint=f"get it by `rkt fetch {text}` first")
    from appc.aci import compression
    from rkt.cli.image.argument import image
    from rkt.store import Store

    compress, finish = compression.deflater(compression.GZIP)
    with Store(options.settings.data_dir) as store, store.open_blob(image(store, text)) as blob:
        while data := blob.read(_PIECE):
            file.write(compress(data))
        file.write(finish())
    return None


def _read_signature(path: str) -> bytes | None:
    from appc import openpgp

    try:
        with open(path, "rb") as file:
            return file.read(openpgp.SIGNATURE_LIMIT + 1)
    except FileNotFoundError:
        return None


def _signature(
    site: Site, new: Release, file: BinaryIO, beside: bytes | None, options: argparse.Namespace
) -> bytes | None:
    """The signature to publish: the one beside the image, the published one if it is good, or a new one."""
    from appc import signature, signing

    fd = file.fileno()
    keys = site.keys()
    if beside is not None:
        if not keys:
            raise RktError(
                f"{new.name}: there are no keys to verify its signature with",
                hint="publish them with --pubkeys=FILE",
            )
        signature.verify(fd, signature.read(beside), keys)
        return beside
    published = _read_signature(f"{site.root}/{new.path}.asc")
    if published is not None:
        try:
            signature.verify(fd, signature.read(published), keys)
        except signature.SignatureError:
            pass  # of another image of this version
        else:
            return published
    if options.key:
        made, _ = signing.sign(fd, ("--local-user", options.key))
        signature.verify(fd, signature.read(made), keys)
        return made
    if options.unsigned:
        return None
    raise RktError(
        f"{new.name}: has no signature", hint="sign it with --key=KEY, or say --unsigned if it needs none"
    )
