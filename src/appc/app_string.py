"""App strings: how users name an image, ``example.com/app:1.0,os=linux``.

``NAME[:VERSION][,LABEL=VALUE]*``: one colon at most, before the first comma; values may be empty and
hold anything but ``,`` and ``:``. A host with a port cannot be written: ``example.com:8080/app`` names the
image ``example.com`` in version ``8080/app``, as in the reference.
"""

from __future__ import annotations

from appc.jsonfield import quoted
from appc.query import unique_pairs
from appc.types.names import ACIdentifier

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


def parse(text: str) -> tuple[ACIdentifier, dict[str, str]]:
    """Name and labels, in the order written, the version first. ValueError says what is malformed."""
    if text.count(":") > 1:
        raise ValueError(f"malformed app string {quoted(text)}: a colon may appear at most once")
    head, comma, rest = text.partition(",")
    if ":" in rest:
        raise ValueError(f"malformed app string {quoted(text)}: a colon may not follow a comma")
    name, colon, version = head.partition(":")
    identifier = ACIdentifier(name)
    labels = unique_pairs(rest) if comma else {}
    if colon:
        if "version" in labels:
            raise ValueError(f"version is given twice: {quoted(version)} and {quoted(labels['version'])}")
        labels = {"version": version, **labels}
    for label in labels:
        if label == "name":
            raise ValueError(f"malformed app string {quoted(text)}: a label may not be called name")
        ACIdentifier(label)
    return identifier, labels


def build(name: str, labels: Mapping[str, str]) -> str:
    """The app string for `name` and `labels`: the version behind a colon, the others sorted."""
    version = labels.get("version")
    others = "".join(f",{label}={labels[label]}" for label in sorted(labels) if label != "version")
    return name + (f":{version}" if version is not None else "") + others
