"""acbuild layer: start a new layer."""

from __future__ import annotations

from acbuild.cli.arguments import Syntax

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from acbuild.context import Build
    from console.main import Options
    from console.output import Output

EXAMPLES = """\
  acbuild layer
"""
DESCRIPTION = """\
What was changed until now becomes a layer, and what is changed from here on goes into the next one. Whoever
has the lower layers already need not fetch them again. Builds of mode appc have no layers.
"""
raw = True
_SYNTAX = Syntax("", 0, 0)


def arguments(parser: argparse.ArgumentParser) -> None:
    _SYNTAX.declare(parser)


parse = _SYNTAX.parse


def run(options: Options, out: Output) -> int:
    from acbuild.cli import session

    parse(options.argv)

    def change(build: Build) -> None:
        from acbuild.context import OCI
        from acbuild.errors import Unsupported

        if build.mode != OCI:
            raise Unsupported("layers", build.mode, hint="begin with --build-mode=oci")
        from acbuild.layers import commit

        if not commit(build):
            out.note("nothing was changed: the layer goes on")

    return session.edit(options, out, (), change, changes_files=True)
