"""Mounts: the system calls (`api`), what is mounted (`info`), and the two layered ways (`overlay`,
`idmap`).
"""
