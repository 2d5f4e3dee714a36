"""rkt image push: send an image to a registry."""

from __future__ import annotations

from rkt.errors import RktError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from console.output import Output
    from oci.types.reference import Reference
    from rkt.store import Store

EXAMPLES = """\
  rkt image push example.com/app docker://registry.example.com/team/app:1.0
  rkt image push docker://localhost:5000/app:latest
"""
DESCRIPTION = """\
Sends an image of the store to a registry, and prints the digest by which it can be fetched again. An image of
layers goes as it came, digest and all; an ACI as an image of one layer, with its dependencies in it. Without
a name it goes where it was fetched from, or to the name that `rkt image tag` gave it. What the registry has
already is not sent. Credentials are those of auth.d, then those of `docker login` and `podman login`.
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("image", metavar="IMAGE", help="an image of the store: its ID or name")
    parser.add_argument("name", metavar="docker://NAME[:TAG]", nargs="?", help="where it is to go")


def run(options: argparse.Namespace, out: Output) -> int:
    from oci.registry.push import push
    from rkt.cli.image.argument import image
    from rkt.cli.image.formats import as_layers
    from rkt.fetch.layered import logins, registry_settings
    from rkt.store import Store

    settings = options.settings
    with Store(settings.data_dir, settings.config_dirs()) as store:
        found = image(store, options.image)
        target = _target(store, found, options.name)
        with as_layers(store, found, out.warn) as one, out.progress(f"sending {target}") as progress:

            def advance(count: int, total: int) -> None:
                progress.total = total
                progress.advance(count)

            digest = push(
                target,
                one,
                settings=registry_settings(settings),
                logins=logins(settings),
                progress=advance,
            )
    out.line(digest)
    return 0


def _target(store: Store, image_id: str, name: str | None) -> Reference:
    from rkt.fetch import argument, reference

    if name is None:
        record = store.record(image_id)
        name = record.reference if record is not None else ""
        if not name:
            raise RktError("the image has no name of a registry", hint="say where it is to go: docker://NAME")
    if not name.startswith("docker:"):
        name = f"docker://{name}"
    return reference.parse(argument.parse(name))
