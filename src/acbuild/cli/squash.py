"""acbuild squash: make the image independent of others."""

from __future__ import annotations

from acbuild.cli.arguments import Flag, Syntax

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from acbuild.context import Build
    from console.main import Options
    from console.output import Output

EXAMPLES = """\
  acbuild squash
"""
DESCRIPTION = """\
In mode appc all that the image has of its dependencies becomes part of it, as it would be rendered to be
run; the dependencies are fetched as `acbuild begin` does. Dependencies and whitelist are gone then. In mode
oci all layers become one.
"""
raw = True
_SYNTAX = Syntax(
    "", 0, 0, (Flag("insecure", "", "fetch over plain http too, and without checking signatures"),)
)


def arguments(parser: argparse.ArgumentParser) -> None:
    _SYNTAX.declare(parser)


parse = _SYNTAX.parse


def run(options: Options, out: Output) -> int:
    from acbuild.cli import session

    given = parse(options.argv)

    def change(build: Build) -> None:
        from acbuild.context import OCI

        if build.mode == OCI:
            from acbuild.layers import squash

            squash(build)
        else:
            from acbuild.squash import squash as render

            render(build, session.settings_of(options), insecure=given.on("insecure"), say=out.note)

    return session.edit(options, out, (), change, changes_files=True)
