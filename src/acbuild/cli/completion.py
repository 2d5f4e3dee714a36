"""acbuild completion: print a completion script for a shell."""

from __future__ import annotations

from console import completion as console_completion

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from console.output import Output

EXAMPLES = """\
  acbuild completion bash > /etc/bash_completion.d/acbuild
  acbuild completion zsh > /usr/share/zsh/vendor-completions/_acbuild
  acbuild completion fish > /etc/fish/completions/acbuild.fish
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    console_completion.arguments(parser)


def run(options: argparse.Namespace, out: Output) -> int:
    return console_completion.run(options, out)
