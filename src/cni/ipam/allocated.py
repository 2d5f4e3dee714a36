"""CHECK of an IPAM plugin that remembers: the attachment has addresses, and `prevResult` has them too."""

from __future__ import annotations

from cni.errors import CniError

TYPE_CHECKING = False  # not from typing: a plugin lives too short to import it
if TYPE_CHECKING:
    from collections.abc import Sequence

    from cni.request import Request

NOT_ALLOCATED = 100  # CHECK: the attachment has no address


def check(request: Request, addresses: Sequence[object]) -> None:
    """CniError 100 when there are no `addresses` (texts), or one that the result of the ADD does not have."""
    if not addresses:
        raise CniError(NOT_ALLOCATED, "no address is allocated", f"{request.container_id} {request.ifname}")
    if request.prev_result is not None:
        shown = {each.address.address for each in request.prev_result.ips}
        wrong = [str(each) for each in addresses if each not in shown]
        if wrong:
            raise CniError(NOT_ALLOCATED, "what is allocated is not in prevResult", ", ".join(wrong))
