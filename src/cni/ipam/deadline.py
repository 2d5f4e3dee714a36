"""Talking to a server within a deadline: in a child of this process, which is killed when it is late.

Nothing else ends every wait: a name server that is silent, a library that waits in C, a peer that is stopped
and whose kernel still acknowledges. What the talk imported and what it left open goes with the child.
"""

from __future__ import annotations

import os

from cni import jsontext
from cni.errors import INTERNAL, TRY_AGAIN_LATER, CniError

TYPE_CHECKING = False  # not from typing: a plugin lives too short to import it
if TYPE_CHECKING:
    from collections.abc import Callable

_GRACE = 1.0  # seconds for what watches the deadline itself to say what it was waiting for


def within(seconds: float, talk: Callable[[], object], peer: str) -> object:
    """What `talk` returns (JSON), run in a child that dies with us; or the CniError that it raises.

    Whoever is not done `seconds` and a little later is killed: CniError 11 that names the `peer`. What the
    peer has done by then is done; a DEL comes after every failed ADD. An OSError of `talk` is raised here,
    a ValueError becomes CniError 7. No thread may have been started in this process.
    """
    from cni.process import converse

    parent = os.getpid()
    try:
        finished = converse(lambda: _answer(talk, parent), b"", deadline=seconds + _GRACE)
    except TimeoutError as late:
        raise CniError(TRY_AGAIN_LATER, f"{peer} does not answer", str(late)) from None
    if finished.status != 0:
        said = finished.stderr.decode("utf-8", "replace").strip().replace("\n", " ")
        how = f"exit status {finished.status}" if finished.status > 0 else f"signal {-finished.status}"
        raise CniError(INTERNAL, f"talking to {peer} failed", f"{how}: {said}" if said else how)
    answer = jsontext.loads(finished.stdout)
    if not isinstance(answer, dict):
        raise CniError(INTERNAL, f"talking to {peer} failed", "no answer of the child")
    failure = CniError.from_json(answer.get("error"))
    if failure is not None:
        raise failure
    return answer.get("value")


def _answer(talk: Callable[[], object], parent: int) -> int:
    """In the child. It must not outlive us: what it commits then nobody would hear of before the DEL."""
    from linux.process import set_parent_death_signal

    set_parent_death_signal(parent)
    try:
        answer = {"value": talk()}
    except CniError as failed:
        answer = {"error": failed.to_json("")}
    except ValueError as bad:
        from cni.errors import INVALID_CONFIG

        refused = CniError(INVALID_CONFIG, "invalid network configuration", str(bad))
        answer = {"error": refused.to_json("")}
    rest = jsontext.dumps(answer).encode()
    while rest:
        rest = rest[os.write(1, rest) :]
    return 0
