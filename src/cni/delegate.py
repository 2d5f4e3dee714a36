"""Passing a request on to another plugin, most often the one that manages addresses.

An executable of that name in CNI_PATH that is not ours is run, as the specification says; else the
built-in plugin is a function call away.
"""

from __future__ import annotations

from cni import invoke
from cni.errors import DECODING_FAILURE, CniError
from cni.types.result import Result

TYPE_CHECKING = False  # not from typing: a plugin lives too short to import it
if TYPE_CHECKING:
    from cni.request import Request


def ipam_type(request: Request) -> str:
    """The name of the IPAM plugin in the configuration, "" when it has none (a network of layer 2)."""
    return request.ipam.string("type")


def needs_interface(request: Request) -> bool:
    """Whether the IPAM plugin asks through the container's interface: it is there from ADD to after DEL."""
    return ipam_type(request) == "dhcp"


def add(request: Request, plugin: str = "") -> Result:
    """ADD on `plugin` (default: the IPAM plugin). When it fails, its DEL has been run."""
    try:
        answer = _pass_on(request, "ADD", plugin)
    except BaseException as failure:
        try:
            _pass_on(request, "DEL", plugin)
        except CniError as second:
            failure.add_note(f"and its DEL failed: {second}")
        raise
    if answer is None:
        raise CniError(DECODING_FAILURE, f"{plugin or ipam_type(request)} gave no result")
    return answer


def delete(request: Request, plugin: str = "") -> None:
    """DEL on `plugin` (default: the IPAM plugin)."""
    _pass_on(request, "DEL", plugin)


def check(request: Request, plugin: str = "") -> None:
    """CHECK on `plugin` (default: the IPAM plugin)."""
    _pass_on(request, "CHECK", plugin)


def status(request: Request, plugin: str = "") -> None:
    """STATUS of `plugin` (default: the IPAM plugin)."""
    _pass_on(request, "STATUS", plugin)


def collect(request: Request, plugin: str = "") -> None:
    """GC on `plugin` (default: the IPAM plugin)."""
    _pass_on(request, "GC", plugin)


def _pass_on(request: Request, command: str, plugin: str) -> Result | None:
    name = plugin or ipam_type(request)
    found = invoke.find(name, request.path)
    if found is None:
        from cni.plugin import perform

        return perform(name, request.with_config(request.config, command=command))
    answer = invoke.execute(found, invoke.variables(request, command), request.config)
    if command != "ADD" or answer is None:
        return None
    try:
        return Result.from_json(answer, request.version)
    except ValueError as bad:
        raise CniError(DECODING_FAILURE, f"the result of {name} makes no sense", str(bad)) from None
