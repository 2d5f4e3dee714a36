"""acbuild version: show the version."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from console.main import Options
    from console.output import Output

EXAMPLES = """\
  acbuild version
"""
raw = True
#: The version of acbuild whose commands, flags and formats these are, and of the specification.
ACBUILD, SPECIFICATION = "0.4.0", "0.8.11"


def text() -> str:
    """The version, as one line."""
    return f"{ACBUILD}+rkt-platform"


def arguments(_parser: argparse.ArgumentParser) -> None:
    """Takes no arguments."""


def run(options: Options, out: Output) -> int:
    from acbuild.cli import session

    session.in_progress_only(options)
    out.line(f"acbuild version {text()}")
    out.line(f"appc version {SPECIFICATION}")
    return 0
