"""Isolators as a set, and quantities without a width."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appc import jsonfield
from appc.types.isolators import CAPABILITIES, Isolator, Isolators, Resource
from appc.types.quantity import Quantity

RETAIN = {"name": "os/linux/capabilities-retain-set", "value": {"set": ["CAP_KILL"]}}
REMOVE = {"name": "os/linux/capabilities-remove-set", "value": {"set": ["CAP_KILL"]}}


def test_unknown_isolators_are_kept_and_reported() -> None:
    isolators = Isolators.from_json([RETAIN, {"name": "example.com/x", "value": None}])
    assert isolators.unrecognised == ("example.com/x",)
    assert isolators.to_json()[1] == {"name": "example.com/x", "value": None}


def test_the_last_of_several_counts() -> None:
    isolators = Isolators.from_json([
        {"name": "resource/memory", "value": {"limit": limit}} for limit in ("1G", "2G")
    ])
    memory = isolators.get("resource/memory")
    assert memory is not None
    assert isinstance(memory.setting, Resource)
    assert memory.setting.limit == Quantity.parse("2G")
    assert isolators.get("resource/cpu") is None


@pytest.mark.parametrize(
    ("isolators", "message"),
    [
        ([RETAIN, REMOVE], "exclude each other"),
        (
            [{"name": f"os/linux/seccomp-{m}-set", "value": {"set": ["a"]}} for m in ("retain", "remove")],
            "exclude",
        ),
        ([{"name": "os/unix/sysctl", "value": {}}] * 2, "os/unix/sysctl may be given only once"),
        ([{"name": "os/linux/cpu-shares", "value": 2}] * 2, "os/linux/cpu-shares may be given only once"),
        (
            [{"name": RETAIN["name"], "value": {"set": ["CAP_PONIES"]}}],
            '[0].value: "CAP_PONIES" is no capability',
        ),
        ([{"name": "resource/cpu", "value": {"limit": "-1"}}], "[0].value: the limit -1 is negative"),
        ([{"name": "resource/cpu", "value": {"limit": "1x"}}], "[0].value.limit: "),
        ([{"name": "resource/cpu"}], "[0].value: is required"),
        ([{"name": "os/linux/no-new-privileges", "value": None}], "[0].value: may not be null"),
    ],
)
def test_refusals(isolators: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        Isolators.from_json(isolators)
    assert message in str(caught.value)


def test_all_capabilities_of_the_running_kernel_are_known() -> None:
    with open("/proc/sys/kernel/cap_last_cap", encoding="ascii") as file:
        assert len(CAPABILITIES) == 41 >= int(file.read()) + 1


def test_a_value_is_written_as_it_was_read() -> None:
    value = {"limit": "1.50G", "request": 1}
    assert Isolator.make("resource/memory", value).to_json() == {"name": "resource/memory", "value": value}


@pytest.mark.parametrize(
    ("text", "canonical"),
    [("1e3", "1e3"), ("1.50", "1500m"), ("1E-10", "1e-9"), ("9007199254740993.5", "9007199254740993500m")],
)
def test_an_amount_may_be_a_number_of_which_no_digit_is_lost(text: str, canonical: str) -> None:
    assert str(Quantity.from_json(jsonfield.parse(text.encode()))) == canonical
    assert jsonfield.encode(jsonfield.parse(b"[1.5,2]")) == b"[1.5,2]"


numbers = st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**30), max_value=10**30, places=9)


@given(numbers, st.sampled_from(["", "k", "M", "E", "Ki", "Ei", "m", "e3", "E-2"]))
def test_the_canonical_text_is_the_same_number(number: object, suffix: str) -> None:
    quantity = Quantity.parse(f"{number:f}{suffix}")
    again = Quantity.parse(str(quantity))
    assert again == quantity
    assert str(again) == str(quantity)


@given(numbers)
def test_rounding_is_away_from_zero_and_exact(number: Any) -> None:
    exact = Fraction(f"{number:f}")
    quantity = Quantity.parse(f"{number:f}")
    assert Fraction(quantity.nanos, 10**9) == exact
    for rounded, unit in ((quantity.value(), 1), (quantity.milli_value(), 1000)):
        assert 0 <= abs(rounded) - abs(exact * unit) < 1
        assert rounded * exact >= 0


@given(st.text(alphabet="0123456789.eEinumkKMGTP+- ", max_size=12))
def test_any_text_is_a_quantity_or_a_value_error(text: str) -> None:
    try:
        quantity = Quantity.parse(text)
    except ValueError:
        return
    assert Quantity.parse(str(quantity)) == quantity


def test_huge_exponents_cost_nothing() -> None:
    for text in ("1e999999999", "1e-999999999", "9" * 300):
        with pytest.raises(ValueError, match=r"exponents above|longer than"):
            Quantity.parse(text)
    assert str(Quantity.parse("1e4096")) == "10e4095"


def test_quantities_compare_by_number() -> None:
    assert Quantity.parse("1Ki") == Quantity.parse("1024")
    assert hash(Quantity.parse("1Ki")) == hash(Quantity.parse("1024"))
    assert Quantity.parse("1M") < Quantity.parse("1Mi")
    assert Quantity.parse("1M") <= Quantity.parse("1000k")
