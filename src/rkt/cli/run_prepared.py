"""rkt run-prepared: run a pod that `rkt prepare` has set up."""

from __future__ import annotations

from rkt.errors import RktError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from console.output import Output

EXAMPLES = """\
  rkt run-prepared 5bc080ca
  rkt run-prepared --net=mynet --hostname=web web
"""
DESCRIPTION = """\
Runs the pod and exits with its status. A prepared pod can be run once; `rkt restart` runs an ended one again.
"""
raw = True


def arguments(parser: argparse.ArgumentParser) -> None:
    from rkt.appargs import RUN_PREPARED, describe

    describe(parser, RUN_PREPARED)


def run(options: argparse.Namespace, out: Output) -> int:
    from rkt.appargs import RUN_PREPARED, parse
    from rkt.cli.root import require_root
    from rkt.pods import phases
    from rkt.pods.directory import PodDirectory
    from rkt.stage0 import launch

    wanted = parse(RUN_PREPARED, options.argv)
    require_root()
    with PodDirectory(options.settings.data_dir).get(wanted.uuid or "") as pod:
        if pod.phase != phases.PREPARED:
            raise RktError(f'pod "{pod.uuid}" is not prepared (it is {pod.state()})')
        pod.lock()
        return launch.launch(options.settings, pod, wanted, out)
