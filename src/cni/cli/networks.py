"""cnitool networks: show the networks that are configured."""

from __future__ import annotations

from cni.cli import environment

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from console.output import Output

EXAMPLES = """\
  cnitool networks
  NETCONFPATH=./net.d cnitool networks --format=json
"""
DESCRIPTION = (
    """\
Shows every network in the directory of configurations that could be added to, in the order in which runtimes
look at them, and warns of files that cannot be used.

"""
    + environment.ENVIRONMENT
)
COLUMNS = ("name", "version", "plugins", "capabilities", "file")


def arguments(parser: argparse.ArgumentParser) -> None:
    from console.output import add_format

    add_format(parser, COLUMNS)


def run(options: argparse.Namespace, out: Output) -> int:
    from cni import config
    from cni.types import version as versions

    found, problems = config.available(environment.network_directory())
    for problem in problems:
        out.warn(problem)
    rows: list[dict[str, object]] = [
        {
            "name": each.name,
            "version": each.version or versions.IMPLICIT,
            "plugins": [plugin.type for plugin in each.plugins],
            "capabilities": sorted({name for plugin in each.plugins for name in plugin.capabilities}),
            "file": each.path,
        }
        for each in found
    ]
    if options.format in ("", "table") or options.format[:4] != "json":
        rows = [
            {**row, "plugins": _joined(row["plugins"]), "capabilities": _joined(row["capabilities"])}
            for row in rows
        ]
    out.listing(options.format, rows, COLUMNS)
    return 0


def _joined(words: object) -> str:
    return ", ".join(words) if isinstance(words, list) else ""
