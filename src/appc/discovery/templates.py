"""From a tag's template to the addresses of an image and its signature."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from linux.named_tuple import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

_VARIABLE = re.compile(r"\{([^{}]*)\}")


class Endpoint(NamedTuple):
    """Where an image (`aci`) and its signature (`asc`) are. Any scheme may occur."""

    aci: str
    asc: str


def endpoint(template: str, name: str, labels: Mapping[str, str]) -> Endpoint | None:
    """The endpoint that `template` gives for an image; None when it cannot.

    It cannot without `{ext}`, for then image and signature are one address (the specification demands it),
    and with a variable that is neither `name`, `ext` nor a label. Values are put in once, as they are: a
    brace in a label's value starts no further variable, and no label replaces `name` or `ext`.
    """
    values = {**labels, "name": name}
    if not values.get("version"):
        values["version"] = "latest"
    names = _VARIABLE.findall(template)
    if "ext" not in names or any(variable != "ext" and variable not in values for variable in names):
        return None

    def filled(extension: str) -> str:
        return _VARIABLE.sub(lambda found: extension if found[1] == "ext" else values[found[1]], template)

    return Endpoint(filled("aci"), filled("aci.asc"))
