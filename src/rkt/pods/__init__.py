"""Pods on disk: phases, locks, lookup, removal."""
