"""The kernel's network configuration over netlink: links, addresses, routes, rules, neighbours, nftables.

Written here because every CNI call pays for its imports: these modules load `_socket`, `struct` and `errno`
alone, where the field's library costs twenty times a whole plugin call. They decide nothing; a function
either builds a `wire.Request` for a `batch.Batch`, or asks a `socket.Socket` and returns the answer.
"""
