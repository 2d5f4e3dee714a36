"""What the apps print, as entries of the journal of a host that systemd manages, and of one of the pod's own.

`journalctl -t APP` finds them, `RKT_POD=UUID` and `RKT_IMAGE=ID` too, and as they are sent in the name of the
app's process the journal itself adds its unit and its command. A line that begins with ``<N>`` has that
priority, as in sd-daemon(3).

A pod that machined knows has journal files too, where `journalctl -M` looks for those of a machine: in
/var/log/journal below the root of the machine's first process. Only that process and the host see them there.
"""

from __future__ import annotations

import os
import time

from linux.systemd import journal

TYPE_CHECKING = False  # typing.TYPE_CHECKING, without the 2 MB that typing loads
if TYPE_CHECKING:
    from collections.abc import Sequence

    from linux.systemd.journal import Journal

# journald drops what is beyond 10,000 entries of a unit in 30 s; that many are sent at most, so that an app
# that prints without end costs nothing here. Its log file has everything.
BURST = 10_000
INTERVAL = 30.0
# Of the pod's own journal every byte is hashed here, at some 10 MB/s: so many are in an interval.
BYTES = 2 << 20
# The directory of the pod with its journal files.
FILES = "journal"
_ALERT, _WARNING = 1, 4  # journald writes what is worse than an alert to every user's terminal
_DAEMON = 3 << 3


class AppJournal:
    """The entries of one app. `instead` is whether they take the place of rkt's own output, which would land
    in the journal as well. `own` is the journal of the pod, None when nobody could ask for it.
    """

    __slots__ = ("_begun", "_journal", "_left_out", "_own", "_own_fields", "_sent", "fields", "instead")

    def __init__(self, to: Journal, fields: bytes, *, instead: bool, own: PodJournal | None = None) -> None:
        self.fields = fields
        self.instead = instead
        self._journal = to
        self._own = own
        self._own_fields = tuple(
            payload for payload in fields.split(b"\n") if payload and not payload.startswith(b"OBJECT_PID=")
        )
        self._begun = 0.0
        self._sent = 0
        self._left_out = 0

    def write(self, text: bytes, pid: int, pid_in_pod: int) -> None:
        """Send the lines of `text`, which ends without a newline, as printed by the process `pid`."""
        now = time.monotonic()
        if now >= self._begun + INTERVAL:
            self._begun, self._sent = now, 0
            self._tell_left_out(pid)
        lines = []
        for line in text.split(b"\n"):
            if not line:
                continue
            if self._sent >= BURST:
                self._left_out += 1
                continue
            self._sent += 1
            priority, message = _priority(line)
            lines.append((priority, message))
            if not self._journal.send(self._entry(priority, message), pid=pid):
                self._left_out += 1
        if self._own is not None and lines:
            try:
                self._own.write(self._own_fields, lines, pid_in_pod)
            except OSError as error:
                reason = b"rkt: the journal of the pod: " + str(error.strerror).encode()
                self._journal.send(self._entry(_WARNING, reason), pid=pid)
                self._own = None

    def _entry(self, priority: int, message: bytes) -> bytes:
        return self.fields + b"PRIORITY=%d\n" % priority + journal.field("MESSAGE", message)

    def _tell_left_out(self, pid: int) -> None:
        told, self._left_out = self._left_out, 0
        if told:
            self._journal.send(self._entry(_WARNING, b"rkt: %d lines left out" % told), pid=pid)


class PodJournal:
    """The journal files of a pod, with the fields that a journald in the pod would add."""

    __slots__ = ("_begun", "_common", "_file", "_left_out", "_taken", "hostname")

    def __init__(self, pod_dir: str, hostname: str, init: int) -> None:
        """`init` is the pod's PID 1, as the host numbers it: the boot is asked as seen from there."""
        from linux.systemd.journal_file import JournalFile

        with open(f"/proc/{init}/root/proc/sys/kernel/random/boot_id", encoding="ascii") as stream:
            boot = stream.read().strip().replace("-", "")
        machine = _machine_of(pod_dir)
        self.hostname = hostname
        self._file = JournalFile(f"{pod_dir}/{FILES}/{machine}", bytes.fromhex(machine), bytes.fromhex(boot))
        fields = {
            "_BOOT_ID": boot,
            "_MACHINE_ID": machine,
            "_HOSTNAME": hostname,
            "_TRANSPORT": "stdout",
        }
        self._common = tuple(f"{name}={value}".encode() for name, value in fields.items())
        self._begun = 0.0
        self._taken = 0
        self._left_out = 0

    def write(self, fields: tuple[bytes, ...], lines: Sequence[tuple[int, bytes]], pid: int) -> None:
        """Append lines (priority, text) of an app's process, `pid` being its number in the pod.

        OSError when they cannot be written.
        """
        now = time.monotonic()
        if now >= self._begun + INTERVAL:
            self._begun, self._taken = now, 0
            told, self._left_out = self._left_out, 0
            if told:
                lines = [(_WARNING, b"rkt: %d lines left out" % told), *lines]
        shared = (*self._common, *fields, b"_PID=%d" % pid)
        entries = []
        for priority, message in lines:
            if self._taken >= BYTES:
                self._left_out += 1
                continue
            self._taken += len(message)
            entries.append((*shared, b"PRIORITY=%d" % priority, b"MESSAGE=" + message))
        self._file.append(entries)

    def close(self) -> None:
        """Leave the files in order. What cannot be written at the end is of no use to anybody."""
        try:
            self._file.close()
        except OSError:
            return


def make_directory(pod_dir: str) -> str:
    """Make the directory for the pod's journal files; its path."""
    os.makedirs(f"{pod_dir}/{FILES}/{_machine_of(pod_dir)}", mode=0o755, exist_ok=True)
    return f"{pod_dir}/{FILES}"


def _machine_of(pod_dir: str) -> str:
    """The machine ID of a pod: its UUID, as machined is told."""
    return os.path.basename(pod_dir).replace("-", "")


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
