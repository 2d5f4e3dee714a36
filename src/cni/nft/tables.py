"""A table of the plugins: made with its first attachment, gone with its last, shared by all networks.

Its skeleton, base chains and maps, is made once. An attachment is one element for each address or port; an
element may jump to a chain that is made when first needed, and goes when nothing jumps to it any more. The
kernel counts who uses a chain, so nothing here takes longer with more containers.
"""

from __future__ import annotations

from cni.lock import Lock
from linux.netlink.nftables import listing, objects
from linux.netlink.nftables.expressions import JUMP
from linux.netlink.nftables.objects import Element
from linux.netlink.nftables.transaction import Transaction
from linux.netlink.socket import NETFILTER, Socket

TYPE_CHECKING = False  # not from typing: a plugin lives too short to import it
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType

    from linux.netlink.nftables.objects import Set
    from linux.netlink.wire import Request

if TYPE_CHECKING:
    # An element of a set, and where it belongs.
    Entry = tuple[Set, Element]
    # Puts off what it is given until there is nothing else to do.
    Later = Callable[[Callable[[], object]], object]

_COMMENT_LONGEST = 120


class Table:
    """The plan of a table. `skeleton` makes what is always there: `fixed` chains and sets.

    The chain `kept_for` is for the rules of others: as long as it has any the table stays.
    """

    __slots__ = ("family", "fixed", "kept_for", "name", "skeleton")

    def __init__(
        self,
        family: int,
        name: str,
        fixed: int,
        skeleton: Callable[[], Sequence[Request]],
        *,
        kept_for: str = "",
    ) -> None:
        self.family = family
        self.name = name
        self.fixed = fixed
        self.skeleton = skeleton
        self.kept_for = kept_for


class Busy(Exception):
    """A key belongs to another attachment: `owner` is its comment."""

    def __init__(self, key: Sequence[str | int], owner: str) -> None:
        super().__init__(f"{' . '.join(map(str, key))} belongs to {owner or 'somebody else'}")
        self.key = tuple(key)
        self.owner = owner


class Session:
    """Changes to the tables of the caller's network namespace, one process at a time.

    Where something was deleted, closing the socket takes 10 ms: the kernel waits until no processor can be
    using it (an RCU grace period). With `later`, which is given the closing, others can wait meanwhile.
    """

    __slots__ = ("_later", "_lock", "socket")

    def __init__(self, later: Later | None = None) -> None:
        self._later = later
        self._lock = Lock("nft")

    def __enter__(self) -> Session:
        self._lock.__enter__()
        try:
            self.socket = Socket(NETFILTER)
        except BaseException:
            self._lock.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        # The lock first: what was changed is in effect.
        self._lock.__exit__(kind, value, trace)
        if self._later is None:
            self.socket.close()
        else:
            self._later(self.socket.close)

    def publish(
        self,
        table: Table,
        entries: Sequence[Entry],
        chains: Mapping[str, Sequence[bytes]],
        *,
        is_stale: Callable[[str], bool],
        more: Sequence[Request] = (),
    ) -> None:
        """Add `entries`, all or none, with the `chains` (name to rules) that they jump to.

        A key that is there is taken over when it has the same comment or when `is_stale` says so of its
        comment; else Busy is raised. `more` is done at the same moment.
        """
        transaction = Transaction()
        exists = listing.has_table(self.socket, table.family, table.name)
        if not exists:
            transaction.add(*table.skeleton())
        for name, rules in chains.items():
            if exists and self._has_chain(table, name, len(rules)):
                continue
            transaction.add(objects.add_chain(table.family, table.name, name))
            if exists:
                transaction.add(objects.flush_chain(table.family, table.name, name))
            transaction.add(*[objects.add_rule(table.family, table.name, name, rule) for rule in rules])
        for target, element in entries:
            before = listing.element(self.socket, target, element.key) if exists else None
            if before is not None:
                if before == element:
                    # Nothing to take away, which the kernel would be waited for.
                    continue
                if before.comment != element.comment and not is_stale(before.comment):
                    raise Busy(element.key, before.comment)
                transaction.add(*objects.delete_elements(target, [before]))
            transaction.add(*objects.add_elements(target, [element]))
        transaction.add(*more)
        transaction.commit(self.socket)

    def withdraw(
        self,
        table: Table,
        entries: Sequence[Entry],
        owner: str,
        *,
        shared: Mapping[str, Sequence[Entry]] | None = None,
        before_delete: Callable[[], object] | None = None,
        more: Callable[[Sequence[Entry]], Sequence[Request]] | None = None,
    ) -> None:
        """Remove those of `entries` whose comment is `owner`, and what is then used by nobody.

        `shared` are elements that live as long as a chain does, by its name. `before_delete` is called when
        that is the whole table; otherwise `more` says for the elements found what to do at the same moment.
        """
        if not listing.has_table(self.socket, table.family, table.name):
            return
        found: list[Entry] = []
        # Also of elements that somebody else removed: their chain would stay for ever.
        jumps = {chain: 0 for _, element in entries if (chain := _target(element))}
        for target, expected in entries:
            element = listing.element(self.socket, target, expected.key)
            if element is not None and element.comment == owner:
                found.append((target, element))
                chain = _target(element)
                if chain:
                    jumps[chain] = jumps.get(chain, 0) + 1
        unused = [name for name, count in jumps.items() if self._users(table, name) == count]
        for target, expected in [entry for name in unused for entry in (shared or {}).get(name, ())]:
            element = listing.element(self.socket, target, expected.key)
            if element is not None:
                found.append((target, element))
        if not found and not unused:
            return
        left = listing.uses(self.socket, table.family, table.name) - len(unused)
        transaction = Transaction()
        if left <= table.fixed and not self._is_kept(table):
            if before_delete is not None:
                before_delete()
            transaction.add(objects.delete_table(table.family, table.name))
        else:
            for target, element in found:
                transaction.add(*objects.delete_elements(target, [element]))
            if more is not None:
                transaction.add(*more(found))
            for name in unused:
                transaction.add(objects.flush_chain(table.family, table.name, name))
                transaction.add(objects.delete_chain(table.family, table.name, name))
        transaction.commit(self.socket)

    def has(self, entries: Sequence[Entry]) -> bool:
        """Whether every one of `entries` is there as it was published."""
        return all(
            listing.element(self.socket, target, element.key) == element for target, element in entries
        )

    def _has_chain(self, table: Table, name: str, rules: int) -> bool:
        """Whether a chain is there with at least so many rules: it may have been flushed."""
        if not rules:
            return listing.has_chain(self.socket, table.family, table.name, name)
        return len(listing.rules(self.socket, table.family, table.name, name)) >= rules

    def _is_kept(self, table: Table) -> bool:
        return bool(table.kept_for) and bool(
            listing.rules(self.socket, table.family, table.name, table.kept_for)
        )

    def _users(self, table: Table, chain: str) -> int:
        """How many elements jump to a chain: its users without its own rules; -1 when there is none."""
        if not listing.has_chain(self.socket, table.family, table.name, chain):
            return -1
        own = len(listing.rules(self.socket, table.family, table.name, chain))
        return listing.uses(self.socket, table.family, table.name, chain) - own


def _target(element: Element) -> str:
    """The chain that an element of a verdict map jumps to, "" for none."""
    if len(element.value) == 2 and element.value[0] == JUMP:
        return str(element.value[1])
    return ""


def comment(network: str, container_id: str, ifname: str) -> str:
    """The name of an attachment as a comment; too long a one is cut, with a digest of all of it."""
    text = f"{network}/{container_id}/{ifname}"
    if len(text.encode()) <= _COMMENT_LONGEST:
        return text
    from cni.attachment.names import digest

    return f"{text.encode()[:80].decode(errors='ignore')}~{digest(text, 32)}"
