"""acbuild write: write the image to a file."""

from __future__ import annotations

from acbuild.cli.arguments import Flag, Syntax

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from console.main import Options
    from console.output import Output

EXAMPLES = """\
  acbuild write app.aci
  acbuild write --overwrite app.aci
  acbuild write --sign --provenance=app.provenance.json app.aci
  acbuild write --sign app.aci -- --homedir ./keys --local-user builder@example.com
  SOURCE_DATE_EPOCH=1700000000 acbuild write app.aci
"""
DESCRIPTION = """\
Prints the ID of the image, which is the SHA-512 of the archive before its compression (in mode oci: the
digest of the manifest). The same commands with the same files give the same bytes on any day;
SOURCE_DATE_EPOCH, if set, bounds the times of files that were made for the build. Until the image is
complete FILE is what it was.

With --sign gpg makes FILE.asc; words behind `--` are given to it as they are. --provenance writes an
in-toto statement that names the commands and the digest of everything that went into the image, signed like
the image.
"""
raw = True
_SYNTAX = Syntax(
    "FILE [-- GPG-ARGUMENT…]",
    1,
    1,
    (
        Flag("overwrite", "", "replace existing files"),
        Flag("sign", "", "sign the image with gpg"),
        Flag("provenance", "FILE", "write what the image was made of"),
        Flag(
            "compression",
            "KIND",
            "gzip (the default), bzip2, xz, zstd or none",
            choices=("gzip", "bzip2", "xz", "zstd", "none"),
        ),
    ),
    "the image to write, such as app.aci",
    passes_on=True,
)


def arguments(parser: argparse.ArgumentParser) -> None:
    _SYNTAX.declare(parser)


parse = _SYNTAX.parse


def run(options: Options, out: Output) -> int:
    from acbuild import write
    from acbuild.cli import session
    from acbuild.cli.version import text

    session.in_progress_only(options)
    given = parse(options.argv)
    output = write.Output(
        given.words[0],
        overwrite=given.on("overwrite"),
        compression=given.text("compression", "gzip"),
        gpg=given.gpg(),
        provenance=given.text("provenance"),
        version=text(),
    )
    with session.opened(options, out) as build:
        out.line(write.write(build, output, warn=out.warn))
    return 0
