"""What a program needs: compared with ldd, and in trees made for the purpose."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from acbuild.binary import extras
from acbuild.binary.closure import Closure
from acbuild.binary.source import Source
from acbuild.errors import AcbuildError

PROGRAMS = (
    "/bin/ls",
    "/usr/bin/git",
    "/usr/bin/python3",
    "/usr/bin/perl",
    "/usr/bin/gpg",
    "/bin/busybox",
    "/usr/bin/gcc",
)


def needed(program: str, directory: Path | str = "/") -> Closure:
    with Source(str(directory)) as source:
        closure = Closure(source)
        closure.add(closure.find(program))
        return closure


def told_by_ldd(program: str) -> set[str]:
    done = subprocess.run(["ldd", program], capture_output=True, text=True, check=False)
    return {os.path.realpath(path) for path in re.findall(r"(?:=> |^\s)(/\S+)", done.stdout, re.MULTILINE)}


@pytest.mark.parametrize("program", [one for one in PROGRAMS if os.path.exists(one)])
def test_the_closure_of_a_program_is_what_ldd_says(program: str) -> None:
    found = {os.path.realpath(path) for path in needed(program).paths}
    assert found == told_by_ldd(program) | {os.path.realpath(program)}


class Tree:
    """A root filesystem with the host's loader and libc, and a compiler for more."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for path in needed("/bin/true").paths:
            if path != "/bin/true":
                target = root / path.lstrip("/")
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, target)

    def library(self, path: str, *flags: str, uses: str = "") -> str:
        """A library with one function, called as the file; `uses` is the path of another that it needs."""
        name = re.sub(r"\W", "_", os.path.basename(path))
        text = f"int {name}(void) {{ return 1; }}"
        return self._build(
            path, text, uses, "-shared", "-fPIC", f"-Wl,-soname,{os.path.basename(path)}", *flags
        )

    def program(self, path: str, *flags: str, uses: str = "") -> str:
        return self._build(path, "int main(void) { return 0; }", uses, *flags)

    def _build(self, path: str, text: str, uses: str, *flags: str) -> str:
        target = self.root / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        source = self.root.parent / "source.c"
        source.write_text(text)
        links = ["-Wl,--no-as-needed", str(self.root / uses.lstrip("/"))] if uses else []
        command = ["gcc", "-o", target, source, *flags, *links, "-Wl,--allow-shlib-undefined"]
        subprocess.run(command, check=True, capture_output=True)
        return path

    def needed(self, program: str) -> set[str]:
        return set(needed(program, self.root).paths)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Tree:
    return Tree(tmp_path_factory.mktemp("closure") / "root")


@pytest.fixture
def tree(base: Tree, tmp_path: Path) -> Tree:
    shutil.copytree(base.root, tmp_path / "root", symlinks=True)
    made = Tree.__new__(Tree)
    made.root = tmp_path / "root"
    return made


def test_a_static_program_is_alone(tree: Tree) -> None:
    assert tree.needed(tree.program("/solo", "-static")) == {"/solo"}


def test_runpath_with_origin_counts_for_the_program_itself_only(tree: Tree) -> None:
    tree.library("/opt/app/lib/libtwo.so")
    tree.library("/opt/app/lib/libone.so", uses="/opt/app/lib/libtwo.so")
    flags = ("-Wl,-rpath,$ORIGIN/../lib,--enable-new-dtags",)
    program = tree.program("/opt/app/bin/app", *flags, uses="/opt/app/lib/libone.so")
    with pytest.raises(AcbuildError, match=r"libone.so: needs libtwo.so, which is in none"):
        tree.needed(program)


def test_rpath_counts_for_what_the_libraries_need_too(tree: Tree) -> None:
    tree.library("/opt/app/lib/libtwo.so")
    tree.library("/opt/app/lib/libone.so", uses="/opt/app/lib/libtwo.so")
    flags = ("-Wl,-rpath,$ORIGIN/../lib,--disable-new-dtags",)
    program = tree.program("/opt/app/bin/app", *flags, uses="/opt/app/lib/libone.so")
    found = needed(program, tree.root)
    assert {"/opt/app/lib/libone.so", "/opt/app/lib/libtwo.so"} <= set(found.paths)
    assert found.by_origin


def test_the_configuration_of_ldconfig_is_read_and_its_cache_comes_along(tree: Tree) -> None:
    tree.library("/opt/lib/libone.so")
    program = tree.program("/bin/app", uses="/opt/lib/libone.so")
    with pytest.raises(AcbuildError, match=r"needs libone\.so"):
        tree.needed(program)
    (tree.root / "etc/ld.so.conf.d").mkdir(parents=True)
    (tree.root / "etc/ld.so.conf").write_text("include ld.so.conf.d/*.conf\n")
    (tree.root / "etc/ld.so.conf.d/opt.conf").write_text("# comment\n/opt/lib  # more\n")
    assert {"/opt/lib/libone.so", "/etc/ld.so.cache"} <= tree.needed(program)


def test_libraries_of_another_kind_are_passed_over(tree: Tree) -> None:
    tree.library("/usr/lib/libone.so")
    program = tree.program("/bin/app", uses="/usr/lib/libone.so")
    decoy = tree.root / "lib64/libone.so"
    decoy.write_bytes(b"\x7fELF\x01\x01\x01" + bytes(200))
    (tree.root / "usr/lib64").mkdir(exist_ok=True)
    (tree.root / "usr/lib64/libone.so").write_text("/* GNU ld script */")
    assert "/usr/lib/libone.so" in tree.needed(program)


def test_a_fifo_and_a_device_in_the_place_of_a_library_are_not_opened(tree: Tree) -> None:
    """R5: a FIFO would block for ever."""
    tree.library("/usr/lib/libone.so")
    program = tree.program("/bin/app", uses="/usr/lib/libone.so")
    os.mkfifo(tree.root / "lib64/libone.so")
    assert "/usr/lib/libone.so" in tree.needed(program)
    os.mkfifo(tree.root / "bin/fifo")
    with pytest.raises(AcbuildError, match="no such file"):
        needed("/bin/fifo", tree.root)


def test_links_stay_inside_of_the_root(tree: Tree, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("of the host")
    (tree.root / "bin").mkdir(exist_ok=True)
    (tree.root / "bin/out").symlink_to(tmp_path / "secret")
    (tree.root / "bin/up").symlink_to("../../../../../../../../secret")
    (tree.root / "bin/round").symlink_to("round")
    with Source(str(tree.root)) as source:
        for name in ("out", "up"):
            with pytest.raises(FileNotFoundError):
                source.trail(f"/bin/{name}")
        with pytest.raises(AcbuildError, match="too many links"):
            source.trail("/bin/round")


def test_a_trail_has_the_links_in_their_order(tmp_path: Path) -> None:
    (tmp_path / "usr/lib").mkdir(parents=True)
    (tmp_path / "lib").symlink_to("usr/lib")
    (tmp_path / "usr/lib/a.so.1.2").write_text("x")
    (tmp_path / "usr/lib/a.so.1").symlink_to("a.so.1.2")
    (tmp_path / "usr/lib/a.so").symlink_to("/lib/../lib/a.so.1")
    with Source(str(tmp_path)) as source:
        trail = source.trail("/lib/a.so")
    assert trail.end == "/usr/lib/a.so.1.2"
    assert trail.links == ("/lib", "/usr/lib/a.so", "/usr/lib/a.so.1")


def test_a_script_brings_its_interpreter_and_a_remark(tree: Tree) -> None:
    tree.program("/usr/bin/tool")
    shutil.copy("/usr/bin/env", tree.root / "usr/bin/env")
    for name, first in (("direct", "#!/usr/bin/tool -x"), ("found", "#!/usr/bin/env tool")):
        (tree.root / f"usr/bin/{name}").write_text(f"{first}\n")
        found = needed(name, tree.root)
        assert "/usr/bin/tool" in found.paths
        assert found.remarks[-1].startswith(f"/usr/bin/{name} is a script: /usr/bin/tool comes with it")
    (tree.root / "usr/bin/circle").write_text("#!/usr/bin/circle\n")
    with pytest.raises(AcbuildError, match="without end"):
        needed("circle", tree.root)
    (tree.root / "usr/bin/data").write_text("data\n")
    with pytest.raises(AcbuildError, match="neither a program nor a script"):
        needed("data", tree.root)


def test_what_is_not_there_is_told(tree: Tree) -> None:
    for name in ("/bin/none", "none"):
        with pytest.raises(AcbuildError, match="none: "):
            needed(name, tree.root)
    program = tree.program("/bin/app", "-Wl,--dynamic-linker=/lib/ld-none.so.1")
    with pytest.raises(AcbuildError, match=r"its dynamic loader /lib/ld-none\.so\.1 is not there"):
        tree.needed(program)


def test_a_musl_program_looks_where_its_loader_looks(tree: Tree) -> None:
    tree.library("/lib/ld-musl-x86_64.so.1")
    tree.library("/special/libone.so")
    flags = ("-nostdlib", "-Wl,--dynamic-linker=/lib/ld-musl-x86_64.so.1", "-Wl,-e,main")
    program = tree.program("/bin/app", *flags, uses="/special/libone.so")
    with pytest.raises(AcbuildError, match=r"libone\.so"):
        tree.needed(program)
    (tree.root / "etc").mkdir(exist_ok=True)
    (tree.root / "etc/ld-musl-x86_64.path").write_text("/lib\n/special\n")
    assert tree.needed(program) == {
        "/bin/app",
        "/lib/ld-musl-x86_64.so.1",
        "/special/libone.so",
        "/etc/ld-musl-x86_64.path",
    }


def test_name_services_come_as_nsswitch_names_them(tree: Tree) -> None:
    program = tree.program("/bin/app")
    library = next(path for path in tree.needed(program) if "libc.so" in path)
    nss = os.path.join(os.path.dirname(library), "libnss_special.so.2")
    tree.library(nss)
    (tree.root / "etc").mkdir(exist_ok=True)
    (tree.root / "etc/nsswitch.conf").write_text("passwd: files special [NOTFOUND=return] absent # more\n")
    with Source(str(tree.root)) as source:
        closure = Closure(source)
        closure.add(program)
        extras.add_name_services(closure, source)
    assert {nss, "/etc/nsswitch.conf"} <= set(closure.paths)
    assert closure.remarks == ["/etc/nsswitch.conf names absent, whose libraries are not installed"]


def test_missing_extras_are_told_with_a_hint(tree: Tree) -> None:
    with Source(str(tree.root)) as source:
        closure = Closure(source)
        for add in (extras.add_certificates, extras.add_locales, extras.add_zones):
            with pytest.raises(AcbuildError) as refused:
                add(closure, source)
            assert "install the package" in str(refused.value.hint)
