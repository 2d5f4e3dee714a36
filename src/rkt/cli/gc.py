"""rkt gc: collect pods that have ended and whatever they left on the host."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from console.output import Output

EXAMPLES = """\
  rkt gc
  rkt gc --grace-period=0s
  rkt gc --mark-only
"""
DESCRIPTION = """\
First marks: pods that have ended, failed prepares and prepared pods that nobody ran for too long become
garbage. Then removes garbage, exited pods only after the grace period, and at last whatever the host still
holds of pods that are gone: mounts, network namespaces, links, addresses, port mappings, control groups.
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--grace-period",
        metavar="DURATION",
        default="30m",
        help="how long an exited pod is kept for `logs` and `export` (default: 30m)",
    )
    parser.add_argument(
        "--expire-prepared",
        metavar="DURATION",
        default="24h",
        help="how long a prepared pod may wait to be run (default: 24h)",
    )
    parser.add_argument("--mark-only", action="store_true", help="mark garbage but remove nothing")


class _Shown:
    """Tells on the console what a collection does; rkt prints marks on stderr and removals on stdout."""

    def __init__(self, out: Output, grace: float) -> None:
        self._out = out
        self._grace = grace

    def note(self, text: str) -> None:
        self._out.note(text)

    def collecting(self, uuid: str) -> None:
        self._out.line(f'Garbage collecting pod "{uuid}"')

    def spared(self, uuid: str) -> None:
        from console.formats import humane

        self.note(f'pod "{uuid}" not removed: still within grace period ({humane.duration(self._grace)})')

    def failed(self, text: str) -> None:
        self._out.warn(text)


def run(options: argparse.Namespace, out: Output) -> int:
    from rkt.cli.duration import parse_duration
    from rkt.cli.root import require_root
    from rkt.pods import collection
    from rkt.pods.directory import PodDirectory

    require_root()
    grace = parse_duration(options.grace_period, "--grace-period")
    expire = parse_duration(options.expire_prepared, "--expire-prepared")
    pods = PodDirectory(options.settings.data_dir)
    report = _Shown(out, grace)
    collection.mark(pods, report, expire_prepared=expire)
    if options.mark_only:
        return 0
    good = collection.sweep(pods, report, local_config=options.settings.local_config, grace=grace)
    good = collection.reconcile(pods, report) and good
    return 0 if good else 254
