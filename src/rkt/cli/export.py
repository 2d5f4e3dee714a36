"""rkt export: write an app of an exited pod as an image."""

from __future__ import annotations

from rkt.errors import RktError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from console.output import Output

EXAMPLES = """\
  rkt export web web-with-changes.aci
  rkt export --app=db --overwrite 5bc080ca db.aci
"""
DESCRIPTION = """\
Writes the files of the app as it left them, with the manifest of its image, as an ACI. Only a pod that has
ended can be exported: the files of a running one change while they are read. Volumes are not part of it.
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("uuid", metavar="UUID", help="the pod: UUID, its beginning, or name")
    parser.add_argument("output", metavar="FILE.aci", help="the file to write")
    parser.add_argument("--app", metavar="APP", help="which app, if the pod has several")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing file")


def run(options: argparse.Namespace, out: Output) -> int:
    from rkt.cli import podargument
    from rkt.cli.root import require_root
    from rkt.pods.inspection import app_names
    from rkt.stage0.export import export_app

    require_root()
    if not options.output.endswith(".aci"):
        raise RktError(f"extension must be .aci (given {options.output})")
    with podargument.open_pod(options, options.uuid) as pod:
        if pod.state() not in ("exited", "exited garbage"):
            raise RktError(
                f"pod is not exited. Only exited pods can be exported (pod {pod.uuid} is {pod.state()})"
            )
        pod.lock()
        names = app_names(pod)
        app = options.app
        if app is None and len(names) != 1:
            raise RktError(
                f"pod {pod.uuid} has {len(names)} apps", hint="choose one with --app: " + ", ".join(names)
            )
        out.debug(f"exporting {app or names[0]}")
        export_app(pod, app or names[0], options.output, overwrite=options.overwrite)
    return 0
