"""rkt fetch: get images into the store."""

from __future__ import annotations

from rkt.errors import RktError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from console.output import Output

EXAMPLES = """\
  rkt fetch example.com/app:1.0
  rkt fetch --full https://example.com/images/app.aci
  rkt fetch ./app.aci --signature=./app.sig ./other.aci
  rkt fetch --pull-policy=never example.com/app
  rkt --insecure-options=image fetch ./unsigned.aci
"""
DESCRIPTION = """\
Gets each IMAGE, verifies its signature, and prints its ID once it is in the store. IMAGE is a name that is
looked up by discovery, a file, an address ending in .aci, an image of a registry (docker://NAME), of a layout
or of an archive (oci:, oci-archive:, dir:, docker-archive:), or the beginning of the ID of a stored image.
What an image depends on is fetched with it. --signature names the signature of the image in front of it.
"""
raw = True


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("image", metavar="IMAGE", nargs="+", help="name, file, address or ID of an image")
    parser.add_argument("--full", action="store_true", help="print whole image IDs")
    parser.add_argument(
        "--signature",
        metavar="FILE",
        action="append",
        help="a local signature file for the image in front of this flag",
    )
    parser.add_argument(
        "--pull-policy",
        metavar="POLICY",
        help="when to fetch: update (ask the server for a newer one), new (not in the store), never "
        "(default: update)",
    )


def run(options: argparse.Namespace, out: Output) -> int:
    import os

    from rkt.fetch import fetch
    from rkt.store import Store

    full, policy, images = parse(options.argv)
    settings = options.settings
    with Store(settings.data_dir, settings.config_dirs()) as store:
        found = [
            fetch(settings, store, image, pull_policy=policy, signature=signature, out=out)
            for image, signature in images
        ]
        for image_id in found:
            if os.geteuid() == 0 and store.manifest(image_id).app is not None:
                store.tree(image_id)  # so that the first run does not have to
            out.line(shown(image_id, full=full))
    return 0


def shown(image_id: str, *, full: bool) -> str:
    """An image ID as rkt prints it: 32 digits, with `full` 64 of the 128."""
    return image_id[: len("sha512-") + (64 if full else 32)]


def parse(argv: list[str]) -> tuple[bool, str, list[tuple[str, str | None]]]:
    """Whether whole IDs are wanted, the pull policy, and each image with its signature file.

    By hand, because --signature belongs to the image in front of it.
    """
    full, policy = False, "update"
    images: list[tuple[str, str | None]] = []
    words = list(argv)
    while words:
        word = words.pop(0)
        name, equals, value = word.partition("=")
        if word == "--":
            images += [(image, None) for image in words]
            break
        if name in {"--signature", "--pull-policy"}:
            if not equals:
                if not words:
                    raise RktError(f"{name}: a value is missing")
                value = words.pop(0)
            if name == "--pull-policy":
                policy = value
            elif not images:
                raise RktError("--signature: must follow the image that it is for")
            elif images[-1][1] is not None:
                raise RktError(f"--signature: given twice for {images[-1][0]}")
            else:
                images[-1] = (images[-1][0], value)
        elif name == "--full":
            full = _boolean(name, value) if equals else True
        elif name == "--store-only":  # rkt's old spellings, which its users' scripts still hold
            policy = "never" if not equals or _boolean(name, value) else policy
        elif name == "--no-store":
            policy = "update" if not equals or _boolean(name, value) else policy
        elif word.startswith("-") and word != "-":
            raise RktError(f"unknown flag {word}", hint="see `rkt fetch --help`")
        else:
            images.append((word, None))
    if not images:
        raise RktError(
            "must provide at least one image", hint="`rkt help images` tells what may stand for an image"
        )
    return full, policy, images


def _boolean(name: str, value: str) -> bool:
    if value.lower() in {"1", "t", "true"}:
        return True
    if value.lower() in {"0", "f", "false"}:
        return False
    raise RktError(f"{name}: {value!r} is neither true nor false")
