"""What the apps print, as entries of the journal of a host that systemd manages.

`journalctl -t APP` finds them, `RKT_POD=UUID` and `RKT_IMAGE=ID` too, and as they are sent in the name of the
app's process the journal itself adds its unit and its command. A line that begins with ``<N>`` has that
priority, as in sd-daemon(3).
"""

from __future__ import annotations

import time

from linux.systemd import journal

TYPE_CHECKING = False  # typing.TYPE_CHECKING, without the 2 MB that typing loads
if TYPE_CHECKING:
    from linux.systemd.journal import Journal

# journald drops what is beyond 10,000 entries of a unit in 30 s; that many are sent at most, so that an app
# that prints without end costs nothing here. Its log file has everything.
BURST = 10_000
INTERVAL = 30.0
_ALERT, _WARNING = 1, 4  # journald writes what is worse than an alert to every user's terminal
_DAEMON = 3 << 3


class AppJournal:
    """The entries of one app. `instead` is whether they take the place of rkt's own output, which would land
    in the journal as well.
    """

    __slots__ = ("_begun", "_journal", "_left_out", "_sent", "fields", "instead")

    def __init__(self, to: Journal, fields: bytes, *, instead: bool) -> None:
        self.fields = fields
        self.instead = instead
        self._journal = to
        self._begun = 0.0
        self._sent = 0
        self._left_out = 0

    def write(self, text: bytes, pid: int) -> None:
        """Send the lines of `text`, which ends without a newline, as printed by the process `pid`."""
        now = time.monotonic()
        if now >= self._begun + INTERVAL:
            self._begun, self._sent = now, 0
            self._tell_left_out(pid)
        for line in text.split(b"\n"):
            if not line:
                continue
            if self._sent >= BURST:
                self._left_out += 1
                continue
            self._sent += 1
            priority, message = _priority(line)
            if not self._journal.send(self._entry(priority, message), pid=pid):
                self._left_out += 1

    def _entry(self, priority: int, message: bytes) -> bytes:
        return self.fields + b"PRIORITY=%d\n" % priority + journal.field("MESSAGE", message)

    def _tell_left_out(self, pid: int) -> None:
        told, self._left_out = self._left_out, 0
        if told:
            self._journal.send(self._entry(_WARNING, b"rkt: %d lines left out" % told), pid=pid)


def fields_of(app: str, uuid: str, image_id: str, about: int) -> bytes:
    """The fields that all entries of an app share. `about` is the process of rkt that runs the pod.

    The journal adds that one's unit too: by it `journalctl -u` finds what an app said last, when journald can
    no longer see where the app's own process was, and an app that is in a scope beside its service.
    """
    fields = {
        "SYSLOG_IDENTIFIER": app,
        "SYSLOG_FACILITY": str(_DAEMON >> 3),
        "RKT_POD": uuid,
        "RKT_APP": app,
        "RKT_IMAGE": image_id,
        "OBJECT_PID": str(about),
    }
    return b"".join(journal.field(name, value.encode()) for name, value in fields.items())


def _priority(line: bytes) -> tuple[int, bytes]:
    if line[:1] == b"<" and line[2:3] == b">" and b"0" <= line[1:2] <= b"7":
        return max(line[1] - ord("0"), _ALERT), line[3:]
    return journal.INFO, line
