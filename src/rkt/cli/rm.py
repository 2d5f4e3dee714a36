"""rkt rm: remove pods that are prepared or have ended."""

from __future__ import annotations

from rkt.errors import RktError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from console.output import Output

EXAMPLES = """\
  rkt rm 5bc080ca
  rkt rm web db
  rkt rm --uuid-file=/run/web.uuid
"""
DESCRIPTION = """\
Removes the pods at once, with everything that they left on the host, without a grace period. A running pod is
refused: stop it first.
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    from rkt.cli.podargument import add_uuids

    add_uuids(parser)


def run(options: argparse.Namespace, out: Output) -> int:
    from rkt.cli import podargument
    from rkt.cli.root import require_root

    require_root()
    return podargument.for_each(options, out, _rm, '"{}"')


def _rm(options: argparse.Namespace, word: str) -> str:
    from rkt.cli import podargument
    from rkt.pods import removal
    from rkt.pods.pod import PodBusy

    with podargument.open_pod(options, word) as pod:
        try:
            pod.lock()
        except PodBusy:
            pod.refresh()
            raise RktError(
                f"pod {pod.uuid} is {pod.state()}", hint=f"end it with `rkt stop {word}` first"
            ) from None
        removal.discard(pod, options.settings.data_dir, options.settings.local_config)
        return pod.uuid
