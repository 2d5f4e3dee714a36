"""acserver: publishes the images that are pushed to it (appc.md 2.5 and 2.6, of the proposal appc/spec#418).

`service` listens and gives each connection a process of its own, `wire` speaks HTTP there, `answers` decides,
`uploads` keeps what was sent so far, `config` reads the configuration file. What is published lies in a tree
of `appc.site`.
"""
