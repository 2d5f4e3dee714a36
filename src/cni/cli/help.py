"""cnitool help: explain a command."""

from __future__ import annotations

from console import help as console_help

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from console.output import Output

EXAMPLES = """\
  cnitool help
  cnitool help add
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    console_help.arguments(parser, with_topics=False)


def run(options: argparse.Namespace, out: Output) -> int:
    return console_help.run(options, out)
