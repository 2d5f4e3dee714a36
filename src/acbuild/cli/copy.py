"""acbuild copy: copy a file or directory into the image."""

from __future__ import annotations

from acbuild.cli.arguments import Flag, Syntax
from acbuild.errors import AcbuildError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from acbuild.context import Build
    from console.main import Options
    from console.output import Output

EXAMPLES = """\
  acbuild copy ./nginx.conf /etc/nginx/nginx.conf
  acbuild copy ./rootfs /
  acbuild copy --chown=www-data ./html /srv/html
"""
DESCRIPTION = """\
Modes, owners, times, links, hard links, extended attributes and devices are kept. Directories that lead to
TARGET are made where they are missing. A file takes the place of the file at TARGET; a directory is merged
into the one at TARGET, which keeps its own mode and owner. Nothing outside the image is touched, whatever
links are in it.
"""
raw = True
CHOWN = Flag("chown", "USER[:GROUP]", "whose the files are, by number or as the image's /etc/passwd has it")
_SYNTAX = Syntax("SOURCE TARGET", 2, 2, (CHOWN,), "a path of this host, and one in the image")


def arguments(parser: argparse.ArgumentParser) -> None:
    _SYNTAX.declare(parser)


parse = _SYNTAX.parse


def run(options: Options, out: Output) -> int:
    from acbuild.cli import session

    given = parse(options.argv)
    source, target = given.words
    if target.endswith("/") and target.strip("/"):
        raise AcbuildError(f"{target}: ends with a slash", hint="use `copy-to-dir` to copy into a directory")

    def change(build: Build) -> None:
        from acbuild import copying

        copying.into(build, [source], target, to_directory=False, chown=given.text("chown"), say=out.note)

    return session.edit(options, out, given.words, change, changes_files=True)
