"""Where the output of a fly app goes.

In the foreground it has rkt's own streams: whoever runs rkt (a unit, a shell, a kubelet) has the output.
Detached there is nobody, and no process of ours that could write and rotate files; so it goes to the host's
journal, which needs no helper, under the app's name.
"""

from __future__ import annotations

import os
import stat

JOURNAL = "/run/systemd/journal/stdout"
_INFO = 6


def is_discarded(fd: int) -> bool:
    """Whether `fd` is the null device, which is what a detached pod is given."""
    info = os.fstat(fd)
    return stat.S_ISCHR(info.st_mode) and (os.major(info.st_rdev), os.minor(info.st_rdev)) == (1, 3)


def to_journal(app: str, path: str = JOURNAL) -> int:
    """A stream socket to the journal whose lines carry `app` as their identifier; -1 without a journal.

    The protocol is that of systemd-cat: seven lines, then text (journald's stdout stream).
    """
    import socket

    stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        stream.connect(path)
        stream.shutdown(socket.SHUT_RD)
        # Identifier, unit (the sender's own), priority, no <N> prefixes, no copies to syslog, kmsg, console.
        stream.sendall(f"{app}\n\n{_INFO}\n0\n0\n0\n0\n".encode())
        return stream.detach()
    except OSError:
        return -1
    finally:
        stream.close()
