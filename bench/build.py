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
#: Nine edits between begin and write; one of them is `annotation add`, or a run.
_SCRIPT = """\
begin {tree}
set-name example.com/bench
set-user 0
set-group 0
set-working-directory /
environment add GREETING hello
label add version 1.0
port add http tcp 80
{edit}
set-exec -- /bin/true
write --overwrite --compression={compression} {out}
"""
#: As few commands as it takes: one `config` has many flags.
_BUILDAH = """\
set -e
c=$(buildah from scratch)
buildah add --quiet "$c" {tree} /
buildah config --user 0:0 --workingdir / --env GREETING=hello --label version=1.0 --port 80 "$c"
{edit}
buildah config --entrypoint '["/bin/true"]' "$c"
buildah commit --quiet --rm --disable-compression={plain} "$c" oci:{out}
"""
_EDITS = "annotation add homepage https://example.com/", 'buildah config --annotation homepage=x "$c"'
_RUNS = "run --network=none -- /bin/true", 'buildah run --isolation=chroot "$c" /bin/true'


def run(directory: Path, rounds: int) -> str:
    """The tables, in Markdown."""
    os.environ["TMPDIR"] = str(directory)
    tree = bundle.rootfs(directory)
    title = "A busybox image, begin to write"
    tables = [
        _small(directory, tree, rounds, f"{title}, layer compressed", _EDITS, "gzip"),
        _small(directory, tree, rounds, f"{title}, layer as it is (buildah's default)", _EDITS, "none"),
        _small(directory, tree, rounds, f"{title}, layer compressed, with a run in between", _RUNS, "gzip"),
        _verbs(directory, tree, rounds),
        _large(directory, max(3, rounds // 4)),
    ]
    return "\n\n".join(tables)


def _small(
    directory: Path, tree: Path, rounds: int, title: str, edit: tuple[str, str], compression: str
) -> str:
    """Both forms of our scripts: one of acbuild's own, and a shell's, where each command is a process."""
    ours, theirs = edit
    lines = _SCRIPT.format(tree=tree, edit=ours, compression=compression, out=directory / "small.aci")
    script = directory / "script"
    script.write_text(lines)
    work = directory / "script-work"
    work.mkdir(exist_ok=True)
    commands = [f"{ACBUILD} --work-path={work} {line}" for line in [*lines.splitlines(), "end"]]
    layout = directory / "layout"

    def forget() -> None:
        shutil.rmtree(layout, ignore_errors=True)

    plain = "true" if compression == "none" else "false"
    steps = _BUILDAH.format(tree=tree, edit=theirs, plain=plain, out=f"{layout}:bench")
    contenders = [
        Contender("rkt's `acbuild script`", [ACBUILD, "script", str(script)]),
        Contender("rkt's acbuild in a shell script", ["sh", "-ec", "\n".join(commands)]),
    ]
    if bundle.have("buildah"):
        contenders.append(Contender("buildah", ["sh", "-c", steps], after=forget))
    return table(title, compare(contenders, rounds=rounds), base="buildah")


def _verbs(directory: Path, tree: Path, rounds: int) -> str:
    """Single commands on a build in progress."""
    work = directory / "work"
    work.mkdir()
    base = [ACBUILD, f"--work-path={work}", "--no-history"]
    subprocess.run([*base, "begin", str(tree)], check=True)
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
    return " ".join(word for word in words if word.replace("-", "").isalpha() or word.startswith("--engine"))


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
