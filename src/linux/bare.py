"""`signal` and `socket` as the C modules below them: without the enumerations that the modules make at
import.

Those cost 4 ms and 0.8 MB a process, more than starting a pod takes otherwise. Constants are plain ints here,
and sockets lack what Python adds to them: no ``with``, no ``makefile``. To type checkers they are the
originals.
"""

from __future__ import annotations

TYPE_CHECKING = False  # typing.TYPE_CHECKING, without the 2 MB that typing loads
if TYPE_CHECKING:
    import signal as signal
    import socket as socket
else:
    import _signal as signal
    import _socket as socket

__all__ = ["signal", "socket"]
