"""`--net`: which networks a pod joins, and the arguments for each."""

from __future__ import annotations

from rkt.errors import RktError

TYPE_CHECKING = False  # not from typing: start-up time counts here
if TYPE_CHECKING:
    from collections.abc import Iterable

DEFAULT = "default"
_SPECIAL = ("all", "host", "none")


def parse_net_flags(values: Iterable[str]) -> tuple[str, ...]:
    """The networks of any number of `--net` options, each ``NAME`` or ``NAME:K=V;K=V``.

    Every value is a list with commas. No value at all is the network `default`. Raises RktError for an
    empty name, a name given twice, and arguments that are none.
    """
    found: dict[str, str] = {}
    for value in values:
        for item in value.split(","):
            name, colon, arguments = item.partition(":")
            if not name:
                raise RktError("--net: netname must not be empty")
            if name in found:
                raise RktError(f'--net: found duplicate netname "{name}"')
            if colon and name in _SPECIAL:
                raise RktError(f'--net: arguments are not supported by special netname "{name}"')
            if colon:
                _check_arguments(name, arguments)
            found[name] = item
    return tuple(found.values()) or (DEFAULT,)


def split(net: Iterable[str]) -> dict[str, str]:
    """Name to arguments ("" for none) of what `parse_net_flags` gave, in its order."""
    pairs = (item.partition(":") for item in net)
    return {name: arguments for name, _, arguments in pairs}


def check_ports_allowed(net: Iterable[str]) -> None:
    """Raise RktError when nothing can be forwarded to a pod with these networks."""
    for word in ("none", "host"):
        if word in split(net):
            raise RktError(
                f"--port flag does not work with '{word}' networking",
                hint="leave out --port, or choose a network such as --net=default",
            )


def pairs(arguments: str) -> tuple[tuple[str, str], ...]:
    """``K=V;K=V`` as pairs."""
    split_up = (item.partition("=") for item in arguments.split(";") if item)
    return tuple((key, value) for key, _, value in split_up)


def _check_arguments(name: str, arguments: str) -> None:
    for pair in arguments.split(";"):
        key, equals, value = pair.partition("=")
        if not key or not equals or "=" in value or ":" in key:
            raise RktError(
                f'--net: network "{name}" provided with invalid arguments: {pair!r}',
                hint="write NAME:KEY=VALUE;KEY=VALUE",
            )
