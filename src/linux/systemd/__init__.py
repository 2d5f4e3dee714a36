"""What systemd offers to the processes that it runs, spoken by its own protocols and without its library.

`notify` and `listen` serve under every supervisor that speaks these two protocols. `journal`, `machined` and
`scopes` need systemd itself; `is_running` says whether to try. Nothing here is needed for a pod to run.
"""

from __future__ import annotations

import os


def is_running() -> bool:
    """Whether systemd is this host's service manager: the test of sd_booted(3), one system call."""
    try:
        os.lstat("/run/systemd/system")
    except OSError:
        return False
    return True
