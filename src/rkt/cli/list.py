"""rkt list: show the pods on this host."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from console.output import Output
    from rkt.pods.inspection import AppFacts, PodFacts

EXAMPLES = """\
  rkt list
  rkt list --full --no-legend
  rkt list --format=json | jq -r '.[].uuid'
  rkt list --format='{uuid} {state}'
"""
DESCRIPTION = """\
Shows every pod that is being prepared, is prepared, runs, or has ended and was not collected yet. A pod
with several apps takes a line per app. With --full, identifiers are not shortened and times are exact.
"""
COLUMNS = ("uuid", "app", "image_name", "state", "created", "started", "networks")
FULL_COLUMNS = ("uuid", "app", "image_name", "image_id", "state", "created", "started", "networks")
NAMES = ("uuid", "name", "app", "image_name", "image_id", "state", "created", "started", "networks", "pid")
_SHORT_UUID = 8
_SHORT_IMAGE_ID = 19


def arguments(parser: argparse.ArgumentParser) -> None:
    from console.output import add_format

    parser.add_argument("--full", action="store_true", help="do not shorten identifiers and times")
    parser.add_argument("--no-legend", action="store_true", help="leave out the header line")
    parser.add_argument("--state", metavar="STATE", help="show only pods in STATE, such as `running`")
    add_format(parser, NAMES)


def run(options: argparse.Namespace, out: Output) -> int:
    from rkt.pods.directory import PodDirectory
    from rkt.pods.inspection import inspect

    facts = [inspect(pod) for pod in PodDirectory(options.settings.data_dir).pods()]
    facts = [pod for pod in facts if options.state in (None, pod.state)]
    facts.sort(key=lambda pod: (pod.created or 0, pod.uuid))
    if options.format in ("json", "json-pretty"):
        from rkt.cli.podjson import pod_json

        out.json([pod_json(pod) for pod in facts], pretty=options.format == "json-pretty")
        return 0
    blank = options.format == "table"
    rows = [row for pod in facts for row in _rows(pod, full=options.full, blank=blank)]
    columns = FULL_COLUMNS if options.full else COLUMNS
    out.listing(options.format, rows, columns, legend=not options.no_legend, names=NAMES)
    return 0


def _rows(pod: PodFacts, *, full: bool, blank: bool) -> list[dict[str, object]]:
    """A row per app; with `blank`, what belongs to the pod stands in the first row only."""
    shared: dict[str, object] = {
        "uuid": pod.uuid if full else pod.uuid[:_SHORT_UUID],
        "name": pod.name or "",
        "state": pod.state,
        "created": _time(pod.created, full=full),
        "started": _time(pod.started, full=full),
        "networks": networks_text(pod),
        "pid": pod.pid or "",
    }
    if not pod.apps:
        return [shared | {"app": "-", "image_name": "-", "image_id": "-"}]
    rows = []
    for number, app in enumerate(pod.apps):
        own: dict[str, object] = shared if number == 0 or not blank else dict.fromkeys(shared, "")
        rows.append(
            own
            | {
                "app": app.name,
                "image_name": image_text(app),
                "image_id": app.image_id[:_SHORT_IMAGE_ID],
            }
        )
    return rows


def image_text(app: AppFacts) -> str:
    """`NAME:VERSION` of the app's image as its pod manifest has it; `-` when that is silent."""
    name = app.image_name or "-"
    return f"{name}:{app.image_version}" if app.image_version else name


def networks_text(pod: PodFacts) -> str:
    """`name:ip4=ADDRESS, …` as rkt prints the networks of a pod."""
    texts = []
    for net in pod.networks:
        addresses = [f"ip4={net.ip4}"] if net.ip4 else []
        addresses += [f"ip6={net.ip6}"] if net.ip6 else []
        texts.append(f"{net.name}:{','.join(addresses)}" if addresses else net.name)
    return ", ".join(texts)


def _time(seconds: float | None, *, full: bool) -> str:
    from console.formats import humane

    if seconds is None:
        return ""
    return humane.timestamp(seconds) if full else humane.ago(seconds)
