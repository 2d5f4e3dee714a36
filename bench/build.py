"""Building images, beside buildah, and writing a large tree, beside tar and gzip."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import bundle
from timing import Contender, compare, table

if TYPE_CHECKING:
    from collections.abc import Iterator

ACBUILD = str(bundle.CHECKOUT / "bin/acbuild")
TREE_BYTES = 150 << 20
_SCRIPT = """\
begin {tree}
set-name example.com/bench
set-user 0
set-group 0
set-working-directory /
environment add GREETING hello
label add version 1.0
port add http tcp 80
{run}
set-exec -- /bin/true
write --overwrite {out}
"""
_BUILDAH = """\
set -e
c=$(buildah from scratch)
buildah add --quiet "$c" {tree} /
buildah config --user 0:0 --workingdir / --env GREETING=hello --label version=1.0 --port 80 "$c"
{run}
buildah config --entrypoint '["/bin/true"]' "$c"
buildah commit --quiet --rm "$c" oci:{out}
"""


def run(directory: Path, rounds: int) -> str:
    """The tables, in Markdown."""
    os.environ["TMPDIR"] = str(directory)
    tables = [_small(directory, rounds), _verbs(directory, rounds), _large(directory, max(3, rounds // 4))]
    return "\n\n".join(tables)


def _small(directory: Path, rounds: int) -> str:
    """A busybox image from begin to write: ten verbs, and the same with a command run in the image."""
    tree = bundle.rootfs(directory)
    contenders = []
    for title, ours, theirs in (
        ("", "annotation add homepage https://example.com/", ""),
        (", with a run", "run --network=none -- /bin/true", 'buildah run {} "$c" /bin/true'),
    ):
        script = directory / f"script{len(contenders)}"
        script.write_text(_SCRIPT.format(tree=tree, out=directory / "small.aci", run=ours))
        contenders.append(Contender(f"rkt's acbuild{title}", [ACBUILD, "script", str(script)]))
        if not bundle.have("buildah"):
            continue
        layout = directory / "layout"

        def forget(layout: Path = layout) -> None:
            shutil.rmtree(layout, ignore_errors=True)

        steps = _BUILDAH.format(tree=tree, out=f"{layout}:bench", run=theirs.format("--isolation=chroot"))
        words = ["sh", "-c", steps]
        contenders.append(Contender(f"buildah{title}", words, before=forget, after=forget))
    results = compare(contenders, rounds=rounds)
    half = len(results) // 2
    without = table("A busybox image, begin to write", results[:half], base="buildah")
    within = table("The same with a run in between", results[half:], base="buildah, with a run")
    return f"{without}\n\n{within}"


def _verbs(directory: Path, rounds: int) -> str:
    """Single commands on a build in progress."""
    work = directory / "work"
    work.mkdir()
    base = [ACBUILD, f"--work-path={work}", "--no-history"]
    subprocess.run([*base, "begin", str(directory / "rootfs")], check=True)
    source = directory / "file"
    source.write_text("content\n")
    edits = (
        ["set-name", "example.com/verbs"],
        ["environment", "add", "A", "b"],
        ["port", "add", "http", "tcp", "80"],
        ["cat-manifest"],
        ["copy", str(source), "/file"],
        ["run", "--network=none", "--", "/bin/true"],
        ["run", "--engine=chroot", "--", "/bin/true"],
    )
    contenders = [Contender(f"rkt's acbuild {_title(words)}", [*base, *words]) for words in edits]
    try:
        results = compare(contenders, rounds=rounds)
    finally:
        subprocess.run([*base, "end"], check=True)
    return table("Single commands of acbuild", results, base=contenders[0].name)


def _title(words: list[str]) -> str:
    """The command without what is the same in each."""
    return " ".join(word for word in words if word.isalpha() or word.startswith("--engine"))


def _large(directory: Path, rounds: int) -> str:
    """150 MB of files, from a build in progress to an archive in a file."""
    tree = directory / "large"
    _fill(tree)
    work = directory / "large-work"
    work.mkdir()
    base = [ACBUILD, f"--work-path={work}"]
    subprocess.run([*base, "begin", str(tree)], check=True)
    subprocess.run([*base, "set-name", "example.com/large"], check=True)
    out = directory / "large.tar.gz"
    archive = ["sh", "-c", f"tar -C {tree} -c . | gzip -6 > {out} && sync {out}"]
    contenders = [
        Contender("rkt's acbuild write", [*base, "write", "--overwrite", str(directory / "large.aci")]),
        Contender("tar + gzip -6", archive),
    ]
    if bundle.have("pigz"):
        contenders.append(Contender("tar + pigz -6", [*archive[:2], archive[2].replace("gzip", "pigz")]))
    try:
        results = compare(contenders, rounds=rounds)
    finally:
        subprocess.run([*base, "end"], check=True)
    sizes = ", ".join(
        f"{path.name} {path.stat().st_size >> 20} MiB" for path in (directory / "large.aci", out)
    )
    return f"{table('Writing 150 MB of files', results, base='tar + gzip -6')}\n\nResults: {sizes}."


def _fill(tree: Path) -> None:
    """Copy files of /usr until there are 150 MB."""
    left = TREE_BYTES
    for path in _files(Path("/usr")):
        target = tree / path.relative_to("/usr")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, target)
        left -= path.stat().st_size
        if left <= 0:
            return


def _files(directory: Path) -> Iterator[Path]:
    for above, names, files in os.walk(directory):
        names.sort()
        yield from (
            path for name in sorted(files) if (path := Path(above, name)).is_file() and not path.is_symlink()
        )
