"""Overlays on Linux 6.1, which takes layers by name only, and few of them by fsconfig(2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fixtures.usermodelinux import OtherKernelTests


def test_layers_by_name(other_kernel_tests: OtherKernelTests) -> None:
    found = other_kernel_tests(["tests/kernel/linux/test_mount_layers.py"], ("overlay",))
    run = [name for name, skipped in found.items() if not skipped]
    assert sum("as_many_layers" in name for name in run) == 6
