"""acbuild remove: remove a file or directory of the image."""

from __future__ import annotations

from acbuild.cli.arguments import Syntax

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from console.main import Options
    from console.output import Output

EXAMPLES = """\
  acbuild remove /var/cache/apt /usr/share/doc
"""
DESCRIPTION = """\
A link is removed, not what it points to. What comes of a dependency of the image can only be left out: with
`acbuild whitelist add`, or after `acbuild squash`.
"""
raw = True
_SYNTAX = Syntax("PATH…", 1, -1, help="paths in the image")


def arguments(parser: argparse.ArgumentParser) -> None:
    _SYNTAX.declare(parser)


parse = _SYNTAX.parse


def run(options: Options, out: Output) -> int:
    from acbuild import copying
    from acbuild.cli import session

    given = parse(options.argv)
    return session.edit(
        options, out, given.words, lambda build: copying.remove(build, given.words), changes_files=True
    )
