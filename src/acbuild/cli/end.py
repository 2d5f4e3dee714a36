"""acbuild end: end the build and remove its files."""

from __future__ import annotations

from acbuild.cli.arguments import Syntax

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from console.main import Options
    from console.output import Output

EXAMPLES = """\
  acbuild end
  acbuild --work-path=/tmp/build end
"""
DESCRIPTION = """\
Also removes what is left of a build whose `begin` or `end` was killed.
"""
raw = True
_SYNTAX = Syntax("", 0, 0)


def arguments(parser: argparse.ArgumentParser) -> None:
    _SYNTAX.declare(parser)


parse = _SYNTAX.parse


def run(options: Options, out: Output) -> int:
    from acbuild import context
    from acbuild.cli import session

    session.in_progress_only(options)
    parse(options.argv)
    session.as_owner(options, out)
    context.end(session.settings_of(options).work_path, waiting=lambda: session.waiting(out))
    return 0
