"""linux.clone: a fork that is PID 1 of new namespaces, and an ordinary Python process."""

from __future__ import annotations

import os

import pytest

from linux import clone

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root for namespaces")


def test_the_child_is_pid_1_in_namespaces_of_its_own() -> None:
    before = os.readlink("/proc/self/ns/uts")
    reading, writing = os.pipe()
    pid = clone.clone(clone.NEWPID | clone.NEWUTS | clone.NEWUSER)
    if pid == 0:
        code = 1
        try:
            # A grandchild, an import and an exception: the interpreter knows that it was forked.
            import base64

            grandchild = os.fork()
            if grandchild == 0:
                os._exit(7)
            ended = os.waitstatus_to_exitcode(os.waitpid(grandchild, 0)[1])
            text = base64.b64encode(f"{os.getpid()} {grandchild} {ended}".encode())
            os.write(writing, text)
            code = 0
        finally:
            os._exit(code)
    os.close(writing)
    import base64

    assert base64.b64decode(os.read(reading, 100)) == b"1 2 7"
    os.close(reading)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert os.readlink("/proc/self/ns/uts") == before
    assert os.getpid() != 1


def test_a_refusal_is_an_error_and_no_child() -> None:
    with pytest.raises(OSError, match="clone"):
        clone.clone(0x00010000)  # CLONE_THREAD needs CLONE_SIGHAND
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
