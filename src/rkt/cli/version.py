"""rkt version: the version of rkt, of the appc specification, of Python, and what this build can do."""

from __future__ import annotations

import os
import sys

from console.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from console.output import Output

EXAMPLES = """\
  rkt version
  rkt --version
"""
raw = True  # nothing to parse, so that argparse need not be imported
RKT_VERSION = "0.1.0"
APPC_VERSION = "0.8.11"
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def arguments(_parser: argparse.ArgumentParser) -> None:
    """Takes no arguments."""


def run(options: argparse.Namespace, out: Output) -> int:
    if options.argv:
        raise UsageError(f"unexpected argument: {options.argv[0]}", hint="see `rkt version --help`")
    out.line(text())
    return 0


def text() -> str:
    """The lines of rkt's own `version`, with Python in the place of Go."""
    machine = os.uname().machine
    python = ".".join(str(part) for part in sys.version_info[:3])
    return "\n".join((
        f"rkt Version: {RKT_VERSION}",
        f"appc Version: {APPC_VERSION}",
        f"Python Version: {python}",
        f"OS/Arch: linux/{_ARCHITECTURES.get(machine, machine)}",
        "Features: -TPM +SDJOURNAL",
    ))
