"""When a pod may run without a user namespace of its own: where there are none, not where none are left."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import cast

import pytest

from linux import clone
from rkt.stage1.abi import Invocation
from rkt.stage1.native import build, messages
from rkt.stage1.native.start import NoUserNamespace, Start


def _clone(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Clone for a pod with a range of its own, by a kernel that answers with the error `number`."""

    def refuse(flags: int, *, owner: int = 0) -> int:
        raise OSError(number, os.strerror(number), "clone")

    monkeypatch.setattr(clone, "clone", refuse)
    start = Start.__new__(Start)
    start.invocation = Invocation("uuid", "/pod", private_users=(1 << 28, 1 << 16))
    start.own_network = True

    class Setup:
        own_user = True

    ours, theirs = messages.pair()
    try:
        start._clone(cast("build.PodSetup", Setup()), ours, theirs)
    finally:
        ours.close()
        theirs.close()


@pytest.mark.parametrize("number", [errno.EINVAL, errno.EPERM])
def test_a_kernel_that_has_none(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    with pytest.raises(NoUserNamespace):
        _clone(monkeypatch, number)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EAGAIN, errno.ENOMEM])
def test_a_lack_makes_no_pod_weaker(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Another pod could bring it about, and then be run with the host's IDs itself."""
    if Path("/proc/sys/user/max_user_namespaces").read_text().strip() == "0":
        pytest.skip("this host allows no user namespaces")
    with pytest.raises(OSError, match="clone"):
        _clone(monkeypatch, number)
