"""actool patch-manifest: copy an image with changes to its manifest."""

from __future__ import annotations

import os

from appc.cli import limits
from appc.errors import AppcError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from console.output import Output

EXAMPLES = """\
  actool patch-manifest --name=example.com/mine --exec="/bin/app --fast" app.aci mine.aci
  actool patch-manifest --replace --capability=CAP_NET_ADMIN app.aci
  actool patch-manifest --mounts=data,path=/data,readOnly=true:tmp,path=/tmp app.aci patched.aci
"""
DESCRIPTION = """\
Copies the image IN to OUT, or with --replace to itself, with a changed manifest. What is named takes the
place of what has the same name; anything else of the manifest stays, and an empty flag is none. The result is
checked before anything is written.
"""
#: Flag, metavar, help.
_EDITS = (
    ("name", "NAME", "the name of the image"),
    ("exec", "COMMAND", "what to run; arguments are parted by single blanks"),
    ("user", "USER", "the user to run as"),
    ("group", "GROUP", "the group to run as"),
    ("supplementary-groups", "GID,…", "further groups"),
    ("capability", "CAP_…,…", "retain just these capabilities"),
    ("revoke-capability", "CAP_…,…", "remove these capabilities"),
    ("mounts", "NAME,path=P[,readOnly=B][:…]", "mount points"),
    ("ports", "NAME,protocol=P,port=N[,count=N][,socketActivated=B][:…]", "ports"),
    ("isolators", "NAME,KEY=VALUE…|NAME,VALUE[:…]", "isolators"),
    ("seccomp-mode", "retain|remove[,errno=E]", "how the seccomp set is meant"),
    ("seccomp-set", "CALL,…", "the system calls"),
)


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("paths", metavar="IN [OUT]", nargs="*", help="the image, and the image to write")
    parser.add_argument("--manifest", metavar="FILE", help="take this manifest in place of the image's own")
    for name, metavar, text in _EDITS:
        parser.add_argument(f"--{name}", metavar=metavar, help=text)
    parser.add_argument("--replace", action="store_true", help="write the result over IN")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing OUT")
    parser.add_argument("--no-compression", action="store_true", help="do not compress the result")
    limits.arguments(parser)


def run(options: argparse.Namespace, out: Output) -> int:
    from appc.aci import reader, writer
    from appc.aci.output import replacing
    from appc.cli import edits
    from appc.schema.image import ImageManifest

    source, target = _paths(options)
    allowed = limits.wanted(options)
    wanted = {name: getattr(options, name.replace("-", "_")) for name, _, _ in _EDITS}
    wanted = {name: value for name, value in wanted.items() if value}
    if options.manifest and wanted:
        raise AppcError("--manifest is incompatible with other manifest editing options")
    with open(source, "rb") as image:
        if options.manifest:
            with open(options.manifest, "rb") as file:
                manifest = file.read()
            ImageManifest.parse(manifest)
        else:
            manifest = edits.apply(ImageManifest.parse(reader.read_manifest(image)), wanted).encode()
        overwrite = options.replace or options.overwrite
        with replacing(target, overwrite=overwrite, mode=os.stat(source).st_mode & 0o777) as file:
            compression = "none" if options.no_compression else "gzip"
            image_id = writer.replace_manifest(image, manifest, file, compression=compression, limits=allowed)
    out.debug(f"{target}: {image_id}")
    return 0


def _paths(options: argparse.Namespace) -> tuple[str, str]:
    paths = options.paths
    if options.replace:
        if len(paths) != 1:
            raise AppcError("Must provide one image with --replace")
        return paths[0], paths[0]
    if len(paths) != 2:
        raise AppcError("Must provide input and output files (or use --replace)")
    if not paths[1].endswith(".aci"):
        raise AppcError(f"{paths[1]}: the name of an image must end with .aci")
    if os.path.lexists(paths[1]) and not options.overwrite:
        raise AppcError(f"Target file exists (try --overwrite): {paths[1]}")
    return paths[0], paths[1]
