"""Rules in nft's own words, which only nft(8) can read."""

from __future__ import annotations

from cni.errors import INVALID_CONFIG, PLUGIN_NOT_AVAILABLE, CniError
from linux import process

TYPE_CHECKING = False  # not from typing: a plugin lives too short to import it
if TYPE_CHECKING:
    from collections.abc import Sequence

_TIMEOUT = 30.0  # seconds
# What ends a rule or begins a comment: the words of a configuration make one rule and nothing else.
_NOT_IN_A_RULE = frozenset(";#")


def check(words: Sequence[str], path: str) -> None:
    """ValueError when `words`, which stand at `path`, cannot be the matches of one rule."""
    for word in words:
        if not word.isprintable() or _NOT_IN_A_RULE.intersection(word):
            raise ValueError(f"{path}: {word!r} cannot stand in a rule")


def insert_condition(table: str, chain: str, words: Sequence[str]) -> None:
    """Put a rule in front of the others of a chain of the family inet: what matches `words` leaves the chain.

    CniError 7 with nft's own words when it does not understand these.
    """
    try:
        done = process.run(
            ["nft", "insert", "rule", "inet", table, chain, *words, "return"], timeout=_TIMEOUT
        )
    except FileNotFoundError:
        raise CniError(
            PLUGIN_NOT_AVAILABLE, "nft is not installed", hint="conditions of port mappings need it"
        ) from None
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise CniError(
            INVALID_CONFIG, f"nft does not accept the condition {' '.join(words)!r}", said[0][:300]
        )
