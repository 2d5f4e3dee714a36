"""The hidden verb `__complete`, which the completion scripts of the shells ask."""

from __future__ import annotations

from console.completion import answer as run

EXAMPLES = """\
  rkt __complete image l
"""
raw = True
verbatim = True

__all__ = ["EXAMPLES", "arguments", "raw", "run", "verbatim"]


def arguments(_parser: object) -> None:
    """Takes any words: the command line up to the word to complete."""
