"""The bundle of compiled modules: used where it is right, passed over where it is not, never in the way."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from linux import bundle

# A program that uses the bundle of the packages in argv[1], imports `box.part`, and runs the rest.
PROGRAM = """
import sys
sys.path[:0] = sys.argv[1:3]
from linux import bundle
bundle.use(sys.argv[1])
{before}
import box.part
print(box.part.VALUE, bundle.path_of(sys.argv[1]) == box.part.__cached__)
{after}
"""


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """A directory with the package box, its module box.part, and box.inner with a module of its own."""
    root = tmp_path / "src"
    (root / "box/inner").mkdir(parents=True)
    (root / "box/__init__.py").write_text("NAME = 'box'\n")
    (root / "box/part.py").write_text("VALUE = 1\n\n\ndef fail():\n    raise RuntimeError('as asked')\n")
    (root / "box/inner/__init__.py").write_text("")
    (root / "box/inner/leaf.py").write_text("from box import part\n\nVALUE = part.VALUE\n")
    (root / "loose").mkdir()  # no package
    (root / "loose/stray.py").write_text("this is no Python")
    return root


def run(sources: Path, before: str = "", after: str = "") -> subprocess.CompletedProcess[str]:
    ours = str(Path(bundle.__file__).parent.parent)
    return subprocess.run(
        [sys.executable, "-ISs", "-c", PROGRAM.format(before=before, after=after), sources, ours],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def printed(sources: Path, before: str = "", after: str = "") -> list[str]:
    done = run(sources, before, after)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def file_of(sources: Path) -> Path:
    return Path(bundle.path_of(str(sources)))


def test_modules_come_from_the_bundle_and_look_like_any_other(sources: Path) -> None:
    assert bundle.write(str(sources)) == 4

    shown = printed(
        sources,
        after="import box.inner.leaf, importlib.resources, inspect\n"
        "print(box.__path__, box.part.__file__, box.part.__package__, box.inner.leaf.VALUE)\n"
        "print(inspect.getsource(box.part.fail).split()[1])\n"
        "print(box.part.__loader__.get_code('box.part').co_name)\n"
        "print((importlib.resources.files('box') / 'part.py').read_text()[:9])",
    )

    root = f"{sources}/box"
    assert shown == ["1 True", f"['{root}'] {root}/part.py box 1", "fail():", "<module>", "VALUE = 1"]


def test_without_a_bundle_all_is_as_ever(sources: Path) -> None:
    assert printed(sources) == ["1 False"]


def test_a_source_that_has_changed_counts(sources: Path) -> None:
    part = sources / "box/part.py"
    part.write_text("VALUE = 1\n")
    bundle.write(str(sources))
    part.write_text("VALUE = 2\n")
    os.utime(part, (1, 1))  # a .pyc counts in seconds

    shown = printed(sources, after="print(bundle.path_of(sys.argv[1]) == box.__cached__)")

    assert shown == ["2 False", "True"]


def test_a_source_of_another_size_counts_even_if_it_is_of_the_same_time(sources: Path) -> None:
    part = sources / "box/part.py"
    bundle.write(str(sources))
    time = part.stat().st_mtime_ns
    part.write_text("VALUE = 20\n")
    os.utime(part, ns=(time, time))

    assert printed(sources) == ["20 False"]


def test_a_module_that_is_gone_is_gone(sources: Path) -> None:
    bundle.write(str(sources))
    (sources / "box/part.py").unlink()

    done = run(sources)

    assert "ModuleNotFoundError: No module named 'box.part'" in done.stderr


def test_a_module_that_became_a_package_is_one(sources: Path) -> None:
    bundle.write(str(sources))
    (sources / "box/part.py").unlink()
    (sources / "box/part").mkdir()
    (sources / "box/part/__init__.py").write_text("VALUE = 3\n")

    assert printed(sources) == ["3 False"]


@pytest.mark.parametrize("left", [0, 3, 4, 15, 16, 40, 400, 900])
def test_a_bundle_that_was_cut_off_is_no_harm(sources: Path, left: int) -> None:
    bundle.write(str(sources))
    whole = file_of(sources).read_bytes()
    assert len(whole) > left
    file_of(sources).write_bytes(whole[:left])

    assert printed(sources)[0].startswith("1 ")


def test_a_bundle_of_another_interpreter_is_passed_over(sources: Path) -> None:
    bundle.write(str(sources))
    whole = file_of(sources).read_bytes()
    assert whole.startswith(importlib.util.MAGIC_NUMBER)
    file_of(sources).write_bytes(b"\0\0\r\n" + whole[4:])

    assert printed(sources) == ["1 False"]


def test_a_bundle_that_is_made_anew_meanwhile_is_not_mixed_with_the_old_one(sources: Path) -> None:
    bundle.write(str(sources))
    again = f"import box; (lambda path: open(path, 'a').write('# more'))(r'{sources}/box/inner/leaf.py')\n"

    assert printed(sources, before=f"{again}bundle.write(r'{sources}')") == ["1 False"]


def test_it_holds_no_descriptor(sources: Path) -> None:
    """The first process of a pod must not hold a file of the host (CVE-2024-21626)."""
    bundle.write(str(sources))

    shown = printed(
        sources,
        after="import os; print([os.readlink(f'/proc/self/fd/{n}') for n in range(3, 9)"
        " if os.path.exists(f'/proc/self/fd/{n}')])",
    )

    assert shown == ["1 True", "[]"]


def test_a_directory_that_cannot_be_written_is_an_error_of_write_alone(sources: Path) -> None:
    (sources / "__pycache__").write_text("in the way")

    with pytest.raises(OSError, match="__pycache__"):
        bundle.write(str(sources))

    assert printed(sources) == ["1 False"]


def test_the_modules_of_the_checkout_are_all_in(checkout: Path, tmp_path: Path) -> None:
    (tmp_path / "src").symlink_to(checkout / "src")
    expected = sum(1 for _ in (checkout / "src").rglob("*.py"))

    names = {name for name, _ in bundle._modules(str(checkout / "src"))}

    assert len(names) == expected
    assert {"linux", "cni.plugin", "rkt.cli.run", "acbuild.cli.main"} <= names


def test_every_launcher_of_a_short_command_uses_it(checkout: Path) -> None:
    for launcher in ("bin/rkt", "bin/acbuild", "lib/cni/plugin"):
        assert "bundle.use(sys.path[0])" in (checkout / launcher).read_text()
    assert os.access(checkout / "quickstart.d/bundle", os.X_OK)
