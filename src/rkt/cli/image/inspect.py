"""rkt image inspect: show what is known about an image."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from console.output import Output
    from rkt.store import Store

EXAMPLES = """\
  rkt image inspect docker://busybox
  rkt image inspect --format=json example.com/app | jq -r .exec[]
  rkt image inspect --format='{name} {digest}' sha512-0d5cc6
"""
DESCRIPTION = """\
Shows name, digest and platform of each image, what it runs and how, and what it is made of.
`rkt image cat-manifest` shows the whole manifest.
"""
NAMES = (
    *("id", "name", "version", "reference", "digest", "os", "arch", "created", "authors"),
    *("exec", "entrypoint", "cmd", "user", "group", "working_directory", "environment"),
    *("volumes", "ports", "labels", "stop_signal", "size", "layers", "dependencies"),
)


def arguments(parser: argparse.ArgumentParser) -> None:
    from console.output import add_format

    parser.add_argument("image", metavar="IMAGE", nargs="+", help="an image of the store: its ID or name")
    add_format(parser, NAMES)


def run(options: argparse.Namespace, out: Output) -> int:
    from rkt.cli.image.argument import image
    from rkt.store import Store

    with Store(options.settings.data_dir) as store:
        found = [describe(store, image(store, text)) for text in options.image]
    if options.format in {"json", "json-pretty"}:
        value = found if len(found) > 1 else found[0]
        out.json(value, pretty=options.format == "json-pretty")
    elif options.format == "table":
        for number, one in enumerate(found):
            if number:
                out.line()
            for name in NAMES:
                if one[name] not in ("", [], {}):
                    out.line(f"{name.replace('_', ' ')}: {_shown(name, one[name])}")
    else:
        out.template(options.format, found, NAMES)
    return 0


def describe(store: Store, image_id: str) -> dict[str, object]:
    """Everything, by the names that `--format` has."""
    manifest = store.manifest(image_id)
    annotations = manifest.annotations.as_dict()
    app = manifest.app
    value: dict[str, object] = dict.fromkeys(NAMES, "")
    value |= {
        "id": image_id,
        "name": str(manifest.name),
        "version": manifest.labels.get("version") or "",
        "os": manifest.labels.get("os") or "",
        "arch": manifest.labels.get("arch") or "",
        "created": annotations.get("created", ""),
        "authors": annotations.get("authors", ""),
        "size": next((one.size for one in store.images() if one.id == image_id), 0),
        "layers": [],
        "dependencies": [str(one.image_name) for one in manifest.dependencies],
        "entrypoint": [],
        "cmd": [],
    }
    if app is not None:
        value |= {
            "exec": list(app.exec),
            "user": app.user,
            "group": app.group,
            "working_directory": app.working_directory,
            "environment": {one.name: one.value for one in app.environment},
            "volumes": {str(point.name): point.path for point in app.mount_points},
            "ports": {str(port.name): f"{port.port}/{port.protocol}" for port in app.ports},
            "labels": dict(app.user_labels),
        }
    return value | _of_layers(store, image_id)


def _of_layers(store: Store, image_id: str) -> dict[str, object]:
    """What only an image of layers has."""
    record = store.record(image_id)
    if record is None:
        return {}
    from rkt.store.oci import content

    process = content.image(store.paths, record).config.process
    return {
        "reference": record.reference,
        "digest": record.manifest.digest,
        "entrypoint": list((process and process.entrypoint) or ()),
        "cmd": list((process and process.cmd) or ()),
        "stop_signal": process.stop_signal if process is not None else "",
        "layers": [
            {"digest": layer.descriptor.digest, "size": layer.descriptor.size, "diff_id": layer.diff_id}
            for layer in record.layers
        ],
    }


def _shown(name: str, value: object) -> str:
    from appc import jsonfield
    from console.formats import humane

    if name == "size" and isinstance(value, int):
        return humane.size(value)
    if name == "layers" and isinstance(value, list):
        return "".join(f"\n  {one['digest']}  {humane.size(one['size'])}" for one in value)
    if isinstance(value, dict):
        return "".join(f"\n  {key}={text}" for key, text in value.items())
    if isinstance(value, list):
        return jsonfield.encode(value).decode()
    return str(value)
