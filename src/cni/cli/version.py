"""cnitool version: the versions of the specification that this tool, or a plugin, speaks."""

from __future__ import annotations

from cni.types import version as versions

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from console.output import Output

EXAMPLES = """\
  cnitool version
  CNI_PATH=/opt/cni/bin cnitool version bridge portmap
  cnitool version --format=json
"""
DESCRIPTION = """\
Without arguments: what this tool speaks. With the names of plugins: asks each of them (VERSION). An
executable in CNI_PATH goes before the built-in plugin of its name.
"""
COLUMNS = ("plugin", "versions", "file")


def arguments(parser: argparse.ArgumentParser) -> None:
    from console.output import add_format

    parser.add_argument("plugins", metavar="PLUGIN", nargs="*", help="a plugin to ask")
    add_format(parser, COLUMNS)


def text() -> str:
    return f"cnitool version {versions.LATEST}+rkt-platform\nCNI protocol versions supported: " + ", ".join(
        versions.KNOWN
    )


def run(options: argparse.Namespace, out: Output) -> int:
    from cni import invoke
    from cni.cli import environment

    rows: list[dict[str, object]] = []
    runtime = environment.runtime(options)
    for name in options.plugins:
        spoken = runtime.supported_versions(name)
        rows.append({
            "plugin": name,
            "versions": list(spoken),
            "file": invoke.find(name, environment.plugin_path()) or "built in",
        })
    if options.format in ("json", "json-pretty"):
        own: object = {"cniVersion": versions.LATEST, "supportedVersions": list(versions.KNOWN)}
        out.json(rows if options.plugins else own, pretty=options.format == "json-pretty")
    elif not options.plugins:
        out.line(text())
    else:
        for row in rows:
            row["versions"] = ", ".join(
                map(str, row["versions"] if isinstance(row["versions"], list) else ())
            )
        out.listing(options.format, rows, COLUMNS)
    return 0
