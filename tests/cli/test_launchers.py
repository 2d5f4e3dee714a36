"""The commands run from the checkout, through links, under sudo, without an environment, and from pip."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import isolation
import pytest

from rkt.cli.version import RKT_VERSION

PROGRAMS = [
    name
    for name, package in (("rkt", "rkt"), ("actool", "appc"), ("cnitool", "cni"), ("acbuild", "acbuild"))
    if (Path(__file__).parent.parent.parent / "src" / package / "cli/main.py").exists()
]


VERSIONS = {
    "rkt": "rkt Version: 0.1.0\n",
    "actool": "actool version 0.8.11",
    "cnitool": "cnitool version 1.1.0",
    "acbuild": "acbuild version 0.4.0",
}


def version(*argv: str | Path, **keywords: object) -> str:
    command = [*map(str, argv), "version"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, **keywords)  # type: ignore[call-overload]
    assert (done.returncode, done.stderr) == (0, ""), done
    return str(done.stdout)


@pytest.mark.parametrize("name", PROGRAMS)
def test_from_the_checkout_in_any_directory_and_without_environment(
    name: str, checkout: Path, tmp_path: Path
) -> None:
    assert VERSIONS[name] in version(checkout / "bin" / name, cwd=tmp_path, env={})


@pytest.mark.parametrize("name", PROGRAMS)
def test_through_a_symbolic_link(name: str, checkout: Path, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/tool").symlink_to(checkout / "bin" / name)
    (tmp_path / "again").symlink_to("bin/tool")

    assert VERSIONS[name] in version(tmp_path / "again")


@pytest.mark.parametrize("name", PROGRAMS)
def test_under_sudo(name: str, checkout: Path) -> None:
    if shutil.which("sudo") is None or os.geteuid() != 0:
        pytest.skip("needs sudo and root")

    done = subprocess.run(
        ["sudo", "-n", checkout / "bin" / name, "version"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, VERSIONS[name] in done.stdout) == (0, True), done


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_environment_cannot_slip_in_other_code(name: str, checkout: Path, tmp_path: Path) -> None:
    (tmp_path / "console").mkdir()
    (tmp_path / "console/__init__.py").write_text("raise SystemExit('slipped in')\n")
    (tmp_path / "sitecustomize.py").write_text("raise SystemExit('slipped in')\n")

    assert VERSIONS[name] in version(checkout / "bin" / name, env={"PYTHONPATH": str(tmp_path)}, cwd=tmp_path)


def test_the_version_is_that_of_the_distribution(checkout: Path) -> None:
    with open(checkout / "pyproject.toml", "rb") as file:
        assert tomllib.load(file)["project"]["version"] == RKT_VERSION


def test_from_a_directory_that_cannot_be_written(checkout: Path, tmp_path: Path) -> None:
    shutil.copytree(checkout / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(checkout / "bin", tmp_path / "bin")
    subprocess.run([sys.executable, "-m", "compileall", "-q", tmp_path / "src"], check=True)
    before = sorted(path for path in tmp_path.rglob("*"))

    assert VERSIONS["rkt"] in version(tmp_path / "bin/rkt")
    if os.path.realpath(sys.executable) == os.path.realpath("/usr/bin/python3"):
        assert sorted(path for path in tmp_path.rglob("*")) == before


def test_installed_by_pip(checkout: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(checkout / "src", source / "src", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(checkout / name, source / name)
    subprocess.run(["/usr/bin/python3", "-m", "venv", tmp_path / "venv"], check=True)
    pip = [str(tmp_path / "venv/bin/python"), "-m", "pip", "-q", "--no-input", "--disable-pip-version-check"]
    done = subprocess.run(
        isolation.on_the_hosts_network(*pip, "install", str(source)),
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    if done.returncode != 0 and "setuptools" in done.stderr and "No matching distribution" in done.stderr:
        pytest.skip("the package index does not answer, so setuptools cannot be had")
    assert done.returncode == 0, done.stderr

    for name in PROGRAMS:
        assert VERSIONS[name] in version(tmp_path / "venv/bin" / name, cwd=tmp_path)
    plugins = tmp_path / "cni"
    subprocess.run([tmp_path / "venv/bin/rkt", "cni", "install", plugins], check=True, capture_output=True)
    asked = subprocess.run(
        [plugins / "bridge"], env={"CNI_COMMAND": "VERSION"}, capture_output=True, text=True, check=False
    )
    assert '"1.1.0"' in asked.stdout, asked.stderr
    helped = subprocess.run(
        [tmp_path / "venv/bin/rkt", "help", "signing"], capture_output=True, text=True, check=False
    )
    assert helped.stdout == (checkout / "src/rkt/help/signing.txt").read_text()


@pytest.mark.parametrize("name", PROGRAMS)
def test_closed_standard_descriptors_fail_as_closed_ones_do(name: str, checkout: Path) -> None:
    """What the caller closed must not become the next file that is opened, nor make a traceback."""
    command = [checkout / "bin" / name, "version"]

    def without_output() -> None:
        os.close(1)

    done = subprocess.run(
        command, stdout=None, stderr=subprocess.PIPE, text=True, check=False, preexec_fn=without_output
    )
    assert done.returncode != 0
    assert "Bad file descriptor" in done.stderr
    assert "Traceback" not in done.stderr
    done = subprocess.run(
        command,
        stdout=subprocess.PIPE,
        stderr=None,
        text=True,
        check=False,
        preexec_fn=lambda: (os.close(0), os.close(2)),
    )
    assert (done.returncode, done.stdout[:12]) == (0, VERSIONS[name][:12])
