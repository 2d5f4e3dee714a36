"""cnitool validate: check configurations, and that their plugins are there and speak their versions."""

from __future__ import annotations

from cni import config
from cni.cli import environment
from cni.errors import CniError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from cni.config import NetworkConfig
    from console.output import Output

EXAMPLES = """\
  cnitool validate
  cnitool validate mynet ./new.conflist
  cnitool validate --format=json | jq '.[] | select(.problems != [])'
"""
DESCRIPTION = (
    """\
Checks networks by name, or files by path (an argument with a slash), or all there are: that each can be
read, that its plugins and their IPAM plugins are found, and that these speak its version. Prints a line for
each; exits with 1 if there is a problem.

"""
    + environment.ENVIRONMENT
)
NAMES = ("network", "version", "plugins", "capabilities", "file", "problems")
_SHOWN = ("network", "version", "plugins", "problems")


def arguments(parser: argparse.ArgumentParser) -> None:
    from console.output import add_format

    parser.add_argument("networks", metavar="NET", nargs="*", help="a network's name, or a file's path")
    add_format(parser, NAMES)


def run(options: argparse.Namespace, out: Output) -> int:
    rows = []
    if options.networks:
        for name in options.networks:
            try:
                rows.append(_row(_load(name, out), options))
            except CniError as bad:
                rows.append(_broken(name, str(bad)))
    else:
        networks, problems = config.available(environment.network_directory())
        rows = [_row(each, options) for each in networks]
        rows += [_broken(*problem.split(": ", 1)) for problem in problems]
    if options.format in ("json", "json-pretty"):
        out.json(rows, pretty=options.format == "json-pretty")
    else:
        flat = [{key: _flat(value) for key, value in row.items()} for row in rows]
        out.listing(options.format, flat, _SHOWN, names=NAMES)
    return 1 if any(row["problems"] for row in rows) else 0


def _load(name: str, out: Output) -> NetworkConfig:
    if "/" in name:
        return config.with_siblings(config.read(name), environment.network_directory())
    return config.load(environment.network_directory(), name, strict=False, warn=out.warn)


def _row(network: NetworkConfig, options: argparse.Namespace) -> dict[str, object]:
    from cni.types import names
    from cni.types import version as versions

    problems = [str(each) for each in environment.runtime(options).problems(network)]
    try:
        names.check_network_name(network.name)
    except CniError as bad:
        problems.insert(0, str(bad))
    return {
        "network": network.name,
        "version": network.version or versions.IMPLICIT,
        "plugins": [each.type for each in network.plugins],
        "capabilities": sorted({name for each in network.plugins for name in each.capabilities}),
        "file": network.path,
        "problems": problems,
    }


def _broken(what: str, problem: str) -> dict[str, object]:
    row: dict[str, object] = dict.fromkeys(NAMES, "")
    return {**row, "network": what, "plugins": [], "capabilities": [], "file": what, "problems": [problem]}


def _flat(value: object) -> object:
    return ", ".join(map(str, value)) if isinstance(value, list) else value
