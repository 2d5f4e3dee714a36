"""Waiting for a child while signals are passed on to it."""

from __future__ import annotations

import os

from linux.bare import signal

#: Passed on to the child, wherever they come from.
PASSED = tuple(
    getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2")
)
#: To be blocked before the child is made, so that none is lost.
WAITED = (signal.SIGCHLD, *PASSED)
_LOOK_AGAIN = 1  # second


def wait(child: int) -> int:
    """Wait for the process `child`, with `WAITED` blocked; its exit code, or minus a signal."""
    while True:
        # With a deadline: another thread, if the caller has any, may have been given the signal of the end.
        told = signal.sigtimedwait(WAITED, _LOOK_AGAIN)
        if told is None or told.si_signo == signal.SIGCHLD:
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                return os.waitstatus_to_exitcode(status)
        else:
            os.kill(child, told.si_signo)
