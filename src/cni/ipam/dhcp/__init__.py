"""DHCP as address management: an attachment's addresses come from whoever gives them out in its network.

The plugin asks for the lease and gives it back; the daemon keeps it in between. What both know of a lease is
a file (`cni.ipam.dhcp.leases`), so neither needs the other to be alive.
"""
