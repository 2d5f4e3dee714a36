"""actool version: the version of the specification that this tool implements."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from console.output import Output

EXAMPLES = """\
  actool version
"""


def arguments(_parser: argparse.ArgumentParser) -> None:
    """Takes no arguments."""


def run(options: argparse.Namespace, out: Output) -> int:
    out.line(options.program.version())
    return 0
