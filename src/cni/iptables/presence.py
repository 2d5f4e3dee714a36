"""Whether iptables has anything of the plugins, asked without running a program.

The iptables of today keeps its tables in nftables, where one question is enough. That of before has tables of
its own in the kernel; when it has the table there, the answer is yes.
"""

from __future__ import annotations

from cni.lock import Lock
from linux.netlink.nftables import listing
from linux.netlink.nftables.objects import IPV4, IPV6
from linux.netlink.socket import NETFILTER, Socket

# Where packets to a mapped port go first.
DNAT_CHAIN = "CNI-HOSTPORT-DNAT"


def exists(table: str, chain: str, *, v6: bool) -> bool:
    """Whether there may be such a chain, once those who change chains have done so: not for them to ask."""
    with Lock("iptables"), Socket(NETFILTER) as socket:
        return listing.has_chain(socket, IPV6 if v6 else IPV4, table, chain) or has_old(table, v6=v6)


def has_old(table: str, *, v6: bool) -> bool:
    """Whether the iptables of before has made its `table` in this network namespace."""
    try:
        with open(f"/proc/net/{'ip6' if v6 else 'ip'}_tables_names", "rb", buffering=0) as file:
            return table.encode() in file.read(4096).split()
    except OSError:
        return False


def is_used(table: str, chain: str, *, v6: bool) -> bool:
    """As `exists`, but a chain without rules does not count."""
    with Socket(NETFILTER) as socket:
        if listing.has_chain(socket, IPV6 if v6 else IPV4, table, chain):
            return bool(listing.rules(socket, IPV6 if v6 else IPV4, table, chain))
    return has_old(table, v6=v6)
