"""From a tag's template to the addresses of an image and its signature."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from linux.named_tuple import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

_VARIABLE = re.compile(r"\{([^{}]*)\}")
_LEFT = re.compile(r"\{.*\}", re.DOTALL)


class Endpoint(NamedTuple):
    """Where an image (`aci`) and its signature (`asc`) are. Any scheme may occur."""

    aci: str
    asc: str


def endpoint(template: str, name: str, labels: Mapping[str, str]) -> Endpoint | None:
    """The endpoint that `template` gives for an image; None when it cannot.

    It cannot without `{ext}`, for then image and signature are one address (the specification demands it),
    with a variable that is neither `name`, `ext` nor a label, and with braces that are no variable's. Values
    are put in once, as they are: a brace in a label's value starts no further variable, and no label
    replaces `name` or `ext`.
    """
    aci, asc = filled(template, name, labels, "aci"), filled(template, name, labels, "aci.asc")
    return Endpoint(aci, asc) if aci and aci != asc else None


def filled(template: str, name: str, labels: Mapping[str, str], extension: str) -> str:
    """`template` with the values put in, for `{ext}` the `extension`; empty when one is missing."""
    values = {**labels, "name": name, "ext": extension}
    if not values.get("version"):
        values["version"] = "latest"
    if any(variable not in values for variable in _VARIABLE.findall(template)):
        return ""
    if _LEFT.search(_VARIABLE.sub("", template)):
        return ""
    return _VARIABLE.sub(lambda found: values[found[1]], template)
