"""The iptables rules of one family: read once, edited here, changed by one `iptables-restore`.

The program is not asked rule by rule: each call of it takes milliseconds, and another process may change
something between two. An edit that met a change by somebody else is made again on what is there then.
"""

from __future__ import annotations

from cni.errors import INTERNAL, PLUGIN_NOT_AVAILABLE, TRY_AGAIN_LATER, CniError
from cni.lock import Lock
from linux import process

TYPE_CHECKING = False  # not from typing: a plugin lives too short to import it
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    # The words of a rule, without those that name its chain.
    Rule = Sequence[str]

_TIMEOUT = 60.0  # seconds, of which xtables' own lock may take most
_ATTEMPTS = 4
COMMENT_LONGEST = 255
_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./:,!=+")


class Rules:
    """The chains of a family, and the edits that are to be made of them."""

    __slots__ = ("_before", "_deleted", "_edits", "_made", "_tables")

    def __init__(self, saved: str) -> None:
        self._tables: dict[str, dict[str, list[tuple[str, ...]]]] = {}
        # By table: chains to make, the changes of rules in order, chains to delete.
        self._made: dict[str, list[str]] = {}
        self._edits: dict[str, list[str]] = {}
        self._deleted: dict[str, list[str]] = {}
        table: dict[str, list[tuple[str, ...]]] = {}
        for line in saved.splitlines():
            if line.startswith("*"):
                table = self._tables.setdefault(line[1:].strip(), {})
            elif line.startswith(":"):
                table.setdefault(line[1:].split()[0], [])
            elif line.startswith("-A "):
                _, chain, *rule = split(line)
                table.setdefault(chain, []).append(tuple(rule))

    def has_chain(self, table: str, chain: str) -> bool:
        return chain in self._tables.get(table, {})

    def chains(self, table: str, prefix: str) -> list[str]:
        """The names of the table's chains that begin with `prefix`."""
        return [name for name in self._tables.get(table, {}) if name.startswith(prefix)]

    def of(self, table: str, chain: str) -> list[tuple[str, ...]]:
        """The rules of a chain; none when it is missing."""
        return list(self._tables.get(table, {}).get(chain, ()))

    def has(self, table: str, chain: str, rule: Rule, *, loosely: bool = False) -> bool:
        """Whether a chain has a rule of these words in whatever order; `loosely`: and perhaps more words."""
        wanted = sorted(rule)
        for each in self.of(table, chain):
            if sorted(each) == wanted:
                return True
            if loosely and all(each.count(word) >= wanted.count(word) for word in set(wanted)):
                return True
        return False

    def leading_to(self, table: str, chain: str) -> list[tuple[str, tuple[str, ...]]]:
        """The (chain, rule) that jump or go to a chain."""
        return [
            (name, rule)
            for name, rules in self._tables.get(table, {}).items()
            for rule in rules
            if target(rule) == chain
        ]

    def make_chain(self, table: str, chain: str) -> None:
        """A chain of ours, unless it is there."""
        chains = self._tables.setdefault(table, {})
        if chain not in chains:
            chains[chain] = []
            self._made.setdefault(table, []).append(chain)

    def append(self, table: str, chain: str, rule: Rule) -> None:
        """Add a rule at the end of a chain, unless it has it."""
        if not self.has(table, chain, rule):
            self._tables.setdefault(table, {}).setdefault(chain, []).append(tuple(rule))
            self._edit(table, f"-A {chain}", rule)

    def insert(self, table: str, chain: str, rule: Rule) -> None:
        """Add a rule in front of the others of a chain, unless it has it."""
        if not self.has(table, chain, rule):
            self._tables.setdefault(table, {}).setdefault(chain, []).insert(0, tuple(rule))
            self._edit(table, f"-I {chain} 1", rule)

    def remove(self, table: str, chain: str, rule: Rule) -> None:
        """Delete a rule, however often the chain has it; the words in any order."""
        wanted = sorted(rule)
        for each in self.of(table, chain):
            if sorted(each) == wanted:
                self._tables[table][chain].remove(each)
                self._edit(table, f"-D {chain}", each)

    def flush(self, table: str, chain: str) -> None:
        for each in self.of(table, chain):
            self.remove(table, chain, each)

    def delete_chain(self, table: str, chain: str) -> None:
        """Delete a chain with its rules and everything that leads to it, if it is there."""
        if not self.has_chain(table, chain):
            return
        for name, rule in self.leading_to(table, chain):
            self.remove(table, name, rule)
        self.flush(table, chain)
        del self._tables[table][chain]
        self._deleted.setdefault(table, []).append(chain)

    def script(self) -> str:
        """The edits as the text that iptables-restore reads; "" when there are none."""
        lines = []
        for table in dict.fromkeys((*self._made, *self._edits, *self._deleted)):
            lines.append(f"*{table}")
            lines += [f":{chain} - [0:0]" for chain in self._made.get(table, ())]
            lines += self._edits.get(table, ())
            lines += [f"-X {chain}" for chain in self._deleted.get(table, ())]
            lines.append("COMMIT\n")
        return "\n".join(lines)

    def _edit(self, table: str, command: str, rule: Rule) -> None:
        self._edits.setdefault(table, []).append(f"{command} {' '.join(map(_quoted, rule))}")


def read(*, v6: bool) -> Rules:
    """The rules as they are. CniError 50 where iptables is not installed."""
    return Rules(_run("ip6tables-save" if v6 else "iptables-save"))


def change(v6: bool, edit: Callable[[Rules], object]) -> None:  # noqa: FBT001  a family, not a switch
    """Read the rules, let `edit` change them, and make it so, all or nothing.

    CniError 50 where iptables is not installed, 11 when others do not stop to change the same rules.
    """
    program = "ip6tables-restore" if v6 else "iptables-restore"
    lock = Lock("iptables")
    with lock:
        for attempt in range(_ATTEMPTS):
            rules = read(v6=v6)
            edit(rules)
            script = rules.script()
            if not script:
                return
            try:
                # It holds the lock as well: when we are killed, nobody looks before it has ended.
                _run(program, "--noflush", "--wait", text=script.encode(), held=(lock.fd,))
            except CniError:
                # A rule that was to be deleted may be gone; what is wrong with the edit itself stays wrong.
                if attempt + 1 == _ATTEMPTS or _is_same_now(script, edit, v6=v6):
                    raise
            else:
                return


def target(rule: Rule) -> str:
    """Where a rule leads: a chain, or what is to be done; "" for nowhere."""
    return value(rule, "-j") or value(rule, "-g")


def value(rule: Rule, option: str) -> str:
    """The word after `option`, "" without it."""
    words = list(rule)
    return words[words.index(option) + 1] if option in words[:-1] else ""


def comment(text: str) -> tuple[str, ...]:
    """The words that put a comment on a rule; too long a one is cut, as the reference plugins cut it."""
    return ("-m", "comment", "--comment", text[:COMMENT_LONGEST])


def split(line: str) -> list[str]:
    """The words of a line that iptables-save wrote: quoted where they hold blanks, with backslashes."""
    words: list[str] = []
    word: list[str] | None = None
    quoted = escaped = False
    for character in line:
        if escaped:
            word = [*(word or []), character]
            escaped = False
        elif character == "\\" and quoted:
            escaped = True
        elif character == '"':
            quoted = not quoted
            word = word or []
        elif character == " " and not quoted:
            if word is not None:
                words.append("".join(word))
            word = None
        else:
            word = word if word is not None else []
            word.append(character)
    if word is not None:
        words.append("".join(word))
    return words


def _quoted(word: str) -> str:
    """A word as iptables-restore reads it; ValueError for one that would end the line."""
    if any(character < " " or character == "\x7f" for character in word):
        raise ValueError(f"{word!r} holds a control character")
    if word and _PLAIN.issuperset(word):
        return word
    escaped = word.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _is_same_now(script: str, edit: Callable[[Rules], object], *, v6: bool) -> bool:
    """Whether the edit would be the very same again: then there is no use in trying it."""
    rules = read(v6=v6)
    edit(rules)
    return rules.script() == script


def _run(program: str, *options: str, text: bytes | None = None, held: Sequence[int] = ()) -> str:
    try:
        done = process.run([program, *options], input=text, timeout=_TIMEOUT, pass_fds=held)
    except FileNotFoundError:
        raise CniError(
            PLUGIN_NOT_AVAILABLE,
            f"{program} is not installed",
            hint="install iptables, or leave the backend out of the configuration to use nftables",
        ) from None
    except TimeoutError:
        raise CniError(TRY_AGAIN_LATER, f"{program} did not end within {_TIMEOUT:g} s") from None
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise CniError(INTERNAL, f"{program} failed", said[0][:500] if said else f"status {done.returncode}")
    return done.stdout.decode(errors="surrogateescape")
