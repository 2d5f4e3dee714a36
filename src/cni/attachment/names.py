"""Names derived from what an attachment is, so that whoever knows the attachment knows them too (D5)."""

from __future__ import annotations

TYPE_CHECKING = False  # not from typing: a plugin lives too short to import it
if TYPE_CHECKING:
    from cni.request import Request


def digest(text: str, digits: int) -> str:
    """The first hexadecimal `digits` of the SHA-512 of `text`."""
    try:
        # What is behind hashlib until Python 3.11, without the 4 ms that hashlib takes to load.
        from _sha512 import sha512  # type: ignore[import-not-found]
    except ImportError:
        from hashlib import sha512
    return str(sha512(text.encode()).hexdigest())[:digits]


def host_interface(request: Request, attempt: int = 0) -> str:
    """The name of the host's end of an attachment, ``veth`` and eight digits as others call theirs.

    Another `attempt` is another name, for when somebody has that one. `hostInterface` in the configuration is
    a form of somebody's own for it: "{network}", "{interface}" and "{digits}" in it are replaced, and
    "{container}" by as much of the container ID as there is room for. ValueError when it gives no name.
    """
    digits = digest(_attachment(request, f"host{attempt}"), 8)
    form = request.fields.string("hostInterface")
    if not form:
        return f"veth{digits}"
    from linux.netlink.link import NAME_LONGEST, check_name

    for what, value in (("network", request.name), ("interface", request.ifname), ("digits", digits)):
        form = form.replace(f"{{{what}}}", value)
    room = NAME_LONGEST - len(form.replace("{container}", "").encode())
    return check_name(form.replace("{container}", request.container_id[: max(room, 0)]))


def passing(request: Request) -> str:
    """A name for an interface on its way into the container, where it gets its own."""
    return "cni" + digest(_attachment(request, "passing"), 12)


def mac(request: Request, end: str) -> str:
    """A hardware address for an `end` of the attachment: locally administered, not a group's."""
    raw = bytearray.fromhex(digest(_attachment(request, end), 12))
    raw[0] = raw[0] & 0xFC | 0x02
    return raw.hex(":")


def bridge_mac(bridge: str, salt: str) -> str:
    """A hardware address for a bridge that does not change when ports come and go.

    `salt` differs between hosts: two of them may have bridges of one name in one segment.
    """
    raw = bytearray.fromhex(digest(f"bridge/{bridge}/{salt}", 12))
    raw[0] = raw[0] & 0xFC | 0x02
    return raw.hex(":")


def check_mac(text: str) -> str:
    """`text` in lower case; ValueError when no interface can have it as its hardware address."""
    from linux.netlink.wire import pack_mac, read_mac

    raw = pack_mac(text)
    if raw[0] & 1 or raw == bytes(6):
        raise ValueError(f"{text} is the MAC address of a group, or of nothing")
    return read_mac(raw)


def _attachment(request: Request, what: str) -> str:
    return f"{request.name}/{request.container_id}/{request.ifname}/{what}"
