"""cnitool completion: print a completion script for a shell."""

from __future__ import annotations

from console import completion as console_completion

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from console.output import Output

EXAMPLES = """\
  cnitool completion bash > /etc/bash_completion.d/cnitool
  cnitool completion zsh > /usr/share/zsh/vendor-completions/_cnitool
  cnitool completion fish > /etc/fish/completions/cnitool.fish
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    console_completion.arguments(parser)


def run(options: argparse.Namespace, out: Output) -> int:
    return console_completion.run(options, out)
