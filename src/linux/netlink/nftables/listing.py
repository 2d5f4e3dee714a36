"""Ask what nftables holds: tables, chains, rules, sets and elements."""

from __future__ import annotations

import errno
from time import sleep

from linux.netlink import wire
from linux.netlink.nftables import objects, types

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from linux.netlink.nftables.objects import Element, Set
    from linux.netlink.socket import Socket


_ATTEMPTS, _PAUSE = 100, 0.02  # seconds between them


class Rule:
    """A rule by its number in its chain: its comment and its expressions as the kernel encodes them."""

    __slots__ = ("chain", "comment", "expressions", "handle")

    def __init__(self, chain: str, handle: int, comment: str, expressions: bytes) -> None:
        self.chain = chain
        self.handle = handle
        self.comment = comment
        self.expressions = expressions


class BaseChain:
    """A chain that packets enter by themselves: where, and whether its policy lets them go on."""

    __slots__ = ("accepts", "family", "hook", "name", "table")

    def __init__(self, family: int, table: str, name: str, hook: int, *, accepts: bool) -> None:
        self.family = family
        self.table = table
        self.name = name
        self.hook = hook
        self.accepts = accepts


def generation(socket: Socket) -> int:
    """A number that changes with every change of the namespace's rules, for `Transaction.commit`."""
    answer = socket.request(objects.query(objects.GET_GENERATION, 0, "get nftables generation"))
    return wire.read_be32(wire.parse(answer[0].body, 4)[1])


def has_table(socket: Socket, family: int, table: str) -> bool:
    return _exists(
        socket, objects.query(objects.GET_TABLE, family, f"get table {table}", wire.text(1, table))
    )


def has_chain(socket: Socket, family: int, table: str, chain: str) -> bool:
    parts = wire.text(1, table), wire.text(3, chain)
    return _exists(socket, objects.query(objects.GET_CHAIN, family, f"get chain {table} {chain}", *parts))


def uses(socket: Socket, family: int, table: str, chain: str = "") -> int:
    """How many things use a chain, its own rules and every jump to it from a rule or an element, or how many
    chains and sets a table has; 0 when there is none of the name.
    """
    if chain:
        parts = [wire.text(1, table), wire.text(3, chain)]
        request = objects.query(objects.GET_CHAIN, family, f"get chain {table} {chain}", *parts)
    else:
        request = objects.query(objects.GET_TABLE, family, f"get table {table}", wire.text(1, table))
    answer = socket.ask(request.tolerating(errno.ENOENT))
    return 0 if answer is None else wire.read_be32(wire.parse(answer.body, 4)[6 if chain else 3])


def tables(socket: Socket, family: int = 0) -> list[tuple[int, str]]:
    """All tables as (family, name)."""
    answers = socket.dump(objects.query(objects.GET_TABLE, family, "list tables"))
    return [(message.body[0], wire.read_text(wire.parse(message.body, 4)[1])) for message in answers]


def chains(socket: Socket, family: int, table: str) -> list[str]:
    """The names of a table's chains; empty when there is no such table."""
    request = objects.query(objects.GET_CHAIN, family, f"list chains of {table}")
    found = [wire.parse(message.body, 4) for message in socket.dump(request)]
    return [wire.read_text(chain[3]) for chain in found if wire.read_text(chain[1]) == table]


def base_chains(socket: Socket) -> list[BaseChain]:
    """The base chains of all tables of all families."""
    answers = socket.dump(objects.query(objects.GET_CHAIN, 0, "list chains"))
    found = [(message.body[0], wire.parse(message.body, 4)) for message in answers]
    return [
        BaseChain(
            family,
            wire.read_text(chain[1]),
            wire.read_text(chain[3]),
            wire.read_be32(wire.parse(chain[4])[1]),
            accepts=wire.read_be32(chain.get(5, b"\0\0\0\1")) == 1,
        )
        for family, chain in found
        if 4 in chain
    ]


def rules(socket: Socket, family: int, table: str, chain: str = "") -> list[Rule]:
    """The rules of a chain, or of all of a table's; empty when there is no such table or chain."""
    parts = [wire.text(1, table), *([wire.text(2, chain)] if chain else [])]
    request = objects.query(objects.GET_RULE, family, f"list rules of {table}", *parts)
    found = [wire.parse(message.body, 4) for message in socket.dump(request.tolerating(errno.ENOENT))]
    return [
        Rule(
            wire.read_text(rule[2]),
            wire.read_be64(rule[3]),
            objects.read_comment(rule.get(7, b"")),
            rule.get(4, b""),
        )
        for rule in found
        if wire.read_text(rule[1]) == table and chain in ("", wire.read_text(rule[2]))
    ]


def elements(socket: Socket, target: Set) -> list[Element]:
    """All elements of a set or map; empty when it, or its table, does not exist."""
    parts = wire.text(1, target.table), wire.text(2, target.name)
    what = f"list elements of {target.table} {target.name}"
    request = objects.query(objects.GET_ELEMENT, target.family, what, *parts).tolerating(errno.ENOENT)
    for _ in range(_ATTEMPTS):
        found = [element for message in socket.dump(request) for element in _decode(target, message)]
        if len({each.key for each in found}) == len(found):
            return found
        # The kernel is rearranging a set that has grown: it shows some twice, and as many not at all.
        sleep(_PAUSE)
    raise OSError(errno.EAGAIN, f"{what}: the set does not hold still")


def element(socket: Socket, target: Set, key: Sequence[str | int]) -> Element | None:
    """The element with that key, found in constant time; None when there is none, or no such set."""
    asked = wire.nested(1, wire.nested(1, wire.attribute(1, types.pack(target.keys, key))))
    parts = wire.text(1, target.table), wire.text(2, target.name), wire.nested(3, asked)
    what = f"get element of {target.table} {target.name}"
    request = objects.query(objects.GET_ELEMENT, target.family, what, *parts).tolerating(errno.ENOENT)
    answer = socket.ask(request)
    return None if answer is None else next(iter(_decode(target, answer)), None)


def _exists(socket: Socket, request: wire.Request) -> bool:
    return socket.ask(request.tolerating(errno.ENOENT)) is not None


def _decode(target: Set, message: wire.Message) -> list[Element]:
    found = []
    for _, raw in wire.attributes(wire.parse(message.body, 4).get(3, b"")):
        parts = wire.parse(raw)
        key = types.unpack(target.keys, wire.parse(parts[1])[1])
        value: tuple[str | int, ...] = ()
        if target.values:
            data = wire.parse(parts.get(2, b""))
            if 2 in data:
                verdict = wire.parse(data[2])
                code = int.from_bytes(verdict[1], "big", signed=True)
                value = (code, wire.read_text(verdict[2])) if 2 in verdict else (code,)
            elif 1 in data:
                value = types.unpack(target.values, data[1])
        found.append(objects.Element(key, value, objects.read_comment(parts.get(6, b""))))
    return found
