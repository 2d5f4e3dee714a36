"""Names of system calls: their numbers per architecture, and the groups of `profile.txt`.

The tables are data (`tables/*.txt`, each naming its source), read when a filter is compiled and not before.
"""

from __future__ import annotations

import os

ARCHITECTURES = ("x86_64", "i386", "aarch64")
_HERE = os.path.dirname(__file__)
_tables: dict[str, dict[str, int]] = {}
_groups: dict[str, tuple[str, ...]] = {}


def numbers(architecture: str) -> dict[str, int]:
    """Name to number of every system call of `architecture`, one of ARCHITECTURES. KeyError for another."""
    if architecture not in ARCHITECTURES:
        raise KeyError(architecture)
    table = _tables.get(architecture)
    if table is None:
        table = _tables[architecture] = {}
        with open(f"{_HERE}/tables/{architecture}.txt", encoding="ascii") as lines:
            for line in lines:
                if not line.startswith("#"):
                    number, name = line.split()
                    table[name] = int(number)
    return table


def groups() -> dict[str, tuple[str, ...]]:
    """Every group of `profile.txt`, such as `@rkt/files`, with its members (calls and other groups)."""
    if not _groups:
        members: list[str] = []
        collected: dict[str, list[str]] = {}
        with open(f"{_HERE}/profile.txt", encoding="ascii") as lines:
            for line in lines:
                if line.startswith("[@"):
                    members = collected[line.strip()[1:-1]] = []
                elif not line.startswith("#"):
                    members += line.split()
        _groups.update((name, tuple(words)) for name, words in collected.items())
    return _groups


def known() -> frozenset[str]:
    """Every name that is a system call somewhere: on our architectures or, by `@rkt/elsewhere`, on others."""
    names = set(groups()["@rkt/elsewhere"])
    for architecture in ARCHITECTURES:
        names.update(numbers(architecture))
    for words in groups().values():
        names.update(word for word in words if not word.startswith("@"))
    return frozenset(names)


def expand(words: tuple[str, ...]) -> frozenset[str]:
    """The system calls that `words`, names and groups, stand for; `@appc.io/all` and `@appc.io/empty` too.

    Raises ValueError for a word that is neither: a filter with a misspelt name protects nobody.
    """
    every_name: frozenset[str] = frozenset()
    found: set[str] = set()
    waiting = list(words)
    seen: set[str] = set()
    while waiting:
        word = waiting.pop()
        if word in seen:
            continue
        seen.add(word)
        if word in groups():
            for member in groups()[word]:
                (waiting.append if member.startswith("@") else found.add)(member)
        elif word != "@appc.io/empty":
            every_name = every_name or known()  # all tables are read only when somebody names a call
            if word == "@appc.io/all":
                found |= every_name
            elif word in every_name:
                found.add(word)
            else:
                raise ValueError(_unknown(word, every_name))
    return frozenset(found)


def _unknown(word: str, everything: frozenset[str]) -> str:
    """The message for a word that is no call and no group, with what it may have meant."""
    from difflib import get_close_matches

    if word.startswith("@"):
        kind, choices = "group of system calls", [*groups(), "@appc.io/all", "@appc.io/empty"]
    else:
        kind, choices = "system call", list(everything)
    near = get_close_matches(word, sorted(choices), n=1)
    return f"{word!r} is no known {kind}" + (f" (did you mean {near[0]}?)" if near else "")
