"""Capabilities by name and number, and reading them from /proc."""

from __future__ import annotations

import pytest

from linux import capabilities


def test_names_are_in_the_order_of_the_kernel() -> None:
    assert capabilities.number("CAP_CHOWN") == 0
    assert capabilities.number("CAP_SYS_ADMIN") == 21 == capabilities.SYS_ADMIN
    assert capabilities.number("CAP_CHECKPOINT_RESTORE") == 40
    assert len(set(capabilities.NAMES)) == 41


def test_masks_and_names_are_inverse() -> None:
    wanted = ["CAP_CHOWN", "CAP_SETFCAP", "CAP_BPF"]
    assert capabilities.mask(wanted) == 1 | 1 << 31 | 1 << 39
    assert capabilities.names(capabilities.mask(wanted)) == wanted
    assert capabilities.names(1 << 41) == ["CAP_41"]
    assert capabilities.mask([]) == 0


@pytest.mark.parametrize("name", ["CAP_NOPE", "CHOWN", "cap_chown", "CAP_CHOWN ", "", "CAP_CHOWN\n", "41"])
def test_unknown_names_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="no known capability"):
        capabilities.mask([name])


def test_a_near_miss_is_named() -> None:
    with pytest.raises(ValueError, match="did you mean CAP_NET_ADMIN"):
        capabilities.number("net_admin")


def test_the_kernels_last_capability_is_in_the_table() -> None:
    assert 37 <= capabilities.last() < len(capabilities.NAMES)


def test_reading_the_sets_of_a_process() -> None:
    sets = capabilities.read()
    assert sets.effective & ~sets.permitted == 0
    assert capabilities.read(1).bounding
    with pytest.raises(FileNotFoundError):
        capabilities.read(4194305)
