"""Addresses given out, as rows: who holds each, or since when it may be given out again.

A row stays when its address is given back, so finding an address is one look into an index however many
there are: the free one that has waited longest, else the next that was never given out. All allocation on a
network goes through the lock on its row in ``cni_networks``; that an address has one row at all is the
promise of the primary key (network, address), whatever anybody does.
"""

from __future__ import annotations

from cni import state
from cni.errors import INVALID_CONFIG, CniError
from cni.ipam import netnsmark
from cni.ipam.sql.databases import integer
from cni.types.address import format_ip, parse_ip

TYPE_CHECKING = False  # not from typing: start-up time counts here
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence
    from typing import Final

    from cni.ipam.ranges import Range, RangeSet
    from cni.ipam.sql.settings import Settings
    from cni.ipam.sql.transaction import Transaction

MACHINE_ID = "/etc/machine-id"
_LONGEST = 200  # characters of a name in a column; a longer one is stored as its digest
_BEAT = 15  # seconds between two heartbeats of a node; more often would only make it write
_SLACK = 5  # seconds: both clocks that are compared tick in whole ones
_FEW, _CHUNK = 16, 256  # rows read at once: where one will do, and where a gap is looked for
_V4_IN_V6 = "0" * 20 + "f" * 4

_RELEASED = (
    "UPDATE cni_leases SET node = NULL, boot_id = NULL, container_id = NULL, ifname = NULL, netns = NULL,"
    " pod = NULL, available_at = %s + CASE WHEN sticky_key IS NULL THEN %s ELSE %s END"
    " WHERE available_at IS NULL AND "
)


class Holder:
    """Who gets an address. `netns` is a mark (`cni.ipam.netnsmark`), `sticky_key` what it is kept for."""

    __slots__ = ("container_id", "ifname", "netns", "pod", "sticky_key")

    def __init__(
        self, container_id: str, ifname: str, *, netns: str = "", pod: str = "", sticky_key: str = ""
    ) -> None:
        self.container_id: Final = fitting(container_id)
        self.ifname: Final = fitting(ifname)
        self.netns: Final = netns if len(netns) <= _LONGEST and netns.isprintable() else ""
        self.pod: Final = pod[:_LONGEST] if pod.isprintable() else ""
        self.sticky_key: Final = fitting(sticky_key)


class Leases:
    """The leases of one network within one transaction, seen from one node."""

    def __init__(self, transaction: Transaction, settings: Settings, network: str) -> None:
        self._do = transaction
        self._settings = settings
        self._network = fitting(network)
        self._node = settings.node
        self._dead: set[bytes] = set()  # held by nobody who lives

    def enter(self) -> None:
        """Say that this node lives, and free what earlier boots of it left. Locks the node's row.

        Raises CniError 7 when another machine has this node's name: it would take our addresses for
        left-overs of its own, and we do the same with its.
        """
        boot, machine, now = state.boot_id(), _machine_id(), self._do.now
        found = self._do.run(
            "SELECT boot_id, machine_id, seen_at FROM cni_nodes WHERE name = %s FOR UPDATE", (self._node,)
        )
        if not found:
            self._do.run(
                "INSERT INTO cni_nodes (name, machine_id, boot_id, seen_at) VALUES (%s, %s, %s, %s)",
                (self._node, machine, boot, now),
            )
        elif found[0][0] != boot:
            self._refuse_another_machine(str(found[0][1]), machine, integer(found[0][2]))
        if not found or found[0][0] != boot:
            self._release("node = %s AND boot_id <> %s", (self._node, boot))
        if found and (found[0][0] != boot or now - integer(found[0][2]) >= _BEAT):
            self._do.run(
                "UPDATE cni_nodes SET machine_id = %s, boot_id = %s, seen_at = %s WHERE name = %s",
                (machine, boot, now, self._node),
            )

    def lock(self) -> None:
        """Wait until nobody else allocates on this network, until the transaction ends."""
        question = "SELECT name FROM cni_networks WHERE name = %s FOR UPDATE"
        if not self._do.run(question, (self._network,)):
            # Somebody else may insert it now: a duplicate key, and the transaction is done again.
            self._do.run("INSERT INTO cni_networks (name) VALUES (%s)", (self._network,))

    def held(self, holder: Holder) -> list[bytes]:
        """The addresses that an attachment of this node has."""
        rows = self._do.run(
            "SELECT address FROM cni_leases WHERE network = %s AND node = %s AND container_id = %s"
            " AND ifname = %s ORDER BY leased_at, number",
            (self._network, self._node, holder.container_id, holder.ifname),
        )
        return [parse_ip(str(row[0])) for row in rows]

    def release(self, holder: Holder) -> int:
        """Give back what an attachment of this node has. How many addresses that were."""
        return self._release(
            "network = %s AND node = %s AND container_id = %s AND ifname = %s",
            (self._network, self._node, holder.container_id, holder.ifname),
        )

    def collect(self, valid: Collection[tuple[str, str]]) -> int:
        """Give back what attachments of this node have that are not `valid`; those of others are theirs."""
        lives = {(fitting(container_id), fitting(ifname)) for container_id, ifname in valid}
        rows = self._do.run(
            "SELECT DISTINCT container_id, ifname FROM cni_leases WHERE network = %s AND node = %s",
            (self._network, self._node),
        )
        dead = {(str(row[0]), str(row[1])) for row in rows} - lives
        return sum(self.release(Holder(*each)) for each in sorted(dead))

    def sticky(self, given: RangeSet, holder: Holder) -> tuple[Range, bytes] | None:
        """The address of a set that was given back last by the same key, if it is still free."""
        if not holder.sticky_key:
            return None
        rows = self._do.run(
            "SELECT address FROM cni_leases WHERE network = %s AND sticky_key = %s"
            " AND available_at IS NOT NULL ORDER BY available_at DESC",
            (self._network, holder.sticky_key),
        )
        return _first_of(given, (parse_ip(str(row[0])) for row in rows))

    def next(self, given: RangeSet) -> tuple[Range, bytes] | None:
        """An address of a set that can be given out now; None when there is none.

        One that was given back and has waited, else one that nobody ever had, else one that has not waited
        yet or is kept for somebody who is not there, else one of a namespace of this node that is gone, else
        one of a node that is long away (if so configured).
        """
        waited = self._longest_free(given)
        if waited is not None and waited[0] <= self._do.now:
            return waited[1]
        found = self._fresh(given) or (waited[1] if waited else None)
        if found is not None:
            return found
        found = self._without_namespace(given) or self._abandoned(given)
        if found is not None:
            self._dead.add(found[1])
        return found

    def take(self, address: bytes, holder: Holder) -> bool:
        """Give an address to an attachment. False when somebody has it."""
        values = (
            self._node,
            state.boot_id(),
            holder.container_id,
            holder.ifname,
            holder.netns or None,
            holder.pod or None,
            holder.sticky_key or None,
            self._do.now,
        )
        where = (self._network, format_ip(address))
        if address in self._dead:
            self._release("network = %s AND address = %s", where)
        taken = self._do.change(
            "UPDATE cni_leases SET node = %s, boot_id = %s, container_id = %s, ifname = %s, netns = %s,"
            " pod = %s, sticky_key = %s, leased_at = %s, available_at = NULL"
            " WHERE network = %s AND address = %s AND available_at IS NOT NULL",
            (*values, *where),
        )
        if taken:
            return True
        if self._do.run("SELECT 1 FROM cni_leases WHERE network = %s AND address = %s", where):
            return False
        self._do.run(
            "INSERT INTO cni_leases (node, boot_id, container_id, ifname, netns, pod, sticky_key, leased_at,"
            " network, address, number) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
            (*values, *where, _number(address)),
        )
        return True

    def note_given(self, place: Range, address: bytes) -> None:
        """Have the search for addresses that nobody ever had go on after this one."""
        start = _number(place.packed(place.start))
        last = self._last_given(place)
        if last is None:
            self._do.run(
                "INSERT INTO cni_cursors (network, range_start, last_given) VALUES (%s, %s, %s)",
                (self._network, start, _number(address)),
            )
        elif last < _number(address):
            self._do.run(
                "UPDATE cni_cursors SET last_given = %s WHERE network = %s AND range_start = %s",
                (_number(address), self._network, start),
            )

    def _refuse_another_machine(self, theirs: str, ours: str, seen_at: int) -> None:
        """Of two boots the earlier one has ended before the later one began, or they are two machines."""
        import time

        booted_at = self._do.now - int(time.clock_gettime(time.CLOCK_BOOTTIME))
        alive = seen_at > booted_at + _SLACK
        if not alive and (not theirs or not ours or theirs == ours):
            return
        why = "has been seen since this machine booted" if alive else "had another machine ID"
        raise CniError(
            INVALID_CONFIG,
            f"node name {self._node} belongs to another machine, which {why}",
            "give each machine its own ipam.node; if that one was replaced by this, delete its row"
            " from cni_nodes",
        )

    def _release(self, condition: str, parameters: Sequence[object]) -> int:
        now, settings = self._do.now, self._settings
        return self._do.change(
            _RELEASED + condition, (now, settings.reuse_after, settings.sticky_for, *parameters)
        )

    def _longest_free(self, given: RangeSet) -> tuple[int, tuple[Range, bytes]] | None:
        """(since when, (range, address)) of the free address of a set that comes first.

        In the order of the index, and judged here: a condition on the number would lead a planner astray.
        Nearly always the first row is the one; free rows of other sets of the network may come before it.
        """
        limit = _FEW
        while True:
            rows = self._do.run(
                "SELECT available_at, address FROM cni_leases WHERE network = %s"
                " AND available_at IS NOT NULL ORDER BY available_at, number LIMIT %s",
                (self._network, limit),
            )
            for when, address in rows:
                found = _first_of(given, (parse_ip(str(address)),))
                if found is not None:
                    return integer(when), found
            if len(rows) < limit:
                return None
            limit *= _CHUNK

    def _fresh(self, given: RangeSet) -> tuple[Range, bytes] | None:
        """The next address of a set without a row."""
        for each in given.ranges:
            last = self._last_given(each)
            number = each.start
            if last is not None:
                number = max(number, int.from_bytes(_packed(last, v6=each.v6), "big") + 1)
            found = self._gap(each, number)
            if found is not None:
                return each, found
        return None

    def _gap(self, place: Range, number: int) -> bytes | None:
        """The first address of a range from `number` on that has no row and is not the gateway."""
        while number <= place.end:
            rows = self._do.run(
                "SELECT number FROM cni_leases WHERE network = %s AND number BETWEEN %s AND %s"
                " ORDER BY number LIMIT %s",
                (self._network, _number(place.packed(number)), _bounds(place)[1], _CHUNK),
            )
            taken = {int.from_bytes(_packed(str(row[0]), v6=place.v6), "big") for row in rows}
            beyond = max(taken) if len(rows) == _CHUNK else place.end
            while number <= beyond:
                if number not in taken and place.packed(number) != place.gateway:
                    return place.packed(number)
                number += 1
        return None

    def _without_namespace(self, given: RangeSet) -> tuple[Range, bytes] | None:
        """An address of a container of this node whose namespace is gone: nobody will give it back."""
        rows = self._do.run(
            "SELECT address, netns FROM cni_leases WHERE network = %s AND node = %s AND netns IS NOT NULL"
            " ORDER BY leased_at",
            (self._network, self._node),
        )
        return _first_of(given, (parse_ip(str(row[0])) for row in rows if netnsmark.is_gone(str(row[1]))))

    def _abandoned(self, given: RangeSet) -> tuple[Range, bytes] | None:
        """An address of a node that has not been seen for `reclaim_after`."""
        if not self._settings.reclaim_after:
            return None
        rows = self._do.run(
            "SELECT l.address FROM cni_nodes n JOIN cni_leases l ON l.node = n.name"
            " WHERE l.network = %s AND n.seen_at < %s ORDER BY n.seen_at, l.number",
            (self._network, self._do.now - self._settings.reclaim_after),
        )
        return _first_of(given, (parse_ip(str(row[0])) for row in rows))

    def _last_given(self, place: Range) -> str | None:
        rows = self._do.run(
            "SELECT last_given FROM cni_cursors WHERE network = %s AND range_start = %s",
            (self._network, _bounds(place)[0]),
        )
        return str(rows[0][0]) if rows else None


def fitting(name: str) -> str:
    """A name that fits into its column, and into every database's idea of text: itself, or its digest."""
    if len(name) <= _LONGEST and name.isascii() and name.isprintable():
        return name
    from hashlib import sha512

    return sha512(name.encode("utf-8", "surrogatepass")).hexdigest()


def _first_of(given: RangeSet, addresses: Iterable[bytes]) -> tuple[Range, bytes] | None:
    for address in addresses:
        place = given.range_of(address)
        if place is not None and place.gateway != address:
            return place, address
    return None


def _number(packed: bytes) -> str:
    """An address as 32 hexadecimal digits, which sort as the addresses do, IPv4 as IPv6 writes it."""
    return (_V4_IN_V6 if len(packed) == 4 else "") + packed.hex()


def _packed(number: str, *, v6: bool) -> bytes:
    return bytes.fromhex(number if v6 else number[-8:])


def _bounds(place: Range) -> tuple[str, str]:
    return _number(place.packed(place.start)), _number(place.packed(place.end))


def _machine_id() -> str:
    """What tells this machine from others, "" where nothing does."""
    try:
        with open(MACHINE_ID, "rb", buffering=0) as file:
            return file.read(64).decode("ascii", "replace").strip()
    except OSError:
        return ""
