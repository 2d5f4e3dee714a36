"""rkt prepare: set up a pod without running it."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from console.output import Output

EXAMPLES = """\
  rkt prepare example.com/web:1.0
  rkt prepare --quiet --pod-name=web example.com/web:1.0 --exec=/bin/httpd -- -f
"""
DESCRIPTION = """\
Fetches the images if the store lacks them, makes the pod and prints its UUID, for `rkt run-prepared`. When
the command has returned the pod survives a power cut. A pod that nobody runs is collected after 24 hours.
"""
raw = True


def arguments(parser: argparse.ArgumentParser) -> None:
    from rkt.appargs import PREPARE, describe

    describe(parser, PREPARE)


def run(options: argparse.Namespace, out: Output) -> int:
    from rkt.appargs import PREPARE, parse
    from rkt.cli.root import require_root
    from rkt.pods.directory import PodDirectory
    from rkt.stage0 import assemble, prepare

    wanted = parse(PREPARE, options.argv)
    require_root()
    pods = PodDirectory(options.settings.data_dir)
    with assemble.assemble(options.settings, pods, wanted, out) as pod:
        prepare.keep(pod)
        out.line(pod.uuid)
    return 0
