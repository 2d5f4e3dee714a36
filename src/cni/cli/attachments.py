"""cnitool attachments: show what is on which network, as plugins recorded it and runtimes keep it."""

from __future__ import annotations

from cni.cli import environment

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from cni.inventory import Known
    from console.output import Output

EXAMPLES = """\
  cnitool attachments
  cnitool attachments mynet --format=json
  cnitool attachments --format='{container} {addresses}'
"""
DESCRIPTION = """\
Shows the attachments that built-in plugins recorded and those whose results are kept, whoever ran them. ALIVE
says whether the network namespace is still there.
"""
COLUMNS = ("network", "container", "interface", "addresses", "netns", "alive")
NAMES = (*COLUMNS, "plugins", "recorded", "cached")


def arguments(parser: argparse.ArgumentParser) -> None:
    from console.output import add_format

    parser.add_argument("network", metavar="NET", nargs="?", default="", help="only this network's")
    add_format(parser, NAMES)


def run(options: argparse.Namespace, out: Output) -> int:
    from cni import inventory
    from cni.cache import DIRECTORY, Cache

    cache = Cache(environment.setting(options, "cache-dir") or DIRECTORY)
    show(inventory.attachments([cache], network=options.network), options.format, out)
    return 0


def show(known: list[Known], form: str, out: Output) -> None:
    """The listing of attachments, also that of `rkt cni list`."""
    rows = [each.to_json() for each in known]
    if form not in ("json", "json-pretty"):
        rows = [{key: _cell(value) for key, value in row.items()} for row in rows]
    out.listing(form, rows, COLUMNS, names=NAMES)


def _cell(value: object) -> object:
    if isinstance(value, list):
        return ",".join(map(str, value))
    return {True: "yes", False: "no", None: "?"}[value] if value is None or isinstance(value, bool) else value
