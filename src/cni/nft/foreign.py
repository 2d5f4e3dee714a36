"""Rules of the reference plugins' nftables backends, found by their comments, for nodes that had both."""

from __future__ import annotations

import errno

from cni.attachment.names import digest
from linux.netlink.nftables import listing, objects
from linux.netlink.nftables.transaction import Transaction
from linux.netlink.socket import NETFILTER, Socket

_MASQUERADE = "cni_plugins_masquerade"
_MASQUERADE_CHAIN = "masq_checks"
_HOSTPORT = "cni_hostport"


def remove_masquerade(network: str, container_id: str, ifname: str) -> None:
    """Delete the masquerade rules of an attachment; their comment begins with digests of its names."""
    prefix = f"{digest(network, 16)}-{digest(f'{ifname}:{container_id}', 16)}, "
    with Socket(NETFILTER) as socket:
        found = listing.rules(socket, objects.INET, _MASQUERADE, _MASQUERADE_CHAIN)
        rules = [each for each in found if each.comment.startswith(prefix)]
        _delete(socket, objects.INET, _MASQUERADE, rules)


def remove_port_mappings(container_id: str) -> None:
    """Delete the port mappings of a container, which it has on one network at most."""
    with Socket(NETFILTER) as socket:
        for family in (objects.IPV4, objects.IPV6):
            found = listing.rules(socket, family, _HOSTPORT)
            _delete(socket, family, _HOSTPORT, [each for each in found if each.comment == container_id])


def _delete(socket: Socket, family: int, table: str, rules: list[listing.Rule]) -> None:
    transaction = Transaction()
    for each in rules:
        transaction.add(objects.delete_rule(family, table, each.chain, each.handle))
    try:
        transaction.commit(socket)
    except OSError as failed:
        # Somebody else deleted one of them meanwhile: all of them are as good as gone.
        if failed.errno != errno.ENOENT:
            raise
