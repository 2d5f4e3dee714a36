"""dummy, ipvlan, vlan and VLANs of bridges, on a kernel that has them all."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fixtures.usermodelinux import OtherKernelTests

MODULES = ("bridge", "veth", "dummy", "ipvlan", "8021q", "nf_tables")
UPPER = "tests/kernel/cni/test_upper_plugins.py"
# One of each: that kernel starts a program ten times as slowly as this one.
TESTS = (
    "tests/kernel/cni/test_upper_traffic.py",
    f"{UPPER}::test_the_request_is_that_of_pyroute2_and_the_rest_works[dummy-options0-wanted0]",
    f"{UPPER}::test_the_request_is_that_of_pyroute2_and_the_rest_works[vlan-options5-wanted5]",
    f"{UPPER}::test_del_in_every_order_and_gc[ipvlan]",
    f"{UPPER}::test_an_ipvlan_on_what_the_plugin_before_names",
    f"{UPPER}::test_a_master_in_the_container[vlan]",
    f"{UPPER}::test_a_vlan_that_is_taken",
)


def test_kinds_of_links_that_most_machines_lack(other_kernel_tests: OtherKernelTests) -> None:
    found = other_kernel_tests(TESTS, MODULES)
    assert {name: skipped for name, skipped in found.items() if skipped} == {}
    assert len(found) == 5 + 6
