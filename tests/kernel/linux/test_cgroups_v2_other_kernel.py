"""Limits of control groups of version 2, on a kernel that has their controllers."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fixtures.usermodelinux import OtherKernelTests


def test_limits_of_version_2(other_kernel_tests: OtherKernelTests) -> None:
    found = other_kernel_tests(["tests/kernel/linux/test_cgroup_groups.py"], ())
    assert len(found) >= 14
    assert [name for name, skipped in found.items() if skipped] == []
