"""acbuild begin: start a build."""

from __future__ import annotations

from acbuild.cli.arguments import Flag, Syntax

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from console.main import Options
    from console.output import Output

EXAMPLES = """\
  acbuild begin
  acbuild begin ./rootfs
  acbuild begin ./base.aci
  acbuild begin example.com/base:1.0
  acbuild begin --build-mode=oci docker://debian:12
"""
DESCRIPTION = """\
Without START the image is empty. START beginning with `.`, `/` or `~` is a directory to take the files
from, an image, or an archive of files. Any other START is the name or ID of an image: it is looked for in
rkt's store and in acbuild's own cache, then fetched by discovery and checked as `rkt fetch` does;
`docker://NAME` is fetched from its registry.

The build lies in the directory .acbuild of the work path until `acbuild end`.
"""
raw = True
_SYNTAX = Syntax(
    "[START]",
    0,
    1,
    (
        Flag("build-mode", "MODE", "what to build: appc (the default) or oci", choices=("appc", "oci")),
        Flag("insecure", "", "fetch over plain http too, and without checking the signature"),
    ),
    "what to start from",
)


def arguments(parser: argparse.ArgumentParser) -> None:
    _SYNTAX.declare(parser)


parse = _SYNTAX.parse


def run(options: Options, out: Output) -> int:
    from acbuild import begin, rootless
    from acbuild.cli import session

    session.in_progress_only(options)
    given = parse(options.argv)
    if rootless.may_have_owners():
        rootless.enter(say=out.note)
    begin.begin(
        session.settings_of(options),
        *given.words,
        mode=given.text("build-mode", "appc"),
        insecure=given.on("insecure"),
        say=out.note,
    )
    return 0
