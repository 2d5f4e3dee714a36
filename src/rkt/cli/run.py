"""rkt run: run images as a pod."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from console.output import Output

EXAMPLES = """\
  rkt run example.com/web:1.0
  rkt run --detach --pod-name=web --net=mynet --port=http:8080 example.com/web
  rkt run --volume=data,kind=host,source=/srv/data example.com/db --mount=volume=data,target=/data
  rkt run --interactive --insecure-options=image ./busybox.aci --exec=/bin/sh
  rkt run example.com/a -- --flag-of-a --- example.com/b --memory=64Mi -- --flag-of-b
"""
DESCRIPTION = """\
Fetches the images if the store lacks them, prepares a pod of one app per image and runs it. The command stays
as the pod's supervisor until the pod has ended, and exits with the status of the first app that failed, or 0.
With --detach it returns as soon as the pod is ready, and prints the pod's UUID. Flags for one app follow its
image; arguments for the app follow `--`; `---` begins the next image.
"""
raw = True


def arguments(parser: argparse.ArgumentParser) -> None:
    from rkt.appargs import RUN, describe

    describe(parser, RUN)


def run(options: argparse.Namespace, out: Output) -> int:
    from rkt.appargs import RUN, parse
    from rkt.cli.root import require_root
    from rkt.pods.directory import PodDirectory
    from rkt.stage0 import assemble, launch

    wanted = parse(RUN, options.argv)
    require_root()
    pods = PodDirectory(options.settings.data_dir)
    with assemble.assemble(options.settings, pods, wanted, out) as pod:
        return launch.launch(options.settings, pod, wanted, out)
