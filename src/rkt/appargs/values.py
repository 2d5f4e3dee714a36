"""The values of flags: each function reads one text, or raises ValueError that says what is wrong with it."""

from __future__ import annotations

from appc import query
from appc.jsonfield import quoted
from appc.types.names import ACName
from appc.types.volumes import HIGHEST_ID

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from appc.types.isolators import Isolator
    from appc.types.mounts import Mount
    from appc.types.ports import ExposedPort

#: Bytes; what is below was meant as megabytes and written as thousandths ("16m").
LEAST_MEMORY = 4096
_NUMBERS = "0123456789"


def text(value: str) -> str:
    """Anything but nothing."""
    if not value:
        raise ValueError("the value may not be empty")
    if "\0" in value:
        raise ValueError(f"{quoted(value)} holds a NUL")
    return value


def choice(*words: str) -> Callable[[str], str]:
    """One of `words`."""

    def read(value: str) -> str:
        if value not in words:
            raise ValueError(f"{quoted(value)} is not one of {', '.join(words)}")
        return value

    return read


def name(value: str) -> ACName:
    """An AC name."""
    return ACName(value)


def identity(value: str) -> str:
    """A user or group: see `appc.schema.app.identity`."""
    from appc.schema.app import identity as read

    return read(value)


def directory(value: str) -> str:
    """An absolute path."""
    if not text(value).startswith("/"):
        raise ValueError(f"{quoted(value)} is not an absolute path")
    return value


def groups(value: str) -> tuple[int, ...]:
    """Group IDs, parted by commas."""
    return tuple(query.number(part, highest=HIGHEST_ID) for part in value.split(",")) if value else ()


def pair(what: str) -> Callable[[str], tuple[str, str]]:
    """``name=value``; `what` stands in the error."""

    def read(value: str) -> tuple[str, str]:
        key, equals, content = value.partition("=")
        if not equals or not key:
            raise ValueError(f"{what} must be specified as name=value")
        if "\0" in value:
            raise ValueError(f"{quoted(value)} holds a NUL")
        return key, content

    return read


def variable(value: str) -> tuple[str, str]:
    """An environment variable, ``name=value``."""
    from appc.types.environment import variable_name

    key, content = pair("environment variable")(value)
    return variable_name(key), content


def annotation(value: str) -> tuple[str, str]:
    """An annotation, ``name=value``, where the name is an AC identifier."""
    from appc.types.annotations import Annotation

    key, content = pair("annotation")(value)
    found = Annotation.from_json({"name": key, "value": content})
    return found.name, found.value


def mount(value: str) -> Mount:
    """``volume=NAME,target=PATH``."""
    from appc.types.mounts import Mount, mount_path

    parts = query.unique_pairs(value)
    if unknown := [key for key in parts if key not in {"volume", "target"}]:
        raise ValueError(f"unknown mount parameter {quoted(unknown[0])}")
    if missing := [key for key in ("volume", "target") if not parts.get(key)]:
        raise ValueError(f"{missing[0]} is missing in {quoted(value)}")
    return Mount(volume=ACName(parts["volume"]), path=mount_path(parts["target"]))


def port(value: str) -> ExposedPort:
    """``NAME:[IP:]HOSTPORT``. A name such as 80 or 53-udp may stand for the port of that number."""
    from appc.types.ports import HIGHEST, ExposedPort, ipv4_or_none

    parts = value.split(":")
    if len(parts) not in {2, 3}:
        raise ValueError(f"{quoted(value)} is not NAME:[IP:]HOSTPORT")
    host_port = query.number(parts[-1], highest=HIGHEST)
    if not host_port:
        raise ValueError(f"{quoted(value)}: the port of the host may not be 0")
    host_ip = ipv4_or_none(parts[1]) if len(parts) == 3 else None
    return ExposedPort(name=ACName(parts[0]), host_port=host_port, host_ip=host_ip)


def hosts_entry(value: str) -> tuple[tuple[str, str], ...]:
    """``IP=NAME[,IP=NAME…]``, or the word ``host`` as the pair ("host", "")."""
    if value == "host":
        return (("host", ""),)
    found = []
    for part in value.split(","):
        address, equals, host = part.partition("=")
        if not equals or not host:
            raise ValueError(f"{quoted(part)} is neither IP=NAME nor the word host")
        if host.strip(" \t\r\n") != host or any(
            character.isspace() or character in "#\0" for character in host
        ):
            raise ValueError(f"{quoted(host)} is not the name of a host")
        found.append((ip_address(address), host))
    return tuple(found)


def ip_address(value: str) -> str:
    """An IPv4 or IPv6 address, as the kernel's own parser takes it."""
    from socket import AF_INET, AF_INET6, inet_pton

    try:
        inet_pton(AF_INET6 if ":" in value else AF_INET, value)
    except (OSError, ValueError):
        raise ValueError(f"{quoted(value)} is not an IP address") from None
    return value


def dns(value: str) -> str:
    """An address, or one of the words host and none."""
    return value if value in {"host", "none"} else ip_address(value)


def resolver_word(value: str) -> str:
    """A word for resolv.conf: one that could not smuggle in another line or keyword."""
    if not value or any(character.isspace() or character in ";#\0" for character in value):
        raise ValueError(f"{quoted(value)} is not a single word")
    return value


def hostname(value: str) -> str:
    """A host name of at most 64 characters, as sethostname(2) takes it."""
    allowed = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-."
    if not 1 <= len(value) <= 64 or value.strip(allowed) or value[0] in "-." or value[-1] in "-.":
        raise ValueError(f"{quoted(value)} is not a host name of at most 64 letters, digits, '-' and '.'")
    return value


# --- isolators ---


def memory(value: str) -> Isolator:
    """A limit in bytes, such as 512Mi; less than a page is refused."""
    from appc.types.isolators import MEMORY, Isolator

    isolator = Isolator.make(MEMORY, {"request": value, "limit": value})
    limit = _limit(isolator)
    if limit < LEAST_MEMORY:
        raise ValueError(f"memory limit of {limit} bytes too low")
    return isolator


def cpu(value: str) -> Isolator:
    """A limit in cores, such as 500m or 2."""
    from appc.types.isolators import CPU, Isolator

    isolator = Isolator.make(CPU, {"request": value, "limit": value})
    if _limit(isolator) <= 0:
        raise ValueError(f"{quoted(value)} leaves no CPU time")
    return isolator


def whole(isolator_name: str) -> Callable[[str], Isolator]:
    """A whole number for the isolator of this name."""

    def read(value: str) -> Isolator:
        from appc.types.isolators import Isolator

        digits = value[1:] if value[:1] == "-" else value
        if not digits or digits.strip(_NUMBERS) or len(digits) > 9:
            raise ValueError(f"{quoted(value)} is not a whole number")
        return _made(isolator_name, int(value), Isolator)

    return read


def capabilities(isolator_name: str) -> Callable[[str], Isolator]:
    """Names of capabilities, parted by commas."""

    def read(value: str) -> Isolator:
        from appc.types.isolators import CAPABILITIES, Isolator

        names = value.split(",")
        if unknown := [part for part in names if part not in CAPABILITIES]:
            like = "CAP_" + unknown[0].upper().removeprefix("CAP_")
            meant = f" (did you mean {like}?)" if like in CAPABILITIES else ""
            raise ValueError(f"{quoted(unknown[0])} is no capability{meant}")
        return _made(isolator_name, {"set": names}, Isolator)

    return read


def seccomp(value: str) -> Isolator:
    """``mode=retain|remove[,errno=ERRNO],CALL[,CALL…]``."""
    from appc.types.isolators import SECCOMP_REMOVE, SECCOMP_RETAIN, Isolator

    mode = errno = ""
    calls = []
    for part in value.split(","):
        key, equals, content = part.partition("=")
        if not equals:
            calls.append(text(part))
        elif key == "mode":
            mode = choice("retain", "remove")(content)
        elif key == "errno":
            errno = content
        else:
            raise ValueError(f"unknown seccomp parameter {quoted(key)}")
    if not mode:
        raise ValueError("the mode is missing: mode=retain or mode=remove")
    if not calls:
        raise ValueError("no system call is named")
    content_json: dict[str, object] = {"set": calls} | ({"errno": errno} if errno else {})
    return _made(SECCOMP_RETAIN if mode == "retain" else SECCOMP_REMOVE, content_json, Isolator)


def _made(isolator_name: str, value: object, isolator: type[Isolator]) -> Isolator:
    try:
        return isolator.make(isolator_name, value)
    except ValueError as error:
        raise ValueError(str(error).removeprefix("value: ").removeprefix("value.")) from None


def _limit(isolator: Isolator) -> int:
    from appc.types.isolators import Resource

    if not isinstance(isolator.setting, Resource) or isolator.setting.limit is None:
        raise ValueError("the limit is missing")
    return isolator.setting.limit.value()
