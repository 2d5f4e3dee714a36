"""acbuild cat-manifest: print the manifest."""

from __future__ import annotations

from acbuild.cli.arguments import Flag, Syntax

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from console.main import Options
    from console.output import Output

EXAMPLES = """\
  acbuild cat-manifest --pretty-print
  acbuild cat-manifest --file=config
  acbuild --from=app.aci cat-manifest
"""
raw = True
_SYNTAX = Syntax(
    "",
    0,
    0,
    (
        Flag("pretty-print", "", "indent it"),
        Flag("file", "FILE", "manifest (the default), or config in mode oci", choices=("manifest", "config")),
    ),
)


def arguments(parser: argparse.ArgumentParser) -> None:
    _SYNTAX.declare(parser)


parse = _SYNTAX.parse


def run(options: Options, out: Output) -> int:
    from acbuild.cli import session

    given = parse(options.argv)
    which, pretty = given.text("file", "manifest"), given.on("pretty-print")
    settings = session.settings_of(options)
    if settings.free:
        from acbuild import freestanding

        out.raw(freestanding.manifest(settings, which, pretty=pretty) + b"\n")
        return 0
    with session.reading(options, out) as build:
        out.raw(build.image.text(which, pretty=pretty) + b"\n")
    return 0
