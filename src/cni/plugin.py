"""The protocol of a plugin process: environment and stdin in, a result or an error in JSON out.

`serve` is the whole of a plugin executable, whoever wrote the plugin; `main` is that of a built-in one.
`call` is the same protocol for a plugin that runs in this process; `perform` runs a plugin on a request that
has been checked. All that is common to plugins is done here, once: the plugins themselves are functions from
a `Request` to a `Result` (see `cni.plugins` for what a plugin module consists of).
"""

from __future__ import annotations

import errno
import os
import sys

from cni import jsontext, plugins
from cni.errors import (
    DECODING_FAILURE,
    INCOMPATIBLE_VERSION,
    INTERNAL,
    INVALID_CONFIG,
    INVALID_ENVIRONMENT,
    INVALID_NETNS,
    IO_FAILURE,
    PLUGIN_NOT_AVAILABLE,
    TRY_AGAIN_LATER,
    CniError,
)
from cni.fields import Fields
from cni.request import Request
from cni.types import names
from cni.types import version as versions

TYPE_CHECKING = False  # not from typing: a plugin lives too short to import it
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from cni.plugins import Plugin
    from cni.types.result import Result

__all__ = ["CniError", "Request", "call", "handle", "main", "perform", "serve"]

_LIMIT = 4 << 20  # bytes of stdin; a GC request names every attachment of the node

# In the order in which other implementations look at them: the first bad one is the one reported.
_REQUIRED_BY = {
    "CNI_CONTAINERID": ("ADD", "CHECK", "DEL"),
    "CNI_NETNS": ("ADD", "CHECK"),
    "CNI_IFNAME": ("ADD", "CHECK", "DEL"),
    "CNI_PATH": ("ADD", "CHECK", "DEL", "GC", "STATUS"),
}
_SINCE = {"CHECK": "0.4.0", "GC": "1.1.0", "STATUS": "1.1.0"}
_COMMANDS = ("ADD", "CHECK", "DEL", "GC", "STATUS")


# What the kernel says, and what that means to a runtime; anything else is code 999.
_CODES = {
    **dict.fromkeys(
        (
            errno.EAGAIN,
            errno.EBUSY,
            errno.EDQUOT,
            errno.EMFILE,
            errno.ENFILE,
            errno.ENODEV,
            errno.ENOBUFS,
            errno.ENOMEM,
            errno.ENOSPC,
            errno.ETIMEDOUT,
        ),
        TRY_AGAIN_LATER,
    ),
    # What the configuration asks for cannot be: a route by a gateway that is nowhere, too high an MTU.
    **dict.fromkeys(
        (
            errno.EADDRNOTAVAIL,
            errno.EHOSTUNREACH,
            errno.EINVAL,
            errno.ENAMETOOLONG,
            errno.ENETUNREACH,
            errno.ERANGE,
        ),
        INVALID_CONFIG,
    ),
    # This kernel has no such thing: no ADD of this plugin will succeed here.
    **dict.fromkeys((errno.EAFNOSUPPORT, errno.EOPNOTSUPP, errno.EPROTONOSUPPORT), PLUGIN_NOT_AVAILABLE),
}


def main(name: str, arguments: list[str] | None = None) -> int:
    """Be the built-in plugin `name`: the exit status of a process that has done all its input and output.

    With `arguments` it is no runtime that calls, and the plugin may have a command of its own.
    """
    try:
        module = plugins.load(name)
    except (KeyError, ImportError) as missing:
        what = "no built-in plugin has this name" if isinstance(missing, KeyError) else str(missing)
        error = CniError(PLUGIN_NOT_AVAILABLE, f"the plugin {name} cannot be started", what)
        _write(jsontext.dumps(error.to_json(versions.LATEST), indent=4).encode())
        return 1
    command = getattr(module, "command", None) if arguments else None
    if command is not None:
        status: int = command(arguments)
        return status
    return serve(module, name)


def serve(module: Plugin, name: str = "") -> int:
    """Be the plugin `module`, which has the functions that `cni.plugins` lists: the exit status of a process.

    `name` (default: that of the program) is what its records are kept under. A plugin file ends with
    ``if __name__ == "__main__": sys.exit(plugin.serve(sys.modules[__name__]))``.
    """
    name = name or os.path.basename(sys.argv[0])
    variables = os.environ
    if not variables.get("CNI_COMMAND"):
        supported = ", ".join(_supported(module))
        about = f"CNI {name} plugin\nCNI protocol versions supported: {supported}\n"
        os.write(2, about.encode())
        return 0
    status, answer = _converse(name, module, variables, _read_stdin)
    _write(answer)
    return status


def call(name: str, variables: Mapping[str, str], stdin: Callable[[], bytes]) -> tuple[int, bytes]:
    """Exit status and stdout of plugin `name` for these CNI_ variables and this standard input."""
    return _converse(name, plugins.load(name), variables, stdin)


def _converse(
    name: str, module: Plugin, variables: Mapping[str, str], stdin: Callable[[], bytes]
) -> tuple[int, bytes]:
    version = versions.LATEST
    try:
        if variables.get("CNI_COMMAND") == "VERSION":
            answer = {"cniVersion": versions.LATEST, "supportedVersions": list(_supported(module))}
            return 0, (jsontext.dumps(answer) + "\n").encode()
        _check_variables(variables)
        config = _decode(_read(stdin))
        version = _version_of(config) or version
        result = _answer(name, module, variables, config)
        if result is None:
            return 0, b""
        return 0, jsontext.dumps(result, indent=4).encode()
    except CniError as failed:
        return 1, jsontext.dumps(failed.to_json(version), indent=4).encode()
    except Exception as bug:  # noqa: BLE001  the protocol has a place even for what nobody expected
        error = CniError(INTERNAL, f"unexpected {type(bug).__name__}", str(bug))
        return 1, jsontext.dumps(error.to_json(version), indent=4).encode()


def handle(name: str, variables: Mapping[str, str], config: dict[str, object]) -> dict[str, object] | None:
    """The same protocol without text: the result object of plugin `name`; raises CniError.

    The plugin runs in this very process. `config` is not changed.
    """
    _check_variables(variables)
    return _answer(name, plugins.load(name), variables, config)


def perform(name: str, request: Request) -> Result | None:
    """Run the function of the built-in plugin `name` for the request's command; only ADD gives a result.

    Raises CniError, and nothing else for what can be expected to go wrong.
    """
    return _perform(name, plugins.load(name), request)


def _perform(name: str, module: Plugin, request: Request) -> Result | None:
    try:
        if request.command == "ADD":
            _refuse_own_netns(request)
            return module.add(request)
        if request.command == "DEL":
            _refuse_own_netns(request)
            module.delete(request)
        elif request.command == "CHECK":
            module.check(request)
        elif request.command == "GC":
            collect = getattr(module, "collect", None)
            collect(request) if collect else _collect(name, module, request)
        elif request.command == "STATUS":
            getattr(module, "status", _status)(request)
        else:
            raise CniError(INVALID_ENVIRONMENT, f"unknown CNI_COMMAND: {request.command}")
    except ValueError as bad:
        raise CniError(INVALID_CONFIG, "invalid network configuration", str(bad)) from bad
    except OSError as failed:
        code = _CODES.get(failed.errno or 0, INTERNAL)
        raise CniError(code, f"{name}: {request.command} failed", str(failed)) from failed
    return None


def _answer(
    name: str, module: Plugin, variables: Mapping[str, str], config: dict[str, object]
) -> dict[str, object] | None:
    request = _request(variables, config)
    _check_version(request.command, request.version, _supported(module))
    result = _perform(name, module, request)
    return None if result is None else _printed(result, request.version)


def _supported(module: Plugin) -> Sequence[str]:
    supported: Sequence[str] = getattr(module, "VERSIONS", versions.KNOWN)
    return supported


def _collect(name: str, module: Plugin, request: Request) -> None:
    """GC for a plugin without one of its own: DEL what it recorded and nobody wants, then the IPAM plugin's.

    Everything is tried; the first error is raised at the end.
    """
    from cni import delegate, state

    first: CniError | None = None
    for each in state.stale(name, request.name, request.valid_attachments):
        try:
            _perform(name, module, each)
        except CniError as failed:
            first = first or failed
    if delegate.ipam_type(request):
        delegate.collect(request)
    if first is not None:
        raise first


def _status(request: Request) -> None:
    from cni import delegate

    if delegate.ipam_type(request):
        delegate.status(request)


def _check_variables(variables: Mapping[str, str]) -> None:
    command = variables.get("CNI_COMMAND", "")
    missing: list[str] = []
    for key, commands in _REQUIRED_BY.items():
        if command not in commands:
            continue
        value = variables.get(key, "")
        if not value:
            missing.append(key)
        elif key == "CNI_CONTAINERID":
            names.check_container_id(value)
        elif key == "CNI_IFNAME":
            names.check_interface_name(value)
    if missing:
        raise CniError(INVALID_ENVIRONMENT, f"required env variables [{','.join(missing)}] missing")


def _read(stdin: Callable[[], bytes]) -> bytes:
    try:
        return stdin()
    except OSError as failed:
        raise CniError(IO_FAILURE, "error reading from stdin", failed.strerror or str(failed)) from None


def _decode(data: bytes) -> dict[str, object]:
    try:
        value = jsontext.loads(data, limit=_LIMIT)
        return Fields(value, "the network configuration").values
    except ValueError as bad:
        raise CniError(DECODING_FAILURE, "the network configuration is not JSON", str(bad)) from None


def _version_of(config: dict[str, object]) -> str:
    value = config.get("cniVersion")
    return value if isinstance(value, str) else ""


def _request(variables: Mapping[str, str], config: dict[str, object]) -> Request:
    try:
        names.check_network_name(Fields(config).string("name"))
        Fields(config).string("cniVersion")
    except ValueError as bad:
        raise CniError(DECODING_FAILURE, "cannot decode the network configuration", str(bad)) from None
    return Request(
        variables.get("CNI_COMMAND", ""),
        config,
        container_id=variables.get("CNI_CONTAINERID", ""),
        netns=variables.get("CNI_NETNS") or None,
        ifname=variables.get("CNI_IFNAME", ""),
        args=variables.get("CNI_ARGS", ""),
        path=variables.get("CNI_PATH", "").split(":"),
        environment=variables,
    )


def _check_version(command: str, version: str, supported: Sequence[str]) -> None:
    if command not in _COMMANDS:
        raise CniError(INVALID_ENVIRONMENT, f"unknown CNI_COMMAND: {command}")
    if command in _SINCE:
        try:
            allowed = versions.at_least(version, _SINCE[command])
        except ValueError as bad:
            raise CniError(DECODING_FAILURE, "cannot decode the version", str(bad)) from None
        if not allowed:
            raise CniError(INCOMPATIBLE_VERSION, f"config version does not allow {command}", version)
    if version not in supported:
        raise CniError(
            INCOMPATIBLE_VERSION,
            "incompatible CNI versions",
            f"config is {version!r}, plugin supports {', '.join(supported)}",
        )


def _refuse_own_netns(request: Request) -> None:
    """A plugin that is told its own namespace would configure, rename or delete the host's interfaces.

    Looked at before any work: afterwards, as others do it, is too late.
    """
    if request.netns is None or request.environment.get("CNI_NETNS_OVERRIDE", "").lower() in ("1", "true"):
        return
    try:
        theirs, ours = os.stat(request.netns), os.stat("/proc/self/ns/net")
    except OSError:
        return  # gone, or not there: the plugin knows what that means for its command
    if os.path.samestat(theirs, ours):
        raise CniError(
            INVALID_NETNS, "plugin's netns and netns from CNI_NETNS should not be the same", request.netns
        )


def _printed(result: Result, version: str) -> dict[str, object]:
    try:
        return result.to_json(version)
    except ValueError as bad:
        raise CniError(INCOMPATIBLE_VERSION, "the result cannot be printed", str(bad)) from None


def _read_stdin() -> bytes:
    pieces = []
    size = 0
    while size <= _LIMIT and (piece := os.read(0, 1 << 16)):
        pieces.append(piece)
        size += len(piece)
    return b"".join(pieces)


def _write(answer: bytes) -> None:
    while answer:
        answer = answer[os.write(1, answer) :]
