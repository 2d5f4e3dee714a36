"""acbuild copy-binary: copy a program and the libraries that it needs into the image."""

from __future__ import annotations

from acbuild.cli.arguments import Flag, Syntax

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from acbuild.context import Build
    from console.main import Options
    from console.output import Output

EXAMPLES = """\
  acbuild copy-binary ./hello /hello
  acbuild copy-binary --with-nss --with-certs /usr/bin/curl
  acbuild copy-binary --root=./debian nginx
"""
DESCRIPTION = """\
The program goes to TARGET, or to the path that it has here; a name without a slash is searched for in the
usual directories. With it come its dynamic loader and all libraries, under their own paths and with their
links, found by reading the files: nothing is executed. A static program comes alone. For a script its
interpreter comes, but not what it imports or runs. What a program opens by name when it runs has to be asked
for by the flags, or copied by `acbuild copy`.
"""
raw = True
_EXTRAS = ("nss", "locale", "certs", "tzdata")
_SYNTAX = Syntax(
    "PROGRAM [TARGET]",
    1,
    2,
    (
        Flag("root", "DIR", "take files from this root filesystem (default: /, that of this host)"),
        Flag("with-nss", "", "name services: nsswitch.conf and its libraries"),
        Flag("with-locale", "", "the locales that are installed"),
        Flag("with-certs", "", "the certificates that are trusted"),
        Flag("with-tzdata", "", "the time zones"),
    ),
    "a program, and its path in the image",
)


def arguments(parser: argparse.ArgumentParser) -> None:
    _SYNTAX.declare(parser)


parse = _SYNTAX.parse


def run(options: Options, out: Output) -> int:
    import os

    from acbuild.cli import session

    given = parse(options.argv)
    program, target = given.words[0], given.words[1] if len(given.words) > 1 else ""
    directory = given.text("root", "/")
    if directory == "/" and "/" in program:
        program = os.path.abspath(program)

    def change(build: Build) -> None:
        from acbuild.binary.copying import copy

        extras = [name for name in _EXTRAS if given.on(f"with-{name}")]
        copy(build, program, target, directory=directory, extras=extras, say=out.note)

    return session.edit(options, out, given.words, change, changes_files=True)
