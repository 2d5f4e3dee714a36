"""Mounts: the calls (`api`), what is mounted (`info`), layers (`overlay`), mapped owners (`idmap`)."""
