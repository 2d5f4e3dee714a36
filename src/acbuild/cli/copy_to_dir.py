"""acbuild copy-to-dir: copy files into a directory of the image."""

from __future__ import annotations

from acbuild.cli.arguments import Syntax
from acbuild.cli.copy import CHOWN

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from acbuild.context import Build
    from console.main import Options
    from console.output import Output

EXAMPLES = """\
  acbuild copy-to-dir ./bin/server ./bin/client /usr/bin
  acbuild copy-to-dir --chown=0:0 ./etc /
"""
DESCRIPTION = """\
Each SOURCE keeps its name, and a directory is merged into one of its name. DIRECTORY is made where it is
missing. Everything else is as with `acbuild copy`.
"""
raw = True
_SYNTAX = Syntax("SOURCE… DIRECTORY", 2, -1, (CHOWN,), "paths of this host, and a directory of the image")


def arguments(parser: argparse.ArgumentParser) -> None:
    _SYNTAX.declare(parser)


parse = _SYNTAX.parse


def run(options: Options, out: Output) -> int:
    from acbuild.cli import session

    given = parse(options.argv)
    *sources, target = given.words

    def change(build: Build) -> None:
        from acbuild import copying

        copying.into(build, sources, target, to_directory=True, chown=given.text("chown"), say=out.note)

    return session.edit(options, out, given.words, change, changes_files=True)
