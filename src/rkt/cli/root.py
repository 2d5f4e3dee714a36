"""The check that a verb needs root, with rkt's words for it."""

from __future__ import annotations

import os

from rkt.errors import RktError


def require_root() -> None:
    """Raise RktError unless the caller is root."""
    if os.geteuid() != 0:
        raise RktError("cannot run as unprivileged user", hint="become root, for example with sudo")
