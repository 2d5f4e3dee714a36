"""Taking an attachment back: every step is tried, whatever the one before it said."""

from __future__ import annotations

from cni.errors import INVALID_CONFIG, CniError
from cni.fields import Fields
from cni.types.address import Cidr

TYPE_CHECKING = False  # not from typing: a plugin lives too short to import it
if TYPE_CHECKING:
    from collections.abc import Callable

    from cni.request import Request


class Steps:
    """Runs steps one by one; `finish` raises the first failure, with the others as notes.

    What is put off by `later` is done when all steps have been tried.
    """

    __slots__ = ("_failure", "_put_off")

    def __init__(self) -> None:
        self._failure: Exception | None = None
        self._put_off: list[Callable[[], object]] = []

    def run(self, step: Callable[[], object]) -> None:
        try:
            step()
        except Exception as failed:  # noqa: BLE001  whatever it is, the rest has to go too
            if self._failure is None:
                self._failure = failed
            else:
                self._failure.add_note(f"and also: {failed}")

    def later(self, step: Callable[[], object]) -> None:
        self._put_off.append(step)

    def finish(self) -> None:
        for step in self._put_off:
            self.run(step)
        if self._failure is not None:
            raise self._failure


def owner(request: Request) -> str:
    """The comment of the attachment's elements in nftables."""
    from cni.nft import tables  # most attachments have nothing there

    return tables.comment(request.name, request.container_id, request.ifname)


def recorded_ips(record: Fields) -> list[Cidr]:
    return [Cidr.parse(each) for each in record.strings("ips")]


def release_address(request: Request, steps: Steps, made: Fields | None = None) -> None:
    """DEL on the IPAM plugin, if the network has one.

    `made` is the record: when it has no addresses, and a built-in plugin refuses the configuration, then it
    refused the ADD too, and there is nothing to give back. Else such a record would stay, and every GC fail.
    """
    from cni import delegate, invoke

    def release() -> None:
        try:
            delegate.delete(request)
        except CniError as failed:
            if failed.code != INVALID_CONFIG or made is None or made.strings("ips"):
                raise
            if invoke.find(delegate.ipam_type(request), request.path) is not None:
                raise

    if delegate.ipam_type(request):
        steps.run(release)


def unrecorded(request: Request) -> None:
    """DEL of an attachment that this plugin has no record of: made by another implementation, or never.

    What it was made of is found by prevResult and by the names that the reference plugins use.
    """
    from cni.nft import foreign, masquerade

    steps = Steps()
    try:
        previous = request.prev_result
    except Exception:  # noqa: BLE001  an unreadable result is no reason to keep what can be found without
        previous = None
    ips = [each.address for each in previous.ips] if previous is not None else []
    steps.run(lambda: masquerade.remove(ips, owner(request)))
    steps.run(lambda: foreign.remove_masquerade(request.name, request.container_id, request.ifname))
    steps.run(lambda: _remove_iptables_masquerade(request))
    unrecorded_interface(request, steps, "veth")
    steps.finish()


def _remove_iptables_masquerade(request: Request) -> None:
    from cni.iptables import masquerade as by_iptables

    by_iptables.remove_all(request.name, request.container_id)


def unrecorded_interface(request: Request, steps: Steps, kind: str) -> None:
    """Delete the container's interface, if it is of that kind, and release its addresses."""
    from cni.attachment import veth

    def delete_interface() -> None:
        if request.netns is not None:
            veth.delete_in_container(request.netns, request.ifname, kind)

    in_order(request, steps, delete_interface)


def link_and_address(request: Request, record: Fields, steps: Steps) -> None:
    """Delete the pair of a recorded attachment and release its addresses."""
    from cni.attachment import veth

    in_order(request, steps, lambda: veth.delete(record.string("veth"), record.string("mac")), record)


def in_order(
    request: Request, steps: Steps, delete_interface: Callable[[], object], made: Fields | None = None
) -> None:
    """Run `delete_interface` and release the addresses; `made` is the record, if there is one.

    The interface goes first: its address must not be given out anew while it can still answer for it. With
    DHCP it goes last, as the lease is given back through it.
    """
    from cni import delegate

    if delegate.needs_interface(request):
        release_address(request, steps, made)
        steps.run(delete_interface)
    else:
        steps.run(delete_interface)
        release_address(request, steps, made)
