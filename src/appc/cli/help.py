"""actool help: explain a command. One that does not exist is a failure (1), not a usage error (2)."""

from __future__ import annotations

from appc.errors import AppcError
from console import help as console_help
from console.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from console.output import Output

EXAMPLES = """\
  actool help
  actool help build
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    console_help.arguments(parser, with_topics=False)


def run(options: argparse.Namespace, out: Output) -> int:
    try:
        return console_help.run(options, out)
    except UsageError as error:
        raise AppcError(f"Unrecognized command: {' '.join(options.words)}", hint=error.hint) from None
