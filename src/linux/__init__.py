"""The kernel and the host, without policy: mounts, namespaces, safe paths, durable files, netlink."""
