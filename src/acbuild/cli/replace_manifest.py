"""acbuild replace-manifest: take over the manifest in a file."""

from __future__ import annotations

from acbuild.cli.arguments import Syntax
from acbuild.errors import AcbuildError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from acbuild.context import Build
    from console.main import Options
    from console.output import Output

EXAMPLES = """\
  acbuild replace-manifest manifest.json
"""
DESCRIPTION = """\
What the file does not have stays as it was, as with acbuild 0.4.
"""
raw = True
_SYNTAX = Syntax("FILE", 1, 1, help="a manifest; it may lack members")


def arguments(parser: argparse.ArgumentParser) -> None:
    _SYNTAX.declare(parser)


parse = _SYNTAX.parse


def run(options: Options, out: Output) -> int:
    from acbuild.cli import session

    given = parse(options.argv)
    path = given.words[0]
    try:
        with open(path, "rb") as file:
            data = file.read()
    except FileNotFoundError:
        raise AcbuildError(f"no such file or directory: {path}") from None

    def change(build: Build) -> None:
        from acbuild.provenance import note_file

        build.image.replace_manifest(data)
        note_file(build, path, data)

    return session.edit(options, out, given.words, change)
