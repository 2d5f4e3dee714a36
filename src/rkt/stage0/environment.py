"""The environment of an app: inherited < image < files < --set-env < --environment (rkt's order)."""

from __future__ import annotations

from appc.jsonfield import quoted
from appc.types.environment import Environment, variable_name
from rkt.errors import RktError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

#: Bytes of one file of variables.
LARGEST_FILE = 1 << 20
# What a service manager tells rkt: descriptors, sockets and numbers that are not the app's.
_RKTS_OWN = frozenset((
    *("LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PID", "NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC"),
    *("JOURNAL_STREAM", "MAINPID", "SYSTEMD_EXEC_PID", "RKT_LOCK_FD"),
))


def merged(
    image: Environment,
    *,
    inherited: Mapping[str, str],
    files: Iterable[Mapping[str, str]],
    pod: Iterable[tuple[str, str]],
    app: Iterable[tuple[str, str]],
) -> Environment:
    """The variables of all sources, the image's first and in its order.

    Inherited variables that a manifest cannot hold are left out: those with names such as ``BASH_FUNC_x%%``
    and with values that are not UTF-8; and those by which a service manager speaks to rkt itself.
    """
    variables = image.as_dict()
    for name, value in inherited.items():
        if _is_variable(name, value) and name not in _RKTS_OWN:
            variables.setdefault(name, value)
    for source in files:
        variables.update(source)
    variables.update(pod)
    variables.update(app)
    return Environment.from_mapping(variables)


def read_file(path: str) -> dict[str, str]:
    """The variables of a file: a ``NAME=VALUE`` a line; empty lines and those with ``#`` or ``;`` count not.

    Blanks around a line are taken off, as by rkt. RktError names the line that is wrong, and never quotes it:
    what is there instead of a variable may be the next line of a secret (P8).
    """
    try:
        with open(path, "rb") as stream:
            data = stream.read(LARGEST_FILE + 1)
    except OSError as error:
        raise RktError(f"--set-env-file: cannot read {path}: {error.strerror}") from error
    if len(data) > LARGEST_FILE:
        raise RktError(f"--set-env-file: {path} is larger than {LARGEST_FILE} bytes")
    variables: dict[str, str] = {}
    for number, line in enumerate(data.decode("utf-8", "surrogateescape").splitlines(), 1):
        content = line.strip()
        if not content or content[0] in "#;":
            continue
        try:
            name, equals, value = content.partition("=")
            if not equals:
                raise ValueError("this is not NAME=VALUE")
            if not _is_name(name):
                raise ValueError("what is before the = cannot be a variable's name")
            if name in variables:
                raise ValueError(f"environment variable {quoted(name)} already set")
            value.encode()
            if "\0" in value:
                raise ValueError(f"the value of {name} holds a NUL")
        except ValueError as error:
            text = "the value is not UTF-8" if isinstance(error, UnicodeError) else str(error)
            raise RktError(f"--set-env-file: {path} line {number}: {text}") from None
        variables[name] = value
    return variables


def _is_name(name: str) -> bool:
    try:
        variable_name(name)
    except ValueError:
        return False
    return True


def _is_variable(name: str, value: str) -> bool:
    try:
        value.encode()
    except ValueError:
        return False
    return _is_name(name)
