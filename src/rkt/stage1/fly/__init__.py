"""The fly stage 1: one app in a root of its own and in the host's namespaces, for agents; no isolation."""
