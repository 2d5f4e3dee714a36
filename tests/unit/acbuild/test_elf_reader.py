"""The reader of ELF files, against the compiler's own output and against damaged files."""

from __future__ import annotations

import os
import random
import subprocess
from pathlib import Path

import pytest

from acbuild.binary import elf


def read(path: Path | str) -> elf.Elf | None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return elf.read(fd)
    finally:
        os.close(fd)


def built(directory: Path, name: str, *flags: str, text: str = "int main(void) { return 0; }") -> Path:
    source = directory / f"{name}.c"
    source.write_text(text)
    subprocess.run(["gcc", "-o", directory / name, source, *flags], check=True, capture_output=True)
    return directory / name


def told_by_readelf(path: Path | str, tag: str) -> list[str]:
    lines = subprocess.run(
        ["readelf", "--wide", "--dynamic", path], check=True, capture_output=True, text=True
    ).stdout.splitlines()
    return [line.partition("[")[2].rpartition("]")[0] for line in lines if f"({tag})" in line]


def test_a_program_names_its_interpreter_and_libraries() -> None:
    found = read("/bin/ls")
    assert found is not None
    assert found.interpreter.startswith("/lib")
    assert list(found.needed) == told_by_readelf("/bin/ls", "NEEDED")
    assert "libc.so.6" in found.needed
    assert not found.static
    assert (found.bits, found.machine) == (64, os.uname().machine)


def test_a_static_program_needs_nothing(tmp_path: Path) -> None:
    found = read(built(tmp_path, "solo", "-static"))
    assert found is not None
    assert found.static


def test_a_static_pie_has_a_dynamic_section_but_needs_nothing(tmp_path: Path) -> None:
    found = read(built(tmp_path, "pie", "-static-pie"))
    assert found is not None
    assert found.static


def test_runpath_and_rpath_are_told_apart(tmp_path: Path) -> None:
    new = read(built(tmp_path, "new", "-Wl,-rpath,$ORIGIN/../lib:/opt/lib,--enable-new-dtags"))
    old = read(built(tmp_path, "old", "-Wl,-rpath,/opt/lib,--disable-new-dtags"))
    assert new is not None
    assert old is not None
    assert (new.runpath, new.rpath) == (("$ORIGIN/../lib", "/opt/lib"), ())
    assert (old.runpath, old.rpath) == ((), ("/opt/lib",))


def test_a_program_without_default_directories_says_so(tmp_path: Path) -> None:
    found = read(built(tmp_path, "own", "-Wl,-z,nodefaultlib"))
    assert found is not None
    assert found.own_paths_only


@pytest.mark.parametrize("content", [b"", b"#!/bin/sh\n", b"\x7fEL", b"MZ" + bytes(100)])
def test_other_files_are_none(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "other"
    path.write_bytes(content)
    assert read(path) is None


def test_every_file_that_is_cut_short_or_damaged_is_read_or_refused(tmp_path: Path) -> None:
    whole = Path("/bin/ls").read_bytes()
    path = tmp_path / "damaged"
    for size in (4, 20, 51, 52, 63, 64, 100, 700, 1000, 5000):
        path.write_bytes(whole[:size])
        with pytest.raises(ValueError, match="damaged ELF"):
            read(path)
    chance = random.Random(7)
    for _ in range(300):
        data = bytearray(whole)
        for _ in range(chance.randrange(1, 20)):
            data[chance.randrange(0, 1200)] = chance.randrange(256)
        path.write_bytes(data)
        try:
            read(path)
        except ValueError as error:
            assert "\n" not in str(error)  # noqa: PT017 - most of them are read


def test_an_object_file_is_refused(tmp_path: Path) -> None:
    path = built(tmp_path, "object.o", "-c")
    with pytest.raises(ValueError, match="neither a program nor a library"):
        read(path)
