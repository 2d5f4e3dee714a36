"""Keeping one lease: renew it, ask others when its server is silent, take the address off when it ends.

A keeper never waits. Its daemon calls `act` when it is due and `hear` when its channel can be read; what it
knows is in the lease's file, so a new daemon goes on where the old one was killed.
"""

from __future__ import annotations

import errno

from cni.ipam.dhcp import client, leases, message, options
from cni.ipam.dhcp.frames import BROADCAST, EVERYBODY, NOBODY, Channel
from cni.ipam.dhcp.leases import Locked
from cni.types.address import format_ip
from linux.netlink import address, link, route
from linux.netlink.batch import Batch
from linux.netlink.socket import ROUTE, open_in
from linux.netlink.wire import pack_mac

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Final

    from cni.ipam.dhcp.client import Settings
    from cni.ipam.dhcp.leases import Lease
    from linux.netlink.socket import Socket

_INET = 2
_LONGEST_FLOOR = 60.0  # seconds between two renewals that get no answer, RFC 2131 4.4.5
_SHORTEST_FLOOR = 0.25
_FIRST_TRY = 1.0  # seconds between the first two questions for an address that was lost
_MOST_QUESTIONS = 8  # that an answer may still come to
_MOST_ANSWERS = 64  # read at once: others have leases too, and somebody may send without end


class Keeper:
    """Keeps `lease`, whose namespace is below `root`, and tells `log` what happens to it.

    `due`: when to call `act`, by `leases.now`; None for a lease without an end.
    """

    def __init__(self, lease: Lease, settings: Settings, root: str, log: Callable[[str], object]) -> None:
        self.lease: Final = lease
        self._settings = settings
        self._root = root
        self._log = log
        self._channel: Channel | None = None
        self._questions: dict[int, float] = {}  # transaction: when it was asked
        self._first_asked = 0.0
        self._pauses: Iterator[float] = iter(())
        self.due: float | None = leases.now()
        if lease.state == leases.BOUND:
            self.due = None if lease.expires is None else lease.renew_at

    def fileno(self) -> int:
        """The descriptor of the channel, -1 while nothing is expected."""
        return self._channel.fileno() if self._channel is not None else -1

    def close(self) -> None:
        if self._channel is not None:
            self._channel.close()
            self._channel = None
        self._questions.clear()

    def act(self) -> bool:
        """Do what is due. False when there is nothing left to keep: the keeper is closed then."""
        try:
            if self._is_wanted() and self._keep():
                return True
        except Exception as failed:  # noqa: BLE001  whatever it is, it must not end the keeping of the others
            # The interface is down, or the disk is full: until the lease ends there is time to try again.
            self._log(f"{self._name()}: {type(failed).__name__}: {failed}")
            self.due = leases.now() + client.jitter(self._floor())
            return True
        self.close()
        return False

    def hear(self) -> bool:
        """Take the answers that have come. False when there is nothing left to keep."""
        try:
            for _ in range(_MOST_ANSWERS):
                received = self._channel.take() if self._channel is not None else None
                if received is None:
                    break
                reply = client.read(received)
                if reply is not None and not self._judge(reply, received.mac):
                    self.close()
                    return False
        except Exception as failed:  # noqa: BLE001  as above
            # ENETDOWN and the like: the next transmission opens another channel.
            self._log(f"{self._name()}: {type(failed).__name__}: {failed}")
            self.close()
        return True

    def _is_wanted(self) -> bool:
        """Whether the lease is still to be kept: its file says so, and there is somebody who has it."""
        with Locked(self._root) as held:
            found = held.load(self.lease.name)
            if found is None or found.state == leases.RELEASING or found.answer != self.lease.answer:
                return False
            if not self.lease.netns_lives(self._root):
                # Until the lease ends a DEL can still give it back; after that nobody has to know of it.
                if self.lease.expires is not None and self.lease.expires <= leases.now():
                    held.remove(self.lease.name)
                self._log(f"{self._name()}: its network namespace is gone")
                return False
        return True

    def _keep(self) -> bool:
        lease, now = self.lease, leases.now()
        if lease.state == leases.BOUND and lease.expires is not None and now >= lease.expires:
            self._lose("it has expired")
        if lease.state == leases.LOST:
            self._ask(EVERYBODY, NOBODY, BROADCAST)
            self.due = now + next(self._pauses, self._settings.resend_max)
        elif lease.expires is None or now < lease.renew_at:
            self.due = None if lease.expires is None else lease.renew_at
        elif now < lease.rebind_at:
            self._ask(lease.server_mac, lease.address, lease.server)
            self.due = self._half_way(now, lease.rebind_at)
        else:
            self._ask(EVERYBODY, lease.address, BROADCAST)
            self.due = self._half_way(now, lease.expires)
        return True

    def _half_way(self, now: float, end: float) -> float:
        """When to ask again before `end`: after half of what is left, but not all the time."""
        return min(now + max(client.jitter((end - now) / 2), self._floor()), end)

    def _floor(self) -> float:
        duration = self.lease.message.number(message.LEASE_TIME) or 0
        return min(max(duration / 20, _SHORTEST_FLOOR), _LONGEST_FLOOR)

    def _ask(self, to: bytes, source: bytes, target: bytes) -> None:
        lease, now = self.lease, leases.now()
        channel = self._open()
        if not self._questions:
            self._first_asked = now
        xid = client.new_xid()
        self._questions[xid] = now
        while len(self._questions) > _MOST_QUESTIONS:
            del self._questions[next(iter(self._questions))]
        compose = client.reboot if lease.state == leases.LOST else client.renewal
        text = compose(lease, xid, int(now - self._first_asked), self._settings)
        try:
            channel.send(text, to=to, source=source, target=target)
        except OSError:
            self.close()
            raise

    def _open(self) -> Channel:
        if self._channel is None:
            with self._socket() as socket:
                found = link.get(socket, self.lease.ifname)
            if found is None:
                raise OSError(errno.ENODEV, "the interface is gone", self.lease.ifname)
            self._channel = Channel(self._netns(), found.index, pack_mac(found.mac), self.lease.mac)
        return self._channel

    def _judge(self, reply: message.Message, sender: bytes) -> bool:
        """What an answer means. False when the lease is not wanted any more."""
        lease = self.lease
        asked_at = self._questions.get(reply.xid)
        if asked_at is None or not client.is_answer(reply, lease, reply.xid):
            return True
        server = reply.address(message.SERVER_ID)
        if lease.state == leases.BOUND and leases.now() < lease.rebind_at and server != lease.server:
            return True  # the question was not for that one
        if reply.type == message.NAK:
            if lease.state == leases.BOUND:
                self._lose(
                    f"the server {format_ip(server)} refused: {options.complaint(reply) or 'no reason'}"
                )
            return True
        if reply.type != message.ACK or reply.yiaddr != lease.address or not reply.number(message.LEASE_TIME):
            return True
        lost, old = lease.state == leases.LOST, lease.server
        client.bind(lease, reply, sender, asked_at)
        if lost:
            self._put_back()
            lease.routes = []
        self.close()
        self.due = None if lease.expires is None else lease.renew_at
        if not self._save():
            return False
        if lost:
            self._log(f"{self._name()}: has {format_ip(lease.address)} again")
        elif server != old:
            self._log(f"{self._name()}: {format_ip(server)} has taken over {format_ip(lease.address)}")
        return True

    def _save(self) -> bool:
        """Write the lease down, unless it was given back meanwhile. Whether it is still wanted."""
        with Locked(self._root) as held:
            found = held.load(self.lease.name)
            if found is None or found.state == leases.RELEASING:
                return False
            held.save(self.lease)
        return True

    def _lose(self, why: str) -> None:
        """The address may not be used any more, RFC 2131 4.4.5: off the interface, and ask for it again."""
        lease = self.lease
        self.close()
        with self._socket() as socket:
            found = link.get(socket, lease.ifname)
            if found is not None:
                lease.routes = [
                    {
                        "destination": each.destination,
                        "gateway": each.gateway,
                        "source": each.source,
                        "scope": each.scope,
                        "priority": each.priority,
                        "mtu": each.mtu,
                    }
                    for each in route.routes(socket, family=_INET, index=found.index)
                ]
                lease.state = leases.LOST
                self._save()  # with the routes, which go with the address
                batch = Batch(socket)
                batch.add(address.delete(found.index, self._cidr()).tolerating(errno.EADDRNOTAVAIL))
                batch.commit()
        lease.state = leases.LOST
        self._save()
        self._log(f"{self._name()}: lost {format_ip(lease.address)}: {why}")
        self._pauses = client.pauses(self._settings.resend_max, _FIRST_TRY)
        self.due = leases.now()

    def _put_back(self) -> None:
        """The address and the routes as they were when they were lost."""
        from cni.fields import Fields

        with self._socket() as socket:
            found = link.get(socket, self.lease.ifname)
            if found is None:
                return
            batch = Batch(socket)
            batch.add(address.add(found.index, self._cidr()).tolerating(errno.EEXIST))
            saved = [Fields(each) for each in self.lease.routes]
            # Those on the link first: the kernel wants to know the way to a gateway.
            for each in sorted(saved, key=lambda each: bool(each.string("gateway"))):
                again = route.add(
                    each.string("destination"),
                    index=found.index,
                    gateway=each.string("gateway") or None,
                    source=each.string("source") or None,
                    scope=each.integer("scope"),
                    priority=each.integer("priority"),
                    mtu=each.integer("mtu"),
                )
                batch.add(again.tolerating(errno.EEXIST))
            batch.commit()

    def _cidr(self) -> str:
        return f"{format_ip(self.lease.address)}/{options.prefix_length(self.lease.message)}"

    def _netns(self) -> str:
        return self._root + self.lease.netns

    def _socket(self) -> Socket:
        (socket,) = open_in(self._netns(), ROUTE)
        return socket

    def _name(self) -> str:
        lease = self.lease
        return f"{lease.network} {lease.container_id} {lease.ifname}"
