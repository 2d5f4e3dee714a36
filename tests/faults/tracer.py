#!/usr/bin/python3
"""Run a command under ptrace, count its system calls across all its processes, and strike at the k-th.

    tracer.py [--calls NAME,NAME…] [--at K] [--action kill-process|kill-root|kill-tree] -- COMMAND…

Without --at it only counts. Prints one JSON line on standard error's descriptor 3 if that is open, else on
standard output: {"count": selected calls seen, "status": exit status of the command, "struck": name or null}.
One global order over all threads and children is what `strace --inject` cannot give: it counts per thread.
After a strike the survivors are detached and live on, as they would on a real machine.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import signal
import struct
import sys

_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.restype = ctypes.c_long
_libc.ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)

TRACEME, CONT, DETACH, SYSCALL, SETOPTIONS, GETEVENTMSG, LISTEN, SYSCALL_INFO = (
    0, 7, 17, 24, 0x4200, 0x4201, 0x4208, 0x420E,
)  # fmt: skip
O_SYSGOOD, O_FORK, O_VFORK, O_CLONE, O_EXEC, O_EXITKILL = 1, 2, 4, 8, 16, 0x100000
NEWBORN = (1, 2, 3)  # the events of fork, vfork, clone
WALL = 0x40000000
# Calls after which the state of the host, of a file or of a peer differs: x86_64 numbers.
CALLS = {
    "openat": 257, "mkdir": 83, "mkdirat": 258, "rmdir": 84, "unlink": 87, "unlinkat": 263, "rename":
    82, "renameat": 264, "renameat2": 316, "link": 86, "linkat": 265, "symlink": 88, "symlinkat": 266,
    "fsync": 74, "fdatasync": 75, "syncfs": 306, "mount": 165, "umount2": 166, "pivot_root": 155,
    "open_tree": 428, "move_mount": 429, "fsmount": 432, "mount_setattr": 442, "unshare": 272, "setns":
    308, "clone": 56, "clone3": 435, "fork": 57, "vfork": 58, "execve": 59, "sendto": 44, "sendmsg": 46,
    "connect": 42, "write": 1, "pwrite64": 18, "ftruncate": 77, "fchown": 93, "fchownat": 260, "fchmod":
    91, "fchmodat": 268, "flock": 73, "kill": 62, "exit_group": 231, "chown": 92, "lchown": 94, "chmod":
    90, "mknod": 133, "mknodat": 259, "utimensat": 280, "pidfd_send_signal": 424, "setxattr": 188,
    "fsetxattr": 190,
}  # fmt: skip


def ptrace(request: int, pid: int, address: int = 0, data: int = 0) -> int:
    result = _libc.ptrace(request, pid, address, data)
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), f"ptrace {request:#x} of {pid}")
    return int(result)


class Tracer:
    def __init__(self, argv: list[str], numbers: dict[int, str], at: int | None, action: str) -> None:
        self.numbers = numbers
        self.at = at
        self.action = action
        self.count = 0
        self.struck: str | None = None
        self.threads: set[int] = set()
        self.root = self._start(argv)
        self.status: int | None = None
        self._info = ctypes.create_string_buffer(128)

    def _start(self, argv: list[str]) -> int:
        pid = os.fork()
        if pid == 0:
            ptrace(TRACEME, 0)
            os.kill(os.getpid(), signal.SIGSTOP)
            os.execvp(argv[0], argv)
        os.waitpid(pid, WALL)
        options = O_SYSGOOD | O_FORK | O_VFORK | O_CLONE | O_EXEC
        # Nobody survives who was born at the very moment of the strike.
        ptrace(SETOPTIONS, pid, 0, options | (O_EXITKILL if self.action == "kill-tree" else 0))
        ptrace(SYSCALL, pid)
        self.threads.add(pid)
        return pid

    def run(self) -> None:
        while self.threads:
            try:
                tid, status = os.waitpid(-1, WALL)
            except ChildProcessError:
                return
            if os.WIFEXITED(status) or os.WIFSIGNALED(status):
                self.threads.discard(tid)
                if tid == self.root:
                    self.status = os.waitstatus_to_exitcode(status)
                continue
            self.threads.add(tid)
            self._stopped(tid, status)
            if self.struck is not None:
                return

    def _stopped(self, tid: int, status: int) -> None:
        deliver = 0
        stop = os.WSTOPSIG(status)
        event = status >> 16
        if stop == signal.SIGTRAP | 0x80:
            if self._selected(tid):
                self.count += 1
                if self.count == self.at:
                    self._strike(tid)
                    return
        elif event in NEWBORN:
            # Known from now on: a child that is first seen after the strike would stay stopped for ever.
            born = ctypes.c_ulong()
            ptrace(GETEVENTMSG, tid, 0, ctypes.addressof(born))
            self.threads.add(born.value)
        elif event or stop == signal.SIGSTOP:
            deliver = 0  # a clone/fork/exec event, or the first stop of a new child
        elif stop != signal.SIGTRAP:
            deliver = stop
        self._resume(SYSCALL, tid, deliver)

    def _selected(self, tid: int) -> bool:
        ptrace(SYSCALL_INFO, tid, len(self._info), ctypes.addressof(self._info))
        kind = self._info.raw[0]
        if kind != 1:  # PTRACE_SYSCALL_INFO_ENTRY
            return False
        (self._number,) = struct.unpack_from("<Q", self._info.raw, 24)
        return self._number in self.numbers

    def _strike(self, tid: int) -> None:
        self.struck = self.numbers[self._number]
        victims = {"kill-process": {tid}, "kill-root": {self.root}, "kill-tree": set(self.threads)}[
            self.action
        ]
        for victim in victims:
            try:
                os.kill(victim, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self._let_go(victims)

    def _let_go(self, victims: set[int]) -> None:
        """Detach the survivors: each must be stopped for that, so it is resumed when its next stop comes."""
        for tid in list(self.threads - victims):
            self._resume(DETACH, tid)
        while self.threads:
            try:
                tid, status = os.waitpid(-1, WALL | os.WNOHANG)
            except ChildProcessError:
                return
            if tid == 0:
                if self.root not in self.threads and not (victims & self.threads):
                    self._detach_running()
                    return
                os.sched_yield()
                continue
            if os.WIFEXITED(status) or os.WIFSIGNALED(status):
                self.threads.discard(tid)
                if tid == self.root:
                    self.status = os.waitstatus_to_exitcode(status)
            else:
                self._resume(DETACH, tid)
                self.threads.discard(tid)

    def _detach_running(self) -> None:
        """Survivors that run at the moment of the strike are stopped by a signal of ours, then detached."""
        for tid in list(self.threads):
            try:
                os.kill(tid, signal.SIGSTOP)
                os.waitpid(tid, WALL)
                self._resume(DETACH, tid)
                os.kill(tid, signal.SIGCONT)
            except (ProcessLookupError, ChildProcessError):
                continue

    def _resume(self, request: int, tid: int, deliver: int = 0) -> None:
        try:
            ptrace(request, tid, 0, deliver)
        except OSError:
            return  # killed meanwhile, or running: the next wait tells
        if request == DETACH:
            self.threads.discard(tid)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", default=",".join(CALLS))
    parser.add_argument("--at", type=int)
    parser.add_argument("--action", default="kill-tree", choices=("kill-process", "kill-root", "kill-tree"))
    parser.add_argument("command", nargs="+")
    options = parser.parse_args()
    numbers = {CALLS[name]: name for name in options.calls.split(",")}
    tracer = Tracer(options.command, numbers, options.at, options.action)
    tracer.run()
    line = json.dumps({"count": tracer.count, "status": tracer.status, "struck": tracer.struck})
    try:
        os.write(3, line.encode() + b"\n")
    except OSError:
        sys.stdout.write(line + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
